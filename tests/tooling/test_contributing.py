"""CONTRIBUTING.md names what is there, and what it says of adding a model works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli

from support.shell import shell

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "shared" / "fal_image"


def blocks(language: str) -> list[str]:
    """The blocks, those of a list's items without their indent."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def test_the_house_is_drawn_in_the_order_of_the_layers():
    (house,) = blocks("text")
    rows = [re.match(r"([a-z_]+(?:, [a-z_]+)*) {2,}\S", line) for line in house.splitlines()]
    drawn = [row[1].split(", ") for row in rows if row]
    assert len(drawn) == len(rows)
    config = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    functions, within, _ = config["tool"]["importlinter"]["contracts"]
    layers = [re.findall(r"\w+", layer) for layer in within["layers"]]
    depth = {name: number for number, names in enumerate(layers) for name in names}
    assert drawn[0] == functions["layers"][:1]
    depths = [[depth[name] for name in row] for row in drawn[1:]]
    assert [max(row) for row in depths[:-1]] == sorted(max(row) for row in depths[:-1])
    assert all(max(above) <= min(below) for above, below in zip(depths, depths[1:], strict=False))


def test_every_file_that_is_named_is_there():
    named = set(re.findall(r"`((?:shared|tests|functions|scripts|docs)/[\w./]+)`", PAGE))
    named |= {f"shared/fal_image/{name}" for name in re.findall(r"`(\w+\.py)`", PAGE)}
    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    assert {words[0] for words in commands} == {"scripts/test", ".venv/bin/python"}
    named |= {word for words in commands for word in words if "/" in word}
    assert len(named) > 30
    absent = sorted(name for name in named if "NAME" not in name and not (ROOT / name).exists())
    assert absent == []


@pytest.mark.long  # pytest imports every suite that is named
@pytest.mark.timeout(60)
def test_the_suites_that_are_named_can_be_collected():
    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    suites = {word for first, *words in commands if first == "scripts/test" for word in words}
    assert len(suites) > 5
    quietly = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*quietly, *sorted(suites)], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout
    counted = dict(re.findall(r"^(tests/\S+): (\d+)$", done.stdout, re.MULTILINE))
    assert all(any(path.startswith(suite) for path in counted) for suite in suites)


def test_what_is_added_stands_beside_what_is_there():
    """A name with NAME in it is that of a file of the same kind."""
    for name in set(re.findall(r"`((?:shared|tests|functions|scripts)/[\w./]*NAME[\w./]*)`", PAGE)):
        assert list(ROOT.glob(name.replace("NAME", "*"))), name


def test_the_tables_that_are_added_to_are_there():
    for name, where in {
        "RIGS": "tests/support/storages.py",
        "CANNOT": "tests/support/storages.py",
        "Cloud": "scripts/packaging/targets.py",
        "ObjectStorage": "shared/fal_image/storage/base.py",
    }.items():
        assert f"`{name}`" in PAGE
        source = (ROOT / where).read_text(encoding="utf-8")
        assert re.search(rf"^(class )?{name}\b", source, re.MULTILINE)


# Adding a model, in a copy of the project


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the steps touch, with the row of the page in the catalog."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "shared" / "fal_image", ignore=ignored)
    for name in ("tests/data/fields.json", "docs/models.md", "tests/tooling/test_docs_models.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    catalog = tmp_path / "shared" / "fal_image" / "fal" / "catalog.json"
    content = json.loads(catalog.read_text(encoding="utf-8"))
    content["models"] |= row()
    catalog.write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def row() -> dict[str, Any]:
    (shown,) = [json.loads(block) for block in blocks("json")]
    assert len(shown) == 1
    return dict(shown)


def test_a_model_that_is_added_is_served_and_priced(copy: Path):
    (model_id,) = row()
    ask = """
from fal_image.app import build_app
from fal_image.dev.emulator import Emulator
from fal_image.settings import Settings
from fal_image.web import Headers, Platform, Request
import json, sys
with Emulator(run_s=0.01) as fal:
    app = build_app(Settings(fal_key="any:key", emulator_url=fal.url, allow_anonymous=True,
        storage_url="file://" + sys.argv[1], secrets=("s" * 32,), public_url=fal.url), environ={})
    def asked(method, path, body=None):
        headers = Headers([("content-type", "application/json")])
        content = b"" if body is None else json.dumps(body).encode()
        request = Request(method, path, Platform("wsgi", "r-1"), (), headers, content)
        return json.loads(app(request).read())
    body = {"model": sys.argv[2], "prompt": "a cat", "num_inference_steps": 51}
    refused = asked("POST", "/generate", body)
    made = asked("POST", "/generate", body | {"num_inference_steps": 3})
    print(json.dumps([asked("GET", "/models"), refused, made]))
"""
    done = subprocess.run(
        [sys.executable, "-c", ask, str(copy / "pictures"), model_id],
        env={"PYTHONPATH": str(copy / "shared")},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    listed, refused, made = json.loads(done.stdout)
    assert model_id in [model["id"] for model in listed["models"]]
    assert refused["fields"][0]["field"] == "num_inference_steps"
    assert (made["state"], made["cost"]["estimate"]) == ("done", 0.02)


def test_its_section_is_written_by_the_command(copy: Path):
    """The block as it stands; scripts/test, which would run itself here, says what it was given."""
    (model_id,) = row()
    (block, *_) = blocks("sh")
    (copy / ".venv").symlink_to(ROOT / ".venv")
    stub = copy / "scripts" / "test"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    stub.chmod(0o755)
    done = shell(block, copy, PYTHONPATH=str(copy / "shared"))
    assert done.returncode == 0, done.stderr
    page = (copy / "docs" / "models.md").read_text(encoding="utf-8")
    assert f"## {model_id}\n" in page
    assert all((ROOT / path).exists() for path in done.stdout.split())

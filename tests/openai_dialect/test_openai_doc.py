"""What docs/openai.md shows is run: the snippets, and what its tables say of the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from fal_image.dev.emulator import Emulator
from fal_image.fal import catalog
from fal_image.openai import forms, wishes
from support import pictures
from support.entrypoints import KEY, ROOT
from support.instances import Server

Serve = Callable[..., tuple[Server, openai.OpenAI]]
PAGE = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


PYTHON = blocks("python")
CURLS = [block for block in blocks("sh") if block.startswith("curl")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where somebody who reads the page has some pictures."""
    for name in ("room.png", "chair.png", "mask.png"):
        tmp_path.joinpath(name).write_bytes(pictures.png())
    return tmp_path


def said(folder: Path, server: Server, *command: str) -> str:
    """What a command prints, with the two variables that the page sets."""
    shown = {"URL": server.url, "KEY": KEY}
    named = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **shown, **named, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        encoding="utf-8",
        timeout=18,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_the_blocks_that_are_run_here():
    exports = [block for block in blocks("sh") if block not in CURLS]
    assert (len(PYTHON), len(CURLS), len(exports)) == (3, 2, 1)
    assert re.findall(r"export (\w+)=", exports[0]) == ["OPENAI_BASE_URL", "OPENAI_API_KEY"]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_a_snippet_for_python_runs(serve: Serve, fal: Emulator, folder: Path, number: int):
    server, _ = serve()
    lines = said(folder, server, sys.executable, "-c", PYTHON[number]).splitlines()
    first = (server.url, server.url, "")[number]
    assert len(lines) == (3, 2, 2)[number]
    assert lines[0].startswith(first)
    if number == 2:
        assert lines[0] == lines[1]
    assert len(fal.ledger) == (1, 2, 1)[number]


@pytest.mark.needs("curl")
@pytest.mark.parametrize("number", range(len(CURLS)))
def test_a_curl_is_answered_as_the_page_says(
    serve: Serve, fal: Emulator, folder: Path, number: int
):
    server, _ = serve()
    answer = json.loads(said(folder, server, "sh", "-c", CURLS[number]))
    (printed,) = (json.loads(block) for block in blocks("json") if '"created"' in block)
    assert set(answer) == set(printed)
    assert answer["data"][0]["url"].startswith(server.url)
    assert len(fal.ledger) == 1


def test_the_error_on_the_page_is_the_one_that_comes(serve: Serve):
    server, _ = serve()
    (printed,) = (json.loads(block) for block in blocks("json") if '"error"' in block)
    answer = server.http("POST", "/v1/images/generations", {"prompt": "p", "size": "7"})
    assert printed["error"].items() <= answer.json["error"].items()


def test_every_field_of_openais_has_a_row():
    table = PAGE.partition("## Fields")[2].partition("## Answers")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert {*wishes.OPENAIS, "prompt"} <= named


def test_the_models_that_edits_choose_are_those_of_the_page_and_take_pictures():
    for model_id, field in (
        (forms.DEFAULT_MODEL, "image_urls"),
        (forms.DEFAULT_MASKED_MODEL, "mask_url"),
    ):
        assert f"`{model_id}`" in PAGE
        assert field in catalog.models()[model_id].fields

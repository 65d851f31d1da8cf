"""blocks.toml is complete and true: what it names exists, and nothing is left out."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli

TESTS = Path(__file__).parents[1]
MANIFEST = tomli.loads(Path(__file__).with_name("blocks.toml").read_text(encoding="utf-8"))

Manifest = Mapping[str, Any]


def known_tests() -> set[str]:
    """All tests of the project as file::function, without running or importing them."""
    return {
        f"{file.relative_to(TESTS).as_posix()}::{node.name}"
        for file in TESTS.glob("*/test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def untrue_lines(manifest: Manifest, tests: set[str]) -> list[str]:
    """What is wrong with a manifest, one sentence each."""
    wrong = []
    named = {name for block in manifest["blocks"] for name in block.get("tests", ())}
    here = {test for test in tests if test.startswith("seeds/") and "/test_blocks.py" not in test}
    wrong += [f"there is no test {name}" for name in sorted(named - tests)]
    wrong += [f"no block names {name}" for name in sorted(here - named)]
    for block in manifest["blocks"]:
        title = f"{block['of']}: {block['title']}"
        if len({"tests", "outside"} & set(block)) != 1 or not block.get("tests", True):
            wrong.append(f"{title}: says not one of tests, outside")
    return wrong


def test_every_line_is_true() -> None:
    assert untrue_lines(MANIFEST, known_tests()) == []


def test_all_four_documents_are_listed_and_no_block_twice() -> None:
    titles = [(block["of"], block["title"]) for block in MANIFEST["blocks"]]
    assert len(set(titles)) == len(titles)
    assert list(dict.fromkeys(of for of, _ in titles)) == [
        "recipe",
        "skill",
        "model page",
        "client guide",
    ]


def a_manifest(**block: object) -> Manifest:
    return {"blocks": [{"of": "recipe", "title": "curl", **block}]}


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"tests": ["unit/test_a.py::test_gone"]}, "there is no test unit/test_a.py::test_gone"),
        ({"outside": "an advertisement"}, "no block names seeds/test_a.py::test_new"),
        ({}, "recipe: curl: says not one of tests, outside"),
        ({"tests": []}, "recipe: curl: says not one of tests, outside"),
    ],
)
def test_what_is_no_longer_true_is_said(block: dict[str, object], said: str) -> None:
    tests = {"seeds/test_a.py::test_new", "unit/test_a.py::test_old"}
    assert said in untrue_lines(a_manifest(**block), tests)


def test_the_clients_that_the_documents_install_are_pinned() -> None:
    lock = json.loads(TESTS.joinpath("node", "package-lock.json").read_text(encoding="utf-8"))
    packages = lock["packages"]
    for name in ("@fal-ai/client", "@fal-ai/serverless-client"):
        assert packages[""]["dependencies"][name] == packages[f"node_modules/{name}"]["version"]
    hosts = [name for name, package in packages.items() if "resolved" in package]
    assert hosts == []

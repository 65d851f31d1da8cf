"""`fal-image estimate`, piped."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator

COMMAND = [sys.executable, "-c", "from fal_image.cli import main; main()", "estimate"]


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def estimate(
    fal: Emulator, cwd: Path, *arguments: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    environ |= {"FAL_KEY": "id:secret", "FAL_IMAGE_EMULATOR_URL": fal.url} | settings
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environ,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )


def told(done: "subprocess.CompletedProcess[str]") -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_prints_the_price_and_buys_nothing(fal: Emulator, tmp_path: Path):
    answer = told(estimate(fal, tmp_path, "a cat", "-n", "2", "--size", "1025x1024"))
    assert (answer["estimateUsd"], answer["basis"], answer["images"]) == (0.012, "catalog", 2)
    assert fal.ledger == []
    assert list(tmp_path.iterdir()) == []


def test_pictures_to_work_on_are_named_and_not_sent(fal: Emulator, tmp_path: Path):
    options = ("--model", "fal-ai/flux-pro/kontext", "--image", "cat.png")
    assert told(estimate(fal, tmp_path, "at night", *options))["estimateUsd"] == 0.04
    assert fal.calls["upload"] == 0


def test_fals_list_is_asked_for_what_the_catalog_does_not_know(fal: Emulator, tmp_path: Path):
    options = ("--model", "fal-ai/flux-unheard-of", "--size", "square_hd")
    answer = told(estimate(fal, tmp_path, "a cat", *options))
    assert (answer["estimateUsd"], answer["basis"]) == (0.02, "fal")


def test_what_would_be_refused_exits_with_2(fal: Emulator, tmp_path: Path):
    done = estimate(fal, tmp_path, "a cat", "-n", "5", FAL_IMAGE_MAX_IMAGES="4")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"] == "invalid_input"

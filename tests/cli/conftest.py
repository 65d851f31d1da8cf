"""The command in this process: quick, with the directory and the environment that a test wants."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fal_image.cli.program import cli
from fal_image.dev.emulator import Emulator


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code and what it printed, which for a pipe is JSON."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        assert self.code, self.out
        return json.loads(self.err.splitlines()[-1])


@dataclass(frozen=True)
class Terminal:
    """Where commands are typed in. Nobody's settings but the test's own are there."""

    folder: Path
    settings: Mapping[str, str]

    def knowing(self, **settings: str) -> Terminal:
        """One with more settings."""
        return Terminal(self.folder, {**self.settings, **settings})

    def __call__(self, *words: str, stdin: bytes = b"", **settings: str) -> Done:
        foreign = {name: None for name in os.environ if name.startswith("FAL_")}
        env = {**foreign, **self.settings, **settings, "COLUMNS": "80"}
        result = CliRunner().invoke(cli, list(words), input=stdin, env=env, catch_exceptions=False)
        return Done(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator(run_s=0.01) as emulator:
        yield emulator


@pytest.fixture
def type_in(fal: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, {"FAL_KEY": "id:secret", "FAL_IMAGE_EMULATOR_URL": fal.url})

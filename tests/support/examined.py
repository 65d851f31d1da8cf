"""The doctor, asked as a program and as a function, and what it found by the name of the check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fal_image.app import compose
from fal_image.dev.emulator import Emulator
from fal_image.doctor import Case, Finding, examine
from fal_image.doctor.case import Part
from fal_image.doctor.examination import PARTS
from fal_image.seams import THE_WORLD, Seams
from fal_image.settings import load

COMMAND = [sys.executable, "-c", "from fal_image.cli import main; main()", "doctor"]
SECRET = "a-secret-of-at-least-32-characters"


class Found:
    """Findings, by check and in order."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.all = list(findings)
        self.by_check: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.all:
            self.by_check[finding.check].append(finding)

    def __getitem__(self, check: str) -> Finding:
        """The one finding of a check."""
        (finding,) = self.by_check[check]
        return finding

    def of(self, verdict: str) -> list[str]:
        """The checks that ended so, in order."""
        return [finding.check for finding in self.all if finding.verdict == verdict]


class Odd:
    """A storage or database that does some things in its own way."""

    def __init__(self, inner: Any, **ways: Any) -> None:
        self._inner, self._ways = inner, ways

    def __getattr__(self, name: str) -> Any:
        return self._ways.get(name) or getattr(self._inner, name)


class Ran(Found):
    """What the command said with --json, and its exit code."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.said = done.returncode, json.loads(done.stdout)
        self.stderr = done.stderr
        super().__init__(Finding(**finding) for finding in self.said["findings"])


def environment(fal: Emulator | None = None, /, **more: str) -> dict[str, str]:
    """What a working setup has in its environment, as far as a test does not say otherwise; an
    empty value is no setting."""
    working = {"FAL_KEY": "id:secret", "FAL_IMAGE_SECRET": SECRET, "NO_PROXY": "127.0.0.1"}
    if fal is not None:
        working["FAL_IMAGE_EMULATOR_URL"] = fal.url
    return working | more


def program(
    *options: str, environ: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    return subprocess.run(
        [*COMMAND, *options],
        env={**base, **environ},
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def run(environ: Mapping[str, str], cwd: Path, *options: str) -> Ran:
    return Ran(program("--json", *options, environ=environ, cwd=cwd))


def found(
    environ: Mapping[str, str],
    *,
    only: str = "",
    seams: Seams = THE_WORLD,
    patience_s: float = 5.0,
    parts: Sequence[Part] | None = None,
    limit_s: float = 15.0,
) -> Found:
    """What an examination in this process finds, of the parts whose names begin with `only`."""
    services = compose(load(environ), environ=environ, seams=seams)
    assert services.settings.problems == ()
    chosen = parts or [part for part in PARTS if part.name.startswith(only)]
    case = Case(services, environ, seams, patience_s=patience_s)
    return Found(examine(case, chosen, limit_s=limit_s))

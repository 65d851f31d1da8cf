"""Ask for known vulnerabilities of the locked packages: pip-audit for Python, and npm for the
tests and for what scripts/bench compares with.

Run by scripts/audit. An answer that says nothing of a package is no answer: neither tool may take
it for a good one. Python's packages are those that this version of Python would get.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")
NODE_FOLDERS = ("tests/node", "scripts/benchmarks/peers")
EXIT_CLEAN, EXIT_VULNERABLE, EXIT_UNASKED = 0, 1, 3
TIME_LIMIT_S = 300.0
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """What is known to be vulnerable, a line each, and why something could not be asked."""

    found: tuple[str, ...] = ()
    unasked: str | None = None
    count: int = field(default=0, compare=False)  # packages that were asked about


def main(arguments: Sequence[str]) -> int:
    tool = Path(arguments[0]).resolve()
    verdicts = {"Python": python_verdict(_asked_pip_audit(tool))}
    verdicts |= {f"npm, {name}": npm_verdict(_asked_npm(ROOT / name)) for name in NODE_FOLDERS}
    for name, verdict in verdicts.items():
        for line in verdict.found:
            print(f"{name}: {line}")
        if verdict.unasked is not None:
            print(f"{name}: could not be asked: {verdict.unasked}")
        elif not verdict.found:
            print(f"{name}: nothing is known against {verdict.count} packages")
    return exit_code(list(verdicts.values()))


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """A known vulnerability counts more than what could not be asked."""
    if any(verdict.found for verdict in verdicts):
        return EXIT_VULNERABLE
    return EXIT_UNASKED if any(verdict.unasked for verdict in verdicts) else EXIT_CLEAN


def python_verdict(output: str) -> Verdict:
    """What pip-audit's JSON says. It calls packages that nobody knows "skipped", and is content."""
    report = _object(output)
    if not isinstance(report.get("dependencies"), list):
        return Verdict(unasked="PyPI did not answer pip-audit")
    packages = report["dependencies"]
    found = tuple(
        f"{package['name']} {package['version']}: {bug['id']}, mended in "
        f"{', '.join(bug['fix_versions']) or 'no version'}"
        for package in packages
        for bug in package.get("vulns", ())
    )
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    unasked = None
    if skipped or not packages:
        named = ", ".join(skipped[:NAMES_SHOWN]) + (", …" if len(skipped) > NAMES_SHOWN else "")
        unasked = f"the index tells nothing of {len(skipped)} packages ({named})"
    return Verdict(found, unasked, len(packages) - len(skipped))


def npm_verdict(output: str) -> Verdict:
    """What `npm audit --json` says."""
    report = _object(output)
    vulnerable, metadata = report.get("vulnerabilities"), report.get("metadata")
    if not isinstance(vulnerable, dict) or not isinstance(metadata, dict):
        return Verdict(unasked=str(report.get("message") or "npm gave no answer")[:200])
    found = tuple(
        f"{name} {facts['range']}: {facts['severity']}" for name, facts in vulnerable.items()
    )
    return Verdict(found, count=int(metadata.get("dependencies", {}).get("total", 0)))


def _object(output: str) -> Mapping[str, Any]:
    try:
        read = json.loads(output)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _asked_pip_audit(tool: Path) -> str:
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off"]
    command += [word for lock in LOCKS for word in ("--requirement", lock)]
    return _output(command, ROOT, PYTHONPATH=str(tool))


def _asked_npm(folder: Path) -> str:
    return _output(["npm", "audit", "--package-lock-only", "--json"], folder)


def _output(command: Sequence[str], folder: Path, **variables: str) -> str:
    """What a program says on stdout; nothing if it is not there or takes too long."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=TIME_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

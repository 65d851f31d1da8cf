"""What a run says where a program that some tests need is missing."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.tiny_project import ROOT

TESTS = """\
import pytest

@pytest.mark.needs("node >= 20")
def test_one(): ...

@pytest.mark.needs("node >= 20")
def test_two(): ...

def test_three(): ...
"""
SETTINGS = (
    "[pytest]\nmarkers =\n    needs\n    long\npythonpath = .\naddopts = --import-mode=importlib\n"
)


def program(folder: Path, name: str, body: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three tests, two of which need Node, on a machine with Node 18."""
    for copied in ("tests/conftest.py", "scripts/setup.py"):
        (tmp_path / copied).parent.mkdir()
        shutil.copy(ROOT / copied, tmp_path / copied)
    tmp_path.joinpath("pytest.ini").write_text(SETTINGS, encoding="utf-8")
    tmp_path.joinpath("tests", "test_some.py").write_text(TESTS, encoding="utf-8")
    program(tmp_path, "node", "echo v18.20.4")
    program(tmp_path, "npm", 'mkdir -p "$3/node_modules"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run_pytest(*arguments: str, ci: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=folder,
            env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )

    return run_pytest


def test_tests_whose_needs_are_not_met_end_in_one_line(run):
    done = run(ci="")
    *_, line, closing = done.stdout.splitlines()
    assert line == "not run here: 2 tests need node >= 20"
    assert "1 passed, 2 skipped" in closing
    assert done.returncode == 0


def test_in_ci_a_need_that_is_not_met_is_a_failure(run):
    done = run(ci="true")
    assert (
        "not run here: 2 tests need node >= 20, and with CI=true that is a failure" in done.stdout
    )
    assert done.returncode == 1


@pytest.mark.timeout(180)  # xdist waits ten seconds for a process that does not end at once
def test_it_is_one_when_the_tests_run_in_several_processes_too(run):
    done = run("-p", "xdist.plugin", "-n", "2", ci="true")
    assert (
        "not run here: 2 tests need node >= 20, and with CI=true that is a failure" in done.stdout
    )
    assert done.returncode == 1


def test_needs_of_tests_that_were_not_chosen_are_not_mentioned(run):
    done = run("-k", "three", ci="true")
    assert "not run here" not in done.stdout
    assert done.returncode == 0


def test_with_a_new_enough_node_everything_runs(run, folder: Path):
    program(folder, "node", "echo v22.1.0")
    done = run(ci="true")
    assert "3 passed" in done.stdout
    assert done.returncode == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("processes", [[], ["-p", "xdist.plugin", "-n", "2"]])
def test_long_tests_are_left_out_and_counted_until_they_are_asked_for(
    folder: Path, run, processes: list[str]
):
    long = "import pytest\n\n@pytest.mark.long\ndef test_long(): ...\n"
    folder.joinpath("tests", "test_long.py").write_text(long, encoding="utf-8")
    done = run(*processes, "-k", "three or long", ci="")
    assert "not run here: 1 long test; scripts/test --all runs it" in done.stdout
    assert " 1 passed" in done.stdout
    assert done.returncode == 0

    done = run(*processes, "-k", "three or long", "--run-long", ci="")
    assert "not run here" not in done.stdout
    assert " 2 passed" in done.stdout


def test_npm_packages_are_installed_until_their_lock_changes(folder: Path):
    setup = runpy.run_path(str(folder / "scripts" / "setup.py"))
    lock = folder / "tests" / "node" / "package-lock.json"
    lock.parent.mkdir()
    lock.write_text("{}", encoding="utf-8")
    assert not setup["node_packages_match"]()
    with folder.joinpath("lock").open("w", encoding="utf-8") as held:
        setup["install_node_packages"](held.fileno())
    assert setup["node_packages_match"]()

    lock.write_text('{"changed": true}', encoding="utf-8")
    assert not setup["node_packages_match"]()


def test_a_failed_npm_ci_is_told_and_its_tests_are_not_run(
    folder: Path, run, capfd: pytest.CaptureFixture[str]
):
    setup = runpy.run_path(str(folder / "scripts" / "setup.py"))
    program(folder, "node", "echo v22.1.0")
    program(folder, "npm", "echo ENOTFOUND; exit 1")
    lock = folder / "tests" / "node" / "package-lock.json"
    lock.parent.mkdir()
    lock.write_text("{}", encoding="utf-8")
    with folder.joinpath("lock").open("w", encoding="utf-8") as held:
        setup["install_node_packages"](held.fileno())
    assert capfd.readouterr().err.splitlines()[1:] == [
        "  ENOTFOUND",
        "npm ci failed, so the tests that need Node will not run.",
    ]
    assert "not run here: 2 tests need node >= 20" in run(ci="").stdout

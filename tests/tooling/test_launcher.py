"""Which Python scripts/setup chooses, and its line where there is none; the Pythons are stubs."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.tiny_project import ROOT

WORKS = 'case "$*" in *ensurepip*) ;; *) echo "$0" "$@" ;; esac'
DEAD_SHIM = "exit 127"
NO_VENV = "exit 1"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """scripts/setup, no .venv, and in bin/ only the programs that the script itself calls."""
    tmp_path.joinpath("scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    stub(tmp_path / "bin" / "id", "echo 0")
    tmp_path.joinpath("bin", "dirname").symlink_to(str(shutil.which("dirname")))
    return tmp_path


def stub(program: Path, body: str) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o755)


def set_up(project: Path, *, path: str = "bin") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / "scripts" / "setup", "--tests"],
        env={"PATH": ":".join(f"{project}/{folder}" for folder in path.split(":"))},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_the_newest_python_that_can_make_a_venv_is_chosen(project: Path):
    stub(project / "bin" / "python3.14", DEAD_SHIM)
    stub(project / "bin" / "python3.13", NO_VENV)
    stub(project / "bin" / "python3.12", WORKS)
    stub(project / "bin" / "python3.11", WORKS)
    chosen = f"{project}/bin/python3.12 -I {project}/scripts/setup.py --tests\n"
    assert set_up(project).stdout == chosen


def test_a_dead_shim_does_not_hide_the_python_behind_it(project: Path):
    stub(project / "shims" / "python3.11", DEAD_SHIM)
    stub(project / "bin" / "python3.11", WORKS)
    assert set_up(project, path="shims:bin").stdout.startswith(f"{project}/bin/python3.11 ")


def test_an_activated_unfinished_venv_does_not_rebuild_itself(project: Path):
    stub(project / ".venv" / "bin" / "python3.13", WORKS)
    stub(project / "bin" / "python3.10", WORKS)
    assert set_up(project, path=".venv/bin:bin").stdout.startswith(f"{project}/bin/python3.10 ")


@pytest.mark.parametrize(
    ("user", "manager", "fix"),
    [
        ("0", "apt-get", "apt-get update && apt-get install -y python3-venv"),
        ("1000", "apt-get", "sudo apt-get update && sudo apt-get install -y python3-venv"),
        ("0", "dnf", "dnf install -y python3.12"),
        ("1000", "zypper", "sudo zypper install -y python312"),
        ("1000", "pacman", "sudo pacman -S --noconfirm python"),
        ("0", "apk", "apk add python3"),
        ("501", "brew", "brew install python@3.13"),
        ("501", "port", "install Python 3.13 from python.org"),
    ],
)
def test_without_a_usable_python_one_line_says_what_to_type(
    project: Path, user: str, manager: str, fix: str
):
    stub(project / "bin" / "python3.11", NO_VENV)
    stub(project / "bin" / "id", f"echo {user}")
    stub(project / "bin" / manager, "exit 1")
    done = set_up(project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"No Python 3.10 to 3.14 with its venv module on PATH. This fixes it: {fix}\n"
    )


def test_an_older_python_gets_one_line_not_a_syntax_error():
    program = ROOT / "scripts" / "setup.py"
    ast.parse(program.read_text(encoding="utf-8"), feature_version=(3, 7))
    pretend = (
        "import runpy, sys; sys.version_info = (3, 9, 18);"
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", pretend, program], capture_output=True, encoding="utf-8"
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("fal-image needs Python 3.10 or newer")

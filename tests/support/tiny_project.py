"""A project small enough to be set up for real in a test: our scripts, one package in each lock."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support import tiny_backend

ROOT = Path(__file__).resolve().parents[2]
DEAD_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}

_PYPROJECT = """\
[build-system]
requires = []
build-backend = "tiny_backend"
backend-path = ["."]

[project]
name = "fal-image"
version = "1"
"""


class TinyProject:
    """`folder` holds the project, `wheels` beside it stands in for the index."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder, self.wheels = folder, wheels

    @property
    def index(self) -> dict[str, str]:
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def copied_to(self, folder: Path) -> TinyProject:
        shutil.copytree(self.folder, folder, symlinks=True)
        return TinyProject(folder, self.wheels)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a script of the project; this machine's own pip settings do not leak in."""
        return subprocess.Popen(
            [self.folder / command[0], *command[1:]],
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "HOME": str(self.folder),
                "PIP_CONFIG_FILE": "/dev/null",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with self.start(*command, **environment) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, err)


def tiny_project(folder: Path) -> TinyProject:
    """Lay one out: requirements.lock pins the package `runs`, requirements-dev.lock `tests` too."""
    project = TinyProject(folder / "project", folder / "wheels")
    package = project.folder / "shared" / "fal_image"
    (package / "dev").mkdir(parents=True)
    package.joinpath("__init__.py").write_text("main = exit\n", encoding="utf-8")
    runner = "import sys, runs\nprint('runner', *sys.argv[1:])\n"
    package.joinpath("dev", "runner.py").write_text(runner, encoding="utf-8")
    packages = shutil.ignore_patterns("node_modules")
    shutil.copytree(ROOT / "scripts", project.folder / "scripts", ignore=packages)
    shutil.copy(tiny_backend.__file__, project.folder)
    project.folder.joinpath("pyproject.toml").write_text(_PYPROJECT, encoding="utf-8")
    project.wheels.mkdir()
    write_lock(project, "requirements.lock", ["runs"])
    write_lock(project, "requirements-dev.lock", ["runs", "tests"])
    return project


def write_lock(project: TinyProject, name: str, packages: Sequence[str]) -> None:
    """Pin `packages` as uv does, beside one that is for another system only."""
    lines = ["# what a comment==looks like", "elsewhere==1 ; sys_platform == 'win32' \\"]
    lines.append(f"    --hash=sha256:{'0' * 64}")
    for package in packages:
        wheel = tiny_backend.write_wheel(project.wheels, package, {f"{package}.py": ""})
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines += [f"{package}==1 \\", f"    --hash=sha256:{digest}", "    # via somebody"]
    project.folder.joinpath(name).write_text("\n".join(lines) + "\n", encoding="utf-8")

"""scripts/setup as a newcomer meets it: real virtual environments, tiny packages, no network."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tiny_project import DEAD_INDEX, TinyProject, tiny_project, write_lock

# A virtual environment takes seconds to make, and a busy machine takes several times that.
pytestmark = pytest.mark.timeout(90)

LEADS_ELSEWHERE = {
    "PIP_USER": "1",
    "PIP_TARGET": "/nonexistent/target",
    "PIP_PREFIX": "/nonexistent/prefix",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_NO_DEPS": "1",
    "PIP_CONSTRAINT": "/nonexistent/constraints.txt",
    "PYTHONPATH": "/nonexistent",
    "PYTHONHOME": "/nonexistent",
    "PYTHONUSERBASE": "/nonexistent",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """Set up once, under every setting that could lead it astray; tests only add to it."""
    project = tiny_project(tmp_path_factory.mktemp("installed"))
    done = project.run("scripts/setup", **project.index, **LEADS_ELSEWHERE)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == "installing 1 packages into .venv, once\n"
    return project


def test_packages_land_in_the_venv_whatever_pip_and_python_settings_say(installed: TinyProject):
    done = installed.run("scripts/dev", "--once", "a cat", **DEAD_INDEX, **LEADS_ELSEWHERE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "runner --once a cat\n", "")
    assert installed.venv.joinpath("bin", "fal-image").exists()


def test_a_second_start_needs_no_index(installed: TinyProject):
    done = installed.run("scripts/setup", **DEAD_INDEX)
    assert (done.returncode, done.stderr) == (0, "")


def test_test_tools_are_added_once_and_a_failed_try_spoils_nothing(installed: TinyProject):
    offline = installed.run("scripts/setup", "--tests", **DEAD_INDEX)
    assert offline.returncode == 2
    assert "ERROR: No matching distribution found for tests==1" in offline.stderr
    assert "check the network" in offline.stderr.splitlines()[-1]
    assert installed.run("scripts/setup", **DEAD_INDEX).stderr == ""

    online = installed.run("scripts/setup", "--tests", **installed.index)
    assert (online.returncode, online.stderr) == (0, "installing 1 packages into .venv, once\n")
    assert installed.run("scripts/setup", "--tests", **DEAD_INDEX).stderr == ""
    assert installed.run("scripts/setup", **DEAD_INDEX).stderr == ""


def test_what_the_bench_compares_with_is_installed_once_and_for_it_alone(
    installed: TinyProject, tmp_path: Path
):
    project = installed.copied_to(tmp_path / "copy")
    restamp(project)
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs, "node", "echo v22.1.0")
    path = f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin"
    project.run("scripts/setup", "--tests", PATH=path, **project.index)
    project.folder.joinpath("tests", "node").mkdir(parents=True)
    project.folder.joinpath("tests", "node", "package-lock.json").write_text("{}", encoding="utf-8")
    program(programs, "npm", "exit 1")
    failed = project.run("scripts/setup", "--bench", PATH=path, **DEAD_INDEX)
    assert failed.stderr.splitlines()[-1] == (
        "npm ci failed, so the measures of scripts/bench beside Node and Express will not run."
    )

    program(programs, "npm", 'mkdir -p "$3/node_modules"')
    bench = project.run("scripts/setup", "--bench", PATH=path, **DEAD_INDEX)
    assert bench.stderr == "installing the npm packages of scripts/benchmarks/peers, once\n"
    assert project.run("scripts/setup", "--bench", PATH=path, **DEAD_INDEX).stderr == ""


def test_a_changed_project_file_renews_the_command_without_an_index(installed: TinyProject):
    with installed.folder.joinpath("pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    command = installed.venv / "bin" / "fal-image"
    command.unlink()
    done = installed.run("scripts/setup", **DEAD_INDEX)
    assert (done.returncode, done.stderr) == (0, "")
    assert command.exists()


def test_a_venv_that_was_moved_or_lost_its_python_is_not_complete(
    installed: TinyProject, tmp_path: Path
):
    copy = installed.copied_to(tmp_path / "copy")
    assert not is_complete(copy, copy.venv / "bin" / "python")
    restamp(copy)
    assert is_complete(copy, copy.venv / "bin" / "python")

    python = copy.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert not is_complete(copy, Path(sys.executable))


def test_one_start_at_a_time_and_one_killed_half_way_counts_for_nothing(
    installed: TinyProject, tmp_path: Path, silent_index: socket.socket
):
    project = installed.copied_to(tmp_path / "copy")
    restamp(project)
    write_lock(project, "requirements-dev.lock", ["runs", "tests", "more"])
    url = f"http://127.0.0.1:{silent_index.getsockname()[1]}/"
    first = project.start("scripts/setup", "--tests", PIP_INDEX_URL=url, PIP_RETRIES="0")
    connection, _ = silent_index.accept()  # pip is at work, in a .venv that looks finished
    others = [project.start("scripts/setup", **project.index) for _ in range(2)]
    for other in others:
        assert next_line(other) == "waiting for another set-up of .venv to finish\n"
    first.kill()
    first.communicate()
    connection.close()  # pip outlived its parent, and the others wait for it too
    silent_index.close()

    said = sorted(other.communicate()[1] for other in others)
    assert [other.returncode for other in others] == [0, 0], said
    found_it_done, made_it = said
    assert found_it_done == ""
    assert made_it.startswith("making .venv anew")
    assert made_it.endswith("installing 1 packages into .venv, once\n")
    command = project.venv.joinpath("bin", "fal-image").read_text(encoding="utf-8")
    assert command.startswith(f"#!{project.venv}/bin/python")


@pytest.fixture
def silent_index() -> Iterator[socket.socket]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def is_complete(project: TinyProject, python: Path) -> bool:
    check = [str(python), "-I", str(project.folder / "scripts" / "setup.py"), "--check"]
    return subprocess.run(check).returncode == 0


def restamp(project: TinyProject) -> None:
    """Make a copied .venv pass for one that was made here, without test tools."""
    stamp = project.venv / "fal-image-setup.json"
    told = json.loads(stamp.read_text(encoding="utf-8"))
    told.pop("requirements-dev.lock", None)
    stamp.write_text(json.dumps({**told, "location": str(project.venv)}), encoding="utf-8")


def program(folder: Path, name: str, line: str) -> None:
    folder.joinpath(name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    folder.joinpath(name).chmod(0o755)


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()

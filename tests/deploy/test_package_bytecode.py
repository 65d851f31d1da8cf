"""Bytecode in a package: a new instance imports without compiling, and nothing else differs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.packaging.bytecode import compiler
from scripts.packaging.targets import PYTHONS

from support.tiny_project import ROOT
from support.workshop import Workshop

HERE = "{}.{}".format(*sys.version_info)
OTHER = next(version for version in PYTHONS if version != HERE)
ANSWERS = f"cpython-{OTHER.replace('.', '')} {OTHER}.99"
TAG = f"cpython-{HERE.replace('.', '')}"


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def unpacked(workshop: Workshop) -> Path:
    """The package for the Python at hand, which a function may read and not write."""
    done = workshop.package("aws", "--python", HERE)
    assert done.returncode == 0, done.stderr
    return workshop.folder / ".build" / "aws"


def run(tree: Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    found = f"import sys; sys.path.insert(0, {str(tree)!r}); {program}"
    command = [sys.executable, "-I", "-S", "-B", *options, "-c", found]
    return subprocess.run(command, capture_output=True, encoding="utf-8")


def python_on(folder: Path, script: str) -> str:
    """A PATH where a program calls itself a Python of the other version."""
    folder.mkdir()
    program = folder / f"python{OTHER}"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return str(folder)


def test_every_module_has_bytecode_and_what_cannot_be_imported_has_none(workshop: Workshop):
    workshop.pin(
        "runs",
        {
            "runs/__init__.py": "",
            "runs/core.py": "x = 1\n",
            "runs/run-me.py": "x = 1\n",
            "runs/template.py": "def {{name}}(): pass\n",
            "runs/data.json": "{}",
            "single.py": "x = 1\n",
        },
    )
    unpacked(workshop)
    files = workshop.made()
    bytecode = {name for name in files if name.endswith(".pyc")}
    assert {name for name in bytecode if name.startswith(("runs", "__"))} == {
        f"runs/__pycache__/__init__.{TAG}.pyc",
        f"runs/__pycache__/core.{TAG}.pyc",
        f"__pycache__/single.{TAG}.pyc",
    }
    assert f"fal_image/__pycache__/app.{TAG}.pyc" in bytecode
    assert f"functions/aws/__pycache__/handler.{TAG}.pyc" in bytecode


def test_what_no_function_imports_is_not_compiled(workshop: Workshop):
    workshop.pin("pycparser", {"pycparser/__init__.py": "", "pycparser/ast.py": ""})
    unpacked(workshop)
    found = [name for name in workshop.made() if name.startswith("pycparser/")]
    assert sorted(found) == ["pycparser/__init__.py", "pycparser/ast.py"]


def test_an_import_takes_the_bytecode_without_a_look_at_the_source(workshop: Workshop):
    workshop.pin("runs", {"runs.py": "x = 'bytecode'\n"})
    tree = unpacked(workshop)
    source = tree / "runs.py"
    source.write_text("x = 'another source'\n", encoding="utf-8")
    os.utime(source, (10**9, 10**9))
    show = "import runs; print(runs.x)"
    assert run(tree, show).stdout == "bytecode\n"
    assert run(tree, show, "--check-hash-based-pycs", "always").stdout == "another source\n"


def test_a_traceback_shows_the_file_where_it_lies_and_its_line(workshop: Workshop):
    workshop.pin("runs", {"runs/core.py": "def fail():\n    raise ValueError  # here\n"})
    tree = unpacked(workshop)
    moved = tree.rename(workshop.folder / "task")
    said = run(moved, "import runs.core; runs.core.fail()").stderr
    assert f'File "{moved}/runs/core.py", line 2, in fail\n    raise ValueError  # here' in said


def test_no_path_of_this_machine_is_in_bytecode(workshop: Workshop):
    workshop.pin("runs", {"runs.py": "def f():\n    return lambda: 1\n"})
    unpacked(workshop)
    content = b"".join(raw for name, raw in workshop.made().items() if name.endswith(".pyc"))
    places = (workshop.folder, Path(sys.prefix), Path(sys.base_prefix), ROOT)
    assert b"runs.py" in content
    assert [place for place in places if str(place).encode() in content] == []


def test_bytecode_of_a_file_does_not_depend_on_the_others(workshop: Workshop):
    workshop.pin(
        "runs", {"runs.py": "import decimal\ndef f(self): return {'a', 'bc', 'decimal'}\n"}
    )
    unpacked(workshop)
    alone = workshop.made()[f"__pycache__/runs.{TAG}.pyc"]
    more = "import decimal, fractions\ndef f(self, a): return {'bc', 'fractions', a}\n"
    workshop.pin("again", {"again.py": more})
    unpacked(workshop)
    assert workshop.made()[f"__pycache__/runs.{TAG}.pyc"] == alone


def test_what_was_made_is_told_with_its_size(workshop: Workshop):
    lines = workshop.package("aws", "--python", HERE).stdout.splitlines()
    release = "{}.{}.{}".format(*sys.version_info)
    assert lines[-1].endswith(f" KB  of all this is bytecode, made by Python {release}")


def test_without_the_functions_python_there_is_a_package_and_a_word_on_what_it_lacks(
    workshop: Workshop, tmp_path: Path
):
    done = workshop.package("aws", "--python", OTHER, PATH=python_on(tmp_path / "bin", "exit 127"))
    assert done.returncode == 0, done.stderr
    assert [name for name in workshop.made() if name.endswith(".pyc")] == []
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"without bytecode, because no Python {OTHER} was found here: ")
    assert f"Install Python {OTHER}" in last


def test_a_python_that_cannot_compile_is_named_and_nothing_is_left(
    workshop: Workshop, tmp_path: Path
):
    script = f'[ "$1" = -I ] && echo {ANSWERS} final && exit\necho out of memory >&2; exit 3'
    done = workshop.package("aws", "--python", OTHER, PATH=python_on(tmp_path / "bin", script))
    assert done.returncode == 1
    program = tmp_path / "bin" / f"python{OTHER}"
    assert done.stderr.endswith(f"out of memory\n{program} could not compile the package.\n")
    assert not list((workshop.folder / ".build").glob("aws*"))


def test_the_running_python_compiles_for_its_own_version():
    found = compiler(HERE, path="")
    assert found is not None
    assert (found.program, found.release) == (sys.executable, sys.version.split()[0])


@pytest.mark.parametrize(
    "script",
    [
        "echo 'shim: command not found' >&2; exit 127",
        f'exec {shlex.quote(sys.executable)} "$@"',
        f"echo {ANSWERS} candidate",
        f"echo pypy73 {OTHER}.99 final",
        "echo",
        "printf '\\377'",
    ],
    ids=["no Python", "another version", "a preview", "PyPy", "silent", "no text"],
)
def test_a_program_is_passed_over_that_is_not_what_it_is_called(tmp_path: Path, script: str):
    shims = python_on(tmp_path / "shims", script)
    assert compiler(OTHER, path=shims) is None
    real = python_on(tmp_path / "real", f"echo {ANSWERS} final")
    found = compiler(OTHER, path=f"{shims}{os.pathsep}{os.pathsep}{real}")
    assert found is not None
    assert (found.program, found.release) == (f"{real}/python{OTHER}", f"{OTHER}.99")

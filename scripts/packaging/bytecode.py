"""Bytecode for the modules of a package, made by a Python of the version that will run them.

The disk of a new instance is read-only: without bytecode it compiles every module that it imports,
at each cold start. Bytecode is the same for every machine and another for every minor version; a
Python that is offered another's takes the source. Knows no cloud, and nothing of fal_image.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .wheels import CannotPackage

# Brought along by other packages, and imported by no function: a third of all bytecode.
_NEVER_IMPORTED = {"anyio", "cffi", "h11", "httpcore", "pycparser", "websockets"}
_QUESTION = (
    "import sys; print(sys.implementation.cache_tag, '{}.{}.{} {}'.format(*sys.version_info))"
)
_ANSWER_S = 10


@dataclass(frozen=True)
class Compiler:
    """A Python on this machine: its program, and its release such as 3.13.0."""

    program: str
    release: str


def compiler(version: str, path: str | None = None) -> Compiler | None:
    """A Python of the version ("3.13"): the running one, else a python3.13 on `path`, by default
    the shell's.

    Each is asked what it is: a version manager's shim may stand for another Python, or for none.
    """
    folders = (os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep)
    named = [shutil.which(f"python{version}", path=folder) for folder in folders if folder]
    for program in [sys.executable, *named]:
        if program and (release := _release(program, version)):
            return Compiler(program, release)
    return None


def _release(program: str, version: str) -> str:
    """The release of a program that is a CPython of the version; "" if it is anything else, also
    one that was never finished, whose bytecode may be of a form of its own."""
    command = [program, "-I", "-S", "-c", _QUESTION]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    tag, release, level = (done.stdout.decode(errors="replace").split() + [""] * 3)[:3]
    return release if (tag, level) == (_tag(version), "final") else ""


def _tag(version: str) -> str:
    return f"cpython-{version.replace('.', '')}"


def compiled(files: Mapping[str, bytes], version: str, by: Compiler) -> dict[str, bytes]:
    """The .pyc files for what can be imported, by their names in the package.

    The same source and release give the same bytes, wherever they are and whatever else is
    compiled. An import takes them without a look at the source (PEP 552, unchecked hashes): dates
    are the same in all of a zip, and a hash of each source would cost its reading. Raises
    CannotPackage.
    """
    sources = {
        name: base64.b64encode(files[name]).decode() for name in sorted(files) if _is_module(name)
    }
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [
            by.program,
            "-s",
            "-S",
            "-B",
            "-W",
            "ignore",
            str(Path(__file__).with_name("compiler.py")),
        ],
        input=json.dumps(sources),
        env={**environment, "PYTHONHASHSEED": "0"},  # the order of a frozenset before Python 3.11
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise CannotPackage(f"{done.stderr}{by.program} could not compile the package.")
    made = {name: base64.b64decode(text) for name, text in json.loads(done.stdout).items()}
    return {_place(name, version): pyc for name, pyc in made.items() if pyc}


def _is_module(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.suffix == ".py"
        and all(part.isidentifier() for part in path.with_suffix("").parts)
        and path.parts[0] not in _NEVER_IMPORTED
    )


def _place(name: str, version: str) -> str:
    """Where a Python looks for the bytecode of a source (PEP 3147)."""
    path = PurePosixPath(name)
    return str(path.parent / "__pycache__" / f"{path.stem}.{_tag(version)}.pyc")

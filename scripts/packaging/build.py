"""From the working tree and the lock to a folder and a zip.

The same files give the same bytes: names are sorted, dates and modes fixed, and nothing is written
down of the machine. (Compiled by another release of the target's Python, or not at all because
there is none, or compressed by another zlib, the same files may give other bytes.)

A package holds what a function can import and no more. Of fal_image these stay out: `dev` (the
emulator must not be reachable in a cloud) and what a person starts at a terminal: the command
line, the server for agents, the way both ask an endpoint, the doctor. `server` is there only where
CloudBase wants a server. Storages and databases of other clouds stay: they are small, they load
their SDK only when chosen, and without it they say what is missing.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .bytecode import Compiler, compiled, compiler
from .targets import Cloud, Target
from .wheels import CannotPackage, fetched, opened

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
_FOR_TERMINALS = re.compile(r"(cli|dev|doctor|mcp\w*)/.*|(endpoint|sessions|__main__)\.py")
_SERVER = {"server.py", "polling.py"}
_KINDS = {".py", ".json", ".html"}  # whatever else lies about there is nobody's to upload
_EXECUTABLE = {"scf_bootstrap"}
_MADE_AT = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip can say


@dataclass(frozen=True)
class Package:
    """A package that was made; `parts` are compressed bytes by what lies at the root, and
    `bytecode_bytes` how many of them are bytecode. Without a compiler there is none."""

    zip: Path
    zip_bytes: int  # when it was made; another build may be at work since
    tree: Path
    parts: Counter[str]
    bytecode_bytes: int
    compiler: Compiler | None


def build(target: Target, into: Path = BUILD) -> Package:
    """Make `<into>/<cloud>/` and `<into>/<cloud>.zip` anew.

    One build at a time in this project; others wait. Raises CannotPackage, and then neither is
    there: what was made before cannot be taken for what was asked for.
    """
    BUILD.mkdir(exist_ok=True)
    into.mkdir(parents=True, exist_ok=True)
    tree, archive = into / target.cloud.name, into / f"{target.cloud.name}.zip"
    with (BUILD / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        archive.unlink(missing_ok=True)
        if tree.exists():
            shutil.rmtree(tree)
        wheels = fetched(target, ROOT / target.cloud.lock, BUILD / "wheels", lock.fileno())
        files = _together(target.cloud, wheels)
        python = compiler(target.python)
        bytecode = compiled(files, target.python, python) if python else {}
        files |= bytecode
        draft = archive.with_suffix(".draft")
        sizes = _write_zip(files, draft)
        parts: Counter[str] = Counter()
        for name, taken in sizes.items():
            parts[name.partition("/")[0]] += taken
        size = _fitting_size(target.cloud, draft, parts)
        _write_tree(files, tree)
        draft.replace(archive)
    return Package(archive, size, tree, parts, sum(sizes[name] for name in bytecode), python)


def _together(cloud: Cloud, wheels: list[Path]) -> dict[str, bytes]:
    files = dict(_own_files(cloud))
    for wheel in wheels:
        for name, content in opened(wheel):
            if files.setdefault(name, content) != content:
                raise CannotPackage(f"{name} of {wheel.name} is in another package too")
    return files


def _own_files(cloud: Cloud) -> Iterator[tuple[str, bytes]]:
    package = ROOT / "shared" / "fal_image"
    for path in package.rglob("*"):
        inside = path.relative_to(package).as_posix()
        is_hidden = any(part.startswith(".") for part in inside.split("/"))
        if is_hidden or path.suffix not in _KINDS or _FOR_TERMINALS.fullmatch(inside):
            continue
        if inside not in _SERVER or cloud.has_server:
            yield f"fal_image/{inside}", path.read_bytes()
    for name, source in cloud.files.items():
        yield name, (ROOT / source).read_bytes()


def _write_zip(files: Mapping[str, bytes], to: Path) -> dict[str, int]:
    """How many bytes each file takes in it."""
    sizes = {}
    with zipfile.ZipFile(to, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _MADE_AT)
            entry.create_system = 3  # Unix, so that the mode counts
            entry.external_attr = (0o100000 | _mode(name)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name], compresslevel=9)
            sizes[name] = entry.compress_size
    return sizes


def _write_tree(files: Mapping[str, bytes], to: Path) -> None:
    for name, content in files.items():
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(_mode(name))
    for folder, _, _ in os.walk(to):
        os.chmod(folder, 0o755)  # CloudBase's CLI hands on their modes too


def _mode(name: str) -> int:
    return 0o755 if name in _EXECUTABLE else 0o644


def _fitting_size(cloud: Cloud, archive: Path, parts: Counter[str]) -> int:
    size = archive.stat().st_size
    if size > cloud.max_zip_bytes:
        archive.unlink()
        largest = ", ".join(f"{name} {part / 1e6:.1f} MB" for name, part in parts.most_common(3))
        raise CannotPackage(
            f"the package for {cloud.name} has {size / 1e6:.1f} MB zipped ({largest}); the limit is"
            f" {cloud.max_zip_bytes / 1e6:.0f} MB"
        )
    return size

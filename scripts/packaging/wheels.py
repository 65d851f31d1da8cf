"""The locked packages of a target: fetched by pip once, kept, and opened.

Knows nothing of fal_image. pip only fetches, for the machine and Python of the target instead of
this one's; a wheel is a zip, so nothing is installed, and nothing is run but the set-up of the one
package without a wheel, which pip asks for its name.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from packaging.markers import Marker
from scripts import setup

from .targets import Target

_PIN = re.compile(
    r"^(?P<pin>\w\S*==\S+)(?: ; (?P<marker>.+?))? \\\n(?P<hashes>(?: +--hash=.+\n)+)", re.M
)
_SDIST = re.compile(rf"{setup.WITHOUT_WHEEL}-[\d.]+\.tar\.gz")
_SDIST_ROOT = f"python3/{setup.WITHOUT_WHEEL}/"

# Of no use where nothing is installed, compiled or tested. What a package says of itself stays, and
# its licence.
_NOT_NEEDED = re.compile(
    r"[^/]+\.dist-info/(RECORD|INSTALLER|REQUESTED)"
    r"|(.+/)?tests?(/.*|\.py)"
    r"|.+\.(pyc|pyi|pyx|pxd|c|h)"
)


class CannotPackage(Exception):
    """Carries the words for the user. No package is left behind, and trying again is safe."""


def fetched(target: Target, lock: Path, cache: Path, lock_fd: int) -> list[Path]:
    """The wheels for a target, from `cache` or fetched into it.

    Every file has one of the hashes of the lock. A pin without a wheel for the target is an error,
    never an older release. Raises CannotPackage.
    """
    wanted = _requirements(target, lock.read_text(encoding="utf-8"))
    what = "\n".join([wanted, target.python, *target.platforms])
    folder = cache / f"{target.name}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        for older in cache.glob(f"{target.name}-*"):
            shutil.rmtree(older)
        draft = cache / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _download(target, wanted, draft, lock_fd)
        draft.rename(folder)
    return sorted(path for path in folder.iterdir() if path.name != "requirements.txt")


def opened(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a wheel as they lie when installed, without commands, tests and bytecode."""
    files = _in_sdist(wheel) if _SDIST.fullmatch(wheel.name) else _in_wheel(wheel)
    for name, content in files:
        if not _NOT_NEEDED.fullmatch(name):
            yield name, content


def _requirements(target: Target, lock: str) -> str:
    """The pins of a lock that are for the target; pip would ask their markers of this machine."""
    return "".join(
        f"{found['pin']} \\\n{found['hashes']}"
        for found in _PIN.finditer(lock)
        if not found["marker"] or Marker(found["marker"]).evaluate(dict(target.markers))
    )


def _download(target: Target, wanted: str, folder: Path, lock_fd: int) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(wanted, encoding="utf-8")
    setup.say(f"fetching the packages of {target.name}, once")
    command = [sys.executable, "-I", "-m", "pip", "download", "--require-hashes", "--no-deps"]
    command += ["--only-binary=:all:", f"--no-binary={setup.WITHOUT_WHEEL}"]
    command += ["--implementation=cp", f"--python-version={target.python}"]
    command += [f"--platform={tag}" for tag in target.platforms]
    command += ["--dest", str(folder), "-r", str(requirements)]
    try:
        setup.run(
            command,
            lock_fd,
            f"The packages of {target.name} could not be fetched: check the network and pip's"
            " index settings, then start again.",
        )
    except setup.CannotSetUp as problem:
        raise CannotPackage(str(problem)) from problem


def _in_wheel(wheel: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            place = PurePosixPath(entry.filename)
            if place.parts[0].endswith(".data"):  # PEP 427: by the kind of place it belongs in
                if place.parts[1] not in ("purelib", "platlib"):
                    continue
                place = PurePosixPath(*place.parts[2:])
            yield str(place), archive.read(entry)


def _in_sdist(sdist: Path) -> Iterator[tuple[str, bytes]]:
    """The Python half of the one package that has no wheel; its C half only makes it faster."""
    with tarfile.open(sdist) as archive:
        for entry in archive:
            inside = entry.name.partition("/")[2]
            if inside.startswith(_SDIST_ROOT) and inside.endswith(".py"):
                file = archive.extractfile(entry)
                assert file is not None
                yield inside.removeprefix("python3/"), file.read()

"""A job for whoever asked for it: its end as success or failure, its pictures as files of this
machine, and what is told of them. Refuses to know where the job was made."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import string
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from msgspec import Struct

from ..errors import AppError
from ..images import CONTENT_TYPES
from .output import EXIT_FAILED, EXIT_PAID, Output, Stopped, interrupted, raised, usage
from .places import Place
from .request import FORMATS

PANEL = "Where the pictures go"

OutputPath = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Write the picture here too; several get -0, -1, …",
        rich_help_panel=PANEL,
    ),
]
Download = Annotated[
    str | None,
    typer.Option(
        help="The same with a name for each: {index}, {ext} and {job} are filled in, as in "
        '"out/{index}.{ext}".',
        rich_help_panel=PANEL,
    ),
]

_PLACEHOLDERS = ("index", "ext", "job")
_EXTENSIONS = {content_type: extension for extension, content_type in CONTENT_TYPES.items()}
_SAFE = re.compile(r"[0-9A-Za-z-]{1,100}")
_STREAMS = {"stdout": 1, "stderr": 2}
_OPEN = re.compile(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/([0-9]{1,6})")


class Destination(Struct, frozen=True):
    """Names for the pictures of a job; what `is_template` has placeholders. Directories are made,
    and what is there is written over: the storage has every picture anyway."""

    name: str
    is_template: bool

    @property
    def suffix(self) -> str | None:
        """What all names end with, None where that is left to the picture."""
        suffix = Path(self.name).suffix
        if _descriptor(Path(self.name)) is not None:
            return None
        return None if self.is_template and "{" in suffix else suffix

    def path(self, *, index: int, ext: str, job: str, is_single: bool) -> Path:
        if not self.is_template:
            path = Path(self.name)
        else:
            path = Path(self.name.format(index=index, ext=ext, job=job))
        is_named = is_single or (self.is_template and "{index}" in self.name)
        is_named = is_named or _descriptor(path) is not None
        return path if is_named else path.with_name(f"{path.stem}-{index}{path.suffix}")

    def refuse_unwritable(self) -> None:
        """Raises Stopped for names that no file can get, before anything is paid."""
        name = partial(self.path, index=1, ext="jpeg", job="0" * 26)
        try:
            self._refuse(name(is_single=True))
            with suppress(FileNotFoundError, NotADirectoryError):
                name(is_single=False).lstat()  # it may be too long
        except OSError as error:
            raise usage(f"{self.name[:100]}: {error.strerror}") from None

    def _refuse(self, path: Path) -> None:
        """Raises Stopped, OSError."""
        descriptor = _descriptor(path)
        if descriptor is not None:
            os.fstat(descriptor)
            return
        if path.is_dir() or self.name.endswith(("/", os.sep)) or not path.name:
            raise usage(f"{self.name}: is a directory; add a file name")
        with suppress(FileNotFoundError, NotADirectoryError):
            if not stat.S_ISREG(path.stat().st_mode) and os.access(path, os.W_OK):
                return
        near = next(one for one in (path.parent, *path.absolute().parents) if one.exists())
        if not near.is_dir() or not os.access(near, os.W_OK):
            raise usage(f"{near}: nothing can be written there")


def destination(output: Path | None, download: str | None) -> Destination | None:
    """Where the options want the pictures. Raises Stopped."""
    if output is not None and download is not None:
        raise usage("give --output or --download, not both")
    if output is None and download is None:
        return None
    if download is not None:
        _check_placeholders(download)
    found = Destination(str(output) if download is None else download, download is not None)
    found.refuse_unwritable()
    return found


def _check_placeholders(template: str) -> None:
    known = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        raise usage(f"{template}: a brace is open; there are {known}") from None
    for _, name, form, conversion in parts:
        if name is not None and name not in _PLACEHOLDERS:
            raise usage(f"{template}: {{{name}}} is no placeholder; there are {known}")
        if form or conversion:
            raise usage(f"{template}: write {{{name}}} without a format")


def save(place: Place, job: Mapping[str, Any], where: Destination | None) -> list[Path]:
    """Copy the stored pictures of a job to this machine. Raises Stopped: they stay stored."""
    if where is None:
        return []
    paths = []
    for image in job["images"]:
        path = where.path(
            index=int(image["index"]),
            ext=_safe(_EXTENSIONS.get(image["contentType"], _subtype(image["contentType"]))),
            job=_safe(job["jobId"]),
            is_single=len(job["images"]) == 1,
        )
        try:
            with place.read(image) as chunks:
                _copy(chunks, path, str(image["sha256"]))
        except (AppError, OSError, Stopped) as error:
            raise _not_written(place, job, image, path, error) from None
        except KeyboardInterrupt:
            raise interrupted(f"{path}: interrupted", **_kept(place, job, image)) from None
        paths.append(path)
    return paths


def _copy(chunks: Iterator[bytes], path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with whole_file(path) as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != sha256:
            raise OSError(0, "what was read is not the picture that was stored")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file, whole or not at all, and make its directory. Raises OSError.

    What is no file, and what this process was given open, such as /dev/stdout, is written into.
    """
    descriptor = _descriptor(path)
    if descriptor is not None:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            yield stream
        return
    path = Path(os.path.realpath(path))  # a link stays one
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        with path.open("wb") as device:
            yield device
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:20]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).chmod(0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _descriptor(path: Path) -> int | None:
    """The number of the open file that a path of the system stands for."""
    found = _OPEN.fullmatch(str(path))
    if found is None:
        return None
    return int(found[2]) if found[2] else _STREAMS[found[1]]


def _umask() -> int:
    """What this user keeps from others; there is no way to ask but to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _subtype(content_type: str) -> str:
    return content_type.rpartition("/")[2]


def _safe(text: str) -> str:
    """A value that goes into a path; no endpoint's word leads anywhere else."""
    if not _SAFE.fullmatch(text):
        raise Stopped(f"{text[:100]!r} is no part of a name", EXIT_PAID, code="not_written")
    return text


def _not_written(
    place: Place,
    job: Mapping[str, Any],
    image: Mapping[str, Any],
    path: Path,
    why: AppError | OSError | Stopped,
) -> Stopped:
    words = why.strerror if isinstance(why, OSError) else str(why)
    kept = _kept(place, job, image)
    return Stopped(f"{path}: {words}", EXIT_PAID, code="not_written", **kept)


def _kept(place: Place, job: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """Where a picture still is that did not get here."""
    return {
        "hint": f"The picture is stored: `{place.found_by(job, image)}`.",
        "jobId": job["jobId"],
        "fileID": image["fileID"],
        "tempFileURL": image.get("tempFileURL"),
    }


def paid_for(job: Mapping[str, Any]) -> dict[str, Any]:
    """By what a job and its pictures are found again."""
    return {"jobId": job["jobId"], "fileIDs": [image["fileID"] for image in job["images"]]}


def made(
    out: Output, place: Place, body: dict[str, object], *, is_async: bool = False
) -> dict[str, Any]:
    """Pay for the job of a request, and show how it goes on; it has not failed. Raises AppError,
    Stopped."""
    with out.progress("asking for the picture") as say:
        job = place.make(body, is_async=is_async, say=say)
    refuse_failed(job)
    return job


def refuse_failed(job: Mapping[str, Any]) -> None:
    """Raises what a job failed with, as AppError or Stopped; one that goes on has not failed."""
    if job["error"] is not None:
        raise raised(job["error"], jobId=job["jobId"])
    if job["state"] == "cancelled":
        raise Stopped("the job was cancelled", EXIT_FAILED, code="cancelled", jobId=job["jobId"])


def refuse_other_format(job: Mapping[str, Any], where: Destination | None) -> None:
    """Raises Stopped for a name that ends with another format than the pictures of a job have."""
    if where is None or where.suffix is None:
        return
    wanted = FORMATS.get(where.suffix.lower())
    for image in job["images"]:
        if wanted and image["contentType"] != f"image/{wanted}":
            raise usage(
                f"the picture is {image['contentType']}, and the name ends with {where.suffix}",
                hint='--download "{index}.{ext}" names it rightly.',
            )


def show(out: Output, job: Mapping[str, Any], paths: list[Path]) -> None:
    """Print a job, and where its pictures were written."""
    facts = {**job, "paths": [str(path) for path in paths]}
    out.show(facts, _lines(job, paths), paid_for(job))
    for warning in job["warnings"]:
        out.warn(warning["message"])


def _lines(job: Mapping[str, Any], paths: list[Path]) -> Iterator[str]:
    if job["state"] != "done":
        yield f"{job['jobId']} {job['state']}"
        if job["error"] is not None:
            yield f"  {job['error']['error']}: {job['error']['message']}"
    for image in job["images"]:
        yield f"{image['width']}x{image['height']} {image['contentType']} {image['fileID']}"
        yield f"  {image['tempFileURL']}"
    for path in paths:
        yield str(path)

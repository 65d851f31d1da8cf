"""`fal-image file` and `fal-image regenerate`: a stored picture by its manifest, and once more.

Manifests are for the owner: they are read from the storage itself, and no endpoint hands them out.
Refuses to know how a picture is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timezone
from typing import Annotated, Any

import typer

from ..assets import storage_answers
from ..endpoint import URL
from ..errors import NotFound
from ..jobs import ID, made_at, rfc3339
from ..storage.base import Link
from . import prices, shown
from .here import Here, database_file, own_home, own_storage, services
from .output import EXIT_DIFFERENT, AsJson, Output, Stopped, usage
from .request import DryRun
from .shown import Download, OutputPath

FileID = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="A file id, or JOB-INDEX: a job's id, a hyphen, the picture's index."
    ),
]

_SHORT = re.compile(rf"({ID.pattern})-([0-9]{{1,3}})")
_CUT = re.compile(r"data:[^,]{0,100},sha256-[0-9a-f]{64}")


def file(
    file_id: FileID,
    link: Annotated[bool, typer.Option("--link", help="Sign a fresh link to it, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a stored picture was made from: its manifest.

    The storage of the environment is read, or ./.fal-image; no database is needed.
    """
    out = Output(as_json)
    with out.ending():
        here = _here()
        manifest = _manifest(here, file_id)
        found = _link(here, str(manifest["fileID"])) if link else None
        facts = dict(manifest)
        if found is not None:
            facts |= {"tempFileURL": found.url, "expiresAt": rfc3339(found.expires_at)}
        out.show(facts, _lines(manifest, found))


def regenerate(
    file_id: FileID,
    output: OutputPath = None,
    download: Download = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a stored picture again, by the model and the input in its manifest, and compare.

    It is paid like any other, and both pictures are kept. Exit code 0: fal has made the identical
    picture, byte by byte; 4: it has made another one.
    """
    out = Output(as_json)
    with out.ending():
        where = shown.destination(output, download)
        here = _here()
        old = _manifest(here, file_id)
        body = _again(old)
        if dry_run:
            prices.dry_run(out, here, body)
            return
        job = shown.made(out, here, body)
        paths = shown.save(here, job, where)
        new = _twin(here, job, old)
        is_identical = new["source"]["sha256"] == old["source"]["sha256"]
        facts = {
            "identical": is_identical,
            "old": _told(old),
            "new": _told(new),
            "job": job,
            "paths": [str(path) for path in paths],
        }
        out.show(facts, _compared(facts), shown.paid_for(job))
        if not is_identical:
            raise typer.Exit(EXIT_DIFFERENT)


def _here() -> Here:
    if os.environ.get(URL) and not os.environ.get("FAL_IMAGE_STORAGE_URL"):
        raise usage(
            f"{URL} is set, and no endpoint hands out manifests",
            hint="Set FAL_IMAGE_STORAGE_URL to the endpoint's storage, with credentials for it.",
        )
    return Here(services(own_home() if database_file().exists() else own_storage()))


def _manifest(here: Here, file_id: str) -> dict[str, Any]:
    manifests = here.services.generator.steps.manifests
    short = _SHORT.fullmatch(file_id)
    if short is None:
        return manifests.read(file_id)
    return manifests.read(_whole_id(here, short[1], int(short[2])))


def _whole_id(here: Here, job_id: str, index: int) -> str:
    """The file id of a job's picture: the database knows it, or the job's id tells its day."""
    steps, assets = here.services.generator.steps, here.services.assets
    job = steps.records.find(job_id) if steps.is_durable else None
    found = [image.file_id for image in job.images if image.index == index] if job else []
    if found:
        return found[0]
    at = made_at(job_id)
    if at is None:
        raise NotFound("no picture is called that", hint="Give the whole file id.")
    name = f"{assets.prefix}/{at.astimezone(timezone.utc):%Y-%m-%d}/{job_id}-{index}.json"
    with storage_answers():
        return assets.door.get().file_id(name)


def _link(here: Here, file_id: str) -> Link:
    """A link for the owner, who may have every picture. Raises NotFound."""
    assets = here.services.assets
    with storage_answers():
        storage = assets.door.get()
        key = storage.key(file_id)
        storage.head(key)
        return assets.link_to(storage, key)


def _again(manifest: Mapping[str, Any]) -> dict[str, object]:
    """The request that makes a picture once more. Raises Stopped where that cannot be."""
    if manifest["seed"] is None:
        raise usage("fal told no seed of this picture: it cannot be made again")
    gone = [name for name, value in manifest["input"].items() if _is_cut(value)]
    if gone:
        raise usage(
            f"{', '.join(gone)} came inside the request and was not kept",
            hint="Upload input pictures, or name them by URL: then they can be found again.",
        )
    body = {**manifest["input"], "model": manifest["model"], "seed": manifest["seed"]}
    if manifest["transforms"] is not None:
        body["transforms"] = manifest["transforms"]
    label = manifest["aiLabel"]
    if label is not None and label["level"] != "off":
        body["aiLabel"] = {name: label[name] for name in ("level", "prompt", "seed")}
    return body


def _is_cut(value: object) -> bool:
    """Whether an input held a picture of which only the hash was kept."""
    if isinstance(value, list):
        return any(_is_cut(one) for one in value)
    if isinstance(value, dict):
        return any(_is_cut(one) for one in value.values())
    return isinstance(value, str) and bool(_CUT.fullmatch(value))


def _twin(here: Here, job: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of the picture that was made again."""
    for image in job["images"]:
        if image["index"] == old["index"]:
            return here.services.generator.steps.manifests.read(image["fileID"])
    text = f"fal made fewer pictures this time: there is none with index {old['index']}"
    raise Stopped(text, EXIT_DIFFERENT, code="different", jobId=job["jobId"])


def _told(manifest: Mapping[str, Any]) -> dict[str, object]:
    return {"fileID": manifest["fileID"], "sha256": manifest["source"]["sha256"]}


def _compared(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "identical" if facts["identical"] else "different"
    yield f"  {facts['old']['fileID']}"
    yield f"  {facts['new']['fileID']}"
    yield from facts["paths"]


def _lines(manifest: Mapping[str, Any], link: Link | None) -> Iterator[str]:
    image = manifest["image"]
    yield f"{image['width']}x{image['height']} {image['contentType']} {manifest['fileID']}"
    yield f"  {manifest['model']}, seed {manifest['seed']}, {manifest['createdAt']}"
    for name, value in manifest["input"].items():
        yield f"  {name}: {value}"
    if link is not None:
        yield link.url

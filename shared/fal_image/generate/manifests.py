"""A JSON file beside each picture: what it was made from, so that it can be told and made again.

It is for the owner: it holds the prompt, and no caller gets a link to it. Where everybody can read
the storage none is written. Refuses to know how pictures are treated and paid for.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import suppress

import msgspec
from msgspec import Struct

from .. import __version__, workers
from ..assets import Assets, Kept, manifest_key, manifest_of, storage_answers
from ..errors import AppError, Internal, NotFound
from ..images import Picture
from ..jobs import Cost, Image, Job, JobWarning, Variant, rfc3339
from ..logs import logger
from ..storage.base import StorageError, StoredObject
from ..treatment import Label

VERSION = 1
MAX_BYTES = 1024 * 1024


class Writing:
    """The manifests of one job's pictures on their way.

    Each may begin beside its picture, which need not stand by then: an earlier copy may have put
    another there, or this one's put may fail and the next copy's bytes be others. So what stands at
    the end is held against the pictures that do.
    """

    def __init__(self, assets: Assets, job: Job, *, seed: int | None, cost: Cost) -> None:
        self._assets = assets
        self._job = job
        self._seed = seed
        self._cost = cost
        self._begun: dict[int, tuple[Kept, Future[StoredObject]]] = {}

    def begin(self, one: Kept) -> None:
        """Put the manifest of a picture, where none stands. Safe to repeat."""
        with suppress(RuntimeError):  # the process ends, or has no thread left: told at the end
            self._begun[one.image.index] = one, workers.start(self._put, one, True)

    def end(self, kept: Sequence[Kept], ends_at: float) -> tuple[JobWarning, ...]:
        """See that each of these pictures, which stand, has its manifest; a warning if not."""
        if self._assets.link_base_url is not None:
            return ()
        for one in kept:
            if one.image.index not in self._begun:
                self.begin(one)
        self.wait(ends_at)
        told = [self._is_told(one) for one in kept]
        if all(told):
            return ()
        text = "Not every picture's manifest could be stored: it cannot be made again by its id."
        return (JobWarning("no_manifest", text),)

    def wait(self, ends_at: float) -> None:
        """Until nothing that was begun is left on its way, or there is no time for it."""
        begun = [put for _, put in self._begun.values()]
        for late in wait(begun, max(0.0, ends_at - self._assets.clock())).not_done:
            late.cancel()

    def _is_told(self, one: Kept) -> bool:
        """Whether the picture's manifest is there, after mending one that tells of another."""
        planned, put = self._begun.get(one.image.index, (None, None))
        if planned is None or put is None or not put.done() or put.cancelled():
            return False
        try:
            made = put.result()
            if made.created:
                is_true = planned.image.sha256 == one.image.sha256
            else:
                is_true = self._told(one.image.file_id) == one.image.sha256
            if not is_true:
                self._put(one, False)
        except (StorageError, AppError, ValueError, ImportError) as error:
            logger.error("the manifest of %s is not stored: %s", one.image.file_id, error)
            return False
        return True

    def _told(self, file_id: str) -> object:
        """The SHA-256 of the picture that the standing manifest tells of."""
        image = Manifests(self._assets).read(file_id).get("image")
        return image.get("sha256") if isinstance(image, dict) else None

    def _put(self, one: Kept, create_only: bool) -> StoredObject:
        manifest = _manifest(self._job, one, self._seed, self._cost)
        text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
        content = text.encode("utf-8", "replace")
        return self._assets.door.get().put(
            manifest_key(self._assets.prefix, self._job, one.image.index),
            io.BytesIO(content),
            content_type="application/json",
            sha256=hashlib.sha256(content).hexdigest(),
            create_only=create_only,
        )


class Manifests(Struct, frozen=True):
    assets: Assets

    def read(self, file_id: str) -> dict[str, object]:
        """The manifest of a stored picture, or of one of its companions. Raises NotFound, and
        Internal (retryable) if the storage does not answer."""
        with storage_answers():
            storage = self.assets.door.get()
            key = manifest_of(storage.key(file_id), self.assets.prefix)
            if key is None:
                raise NotFound("no picture of this storage has that file id")
            content = b""
            try:
                with storage.open(key) as chunks:
                    for chunk in chunks:
                        content += chunk
                        if len(content) > MAX_BYTES:
                            raise Internal("the manifest is too long to be one")
            except NotFound:
                raise NotFound("the storage has no manifest of that picture") from None
        try:
            return msgspec.json.decode(content, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise Internal(f"the manifest is broken: {error}") from None


def _manifest(job: Job, one: Kept, seed: int | None, cost: Cost) -> dict[str, object]:
    image = one.image
    wanted, label = job.treatment.transforms, job.treatment.label
    return {
        "version": VERSION,
        "jobId": job.job_id,
        "index": image.index,
        "fileID": image.file_id,
        "model": job.model,
        "input": job.arguments,
        "seed": seed,
        "falRequestId": job.fal_request_id,
        "createdAt": rfc3339(job.created_at),
        "image": _facts(image),
        "source": _facts_of_file(one.source) | {"sha256": one.source_sha256},
        "original": _variant(image.original),
        "thumbnail": _variant(image.thumbnail),
        "transforms": msgspec.to_builtins(wanted) if wanted else None,
        "aiLabel": _label(label) if label.level != "off" else None,
        "cost": cost.to_json(),
        "versions": _versions(),
    }


def _facts(image: Image | Variant) -> dict[str, object]:
    return {
        "contentType": image.content_type,
        "width": image.width,
        "height": image.height,
        "bytes": image.bytes,
        "sha256": image.sha256,
    }


def _facts_of_file(picture: Picture) -> dict[str, object]:
    return {
        "contentType": picture.content_type,
        "width": picture.width,
        "height": picture.height,
        "bytes": picture.bytes,
    }


def _variant(variant: Variant | None) -> dict[str, object] | None:
    """What is kept and not told to callers is told here, to the owner."""
    return {"fileID": variant.file_id, **_facts(variant)} if variant else None


def _label(label: Label) -> dict[str, object]:
    return {"level": label.level, "prompt": label.prompt, "seed": label.seed}


def _versions() -> dict[str, str | None]:
    pillow = sys.modules.get("PIL")  # only what was used has touched the picture
    return {
        "fal-image": __version__,
        "python": platform.python_version(),
        "pillow": getattr(pillow, "__version__", None),
    }

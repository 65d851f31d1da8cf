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
from concurrent.futures import ThreadPoolExecutor, wait

import msgspec
from msgspec import Struct

from .. import __version__
from ..assets import MAX_PARALLEL, Assets, Kept, manifest_key, manifest_of, storage_answers
from ..errors import Internal, NotFound
from ..images import Picture
from ..jobs import Cost, Image, Job, JobWarning, Variant, rfc3339
from ..logs import logger
from ..storage.base import StorageError
from ..treatment import Label

VERSION = 1
MAX_BYTES = 1024 * 1024


class Manifests(Struct, frozen=True):
    assets: Assets

    def write(
        self, job: Job, kept: Sequence[Kept], *, seed: int | None, cost: Cost, ends_at: float
    ) -> tuple[JobWarning, ...]:
        """Keep the manifests of a job's pictures; a warning if that fails. Safe to repeat: what
        stands there stays."""
        if self.assets.link_base_url is not None:
            return ()
        pool = ThreadPoolExecutor(min(len(kept), MAX_PARALLEL))
        writing = [pool.submit(self._write, job, one, seed, cost) for one in kept]
        done, late = wait(writing, max(0.0, ends_at - self.assets.clock()))
        pool.shutdown(wait=False, cancel_futures=True)
        if not late and all(one.result() for one in done):
            return ()
        text = "Not every picture's manifest could be stored: it cannot be made again by its id."
        return (JobWarning("no_manifest", text),)

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

    def _write(self, job: Job, one: Kept, seed: int | None, cost: Cost) -> bool:
        try:
            storage = self.assets.door.get()
            key = manifest_key(self.assets.prefix, job, one.image.index)
            text = json.dumps(_manifest(job, one, seed, cost), ensure_ascii=False, indent=1) + "\n"
            content = text.encode("utf-8", "replace")
            storage.put(
                key,
                io.BytesIO(content),
                content_type="application/json",
                sha256=hashlib.sha256(content).hexdigest(),
            )
        except (StorageError, ValueError, ImportError) as error:
            logger.error("the manifest of %s is not stored: %s", one.image.file_id, error)
            return False
        return True


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

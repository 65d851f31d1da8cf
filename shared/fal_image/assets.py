"""From fal's finished picture to ours: fetch, verify, store, link.

Every picture of a job is copied in parallel, through a spooled file, so memory does not grow with
its size. Keys are deterministic and puts create-only: copying again stores nothing twice. Refuses
to know what the picture cost and who asked for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from .doors import Door
from .errors import (
    AppError,
    DeadlineExceeded,
    FetchImageFailed,
    Internal,
    NotFound,
    UploadFailed,
)
from .images import NotAPicture, Picture, inspect
from .jobs import ID_CHARS, Image, Source
from .logs import logger
from .storage.base import NOT_HERE, Link, ObjectStorage, StorageError, StoredObject
from .wire import Clock, Fetched, FetchError, Wire

SPOOL_BYTES = 1024 * 1024
FETCH_TRIES = 3
FETCH_PAUSE_S = 0.25
MAX_PARALLEL = 8

_SHAPE = re.compile(rf"\d{{4}}-\d\d-\d\d/[0-9a-z]{{{ID_CHARS}}}-\d{{1,3}}\.[a-z]{{3,4}}")


class CopyError(Exception):
    """Not every picture could be copied. `may_pass`: copying again could work."""

    def __init__(self, error: AppError, *, may_pass: bool) -> None:
        super().__init__(error.detail)
        self.error = error
        self.may_pass = may_pass


class Kept(Struct, frozen=True):
    """One copied picture and how long its two halves took."""

    image: Image
    fetch_ms: int
    store_ms: int


class Assets(Struct, frozen=True):
    """`is_held_back` says of a job's id, a picture's index and a caller that this caller may not
    have the picture by its file id."""

    wire: Wire
    door: Door[ObjectStorage]
    prefix: str
    max_image_bytes: int
    link_ttl_s: int
    link_base_url: str | None = None
    clock: Clock = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    is_held_back: Callable[[str, int, str | None], bool] = lambda job_id, index, caller: False

    def warm(self) -> None:
        """Start opening the storage; call it before the submit."""
        self.door.start()

    def keep(
        self,
        sources: Sequence[Source],
        job_id: str,
        created_at: datetime,
        *,
        ends_at: float,
        max_age_s: int | None = None,
    ) -> list[Kept]:
        """Copy all pictures of a job into the storage and sign links to them. Safe to repeat.

        Raises CopyError (of FetchImageFailed, UploadFailed or DeadlineExceeded); whatever was
        stored by then stays. A picture that is stored and cannot be signed has no link.
        """
        start = f"{self.prefix}/{created_at.astimezone(timezone.utc):%Y-%m-%d}/{job_id}"
        pool = ThreadPoolExecutor(min(len(sources), MAX_PARALLEL))
        try:
            copies = [
                pool.submit(self._keep_one, source, f"{start}-{source.index}", ends_at, max_age_s)
                for source in sources
            ]
            kept, failed = [], []
            for copy in copies:  # to the last one: each picture that arrives is one kept
                try:
                    kept.append(self._in_time(copy, ends_at))
                except CopyError as error:
                    failed.append(error)
            if failed:
                may_pass = any(error.may_pass for error in failed)
                raise CopyError(failed[0].error, may_pass=may_pass)
            return kept
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def signed(self, images: tuple[Image, ...], max_age_s: int | None) -> tuple[Image, ...]:
        """The images with links; those that have one keep it, what is withheld or cannot be signed
        has none."""
        unsigned = [image for image in images if image.url is None and not image.withheld]
        if not unsigned:
            return images
        with ThreadPoolExecutor(min(len(unsigned), MAX_PARALLEL)) as pool:
            links = dict(
                zip(
                    (image.index for image in unsigned),
                    pool.map(lambda image: self._link_to_file(image.file_id, max_age_s), unsigned),
                    strict=True,
                )
            )
        return tuple(_linked(image, links.get(image.index)) for image in images)

    def links(
        self,
        file_ids: Sequence[str],
        max_age_s: int | None = None,
        *,
        caller: str | None = None,
        is_upload: Callable[[str], bool] = lambda key: False,
    ) -> list[Link | AppError]:
        """A fresh link for each id, or why there is none: NotFound for whatever is not ours, or not
        the caller's.

        `is_upload` says of a key whether it is one of the asking caller's uploads.
        """

        def one(file_id: str) -> Link | AppError:
            try:
                return self._link_of(file_id, max_age_s, caller, is_upload)
            except AppError as error:
                return error

        with ThreadPoolExecutor(min(len(file_ids), MAX_PARALLEL)) as pool:
            return list(pool.map(one, file_ids))

    def _link_of(
        self,
        file_id: str,
        max_age_s: int | None,
        caller: str | None,
        is_upload: Callable[[str], bool],
    ) -> Link:
        with storage_answers():
            storage = self.door.get()
            key = storage.key(file_id)
            if has_our_shape(key, self.prefix):
                self.refuse_held_back(key, caller)
                storage.head(key)
            elif is_upload(key):
                with storage.open(key):  # its head lacks the SHA-256 that ours have
                    pass
            else:
                raise NotFound(NOT_HERE)
            return self.link_to(storage, key, max_age_s)

    def refuse_held_back(self, key: str, caller: str | None) -> None:
        """Raises NotFound for a picture of ours that this caller may not have, DatabaseUnavailable
        if nobody can say so."""
        stem = key.rpartition("/")[2].partition(".")[0]
        job_id, _, index = stem.partition("-")
        if self.is_held_back(job_id, int(index), caller):
            raise NotFound(NOT_HERE)

    def _keep_one(self, source: Source, stem: str, ends_at: float, max_age_s: int | None) -> Kept:
        began = self.clock()
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file: BinaryIO = spool  # type: ignore[assignment]
            fetched, picture = self._fetch(source, file, ends_at)
            fetched_at = self.clock()
            stored = self._store(f"{stem}.{picture.extension}", file, picture, fetched)
        link = self._link_or_none(stored.key, max_age_s)
        image = Image(
            index=source.index,
            file_id=stored.file_id,
            width=picture.width,
            height=picture.height,
            content_type=stored.content_type,
            bytes=stored.bytes,
            sha256=stored.sha256,
            nsfw=source.nsfw,
            url=link.url if link else None,
            expires_at=link.expires_at if link else None,
        )
        return Kept(image, _ms(fetched_at - began), _ms(self.clock() - fetched_at))

    def _fetch(self, source: Source, into: BinaryIO, ends_at: float) -> tuple[Fetched, Picture]:
        for attempt in range(1, FETCH_TRIES + 1):
            try:
                if source.url.startswith("data:"):
                    fetched = decode_data_uri(source.url, into, self.max_image_bytes)
                else:
                    fetched = self.wire.fetch(
                        source.url, into, max_bytes=self.max_image_bytes, ends_at=ends_at
                    )
                return fetched, inspect(into)
            except NotAPicture as error:
                failure = FetchImageFailed(f"image {source.index} is not whole: {error}")
                raise CopyError(failure, may_pass=False) from error
            except FetchError as error:
                if self.clock() >= ends_at:
                    raise _out_of_time() from error
                if attempt == FETCH_TRIES or not error.may_pass:
                    raise _fetch_failed(source, error) from error
            self.sleep(min(FETCH_PAUSE_S * attempt, max(0.0, ends_at - self.clock())))
            into.seek(0)
            into.truncate()
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _store(self, key: str, file: BinaryIO, picture: Picture, fetched: Fetched) -> StoredObject:
        file.seek(0)
        try:
            return self.door.get().put(
                key, file, content_type=picture.content_type, sha256=fetched.sha256
            )
        except (StorageError, ValueError, ImportError) as error:
            logger.error("putting %s failed: %s", key, error)
            failure = UploadFailed("the storage did not take the picture")
            raise CopyError(failure, may_pass=True) from error

    def _link_or_none(self, key: str, max_age_s: int | None) -> Link | None:
        """A paid and stored picture never turns into an error: no link is a warning."""
        try:
            return self.link_to(self.door.get(), key, max_age_s)
        except StorageError as error:
            logger.error("signing a link to %s failed: %s", key, error)
            return None

    def _link_to_file(self, file_id: str, max_age_s: int | None) -> Link | None:
        try:
            storage = self.door.get()
            return self.link_to(storage, storage.key(file_id), max_age_s)
        except (StorageError, NotFound, ValueError, ImportError) as error:
            logger.error("signing a link to %s failed: %s", file_id, error)
            return None

    def link_to(self, storage: ObjectStorage, key: str, max_age_s: int | None = None) -> Link:
        """A link for callers, as long as they ask for and the owner allows. Raises StorageError."""
        if self.link_base_url:
            return Link(f"{self.link_base_url}/{key}", None)
        return storage.link(key, min(max_age_s or self.link_ttl_s, self.link_ttl_s))

    def _in_time(self, copy: Future[Kept], ends_at: float) -> Kept:
        try:
            return copy.result(timeout=max(0.0, ends_at - self.clock()))
        except FutureTimeout:
            raise _out_of_time() from None


def _linked(image: Image, link: Link | None) -> Image:
    return replace(image, url=link.url, expires_at=link.expires_at) if link else image


@contextmanager
def storage_answers() -> Iterator[None]:
    """Turns a storage's failure into an answer, for what may be asked again and pays nothing."""
    try:
        yield
    except (StorageError, ValueError, ImportError) as error:
        logger.error("the storage failed: %s", error)
        raise Internal("the storage does not answer", retryable=True) from error


def has_our_shape(key: str, prefix: str) -> bool:
    """Whether a key can be one of the pictures we store under the prefix."""
    return key.startswith(f"{prefix}/") and bool(_SHAPE.fullmatch(key[len(prefix) + 1 :]))


def decode_data_uri(uri: str, into: BinaryIO, max_bytes: int) -> Fetched:
    """Write the bytes of a base64 data URI. Raises FetchError."""
    head, comma, text = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise FetchError("the data URI is not base64")
    if len(text) * 3 // 4 - 2 > max_bytes:
        raise FetchError(f"more than the {max_bytes} bytes allowed")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FetchError("the data URI is not base64") from error
    into.write(content)
    return Fetched(len(content), hashlib.sha256(content).hexdigest())


def _fetch_failed(source: Source, error: FetchError) -> CopyError:
    failure = FetchImageFailed(
        f"image {source.index} could not be fetched: {error.reason}", upstreamStatus=error.status
    )
    return CopyError(failure, may_pass=error.may_pass)


def _out_of_time() -> CopyError:
    failure = DeadlineExceeded("the time ran out while the pictures were copied")
    return CopyError(failure, may_pass=True)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

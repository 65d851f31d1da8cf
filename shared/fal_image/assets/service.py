"""From fal's finished picture to ours: fetch, verify, store, link.

Every picture of a job is copied in parallel, through a spooled file, so memory does not grow with
its size. Keys are deterministic and puts create-only: copying again stores nothing twice. Refuses
to know what the picture cost and who asked for it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import Any, BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from .. import workers
from ..doors import Door
from ..errors import AppError, Internal, NotFound, UploadFailed
from ..images import Picture
from ..jobs import Image, Job, JobWarning, Source, Variant
from ..logs import logger
from ..processing.base import CannotProcess
from ..storage.base import NOT_HERE, Link, ObjectStorage, StorageError, StoredObject
from ..wire import Clock, Wire
from . import keys
from .fetching import CopyError, Fetcher, out_of_time
from .finishing import SPOOL_BYTES, Finished, Finisher, Piece


class Kept(Struct, frozen=True):
    """One copied picture, what fal sent, and how long its two halves took."""

    image: Image
    source: Picture
    source_sha256: str
    fetch_ms: int
    store_ms: int = 0
    notes: tuple[JobWarning, ...] = ()


Beside = Callable[[Kept], None]  # is told of each picture that is about to be put


def nothing(one: Kept) -> None:
    """For whoever keeps pictures alone."""


class Assets(Struct, frozen=True):
    """`is_held_back` says of a job's id, a picture's index and a caller that this caller may not
    have the picture by its file id."""

    wire: Wire
    door: Door[ObjectStorage]
    prefix: str
    max_image_bytes: int
    link_ttl_s: int
    link_base_url: str | None = None
    ai_producer: str = "fal-image"
    watermark_font: str | None = None
    clock: Clock = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    is_held_back: Callable[[str, int, str | None], bool] = lambda job_id, index, caller: False

    def warm(self) -> None:
        """Start opening the storage; call it before the submit."""
        self.door.start()

    def keep(
        self,
        job: Job,
        sources: Sequence[Source],
        *,
        seed: int | None = None,
        ends_at: float,
        beside: Beside = nothing,
    ) -> list[Kept]:
        """Copy a job's pictures into the storage, treated as it wants, and sign links to them. Safe
        to repeat. `seed` is the one that fal told; `beside` begins what is done meanwhile.

        Raises CopyError (of FetchImageFailed, UploadFailed or DeadlineExceeded); whatever was
        stored by then stays. A picture that is stored and cannot be signed has no link.
        """
        copies = workers.start_all(
            self._keep_one, ((source, job, seed, ends_at, beside) for source in sources)
        )
        try:
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
            for copy in copies:
                copy.cancel()

    def signed(self, images: tuple[Image, ...], max_age_s: int | None) -> tuple[Image, ...]:
        """The images with links; those that have one keep it, what is withheld or cannot be signed
        has none."""
        unsigned = [file_id for image in images if not image.withheld for file_id in image.unsigned]
        if not unsigned:
            return images
        with ThreadPoolExecutor(min(len(unsigned), workers.AT_ONCE)) as pool:
            signed = pool.map(lambda file_id: self._link_to_file(file_id, max_age_s), unsigned)
            links = {
                file_id: (link.url, link.expires_at)
                for file_id, link in zip(unsigned, signed, strict=True)
                if link is not None
            }
        return tuple(image if image.withheld else image.linked(links) for image in images)

    def has_all(self, images: tuple[Image, ...]) -> bool:
        """Whether none of the pictures was deleted. What the storage does not say counts as there:
        nothing is paid twice because it is silent."""

        def is_there(image: Image) -> bool:
            try:
                storage = self.door.get()
                storage.head(storage.key(image.file_id))
            except NotFound:
                return False
            except (StorageError, ValueError, ImportError) as error:
                logger.error("looking for %s failed: %s", image.file_id, error)
            return True

        if not images:
            return True
        with ThreadPoolExecutor(min(len(images), workers.AT_ONCE)) as pool:
            return all(pool.map(is_there, images))

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

        with ThreadPoolExecutor(min(len(file_ids), workers.AT_ONCE)) as pool:
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
            picture = keys.of_picture(key, self.prefix)
            if picture is not None:
                self.refuse_held_back(picture, caller)
                storage.head(key)
            elif is_upload(key):
                with storage.open(key):  # its head lacks the SHA-256 that ours have
                    pass
            else:
                raise NotFound(NOT_HERE)
            return self.link_to(storage, key, max_age_s)

    def refuse_held_back(self, picture: keys.Named, caller: str | None) -> None:
        """Raises NotFound for a picture of ours that this caller may not have, DatabaseUnavailable
        if nobody can say so."""
        if self.is_held_back(picture.job_id, picture.index, caller):
            raise NotFound(NOT_HERE)

    def _keep_one(
        self, source: Source, job: Job, seed: int | None, ends_at: float, beside: Beside
    ) -> Kept:
        began = self.clock()
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file: BinaryIO = spool  # type: ignore[assignment]
            fetched, picture = self._fetcher.fetch(source, file, ends_at)
            fetched_at = self.clock()
            raw = Piece("", file, picture, fetched.sha256)
            with self._finisher.finished(raw, job, source.index, seed) as finished:
                stem = keys.stem(self.prefix, job, source.index)
                planned = Kept(
                    self._planned(stem, finished, source),
                    picture,
                    fetched.sha256,
                    fetch_ms=_ms(fetched_at - began),
                    notes=finished.notes,
                )
                beside(planned)
                image = self._stored(stem, finished, planned.image)
        linked = self._linked(image, job.max_age_s)
        return replace(planned, image=linked, store_ms=_ms(self.clock() - fetched_at))

    def _planned(self, stem: str, finished: Finished, source: Source) -> Image:
        """The image as it will be told, but for its link, if nothing stands in its place yet."""
        return Image(
            index=source.index,
            nsfw=source.nsfw,
            withheld=finished.is_held_back,
            original=self._planned_variant(stem, finished.original),
            thumbnail=self._planned_variant(stem, finished.thumbnail),
            **self._told_of(stem, finished.image),
        )

    def _planned_variant(self, stem: str, piece: Piece | None) -> Variant | None:
        if piece is None:
            return None
        return Variant(withheld=piece.part == "unmarked", **self._told_of(stem, piece))

    def _told_of(self, stem: str, piece: Piece) -> dict[str, Any]:
        return {
            "file_id": self._file_id(stem, piece),
            "width": piece.picture.width,
            "height": piece.picture.height,
            "content_type": piece.picture.content_type,
            "bytes": piece.picture.bytes,
            "sha256": piece.sha256,
        }

    def _stored(self, stem: str, finished: Finished, image: Image) -> Image:
        """The image as it stands. The original goes first: of a picture that is there, all is
        there."""
        return replace(
            image,
            original=self._stored_variant(stem, finished.original, image.original),
            thumbnail=self._stored_variant(stem, finished.thumbnail, image.thumbnail),
            **_facts(self._put(stem, finished.image)),
        )

    def _stored_variant(
        self, stem: str, piece: Piece | None, variant: Variant | None
    ) -> Variant | None:
        if piece is None or variant is None:
            return None
        return replace(variant, **_facts(self._put(stem, piece)))

    def _linked(self, image: Image, max_age_s: int | None) -> Image:
        if image.withheld:
            return image
        link = self._link_to_file(image.file_id, max_age_s)
        return replace(image, url=link.url, expires_at=link.expires_at) if link else image

    def _file_id(self, stem: str, piece: Piece) -> str:
        with _storing(stem):
            return self.door.get().file_id(keys.key(stem, piece.part, piece.picture.extension))

    def _put(self, stem: str, piece: Piece) -> StoredObject:
        key = keys.key(stem, piece.part, piece.picture.extension)
        piece.file.seek(0)
        with _storing(key):
            return self.door.get().put(
                key, piece.file, content_type=piece.picture.content_type, sha256=piece.sha256
            )

    def _read(self, file_id: str, into: BinaryIO) -> None:
        """Write a file of the storage into another, for the watermark that a job was accepted
        with."""
        try:
            storage = self.door.get()
            with storage.open(storage.key(file_id)) as chunks:
                for chunk in chunks:
                    into.write(chunk)
                    if into.tell() > self.max_image_bytes:
                        raise CannotProcess("the watermark is too large by now")
        except NotFound:
            raise CannotProcess("the watermark is gone") from None
        except (StorageError, ValueError, ImportError) as error:
            logger.error("reading the watermark failed: %s", error)
            failure = UploadFailed("the storage did not give the watermark")
            raise CopyError(failure, may_pass=True) from error

    @property
    def _fetcher(self) -> Fetcher:
        return Fetcher(self.wire, self.max_image_bytes, self.clock, self.sleep)

    @property
    def _finisher(self) -> Finisher:
        return Finisher(
            self._read,
            self.ai_producer,
            self.watermark_font,
            keeps_unmarked=self.link_base_url is None,
        )

    def _link_to_file(self, file_id: str, max_age_s: int | None) -> Link | None:
        """A paid and stored picture never turns into an error: no link is a warning."""
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
            raise out_of_time() from None


@contextmanager
def _storing(key: str) -> Iterator[None]:
    """Turns a storage's failure into one of the copy, which may be tried again."""
    try:
        yield
    except (StorageError, ValueError, ImportError) as error:
        logger.error("putting %s failed: %s", key, error)
        failure = UploadFailed("the storage did not take the picture")
        raise CopyError(failure, may_pass=True) from error


@contextmanager
def storage_answers() -> Iterator[None]:
    """Turns a storage's failure into an answer, for what may be asked again and pays nothing."""
    try:
        yield
    except (StorageError, ValueError, ImportError) as error:
        logger.error("the storage failed: %s", error)
        raise Internal("the storage does not answer", retryable=True) from error


def _facts(stored: StoredObject) -> dict[str, Any]:
    """What the storage says of an object, which an earlier copy may have put there."""
    return {
        "file_id": stored.file_id,
        "content_type": stored.content_type,
        "bytes": stored.bytes,
        "sha256": stored.sha256,
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

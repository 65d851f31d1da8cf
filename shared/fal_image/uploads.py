"""Uploads: how a caller's file comes into the storage, and how fal gets to read a picture.

The id of an upload proves who asked for it, because nothing else here remembers. What was uploaded
is not believed before its bytes were read. Refuses to know jobs, models, prices and HTTP.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import BinaryIO

from msgspec import Struct

from . import workers
from .assets import (
    SPOOL_BYTES,
    Assets,
    decode_data_uri,
    of_picture,
    storage_answers,
)
from .errors import DeadlineExceeded, Misconfigured, NotFound
from .fal.client import Fal
from .fal.uploads import hand_over
from .images import CONTENT_TYPES, NotAPicture, Picture, inspect
from .inputs import UploadOrder, field_error
from .jobs import base32
from .logs import logger
from .storage.base import MAX_LINK_S, ObjectStorage, StorageError, UploadLink
from .storage.local import LocalStorage
from .treatment import MAX_WATERMARK_PIXELS, Transforms
from .wire import FetchError

JSONL, JSONL_EXTENSION = "application/jsonl", "jsonl"
"""The rows of a batch: what is uploaded besides pictures, and is none."""

EXTENSIONS = {content_type: extension for extension, content_type in CONTENT_TYPES.items()}
EXTENSIONS[JSONL] = JSONL_EXTENSION

MAX_JSONL_BYTES = 64 * 1024 * 1024  # 100,000 rows of 600 characters

FIELDS = ("image_url", "image_urls", "mask_url")
"""The models' fields that hold input pictures, alone or in a list."""

# How long fal may read an input. It does so when a runner takes the job, which is as late as its
# queue is long; an hour is more than we wait for any job, and the most a storage signs for.
INPUT_LIFE_S = MAX_LINK_S

_PART_BYTES, _PART_CHARS = 10, 16  # of each half of an upload id: 80 bits
_PART = rf"[0-9a-z]{{{_PART_CHARS}}}"
_KEPT = "by-content"  # where other keys have a day: the same bytes have one on all days
_SHAPE = re.compile(rf"uploads/(?:\d{{4}}-\d\d-\d\d|{_KEPT})/({_PART})({_PART})\.[a-z]{{3,5}}")


class Upload(Struct, frozen=True):
    """A place for one file: its file id, a link to read it and the one to put it.

    `image_url` is None where a storage signs links only to what is there.
    """

    file_id: str
    image_url: str | None
    put: UploadLink


@dataclass(frozen=True)
class Uploads:
    assets: Assets
    fal: Fal
    secrets: tuple[str, ...] = field(repr=False)
    now: Callable[[], datetime]
    randomness: Callable[[int], bytes]

    def offer(self, order: UploadOrder, caller: str) -> Upload:
        """Sign the links to a new place for a file; nothing is stored yet.

        Both live as long as links do here. Raises Misconfigured, Internal (retryable).
        """
        if not self.secrets:
            raise Misconfigured("FAL_IMAGE_SECRET: must be set, for it signs the ids of uploads")
        upload_id = new_upload_id(self.secrets[0], caller, self.randomness(_PART_BYTES))
        day = self.now().astimezone(timezone.utc)
        key = self._key(f"{day:%Y-%m-%d}", upload_id, EXTENSIONS[order.content_type])
        with storage_answers():
            storage = self.assets.door.get()
            put = storage.upload_link(
                key,
                content_type=order.content_type,
                bytes=order.bytes,
                ttl_s=self.assets.link_ttl_s,
            )
            return Upload(storage.file_id(key), self._link_or_none(storage, key), put)

    def keep(self, name: str, content: bytes, caller: str) -> str:
        """Store a picture that came inside a request as an upload of its caller; the file id.

        The same bytes of the same caller have one file id, also on another day, and while secrets
        rotate the one that they had before: repeating is safe, and stores what has expired again.
        Without a secret nothing could prove whose it is: it then stays a data URI. `name` is what
        errors call it. Raises InvalidInput for what is no picture, Internal (retryable).
        """
        picture = self._checked(name, io.BytesIO(content))
        if not self.secrets:
            text = base64.b64encode(content).decode("ascii")
            return f"data:{picture.content_type};base64,{text}"
        digest = hashlib.sha256(content)
        ids = [new_upload_id(secret, caller, digest.digest()) for secret in self.secrets]
        first, *others = [self._key(_KEPT, one, picture.extension) for one in ids]
        with storage_answers():
            storage = self.assets.door.get()
            for key in others:
                if _stands(storage, key):
                    return storage.file_id(key)
            stored = storage.put(
                first,
                io.BytesIO(content),
                content_type=picture.content_type,
                sha256=digest.hexdigest(),
            )
        return stored.file_id

    def _key(self, folder: str, upload_id: str, extension: str) -> str:
        return f"{self.assets.prefix}/uploads/{folder}/{upload_id}.{extension}"

    def _link_or_none(self, storage: ObjectStorage, key: str) -> str | None:
        try:
            return self.assets.link_to(storage, key).url
        except StorageError as error:
            logger.info("no link to an upload before it is there: %s", error)
            return None

    def readable(
        self, arguments: Mapping[str, object], caller: str | None, *, ends_at: float
    ) -> dict[str, object]:
        """The arguments of a model with URLs that fal can read where our file ids stood.

        Every such file is read first, and every data URI: it must be a whole picture. Other URLs
        pass untouched, for only fal fetches them. Nothing is paid. Raises NotFound for what is not
        a file of `caller` or a stored picture, InvalidInput for what is no picture, FalFailed,
        DeadlineExceeded, DatabaseUnavailable and Internal, all retryable.
        """
        wanted = {text: name for name, text in _texts(arguments) if not _is_url(text)}
        if not wanted:
            return dict(arguments)
        made = workers.start_all(
            self._readable_one, ((name, text, caller, ends_at) for text, name in wanted.items())
        )
        try:
            urls = {
                text: self._in_time(url, ends_at) for text, url in zip(wanted, made, strict=True)
            }
        finally:
            for url in made:
                url.cancel()
        return {
            name: _replaced(value, urls) if name in FIELDS else value
            for name, value in arguments.items()
        }

    def send(self, name: str, file: BinaryIO, *, ends_at: float) -> str:
        """Hand a picture that is in no storage of ours to fal; the URL to give to a model.

        `name` is what errors call it. Raises InvalidInput, FalFailed (retryable), FalAuthFailed.
        """
        picture = self._checked(name, file)
        return hand_over(
            self.fal,
            file,
            content_type=picture.content_type,
            file_name=f"input.{picture.extension}",
            life_s=INPUT_LIFE_S,
            ends_at=ends_at,
        )

    def check_watermark(self, transforms: Transforms | None, caller: str | None) -> None:
        """Make sure that a picture to be laid over others is there, and the caller's. Raises as
        `readable` does for file ids."""
        file_id = transforms.watermark.image if transforms and transforms.watermark else None
        if file_id is None:
            return
        name = "transforms.watermark.image"
        if "://" not in file_id or _is_url(file_id):
            raise field_error(name, "must be a file id from here")
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool, storage_answers():
            file: BinaryIO = spool  # type: ignore[assignment]
            self._copy(self.assets.door.get(), name, file_id, caller, file)
            picture = self._checked(name, file)
        if picture.width * picture.height > MAX_WATERMARK_PIXELS:
            raise field_error(name, f"must have at most {MAX_WATERMARK_PIXELS} pixels")

    def _readable_one(self, name: str, text: str, caller: str | None, ends_at: float) -> str:
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file: BinaryIO = spool  # type: ignore[assignment]
            if text.startswith("data:"):
                return self._checked_data_uri(name, text, file)
            if "://" not in text:
                raise field_error(name, "must be an https URL, a data URI or a file id from here")
            with storage_answers():
                storage = self.assets.door.get()
                key = self._copy(storage, name, text, caller, file)
                self._checked(name, file)
                if not isinstance(storage, LocalStorage):
                    return storage.link(key, INPUT_LIFE_S).url
            return self.send(name, file, ends_at=ends_at)  # fal cannot reach this machine's disk

    def _copy(
        self, storage: ObjectStorage, name: str, file_id: str, caller: str | None, into: BinaryIO
    ) -> str:
        """Read the file behind an id, no further than a picture may be long; its key."""
        try:
            key = storage.key(file_id)
            if is_jsonl(key):
                raise field_error(name, "is a file of rows, not a picture")
            picture = of_picture(key, self.assets.prefix)
            if picture is not None:
                self.assets.refuse_held_back(picture, caller)
            elif not self.is_of(key, caller):
                raise NotFound("neither a stored picture nor an upload of this caller")
            with storage.open(key) as chunks:
                for chunk in chunks:
                    into.write(chunk)
                    if into.tell() > self.assets.max_image_bytes:
                        break
        except NotFound as error:
            raise NotFound(
                f"{name}: there is no such file here",
                hint="Check the id, and that the file was PUT to its upload link; files of other "
                "callers look missing too.",
            ) from error
        return key

    def is_of(self, key: str, caller: str | None) -> bool:
        """Whether a key is that of an upload which this caller asked for."""
        start = f"{self.assets.prefix}/"
        found = _SHAPE.fullmatch(key.removeprefix(start)) if key.startswith(start) else None
        if found is None or caller is None:
            return False
        chosen, proof = found.groups()
        proofs = [_proof(secret, caller, chosen) for secret in self.secrets]
        return bool(sum(hmac.compare_digest(one, proof) for one in proofs))  # all, in equal time

    def _checked(self, name: str, file: BinaryIO) -> Picture:
        try:
            picture = inspect(file)
        except NotAPicture as error:
            raise field_error(name, f"is not a whole picture: {error.reason}") from error
        if picture.bytes > self.assets.max_image_bytes:
            raise field_error(name, f"has more than {self.assets.max_image_bytes} bytes")
        return picture

    def _checked_data_uri(self, name: str, uri: str, into: BinaryIO) -> str:
        """The data URI, with the type that its bytes have."""
        try:
            decode_data_uri(uri, into, self.assets.max_image_bytes)
        except FetchError as error:
            raise field_error(name, f"is not a picture: {error.reason}") from error
        content_type = self._checked(name, into).content_type
        return f"data:{content_type};base64,{uri.partition(',')[2]}"

    def _in_time(self, url: Future[str], ends_at: float) -> str:
        try:
            return url.result(timeout=max(0.0, ends_at - self.assets.clock()))
        except FutureTimeout:
            text = "the time ran out before the input pictures were ready; fal was not asked"
            raise DeadlineExceeded(text, retryable=True) from None


def is_jsonl(key: str) -> bool:
    """Whether a key is that of a file of rows."""
    return key.endswith(f".{JSONL_EXTENSION}")


def largest_by_type(max_image_bytes: int) -> dict[str, int]:
    """What may be uploaded, and how many bytes of it."""
    return dict.fromkeys(EXTENSIONS, max_image_bytes) | {JSONL: MAX_JSONL_BYTES}


def new_upload_id(secret: str, caller: str, randomness: bytes) -> str:
    """32 base-32 characters: 80 random bits, then 80 that only the secret's owner can make."""
    chosen = base32(randomness[:_PART_BYTES])
    return chosen + _proof(secret, caller, chosen)


def _stands(storage: ObjectStorage, key: str) -> bool:
    """Whether an object is there. Where the storage does not say, there is none: some say so only
    to who may list the bucket."""
    try:
        storage.head(key)
    except NotFound:
        return False
    except StorageError as error:
        logger.warning("looking for %s failed: %s", key, error)
        return False
    return True


def _proof(secret: str, caller: str, chosen: str) -> str:
    message = f"upload {chosen} {caller}".encode("utf-8", "replace")
    return base32(hmac.digest(secret.encode(), message, "sha256")[:_PART_BYTES])


def _texts(arguments: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Every text in a field of input pictures, with its field; the rest is fal's to refuse."""
    for name in FIELDS:
        value = arguments.get(name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield name, item


def _is_url(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _replaced(value: object, urls: Mapping[str, str]) -> object:
    if isinstance(value, list):
        return [_replaced(item, urls) for item in value]
    return urls.get(value, value) if isinstance(value, str) else value

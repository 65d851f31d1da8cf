"""The port every storage stands behind: bytes in, facts and links out.

Keys are what `generate` made up (`<prefix>/<date>/<job>-<n>.<ext>`); a storage adds its bucket and
refuses to know what a job, a caller or fal is.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, Protocol

from msgspec import Struct

from ..errors import NotFound

MAX_LINK_S = 3600  # a link signed with a role's keys may die with them; see docs of each vendor

_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
NOT_HERE = "no such file in this storage"
_CHUNK_BYTES = 256 * 1024
MAX_KEY_BYTES = 850  # the shortest limit of our storages: CloudBase, "storage naming"


class StorageError(Exception):
    """The storage refused or did not answer. The message is for the owner's log, not for strangers.

    Putting the same key again is always safe: a put is create-only.
    """


class NotAllowed(StorageError):
    """The storage says that who asks lacks the right to. Only `delete` has to tell this apart."""


class StoredObject(Struct, frozen=True):
    """The facts of one stored object. `created` is False when it stood there before this put:
    then the other facts are those of the object that stands there, not of the bytes offered."""

    key: str
    file_id: str
    bytes: int
    sha256: str
    content_type: str
    created: bool = False


class Link(Struct, frozen=True):
    """`expires_at` is aware UTC, None for a link that does not expire or does not say when."""

    url: str
    expires_at: datetime | None


class UploadLink(Struct, frozen=True):
    """A request that puts one input picture straight into the storage, with the caller's PUT.

    `headers` must be sent as they are. `expires_at` is aware UTC.
    """

    url: str
    headers: dict[str, str]
    expires_at: datetime


class ObjectStorage(Protocol):
    def prepare(self) -> None:
        """Do ahead what the first put would have to wait for, where there is such a thing: connect.
        Changes nothing and raises nothing; the put finds out by itself what is wrong."""

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        """Store all of `file` (seekable, read from its start) under `key`, at once or not at all.

        `sha256` is the hex digest of those bytes; other bytes are refused. `content_type` belongs
        to the key's extension. With `create_only` an existing object is left untouched and its own
        facts come back. Raises StorageError, or ValueError for no key; safe to repeat.
        """

    def open(self, key: str, start: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """The object's bytes from `start`, in chunks; none from its end on. Raises NotFound when
        it is entered, StorageError also later, between chunks."""

    def head(self, key: str) -> StoredObject:
        """The object's facts. Raises NotFound, StorageError."""

    def delete(self, key: str) -> None:
        """No object stands under `key` afterwards, whether or not one did; safe to repeat.

        The product never deletes a picture and its function needs no right to: only an examination
        removes what it put. Raises NotFound for no key, NotAllowed where the storage says that the
        right is lacking, else StorageError.
        """

    def link(self, key: str, ttl_s: int) -> Link:
        """A URL that reads the object for `ttl_s` seconds without further credentials.

        `ttl_s` is cut to MAX_LINK_S. Does not ask whether the object exists. Raises StorageError
        when it cannot sign, ValueError for no key.
        """

    def upload_link(self, key: str, *, content_type: str, bytes: int, ttl_s: int) -> UploadLink:
        """A link to PUT exactly `bytes` bytes of `content_type` under `key`, once where the storage
        can hold the caller to it. Raises StorageError when it cannot sign."""

    def file_id(self, key: str) -> str: ...

    def key(self, file_id: str) -> str:
        """The key behind one of our file ids. Raises NotFound for any other string."""


def check_key(key: str) -> str:
    """The key itself. Raises ValueError for one that some storage would refuse or misread."""
    if len(key) > MAX_KEY_BYTES or not _KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key[:100]!r}")
    return key


def known_key(key: str) -> str:
    """The key itself. Raises NotFound for one that cannot exist."""
    try:
        return check_key(key)
    except ValueError as error:
        raise NotFound(NOT_HERE) from error


def key_in(file_id: str, start: str, prefix: str) -> str:
    """The key after `start` in a file id, if it stands under the prefix.

    Raises NotFound for another storage, another prefix or a bad key, all in the same words.
    """
    if not file_id.startswith(f"{start}{prefix}/"):
        raise NotFound(NOT_HERE)
    return known_key(file_id.removeprefix(start))


def measure(file: BinaryIO, sha256: str) -> tuple[int, str]:
    """The length of a seekable file, read from its start, and its MD5 in base64 (Content-MD5).

    Raises StorageError when it is not the file of that SHA-256 or cannot be read.
    """
    size, known, sent = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            size += len(chunk)
            known.update(chunk)
            sent.update(chunk)
    except OSError as error:
        raise StorageError(f"the file to store cannot be read: {error}") from error
    if known.hexdigest() != sha256:
        raise StorageError("the bytes to store are not those of their SHA-256")
    return size, base64.b64encode(sent.digest()).decode()

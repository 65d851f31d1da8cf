"""The port every storage stands behind: bytes in, facts and links out.

Keys are what `generate` made up (`<prefix>/<date>/<job>-<n>.<ext>`); a storage adds its bucket and
refuses to know what a job, a caller or fal is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from ..errors import NotFound

MAX_LINK_S = 3600  # a link signed with a role's keys may die with them; see docs of each vendor

_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
MAX_KEY_BYTES = 850  # the shortest limit of our storages: CloudBase, "storage naming"


class StorageError(Exception):
    """The storage refused or did not answer. The message is for the owner's log, not for strangers.

    Putting the same key again is always safe: a put is create-only.
    """


@dataclass(frozen=True)
class StoredObject:
    """The facts of one stored object. `created` is False when it stood there before this put:
    then the other facts are those of the object that stands there, not of the bytes offered."""

    key: str
    file_id: str
    bytes: int
    sha256: str
    content_type: str
    created: bool = False


@dataclass(frozen=True)
class Link:
    """`expires_at` is aware UTC, None for a link that does not expire."""

    url: str
    expires_at: datetime | None


class ObjectStorage(Protocol):
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

    def link(self, key: str, ttl_s: int) -> Link:
        """A URL that reads the object for `ttl_s` seconds without further credentials.

        `ttl_s` is cut to MAX_LINK_S. Does not ask whether the object exists. Raises StorageError
        when it cannot sign, ValueError for no key.
        """

    def file_id(self, key: str) -> str: ...

    def key(self, file_id: str) -> str:
        """The key behind one of our file ids. Raises NotFound for any other string."""


def check_key(key: str) -> str:
    """The key itself. Raises ValueError for one that some storage would refuse or misread."""
    if len(key) > MAX_KEY_BYTES or not _KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key[:100]!r}")
    return key


def key_in(file_id: str, start: str) -> str:
    """The key after `start` in a file id. Raises NotFound for another storage or a bad key."""
    if not file_id.startswith(start):
        raise NotFound("no such file in this storage")
    try:
        return check_key(file_id[len(start) :])
    except ValueError as error:
        raise NotFound("no such file in this storage") from error

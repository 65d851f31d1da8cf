"""The port every database stands behind: small JSON documents changed only by compare-and-set,
and counters that reserve.

A document is a few kilobytes of JSON under an id. Its body changes by `replace_if`, which one of
several writers wins; its marks are set one by one and never lost to each other. A counter holds a
total and the amounts still open in it. Refuses to know what a job, a batch or money is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct, field

MAX_BODY_BYTES = 300_000  # DynamoDB takes 400 KB an item (AWS guide, quotas), marks included
MAX_MANY = 100  # documents in one read (AWS DynamoDB API, BatchGetItem)

_ID = re.compile(r"[A-Za-z0-9_.:@/=-]{1,200}")
_MARK = re.compile(r"[A-Za-z0-9_-]{1,64}")


class DatabaseError(Exception):
    """The database refused or did not answer. The message is for the owner's log, not strangers.

    Whether a write happened is then unknown: read before writing again.
    """


class Document(Struct, frozen=True):
    """`version` counts the bodies: 1 when created, one more with each `replace_if`. `due_at` is
    when somebody should look at it, `expires_at` when it may be deleted; aware UTC, to the
    millisecond, None for never. `marks` are short texts, set by `mark`, that no version counts."""

    id: str
    body: dict[str, object]
    version: int = 1
    due_at: datetime | None = None
    expires_at: datetime | None = None
    marks: Mapping[str, str] = field(default_factory=dict)


class Database(Protocol):
    """All calls may be made from several threads at once, and raise DatabaseError."""

    def create(
        self,
        id: str,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        """Keep a new document. False, and nothing changed, if there is one with this id.

        Raises ValueError for an id that some database would refuse, or a body that is too large.
        """

    def get(self, id: str) -> Document | None:
        """The document as the last write left it (a consistent read)."""

    def get_many(self, ids: Sequence[str]) -> list[Document]:
        """Those of at most MAX_MANY documents that are there, in the order asked."""

    def replace_if(
        self,
        id: str,
        version: int,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        """Put this body, these times and the next version in place of `version`; marks stay.

        False, and nothing changed, if the document has another version or is gone.
        """

    def mark(self, id: str, marks: Mapping[str, str]) -> Document | None:
        """Set these marks and give the document as it is then, None if there is none.

        Unconditional and idempotent: neither other marks nor the body or its version change.
        """

    def take(
        self, counter: str, key: str, amount: int, limit: int, *, expires_at: datetime
    ) -> bool:
        """Reserve `amount` in a counter whose total must not pass `limit`; make it if need be.

        True if `key` is open afterwards, also if it was before: then nothing is added. False, and
        nothing changed, if there is no room. The counter may be deleted after `expires_at`.
        """

    def settle(self, counter: str, key: str, *, reserved: int, actual: int) -> None:
        """Put what was really spent in place of what `take` reserved, and close `key`.

        Does nothing if `key` is not open. Every `reserved` given for a key must be what was taken.
        """

    def total(self, counter: str) -> int:
        """What is spent and reserved in a counter; 0 if there is none."""

    def due(self, now: datetime, limit: int) -> list[str]:
        """Ids of at most `limit` documents whose `due_at` is not after `now`, the longest due
        first. May be some seconds behind the last writes (DynamoDB's indexes are)."""

    def purge(self, now: datetime, limit: int) -> int:
        """Delete at most `limit` documents and counters whose `expires_at` is past; how many."""


def check_id(id: str) -> str:
    """The id itself. Raises ValueError for one that some database would refuse."""
    if not _ID.fullmatch(id):
        raise ValueError(f"not a document's id: {id[:100]!r}")
    return id


def check_marks(marks: Mapping[str, str]) -> Mapping[str, str]:
    """The marks themselves. Raises ValueError for a name that some database would refuse."""
    for name in marks:
        if not _MARK.fullmatch(name):
            raise ValueError(f"not a mark's name: {name[:100]!r}")
    return marks


def check_body(encoded: bytes) -> bytes:
    """The encoded body itself. Raises ValueError for one that is too large."""
    if len(encoded) > MAX_BODY_BYTES:
        raise ValueError(f"a document of {len(encoded)} bytes; {MAX_BODY_BYTES} are allowed")
    return encoded

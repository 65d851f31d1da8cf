"""Reading and writing the documents of batches, and remembering what hardly changes.

A head is changed by compare-and-set, which one of several drivers wins; marks are set by anybody.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from ..database.base import Database, Document
from ..errors import NotFound
from ..ledger import database_answers
from ..wire import Clock
from .documents import HEAD, Chunk, Head, chunk_id, chunk_mark, chunk_of, head_of

HEAD_LIFE_S = 1.5  # how late a driver may learn that a batch was stopped
MAX_HEADS = 16
MAX_CHUNKS = 200

T = TypeVar("T")


class Recent(Generic[T]):
    """What was used last, as much of it as fits. Safe to share between threads."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._used = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def get(self, name: str) -> T | None:
        with self._lock:
            if name not in self._kept:
                return None
            self._kept.move_to_end(name)
            return self._kept[name][0]

    def put(self, name: str, value: T, size: int = 1) -> None:
        with self._lock:
            self._used += size - self._kept.pop(name, (value, 0))[1]
            self._kept[name] = (value, size)
            while self._used > self._room:
                self._used -= self._kept.popitem(last=False)[1][1]


class Store(Struct, frozen=True):
    """`retention` is how long the documents of a batch that is over are kept."""

    database: Callable[[], Database]
    clock: Clock
    now: Callable[[], datetime]
    retention: timedelta
    _heads: Recent[tuple[float, Head]] = field(default_factory=lambda: Recent(MAX_HEADS))
    _chunks: Recent[Chunk] = field(default_factory=lambda: Recent(MAX_CHUNKS))

    def add(self, head: Head, *, due_at: datetime | None) -> Head:
        """Keep a new batch; the one that is there if a twin was faster. Raises
        DatabaseUnavailable."""
        with database_answers():
            made = self.database().create(HEAD + head.batch_id, head.to_document(), due_at=due_at)
        return replace(head, version=1) if made else self.load(head.batch_id)

    def find(self, batch_id: str) -> Head | None:
        """The batch, None if there is none or its time is over. Raises DatabaseUnavailable."""
        with database_answers():
            found = self.database().get(HEAD + batch_id)
        return self._seen(found) if found else None

    def load(self, batch_id: str) -> Head:
        """The batch. Raises NotFound, DatabaseUnavailable."""
        head = self.find(batch_id)
        if head is None:
            raise NotFound("no such batch")
        return head

    def known(self, batch_ids: Sequence[str]) -> list[Head]:
        """Those of these batches that are there. Raises DatabaseUnavailable."""
        with database_answers():
            found = self.database().get_many([HEAD + batch_id for batch_id in batch_ids])
        return [head for one in found if (head := self._seen(one)) is not None]

    def recent(self, batch_id: str) -> Head:
        """The batch as it was HEAD_LIFE_S ago or later. Raises NotFound, DatabaseUnavailable."""
        kept = self._heads.get(batch_id)
        if kept is not None and self.clock() < kept[0] + HEAD_LIFE_S:
            return kept[1]
        return self.load(batch_id)

    def change(
        self,
        head: Head,
        *,
        due_at: datetime | None,
        expires_at: datetime | None = None,
        **changes: Any,
    ) -> Head | None:
        """The head after the changes; None, and nothing changed, if somebody was faster."""
        changed = replace(head, **changes, updated_at=self.now())
        with database_answers():
            written = self.database().replace_if(
                HEAD + head.batch_id,
                head.version,
                changed.to_document(),
                due_at=due_at,
                expires_at=expires_at,
            )
        if not written:
            return None
        return self._remembered(replace(changed, version=head.version + 1))

    def close_chunk(self, chunk: Chunk) -> Head:
        """Mark on the head that a chunk is over. Raises NotFound, DatabaseUnavailable."""
        marks = {chunk_mark(chunk.number): chunk.counts().to_mark()}
        with database_answers():
            document = self.database().mark(HEAD + chunk.batch_id, marks)
        if document is None:
            raise NotFound("no such batch")
        return self._remembered(head_of(document))

    def create_chunk(self, chunk: Chunk) -> None:
        """Keep a chunk, unless it is kept already. Raises DatabaseUnavailable."""
        with database_answers():
            self.database().create(chunk.id, chunk.to_document())

    def chunk(self, batch_id: str, number: int) -> Chunk:
        """A chunk whose marks may be old. Raises NotFound, DatabaseUnavailable."""
        kept = self._chunks.get(chunk_id(batch_id, number))
        if kept is not None:
            return kept
        found = self.chunks(batch_id, [number])
        if not found:
            raise NotFound("no such chunk")
        return found[0]

    def chunks(self, batch_id: str, numbers: Sequence[int]) -> list[Chunk]:
        """At most 100 chunks as they are now. Raises DatabaseUnavailable."""
        with database_answers():
            found = self.database().get_many([chunk_id(batch_id, number) for number in numbers])
        chunks = [chunk_of(one) for one in found]
        for chunk in chunks:
            self._chunks.put(chunk.id, chunk)
        return chunks

    def mark_rows(self, batch_id: str, number: int, marks: Mapping[int, str]) -> Chunk | None:
        """Say of rows, by their place in the chunk, how they ended; None if the chunk is gone."""
        named = {str(place): mark for place, mark in marks.items()}
        with database_answers():
            document = self.database().mark(chunk_id(batch_id, number), named)
        if document is None:
            return None
        chunk = chunk_of(document)
        self._chunks.put(chunk.id, chunk)
        return chunk

    def expire_chunk(self, chunk: Chunk, expires_at: datetime) -> None:
        """Let a chunk be deleted some day. Raises DatabaseUnavailable."""
        with database_answers():
            self.database().replace_if(
                chunk.id, chunk.version, chunk.to_document(), expires_at=expires_at
            )

    def _seen(self, document: Document) -> Head | None:
        """A database may keep what has expired a little longer; nobody gets to see it."""
        if document.expires_at is not None and document.expires_at <= self.now():
            return None
        return self._remembered(head_of(document))

    def _remembered(self, head: Head) -> Head:
        self._heads.put(head.batch_id, (self.clock(), head))
        return head

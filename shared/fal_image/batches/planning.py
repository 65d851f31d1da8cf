"""Counting the rows of a batch and noting where they stand, a hundred at a time.

Reads the file as a stream. What was not counted in time is counted by the next sweep, which goes on
where the head says; chunks that were made already are met again and stay. No row is started before
all are counted, so a file that is refused has cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from msgspec import Struct

from ..errors import InvalidInput, NotFound
from ..generate import Turn
from ..jobs import Fault
from ..uploads import MAX_JSONL_BYTES
from .documents import CHUNK_ROWS, Chunk, Head
from .files import Files
from .rows import MAX_ROWS, Line
from .store import Store

PARALLEL = 8
STEP = 50  # chunks between two notes on the head


class Planning(Struct, frozen=True):
    store: Store
    files: Files

    def plan(self, head: Head, turn: Turn, *, due_at: datetime | None) -> Head:
        """Count on as long as there is time; the head as it is kept then. Safe to repeat.

        A batch that cannot be carried out has a `fault` afterwards. Raises DatabaseUnavailable,
        Internal (retryable).
        """
        try:
            with self.files.lines(head.file_key, head.planned_to) as found:
                return self._counted(head, found, turn, due_at)
        except NotFound:
            return self._noted(head, due_at, fault=_fault("the file of the rows is gone"))

    def _counted(
        self, head: Head, found: Iterator[Line], turn: Turn, due_at: datetime | None
    ) -> Head:
        is_at_end = False
        while not is_at_end and head.fault is None and self.store.clock() < turn.answer_by:
            chunks: list[Chunk] = []
            while len(chunks) < STEP and self.store.clock() < turn.answer_by:
                number = head.total // CHUNK_ROWS + len(chunks)
                chunk = _next_chunk(head.batch_id, number, found)
                if chunk is not None:
                    chunks.append(chunk)
                if chunk is None or chunk.rows < CHUNK_ROWS:
                    is_at_end = True
                    break
            with ThreadPoolExecutor(PARALLEL) as pool:
                list(pool.map(self.store.create_chunk, chunks))
            counted_to = chunks[-1].start + chunks[-1].bytes if chunks else head.planned_to
            head = self._added(head, chunks, counted_to, is_at_end, due_at)
            if head.planned_to != counted_to:
                break  # somebody else is further
        return head

    def _added(
        self,
        head: Head,
        chunks: list[Chunk],
        planned_to: int,
        is_at_end: bool,
        due_at: datetime | None,
    ) -> Head:
        total = head.total + sum(chunk.rows for chunk in chunks)
        if total > MAX_ROWS:
            fault = _fault(f"the file has more than {MAX_ROWS} rows")
        elif planned_to > MAX_JSONL_BYTES:
            fault = _fault(f"the file has more than {MAX_JSONL_BYTES} bytes")
        elif is_at_end and total == 0:
            fault = _fault("the file has no rows")
        else:
            return self._noted(
                head, due_at, total=total, planned_to=planned_to, is_planned=is_at_end
            )
        return self._noted(head, due_at, fault=fault)

    def _noted(self, head: Head, due_at: datetime | None, **changes: Any) -> Head:
        """Write the progress down. Of two that count at once, the one that is further wins."""
        while True:
            changed = self.store.change(head, due_at=due_at, **changes)
            if changed is not None:
                return changed
            head = self.store.load(head.batch_id)
            counted_to = changes.get("planned_to")
            is_behind = isinstance(counted_to, int) and head.planned_to >= counted_to
            if head.is_planned or head.fault or is_behind:
                return head


def _next_chunk(batch_id: str, number: int, found: Iterator[Line]) -> Chunk | None:
    """The next rows as a chunk; None if there are no more."""
    first, last, rows = None, None, 0
    for line in found:
        first, last, rows = first or line, line, rows + 1
        if rows == CHUNK_ROWS:
            break
    if first is None or last is None:
        return None
    return Chunk(batch_id, number, first.start, last.start + last.size_bytes - first.start, rows)


def _fault(reason: str) -> Fault:
    return Fault.of(InvalidInput(reason, fields=[{"field": "file", "message": reason}]))

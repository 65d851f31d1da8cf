"""Batches that one program carries out itself, from begin to end: the command's.

Nobody else starts their rows, so whoever interrupts the program stops the batch. They have no
caller, so no caller can see them, and are kept for good: the same command finds them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import BinaryIO

from msgspec import Struct

from ..errors import Internal
from ..generate import Turn
from .documents import Chunk, Counts, Head, chunk_mark
from .documents import refusal_of as refusal_of_row
from .endings import Endings
from .files import Files
from .planning import Planning
from .results import Results
from .store import Store
from .views import refusal_of

BLOCK_BYTES = 256 * 1024
PAGE = 100


class Attended(Struct, frozen=True):
    store: Store
    files: Files
    planning: Planning
    results: Results
    endings: Endings
    default_model: str
    now: Callable[[], datetime]

    def begin(
        self,
        file: BinaryIO,
        file_sha256: str,
        defaults: dict[str, object],
        turn: Turn,
        *,
        batch_id: str,
    ) -> Head:
        """Begin a batch of the rows of a file, or find the one that `batch_id` already is.

        Raises InvalidInput if it cannot be carried out, DatabaseUnavailable, Internal (retryable).
        """
        head = self.store.find(batch_id)
        if head is None:
            head = self._made(file, file_sha256, defaults, batch_id)
        if not head.is_planned and head.fault is None:
            head = self.planning.plan(head, turn, due_at=None)
        refusal = refusal_of(head)
        if refusal is not None:
            raise refusal
        if not head.is_planned:
            raise Internal("counting the rows took too long", retryable=True)
        return head

    def unfinished(self, head: Head) -> Iterator[int]:
        """The rows that are not over, and those that were refused before anything was sent: what
        stood against them may be gone, and trying them again pays nothing twice."""
        for chunk in self._chunks(head, _may_be_unfinished(head)):
            for row in range(chunk.first_row, chunk.first_row + chunk.rows):
                mark = chunk.mark_of(row)
                if mark is None or refusal_of_row(mark) is not None:
                    yield row

    def counts(self, head: Head) -> Counts:
        """How many rows ended how."""
        open_chunks = self._chunks(head, head.open_chunks)
        return sum((chunk.counts() for chunk in open_chunks), head.counts())

    def written(self, head: Head) -> None:
        """Remember that the results are where the owner wants them."""
        self.store.change(head, results=head.results + 1, due_at=None)

    def close(self, head: Head, turn: Turn) -> Head:
        """The batch as it is now, at its end if all its rows are over. Safe to repeat."""
        head = self.store.load(head.batch_id)
        self.endings.close(self._chunks(head, _may_be_unfinished(head)), turn)
        head = self.store.load(head.batch_id)
        if head.is_all_over and head.state != "done":
            head = self.endings.finish(head, turn)
        return head

    def _made(
        self, file: BinaryIO, file_sha256: str, defaults: dict[str, object], batch_id: str
    ) -> Head:
        now = self.now()
        key = self.files.key(batch_id, now)
        file.seek(0)
        self.files.put(key, iter(partial(file.read, BLOCK_BYTES), b""))
        head = Head(
            batch_id=batch_id,
            file_key=key,
            input_sha256=file_sha256,
            created_at=now,
            updated_at=now,
            window=1,
            default_model=self.default_model,
            defaults=defaults,
            attended=True,
        )
        return self.store.add(head, due_at=None)

    def _chunks(self, head: Head, numbers: Sequence[int]) -> Iterator[Chunk]:
        for start in range(0, len(numbers), PAGE):
            yield from self.store.chunks(head.batch_id, numbers[start : start + PAGE])


def _may_be_unfinished(head: Head) -> list[int]:
    """The numbers of chunks that are not over, or in which a row failed."""
    return [
        number
        for number in range(head.chunks)
        if (mark := head.marks.get(chunk_mark(number))) is None or Counts.from_mark(mark).failed
    ]

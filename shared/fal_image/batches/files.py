"""The files of a batch in the storage: its rows, read where they are, and its results."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import islice
from typing import BinaryIO

from msgspec import Struct, field

from ..assets import SPOOL_BYTES, Assets, storage_answers
from ..errors import IdempotencyConflict, NotFound
from ..uploads import JSONL, JSONL_EXTENSION
from .documents import Chunk
from .rows import Line, lines
from .store import Recent

MAX_KEPT_BYTES = 8 * 1024 * 1024  # of rows, however many batches there are

_FIXED = 200  # about what a row takes in memory besides its bytes


class Files(Struct, frozen=True):
    assets: Assets
    _rows: Recent[list[bytes | None]] = field(default_factory=lambda: Recent(MAX_KEPT_BYTES))

    def key(self, name: str, created_at: datetime) -> str:
        """Where a file of a batch is put. `name` begins with the batch's id."""
        day = created_at.astimezone(timezone.utc)
        return f"{self.assets.prefix}/batches/{day:%Y-%m-%d}/{name}.{JSONL_EXTENSION}"

    def put(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store a file, once. Putting it again is safe.

        Raises Internal (retryable), and IdempotencyConflict if another file stands there.
        """
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file: BinaryIO = spool  # type: ignore[assignment]
            digest = hashlib.sha256()
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
            sha256 = digest.hexdigest()
            with storage_answers():
                storage = self.assets.door.get()
                stored = storage.put(key, file, content_type=JSONL, sha256=sha256)
        if not stored.created and stored.sha256 != sha256:
            raise IdempotencyConflict("the Idempotency-Key was used for another batch")

    @contextmanager
    def lines(self, key: str, start: int = 0) -> Iterator[Iterator[Line]]:
        """The lines of a file from a byte on where one begins. Raises NotFound, Internal."""
        with (
            storage_answers(),
            self.assets.door.get().open(key, start) as chunks,
        ):
            yield lines(chunks, start)

    def row(self, key: str, chunk: Chunk, row: int) -> bytes | None:
        """The line of a row of the batch, None if it is too long. Raises NotFound, Internal."""
        kept = self._rows.get(chunk.id)
        if kept is None:
            with self.lines(key, chunk.start) as found:
                kept = [line.content for line in islice(found, chunk.rows)]
            self._rows.put(chunk.id, kept, sum(len(line or b"") + _FIXED for line in kept))
        place = row - chunk.first_row
        if place >= len(kept):
            raise NotFound("the file of the rows is shorter than it was")
        return kept[place]

    def link(self, key: str) -> str | None:
        """A link to a file of a batch. Raises Internal (retryable)."""
        with storage_answers():
            return self.assets.link_to(self.assets.door.get(), key).url

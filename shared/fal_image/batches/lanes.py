"""A window of rows in flight, without anybody who counts them.

The rows of a batch with a window of w lie on w lanes: row r is followed by row r + w. A row may be
started when the one before it on its lane is over, so no more than w are ever open, and whoever
sees a row end knows which one to start. A driver that dies leaves a lane that stands still; the
sweep finds it. Two drivers that start the same row make one job, because a row has one job id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from ..errors import AppError, IdempotencyConflict, RateLimited
from ..generate import Generator, Turn, Wish
from ..inputs import Order, parse_order
from ..jobs import Job
from ..logs import logger
from ..wire import Clock
from .documents import CHUNK_ROWS, Chunk, Counts, Head, chunk_mark, job_id_of, refusal_mark
from .files import Files
from .rows import parse_row
from .store import Store

PARALLEL = 12  # rows started at once
PAGE = 10  # chunks read at once

# Queues jobs by their ids and gives back those that were not taken.
Enqueue = Callable[[Sequence[str]], list[str]]


class Survey(Struct, frozen=True):
    """A batch as it is now: the rows that may be in flight, the rows that ended in chunks that are
    still open, and those of them that are over without the head knowing."""

    startable: list[int]
    counts: Counts
    finished: list[Chunk]


class Lanes(Struct, frozen=True):
    generator: Generator
    store: Store
    files: Files
    enqueue: Enqueue | None
    aliases: Collection[tuple[str, str]]
    clock: Clock

    def survey(self, head: Head) -> Survey:
        """Look at every chunk that may have something going on. Raises DatabaseUnavailable."""
        open_chunks, over = head.open_chunks, head.counts()
        frontier = head.window - 1  # no row behind it can have been started
        closed = set(range(head.chunks)).difference(open_chunks)
        if closed:
            frontier += CHUNK_ROWS * (max(closed) + 1)
        read: dict[int, Chunk] = {}
        startable: list[int] = []
        while open_chunks and open_chunks[0] * CHUNK_ROWS <= frontier:
            page, open_chunks = open_chunks[:PAGE], open_chunks[PAGE:]
            for chunk in self.store.chunks(head.batch_id, page):
                read[chunk.number] = chunk
                over += chunk.counts()
                last = max((int(place) for place in chunk.marks), default=-head.window)
                frontier = max(frontier, chunk.first_row + last + head.window)
                startable += [
                    row
                    for row in range(chunk.first_row, chunk.first_row + chunk.rows)
                    if chunk.mark_of(row) is None and _may_start(row, head, read)
                ]
        finished = [chunk for chunk in read.values() if chunk.is_over]
        return Survey(startable, over, finished)

    def jobs(self, head: Head, rows: Sequence[int]) -> dict[int, Job]:
        """The jobs of those rows that have one. Raises DatabaseUnavailable."""
        found = self.generator.steps.records.find_many(
            [job_id_of(head.batch_id, row) for row in rows]
        )
        return {job.row: job for job in found if job.row is not None}

    def start(self, head: Head, rows: Sequence[int], turn: Turn) -> list[Chunk]:
        """Start these rows side by side, as long as there is time; the chunks that ended with it.

        With a queue the jobs are left to it. One row's failure stops no other.
        """
        if not rows:
            return []
        ended: list[Chunk] = []
        queued: list[str] = []

        def one(row: int) -> None:
            try:
                waiting = self.run(head.batch_id, row, turn, ended, is_queued=bool(self.enqueue))
            except AppError as error:
                logger.error("row %d of batch %s waits: %s", row, head.batch_id, error.detail)
            except Exception:
                logger.exception("row %d of batch %s waits", row, head.batch_id)
            else:
                queued.extend(job.job_id for job in waiting)

        with ThreadPoolExecutor(min(PARALLEL, len(rows))) as pool:
            list(pool.map(one, rows))
        if self.enqueue is not None and queued:
            self.enqueue(queued)  # what it does not take is due in a moment
        return ended

    def run(
        self, batch_id: str, row: int, turn: Turn, ended: list[Chunk], *, is_queued: bool = False
    ) -> list[Job]:
        """Go on with a lane from a row that may start: to one that is in flight, or to its end.

        Rows that fail at once are marked on the way. Gives the job that was queued, if so. Raises
        AppError if the lane has to wait for the sweep.
        """
        while self.clock() < turn.answer_by:
            head = self.store.recent(batch_id)
            if not head.is_planned:
                head = self.store.load(batch_id)
            if head.state != "running" or head.attended or row >= head.total:
                return []
            if self.store.chunk(batch_id, row // CHUNK_ROWS).mark_of(row) is not None:
                return []  # whoever marked it went on from there
            job, mark = self.begin(head, row, turn, is_queued=is_queued)
            if job is not None:
                if job.state == "new" and is_queued:
                    return [job]
                if not job.is_over:
                    return []
                mark = job.state
            chunk = self.mark(batch_id, row, mark)
            if chunk is None:
                return []
            if chunk.is_over:
                ended.append(chunk)
            row += head.window
        return []

    def begin(
        self, head: Head, row: int, turn: Turn, *, is_queued: bool = False
    ) -> tuple[Job | None, str]:
        """The job of a row, submitted or found; or None and the mark of a row that can have none.

        Raises AppError if that cannot be said now: the row may be begun again.
        """
        wish = Wish(
            caller=head.caller,
            job_id=job_id_of(head.batch_id, row),
            public_url=head.public_url,
            waits=False,
            batch_id=head.batch_id,
            row=row,
        )
        try:
            order = self.generator.checked(self._order(head, row))
            if is_queued:
                return self.generator.queue(order, wish), ""
            return self.generator.start(order, turn, wish), ""
        except IdempotencyConflict:  # begun when settings made another order of the same line
            return self.generator.steps.records.load(wish.job_id or ""), ""
        except AppError as error:
            if error.status >= 500 or isinstance(error, RateLimited):
                raise
            twin = self.generator.steps.records.find(wish.job_id or "")
            return twin, "" if twin else refusal_mark(error)

    def mark(self, batch_id: str, row: int, mark: str) -> Chunk | None:
        """Say how a row ended; its chunk as it is then. Raises DatabaseUnavailable."""
        number, place = divmod(row, CHUNK_ROWS)
        return self.store.mark_rows(batch_id, number, {place: mark})

    def _order(self, head: Head, row: int) -> Order:
        chunk = self.store.chunk(head.batch_id, row // CHUNK_ROWS)
        content = self.files.row(head.file_key, chunk, row)
        body = parse_row(content, head.defaults).body
        return parse_order(body, default_model=head.default_model, aliases=dict(self.aliases))


def _may_start(row: int, head: Head, read: dict[int, Chunk]) -> bool:
    before = row - head.window
    if before < 0:
        return True
    number = before // CHUNK_ROWS
    if chunk_mark(number) in head.marks:
        return True
    return number in read and read[number].mark_of(before) is not None

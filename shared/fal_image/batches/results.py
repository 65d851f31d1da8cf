"""What became of the rows of a batch, in their order: the file of results, and the first failures.

Made from the marks of the chunks and the documents of the jobs, read side by side and a few hundred
at a time. Links die sooner than files are read, so only those that do not die stand in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from msgspec import Struct
from msgspec.structs import replace

from ..errors import Internal, NotFound
from ..generate import Records, Turn
from ..jobs import Cost, Image, Job
from ..storage.local import LocalStorage
from ..web import problem
from .documents import Chunk, Head, chunk_mark, job_id_of, refusal_of, state_of
from .files import Files
from .rows import Line, row_id_of
from .store import Store

PAGE = 8  # chunks whose jobs are in memory at once
ERRORS_SHOWN = 20


class TooLate(Exception):
    """The time ran out before the results were whole; nothing of them is kept."""


class Results(Struct, frozen=True):
    store: Store
    records: Records
    files: Files

    def write(self, head: Head, turn: Turn) -> str:
        """Store the results of all rows that are over; the key of the file.

        Raises TooLate, DatabaseUnavailable, Internal (retryable).
        """
        key = self.files.key(f"{head.batch_id}-results-{head.results}", head.created_at)
        self.files.put(key, self._encoded(head, turn))
        return key

    def lines(self, head: Head) -> Iterator[dict[str, object]]:
        """One object for each row that is over, in the order of the rows. If the file of the rows
        is gone, or shorter than it was, only their own names are missing."""
        with ExitStack() as opened:
            found: Iterator[Line] = iter(())
            with suppress(NotFound):
                found = opened.enter_context(self.files.lines(head.file_key))
            link = self._link()
            for chunk, jobs in self._chunks(head):
                for row in range(chunk.first_row, chunk.first_row + chunk.rows):
                    line, mark = next(found, None), chunk.mark_of(row)
                    if mark is not None:
                        row_id = row_id_of(line.content if line else None)
                        yield _result(chunk, row, row_id, mark, jobs.get(row), link)

    def errors(self, head: Head) -> list[dict[str, object]]:
        """The first rows that failed or whose fate is unknown, each with its error."""
        failed: list[tuple[Chunk, int, str]] = []
        for chunk in self._with_failures(head):
            for row in range(chunk.first_row, chunk.first_row + chunk.rows):
                mark = chunk.mark_of(row)
                if mark is not None and state_of(mark) in ("failed", "unknown"):
                    failed.append((chunk, row, mark))
            if len(failed) >= ERRORS_SHOWN:
                break
        failed = failed[:ERRORS_SHOWN]
        jobs = self._jobs(head.batch_id, [row for _, row, _ in failed])
        shown = []
        for chunk, row, mark in failed:
            row_id = None
            with suppress(NotFound):
                row_id = row_id_of(self.files.row(head.file_key, chunk, row))
            result = _result(chunk, row, row_id, mark, jobs.get(row), _no_link)
            shown.append({name: result[name] for name in ("row", "rowId", "jobId", "error")})
        return shown

    def _encoded(self, head: Head, turn: Turn) -> Iterator[bytes]:
        for line in self.lines(head):
            if self.store.clock() >= turn.answer_by:
                raise TooLate
            yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def _with_failures(self, head: Head) -> Iterator[Chunk]:
        """Chunks in which something may have failed, in order."""
        numbers = [
            number
            for number in range(head.chunks)
            if not head.marks.get(chunk_mark(number), "").endswith(",0,0,0")
        ]
        for start in range(0, len(numbers), PAGE):
            yield from self.store.chunks(head.batch_id, numbers[start : start + PAGE])

    def _chunks(self, head: Head) -> Iterator[tuple[Chunk, dict[int, Job]]]:
        with ThreadPoolExecutor(PAGE) as pool:
            for start in range(0, head.chunks, PAGE):
                numbers = range(start, min(start + PAGE, head.chunks))
                chunks = self.store.chunks(head.batch_id, numbers)
                if len(chunks) != len(numbers):
                    raise Internal(f"chunks of batch {head.batch_id} are gone")
                jobs = pool.map(self._jobs_of, chunks)
                yield from zip(chunks, jobs, strict=True)

    def _jobs_of(self, chunk: Chunk) -> dict[int, Job]:
        rows = [
            chunk.first_row + int(place)
            for place, mark in chunk.marks.items()
            if refusal_of(mark) is None
        ]
        return self._jobs(chunk.batch_id, rows)

    def _jobs(self, batch_id: str, rows: Sequence[int]) -> dict[int, Job]:
        found = self.records.find_many([job_id_of(batch_id, row) for row in rows])
        return {job.row: job for job in found if job.row is not None}

    def _link(self) -> Callable[[Image], str | None]:
        """What gives links that do not end, for storages that make links without being asked."""
        assets = self.files.assets
        storage = assets.door.get()
        if not assets.link_base_url and not isinstance(storage, LocalStorage):
            return _no_link

        def link(image: Image) -> str | None:
            if image.withheld:
                return None
            made = assets.link_to(storage, storage.key(image.file_id))
            return made.url if made.expires_at is None else None

        return link


def _no_link(image: Image) -> None:
    """Links that end are signed when they are asked for."""


def _result(
    chunk: Chunk,
    row: int,
    row_id: object,
    mark: str,
    job: Job | None,
    link: Callable[[Image], str | None],
) -> dict[str, object]:
    refusal = refusal_of(mark)
    job_id = job_id_of(chunk.batch_id, row) if refusal is None else None
    fault = job.fault.error() if job and job.fault and job.is_over else refusal
    images = [replace(image, url=link(image)) for image in job.images] if job else []
    return {
        "row": row,
        "rowId": row_id,
        "jobId": job_id,
        "state": job.state if job and job.is_over else state_of(mark),
        "images": [image.to_json() for image in images],
        "seed": job.seed if job else None,
        "cost": (job.cost if job else Cost()).to_json(),
        "error": problem(fault, job_id or chunk.batch_id) if fault else None,
    }

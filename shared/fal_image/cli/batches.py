"""`fal-image batch`: the rows of a file, several at once, and a file of results.

The command carries its batch out itself. What it has begun is in the database, so it may be
interrupted or killed at any moment: the same command goes on where it stopped, and asks fal for
nothing that fal was asked for already. Refuses to know how the command line is parsed.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..batches.documents import Counts, Head, job_id_of, state_of
from ..batches.rows import fingerprint, parse_defaults
from ..errors import AppError
from ..generate import Turn
from ..logs import logger
from ..routes import Routes
from .output import EXIT_PAID, Stopped, interrupted, tell
from .shown import whole_file

TURN_S = 110.0  # a row is waited for in turns, each with a lease that ends soon after it
TURN_KEPT_BACK_S = 5.0
PLAN_S = 600.0
LOOK_EVERY_S = 0.2
PAUSE_S = 1.0
SUBMITS_S = 30.0  # after an interruption: how long fal's answers to what was sent are waited for
COPIES_S = 2.0  # and how long pictures that are just being copied get

GOES_ON = "The same command goes on where it was, and pays for nothing twice."


@dataclass(frozen=True)
class Done:
    """How the rows of a batch ended; those that did not are `open`, `reason` says why."""

    batch_id: str
    total: int
    counts: Counts
    open: int
    reason: str | None
    is_interrupted: bool = False

    @property
    def is_whole(self) -> bool:
        return self.counts.done == self.total


@dataclass
class Work:
    """One run of the command."""

    services: Routes
    rows: Path
    out: Path
    defaults: dict[str, object]
    window: int
    console: Console
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _submitting: int = 0
    _reason: str | None = None

    def run(self) -> Done:
        """Carry the batch out and write its results; leave them unwritten while rows are open.

        Raises AppError if nothing could be begun, OSError for the file of rows, Stopped if the
        results could not be written.
        """
        head = self._begun()
        try:
            return self._over(head)
        except KeyboardInterrupt:
            raise interrupted("interrupted", hint=GOES_ON, batchId=head.batch_id) from None

    def _over(self, head: Head) -> Done:
        attended = self.services.batches.attended
        left = list(attended.unfinished(head))
        is_interrupted = self._carry_out(head, left)
        head = attended.close(head, self._turn())
        counts = self._counts(head)
        if counts.over == head.total and not is_interrupted:
            self._write(head, is_news=bool(left))
        return Done(
            head.batch_id,
            head.total,
            counts,
            head.total - counts.over,
            self._reason,
            is_interrupted,
        )

    def _begun(self) -> Head:
        """The batch that this command means: the same rows and defaults are the same, wherever the
        results are to be written."""
        batches, secrets = self.services.batches, self.services.settings.secrets
        with self.rows.open("rb") as file:
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(2**20), b""):
                digest.update(block)
            defaults = parse_defaults(self.defaults)
            intent = fingerprint(digest.hexdigest(), defaults)
            ends_at = time.monotonic() + PLAN_S
            return batches.attended.begin(
                file,
                digest.hexdigest(),
                defaults,
                Turn(self.services.new_owner(), answer_by=ends_at, ends_at=ends_at),
                batch_id=batches.intended_id(secrets, "command", intent),
            )

    def _carry_out(self, head: Head, left: list[int]) -> bool:
        """Work on the rows that are left; whether that was interrupted."""
        rows = iter(left)
        with self._shown(head.total, head.total - len(left)) as tick:
            workers = [
                threading.Thread(target=self._work, args=(head, rows, tick), daemon=True)
                for _ in range(min(self.window, len(left)))
            ]
            try:
                for worker in workers:
                    worker.start()
                while any(worker.is_alive() for worker in workers):
                    time.sleep(LOOK_EVERY_S)
            except KeyboardInterrupt:
                self._stopped.set()
                self._let_end(workers)
                return True
        return False

    def _let_end(self, workers: list[threading.Thread]) -> None:
        """What was sent to fal gets its answer, what is nearly there its end; the rest goes on at
        fal alone. Whoever interrupts this too loses nothing but time."""
        with suppress(KeyboardInterrupt):
            self._wait(SUBMITS_S, lambda: self._submitting == 0)
            self._wait(COPIES_S, lambda: not any(worker.is_alive() for worker in workers))

    def _wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + seconds
        while not is_over() and time.monotonic() < ends_at:
            time.sleep(0.05)

    def _work(self, head: Head, rows: Iterator[int], tick: Callable[[str], None]) -> None:
        while True:
            with self._lock:
                row = None if self._stopped.is_set() else next(rows, None)
                if row is None:
                    return
                self._submitting += 1
            try:
                state = self._row(head, row)
            except AppError as error:
                self._reason = f"{error.code}: {error.detail}"
            except Exception as error:
                logger.exception("row %d failed", row)
                self._reason = f"{type(error).__name__}: {error}"
            else:
                if state is not None:
                    tick(state)

    def _row(self, head: Head, row: int) -> str | None:
        """How a row ended; None if it goes on at fal while we stop."""
        lanes = self.services.batches.lanes
        try:
            job, mark = lanes.begin(head, row, self._turn())
        finally:
            with self._lock:
                self._submitting -= 1
        steps = self.services.generator.steps
        while job is not None and not job.is_over:
            if self._stopped.is_set():
                return None
            job = steps.wait(job, self._turn())
            if not job.is_over:
                self._stopped.wait(PAUSE_S)
                job = steps.records.load(job.job_id)
        mark = job.state if job is not None else mark
        lanes.mark(head.batch_id, row, mark)
        return state_of(mark)

    def _turn(self) -> Turn:
        answer_by = time.monotonic() + TURN_S
        return Turn(
            self.services.new_owner(), answer_by=answer_by, ends_at=answer_by + TURN_KEPT_BACK_S
        )

    def _counts(self, head: Head) -> Counts:
        return self.services.batches.attended.counts(head)

    def _write(self, head: Head, *, is_news: bool) -> None:
        """Write the results, whole or not at all. What was written before is not written again:
        the database may have forgotten since what the jobs were. Raises Stopped."""
        attended = self.services.batches.attended
        try:
            if head.results and not is_news and self._is_written(head):
                return
            with whole_file(self.out) as file:
                for line in attended.results.lines(head):
                    file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise Stopped(
                f"{self.out}: {error.strerror}",
                EXIT_PAID,
                code="not_written",
                hint=GOES_ON,
                batchId=head.batch_id,
            ) from None
        attended.written(head)

    def _is_written(self, head: Head) -> bool:
        """Whether the results of this batch are where they are wanted. Raises OSError."""
        if not self.out.is_file():
            return False
        with self.out.open("rb") as file:
            return any(_is_of(head.batch_id, row, line) for row, line in enumerate(file))

    @contextmanager
    def _shown(self, total: int, over: int) -> Iterator[Callable[[str], None]]:
        """Show the progress: a bar on a terminal, else a line for each percent."""
        seen = {"over": over, "failed": 0}

        def counted(state: str) -> None:
            with self._lock:
                seen["over"] += 1
                seen["failed"] += state != "done"

        if not self.console.is_terminal:

            def say(state: str) -> None:
                before = seen["over"] * 100 // total
                counted(state)
                if seen["over"] * 100 // total != before:
                    tell(_line(seen, total), style=None)

            yield say
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("rows", total=total, completed=over)

            def advance(state: str) -> None:
                counted(state)
                failed = f", {seen['failed']} failed" if seen["failed"] else ""
                progress.update(task, completed=seen["over"], description=f"rows{failed}")

            yield advance


def _is_of(batch_id: str, row: int, line: bytes) -> bool:
    """Whether a line of results is that of a batch."""
    try:
        result = json.loads(line)
    except ValueError:
        return False
    return isinstance(result, dict) and result.get("jobId") == job_id_of(batch_id, row)


def _line(seen: dict[str, int], total: int) -> str:
    failed = f", {seen['failed']} of them failed" if seen["failed"] else ""
    return f"{seen['over']} of {total} rows{failed}"

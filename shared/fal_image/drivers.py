"""Who drives jobs on when their caller does not wait: webhooks, polls, sweeps and queue messages.

All of them take the same step with a job and then look after the batch it may belong to. Refuses
to know HTTP and how anybody proved who they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from .batches import PREFIX as BATCH
from .batches import Batches, Enqueue
from .database.base import Database
from .errors import AppError
from .fal.webhooks import Delivery
from .generate import Generator, Turn
from .generate.records import PREFIX as JOB
from .jobs import Job, rfc3339
from .ledger import database_answers
from .logs import logger
from .wire import Clock

SWEEP = "meta:sweep"
DUE_AT_ONCE = 100
PARALLEL = 8
PURGED_AT_ONCE = 500


class Swept(Struct, frozen=True):
    """What one sweep did; `is_complete` is False if its time ran out before the work did."""

    jobs: int
    batches: int
    failed: int
    purged: int
    is_complete: bool

    def to_json(self) -> dict[str, object]:
        return {
            "jobs": self.jobs,
            "batches": self.batches,
            "failed": self.failed,
            "purged": self.purged,
            "isComplete": self.is_complete,
        }


class Drivers(Struct, frozen=True):
    generator: Generator
    batches: Batches
    database: Callable[[], Database]
    enqueue: Enqueue | None
    clock: Clock
    now: Callable[[], datetime]

    def hear(self, job_id: str, delivery: Delivery, turn: Turn) -> None:
        """Keep what a webhook says, then do about it what there is time for.

        Raises NotFound, Unauthorized and DatabaseUnavailable only if nothing was kept: whatever
        fails afterwards is the sweep's to mend, and fal need not call again.
        """
        if self.enqueue is None:
            job = self.generator.hear(job_id, delivery, turn)
        else:
            job = self.generator.hear(job_id, delivery, replace(turn, answer_by=self.clock()))
            if not self.enqueue([job_id]):
                return
        try:
            self._drive(job, turn)
        except AppError as error:
            logger.error("job %s waits for the sweep: %s", job_id, error.detail)

    def poll(self, job_id: str, caller: str | None, turn: Turn) -> Job:
        """A caller's own job, driven on as far as it goes now. Raises NotFound."""
        job = self.generator.poll(job_id, caller, turn)
        self._look_after(job, turn)
        return job

    def consume(self, job_id: str, turn: Turn) -> None:
        """Drive the job of a queue's message. Raises NotFound, DatabaseUnavailable."""
        self._drive(self.generator.steps.records.load(job_id), turn)

    def sweep(self, turn: Turn) -> Swept:
        """Drive everything that is due, for as long as there is time, and delete what is old.

        Raises DatabaseUnavailable; one job's failure is logged and stops no other.
        """
        began_at, seen = self.now(), set[str]()
        jobs = batches = failed = 0
        while self.clock() < turn.answer_by:
            with database_answers():
                due = self.database().due(self.now(), DUE_AT_ONCE + len(seen))
            fresh = [id for id in due if id not in seen][:DUE_AT_ONCE]
            if not fresh:
                break
            seen.update(fresh)
            failed += self._swept(fresh, turn)
            jobs += sum(id.startswith(JOB) for id in fresh)
            batches += sum(id.startswith(BATCH) for id in fresh)
        is_complete = self.clock() < turn.answer_by
        with database_answers():
            purged = self.database().purge(self.now(), PURGED_AT_ONCE)
        swept = Swept(jobs, batches, failed, purged, is_complete)
        self._report(began_at, swept)
        return swept

    def last_sweep(self) -> dict[str, object] | None:
        """What the last sweep wrote down of itself. Raises DatabaseUnavailable."""
        with database_answers():
            found = self.database().get(SWEEP)
        return dict(found.body) if found else None

    def _swept(self, ids: Sequence[str], turn: Turn) -> int:
        """Drive these documents side by side; how many failed."""
        job_ids = [id.removeprefix(JOB) for id in ids if id.startswith(JOB)]
        if self.enqueue is not None and job_ids:
            job_ids = self.enqueue(job_ids)
        batch_ids = [id.removeprefix(BATCH) for id in ids if id.startswith(BATCH)]
        with ThreadPoolExecutor(PARALLEL) as pool:
            done = [pool.submit(self._sweep_job, job_id, turn) for job_id in job_ids]
            done += [pool.submit(self._sweep_batch, batch_id, turn) for batch_id in batch_ids]
            return sum(not one.result() for one in done)

    def _sweep_job(self, job_id: str, turn: Turn) -> bool:
        try:
            job = self.generator.steps.records.find(job_id)
            if job is not None:
                self._drive(job, turn)
        except Exception:
            logger.exception("sweeping job %s failed", job_id)
            return False
        return True

    def _sweep_batch(self, batch_id: str, turn: Turn) -> bool:
        try:
            self.batches.sweep(batch_id, turn)
        except Exception:
            logger.exception("sweeping batch %s failed", batch_id)
            return False
        return True

    def _drive(self, job: Job, turn: Turn) -> None:
        self._look_after(self.generator.steps.advance(job, turn), turn)

    def _look_after(self, job: Job, turn: Turn) -> None:
        if job.batch_id is not None and job.is_over:
            self.batches.follow(job, turn)

    def _report(self, began_at: datetime, swept: Swept) -> None:
        """Write down that a sweep was here; of two at once, one is enough."""
        body: dict[str, object] = {
            "beganAt": rfc3339(began_at),
            "endedAt": rfc3339(self.now()),
            **swept.to_json(),
        }
        with database_answers():
            last = self.database().get(SWEEP)
            if last is None:
                self.database().create(SWEEP, body)
            else:
                self.database().replace_if(SWEEP, last.version, body)

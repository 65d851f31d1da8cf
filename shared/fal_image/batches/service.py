"""Batches: begun, asked after, stopped, continued and carried out.

Whoever sees a row end says so (`follow`) and starts the next; every minute a sweep mends what a
dead driver left undone. The order is always the same: a job is over, then its row, then its chunk,
then the batch. Refuses to know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from ..database.base import Database
from ..errors import AppError, IdempotencyConflict, NotFound
from ..generate import Generator, Turn
from ..jobs import ID, Job, Notice, derived_id, new_job_id
from ..logs import logger
from ..notices import Notices
from ..settings import Settings
from ..uploads import is_jsonl
from ..wire import Clock
from .attended import Attended
from .documents import Chunk, Head
from .endings import Endings
from .files import Files
from .lanes import Enqueue, Lanes
from .planning import Planning
from .results import Results
from .rows import BatchOrder, parse_batch
from .store import Store
from .views import Batch, Views, refusal_of

SWEEP_EVERY = timedelta(seconds=60)
STOP_AFTER = timedelta(seconds=10)  # until every driver has learnt of it and begun its last row
PARALLEL = 8


class Batches:
    """Safe to share between threads."""

    def __init__(
        self,
        *,
        generator: Generator,
        database: Callable[[], Database],
        notices: Notices,
        enqueue: Enqueue | None,
        settings: Settings,
        clock: Clock,
        now: Callable[[], datetime],
        randomness: Callable[[int], bytes],
    ) -> None:
        self.generator = generator
        self.store = Store(database, clock, now, timedelta(days=settings.job_retention_days))
        self.files = Files(generator.steps.assets)
        self.planning = Planning(self.store, self.files)
        results = Results(self.store, generator.steps.records, self.files)
        self.lanes = Lanes(
            generator, self.store, self.files, enqueue, settings.model_aliases, clock
        )
        self._views = Views(self.lanes, results, self.files)
        self._endings = Endings(self.store, results, self._views, notices, clock, now)
        self.attended = Attended(
            self.store,
            self.files,
            self.planning,
            results,
            self._endings,
            settings.default_model,
            now,
        )
        self._notices = notices
        self._default_model = settings.default_model
        self._now = now
        self._randomness = randomness

    def intended_id(self, secrets: tuple[str, ...], *intent: str) -> str:
        """The id of the batch that an intent leads to. While secrets rotate, it may have been made
        under the older one. Raises DatabaseUnavailable."""
        ids = [derived_id(secret, *intent) for secret in secrets]
        known = self.store.known(ids[1:]) if len(ids) > 1 else []
        return known[0].batch_id if known else ids[0]

    def start(
        self,
        body: dict[str, object],
        caller: str | None,
        turn: Turn,
        public_url: str | None,
        *,
        batch_id: str | None = None,
    ) -> Batch:
        """Begin a batch, or find the one that `batch_id` already is; its first rows are started.

        Raises InvalidInput, NotFound for a file that is not the caller's, IdempotencyConflict,
        DatabaseUnavailable, Internal (retryable): all before any row is submitted. What fails
        later is the sweep's to mend, and no reason to send the batch again.
        """
        order = parse_batch(body)
        url = order.webhook_url
        notice = None if url is None else Notice(self._notices.check(url))
        head = self.store.find(batch_id) if batch_id else None
        if head is None:
            head = self._made(order, caller, public_url, notice, batch_id)
        if head.input_sha256 != order.sha256():
            raise IdempotencyConflict("the Idempotency-Key was used for another batch")
        try:
            head = self._driven(head, turn, due_at=self._now() + SWEEP_EVERY)
            batch = self._views.of(head)
        except AppError as error:
            logger.error("batch %s waits for the sweep: %s", head.batch_id, error.detail)
            return self._views.unseen(head)
        refusal = refusal_of(head)
        if refusal is not None:
            raise refusal.adding(batchId=head.batch_id)
        return batch

    def find(self, batch_id: str, caller: str | None) -> Batch:
        """A caller's own batch as it is now. Raises NotFound, DatabaseUnavailable, Internal."""
        return self._views.of(self._own(batch_id, caller))

    def stop(self, batch_id: str, caller: str | None) -> Batch:
        """Start no more rows; what is at fal is finished. A batch that is over stays as it is."""
        head = self._own(batch_id, caller)
        while head.state == "running" and not head.is_all_over:
            now = self._now()
            stopping = self.store.change(
                head, state="stopping", stop_asked_at=now, due_at=now + STOP_AFTER
            )
            head = stopping or self._own(batch_id, caller)
        return self._views.of(head)

    def resume(self, batch_id: str, caller: str | None, turn: Turn) -> Batch:
        """Go on with a batch that was stopped; any other stays as it is."""
        head = self._own(batch_id, caller)
        while head.state in ("stopping", "stopped"):
            due_at = self._now() + SWEEP_EVERY
            resumed = self.store.change(head, state="running", results_key=None, due_at=due_at)
            head = resumed or self._own(batch_id, caller)
            if resumed is not None:
                head = self._driven(head, turn, due_at=due_at)
        return self._views.of(head)

    def follow(self, job: Job, turn: Turn) -> None:
        """Say that the job of a row is over, and start the row that comes next. Safe to repeat.

        Raises DatabaseUnavailable, Internal (retryable): the sweep does what is left undone.
        """
        if job.batch_id is None or job.row is None or not job.is_over:
            return
        chunk = self.lanes.mark(job.batch_id, job.row, job.state)
        if chunk is None:
            return
        try:
            self._endings.close([chunk], turn)
            ended: list[Chunk] = []
            head = self.store.recent(job.batch_id)
            self.lanes.run(job.batch_id, job.row + head.window, turn, ended)
            self._endings.close(ended, turn)
        except NotFound:
            logger.info("the batch %s of job %s is gone", job.batch_id, job.job_id)

    def sweep(self, batch_id: str, turn: Turn) -> None:
        """Do for a batch that is due whatever there is to do. Raises DatabaseUnavailable, Internal.

        Safe to repeat, and at once: of two sweeps one goes on.
        """
        head = self.store.find(batch_id)
        if head is None:
            return
        if head.state == "done" and not head.has_results:
            self._endings.finish(head, turn)
        elif head.state == "done":
            self._endings.tell(head, turn)
        elif head.state == "stopped":
            self._endings.forget(head)
        else:
            due_at = self._now() + SWEEP_EVERY
            claimed = self.store.change(head, due_at=due_at)
            if claimed is not None:
                self._driven(claimed, turn, due_at=due_at)

    def _made(
        self,
        order: BatchOrder,
        caller: str | None,
        public_url: str | None,
        notice: Notice | None,
        batch_id: str | None,
    ) -> Head:
        now = self._now()
        batch_id = batch_id or new_job_id(now, self._randomness(16))
        if order.lines is not None:
            key = self.files.key(batch_id, now)
            self.files.put(key, [order.lines])
        else:
            key = self._uploaded(order.file_id or "", caller)
        head = Head(
            batch_id=batch_id,
            file_key=key,
            input_sha256=order.sha256(),
            created_at=now,
            updated_at=now,
            window=order.window,
            default_model=self._default_model,
            caller=caller,
            defaults=order.defaults,
            public_url=public_url,
            notice=notice,
        )
        return self.store.add(head, due_at=now + SWEEP_EVERY)

    def _uploaded(self, file_id: str, caller: str | None) -> str:
        """The key of a file of rows that this caller has uploaded. Raises NotFound."""
        uploads = self.generator.steps.uploads
        try:
            key = uploads.assets.door.get().key(file_id)
            if not uploads.is_of(key, caller) or not is_jsonl(key):
                raise NotFound("no upload of this caller")
            with self.files.lines(key):
                return key
        except NotFound as error:
            raise NotFound(
                "file: there is no such file here",
                hint="Ask POST /uploads for an upload link with the contentType "
                "application/jsonl, and PUT the file there; files of other callers look missing.",
            ) from error

    def _own(self, batch_id: str, caller: str | None) -> Head:
        if not ID.fullmatch(batch_id):
            raise NotFound("no such batch")
        head = self.store.load(batch_id)
        if head.caller != caller or head.attended:
            raise NotFound("no such batch")
        return head

    def _driven(self, head: Head, turn: Turn, *, due_at: datetime) -> Head:
        """Do with a batch whatever can be done now; the head as it was last seen."""
        if head.state not in ("running", "stopping") or head.attended:
            return head
        if not head.is_planned and head.fault is None:
            head = self.planning.plan(head, turn, due_at=due_at)
        if head.fault is not None:
            return self._endings.refuse(head)
        if not head.is_planned:
            return head
        if head.is_all_over:
            return self._endings.finish(head, turn)
        survey = self.lanes.survey(head)
        self._endings.close(survey.finished, turn)
        jobs = self.lanes.jobs(head, survey.startable)
        self._follow_all([job for job in jobs.values() if job.is_over], turn)
        if head.state == "stopping":
            return self._stopped(head, jobs.values(), turn)
        missing = [row for row in survey.startable if row not in jobs]
        self._endings.close(self.lanes.start(head, missing, turn), turn)
        return self.store.load(head.batch_id)

    def _follow_all(self, jobs: Sequence[Job], turn: Turn) -> None:
        if jobs:
            with ThreadPoolExecutor(PARALLEL) as pool:
                list(pool.map(lambda job: self.follow(job, turn), jobs))

    def _stopped(self, head: Head, jobs: Iterable[Job], turn: Turn) -> Head:
        """A stopping batch, stopped if nothing of it is at fal any more."""
        is_early = self._now() < (head.stop_asked_at or head.created_at) + STOP_AFTER
        if is_early or any(not job.is_over for job in jobs):
            return head
        head = self.store.load(head.batch_id)
        if head.state != "stopping" or head.is_all_over:
            return head
        return self._endings.finish(head, turn, state="stopped")

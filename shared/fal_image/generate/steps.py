"""The one step that every driver takes: `advance` does with a job whatever can be done now.

The waiting request, fal's webhook, a caller's poll, the sweep and a queue's message all end up
here. Each may die anywhere; what it leaves in the document is enough for any other to go on. Money
is settled before the end of a job is written, and settling again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from msgspec.structs import replace

from ..assets import Assets
from ..errors import (
    AppError,
    DatabaseUnavailable,
    FalAuthFailed,
    Internal,
    JobTimeout,
    NotFound,
    SubmitUnknown,
)
from ..extend import NO_HOOKS, Hooks
from ..fal import webhooks
from ..fal.client import NOT_FOUND, Fal, OutOfTime, Status
from ..jobs import Fault, Job, Lease, Notice, Outcome, State, states
from ..jobs import events as happen
from ..ledger import Ledger, insisting
from ..logs import logger
from ..notices import TIMEOUT_S, Notices
from ..uploads import Uploads
from ..wire import Clock
from . import outcomes
from .copies import Copies
from .manifests import Manifests
from .orders import actual_usd_micro
from .records import Records
from .turns import LEASE_AFTER_S, SUBMIT_LEASE_S, Stages, Turn, milliseconds

CANCEL_TIME_S = 0.75  # spent twice at most, inside the 2 s kept back for the answer
# While somebody else works on the job that is waited for, slower and slower.
LOOK_FIRST_S, LOOK_LAST_S, LOOK_GROWTH = 0.03, 0.5, 1.5
TELL_FOR = timedelta(hours=24)
TELL_AGAIN = timedelta(minutes=1)  # doubled with each try, up to an hour
FORGETS_AFTER = timedelta(minutes=6)  # fal docs, queue: a result of 10 KB or more


@dataclass(frozen=True)
class Steps:
    """`is_durable` says that jobs outlive the request that made them, `accepts_loopback` that
    whoever plays fal can reach this machine."""

    fal: Fal
    assets: Assets
    uploads: Uploads
    records: Records
    ledger: Ledger
    notices: Notices
    secrets: tuple[str, ...] = field(repr=False)
    clock: Clock
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    is_durable: bool
    accepts_loopback: bool = False
    hooks: Hooks = NO_HOOKS

    def submit(
        self,
        job: Job,
        arguments: dict[str, object],
        turn: Turn,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Job:
        """Send a job to fal that is `submitting` under this turn's lease; never twice.

        `headers` are wishes for fal's queue. Raises Internal, with the request id, if fal took it
        and the database would not hear of it.
        """
        try:
            taken = self.fal.submit(
                job.model,
                arguments,
                ends_at=turn.ends_at,
                begin_by=turn.ends_at + LEASE_AFTER_S - SUBMIT_LEASE_S,
                webhook_url=self._webhook_url(job),
                headers=headers,
            )
        except AppError as error:
            return self.not_submitted(job, error)
        job = self._noted(job, happen.Answered(self.now(), taken.request_id))
        if taken.position is not None:
            turn.listener("queued", {"position": taken.position, "ageMs": 0})
        return job

    def not_submitted(self, job: Job, error: AppError) -> Job:
        """Write down that a job has no request id: after SubmitUnknown fal may still have taken it,
        after any other error it certainly has not, and what was reserved is given back."""
        if isinstance(error, SubmitUnknown):
            return self._noted(job, happen.Lost(self.now(), Fault.of(error)))
        self.ledger.give_back(job.job_id, job.reservations)
        return self._noted(job, happen.NotTaken(self.now(), Fault.of(error)))

    def wait(self, job: Job, turn: Turn) -> Job:
        """Stay with a job until it is over or the answer is due."""
        if job.is_over:
            return self.advance(job, turn)
        stages, pause_s = Stages(self.clock, turn.listener), LOOK_FIRST_S
        while not job.is_over and not self._is_paused(job) and self.clock() < turn.answer_by:
            moved = self.advance(self._attended(job, turn, stages), turn)
            if moved.version == job.version:
                self.sleep(min(pause_s, max(0.0, turn.answer_by - self.clock())))
                pause_s = min(pause_s * LOOK_GROWTH, LOOK_LAST_S)
                moved = self.records.load(job.job_id)
            job = moved
        return job

    def advance(self, job: Job, turn: Turn) -> Job:
        """Do with the job whatever can be done now, and give it back as it then is.

        Waits for answers, never for fal to finish. Safe to repeat, from anywhere, at any time.
        Raises DatabaseUnavailable, and Internal as `submit` does.
        """
        while self.clock() < turn.answer_by:
            moved = _STEPS[job.state](self, job, turn)
            if _stage(moved) == _stage(job):
                return moved
            job = moved
        return job

    def note(self, job: Job, request_id: str, outcome: Outcome | None, turn: Turn) -> Job:
        """Write down what fal said and, in the same write, take the job up if this turn still has
        time to copy, nobody else is at it and it is not paused. Raises DatabaseUnavailable; safe
        to repeat."""
        now = self.now()
        events: list[happen.Event] = [happen.Heard(now, request_id, outcome)]
        if self.clock() < turn.answer_by and not self._is_paused(job):
            events.append(happen.Taken(now, self._lease(turn)))
        return self.records.apply(job, *events)

    def withdraw(self, job: Job) -> Outcome | None:
        """Cancel at fal a job that nobody could ask about later; its outcome if fal was faster."""
        model, request_id = job.model, job.fal_request_id or ""
        if not self.fal.cancel(model, request_id, ends_at=self.clock() + CANCEL_TIME_S):
            return None
        try:
            ends_at = self.clock() + CANCEL_TIME_S
            return outcomes.of_result(self.fal.result(model, request_id, ends_at=ends_at))
        except (AppError, OutOfTime):
            return None

    def _begin(self, job: Job, turn: Turn) -> Job:
        if turn.ends_at - self.clock() + LEASE_AFTER_S < SUBMIT_LEASE_S:
            return job
        begun = self.records.apply(job, happen.Begun(self.now(), self._lease(turn)))
        if not _is_ours(begun, turn):
            return begun
        try:
            self.uploads.check_watermark(begun.treatment.transforms, begun.caller)
            arguments = self.uploads.readable(begun.arguments, begun.caller, ends_at=turn.answer_by)
        except AppError as error:
            return self.not_submitted(begun, error)
        return self.submit(begun, arguments, turn)

    def _find_lost(self, job: Job, turn: Turn) -> Job:
        if states.is_held(job, self.now()):
            return job
        lost = SubmitUnknown(
            "whoever submitted this job did not come back to say what fal answered"
        )
        return self.records.apply(job, happen.LeaseExpired(self.now(), Fault.of(lost)))

    def _follow(self, job: Job, turn: Turn) -> Job:
        """A submitted job: act on what fal said, or ask it."""
        if job.outcome is None:
            return self._ask(job, turn)
        if job.outcome.kind == "ok":
            return self._take(job, turn)
        units = self._copies.units(job, job.outcome, turn)
        actual = actual_usd_micro(job.model, units)
        if actual == 0:
            self.ledger.give_back(job.job_id, job.reservations)
        else:
            self.ledger.settle(job.job_id, job.reservations, actual)
        return self.records.apply(job, happen.Concluded(self.now(), actual, units))

    def _ask(self, job: Job, turn: Turn) -> Job:
        now = self.now()
        has_run_out = states.has_run_out(job, now)
        if job.cancel_requested and not has_run_out:
            self._cancel(job, turn)
        status = self._look(job, turn)
        if status is not None and (status.is_completed or self._is_forgotten(job, status)):
            return self._read(job, turn, status)
        if has_run_out and (status is not None or now >= states.given_up_at(job)):
            return self._time_out(job, turn, now)
        if status is not None:
            Stages(self.clock, turn.listener).hear(status)
        due_at = states.due_at(job)
        is_due = due_at is not None and due_at <= now
        return self.records.apply(job, happen.Asked(now)) if is_due else job

    def _look(self, job: Job, turn: Turn) -> Status | None:
        request_id = job.fal_request_id or ""
        try:
            return self.fal.look(job.model, request_id, ends_at=turn.answer_by)
        except FalAuthFailed as error:
            logger.error("fal does not say what became of %s: %s", request_id, error.detail)
            return None

    def _cancel(self, job: Job, turn: Turn) -> bool:
        """Whether fal says that it had finished the job before."""
        ends_at = min(turn.ends_at, self.clock() + CANCEL_TIME_S)
        return self.fal.cancel(job.model, job.fal_request_id or "", ends_at=ends_at)

    def _time_out(self, job: Job, turn: Turn, now: datetime) -> Job:
        if self._cancel(job, turn):
            return self._read(job, turn, Status("COMPLETED"))
        late = JobTimeout("fal did not finish in time", falRequestId=job.fal_request_id)
        return self.records.apply(job, happen.TimedOut(now, Fault.of(late)))

    def _read(self, job: Job, turn: Turn, status: Status) -> Job:
        """The result of a job that fal has completed."""
        inference = {"inference": milliseconds(status.inference_s)} if status.inference_s else {}
        request_id = job.fal_request_id or ""
        try:
            result = self.fal.result(job.model, request_id, ends_at=turn.answer_by)
            outcome: Outcome | None = outcomes.of_result(result, inference)
        except OutOfTime:
            return job
        except AppError as error:
            outcome = outcomes.of_failure(error, inference)
        return self.note(job, request_id, outcome, turn) if outcome else job

    def _is_forgotten(self, job: Job, status: Status) -> bool:
        """Whether fal has dropped the result; of a job just submitted it may not know yet."""
        age = self.now() - states.begun_at(job)
        return status.state == NOT_FOUND and age >= FORGETS_AFTER

    def _take(self, job: Job, turn: Turn) -> Job:
        if _is_ours(job, turn):
            return self._copies.copy(job, turn)
        if states.is_held(job, self.now()) or self._is_paused(job):
            return job
        job = self.records.apply(job, happen.Taken(self.now(), self._lease(turn)))
        return self._copies.copy(job, turn) if _is_ours(job, turn) else job

    def _close(self, job: Job, turn: Turn) -> Job:
        """A job that is over: settle what is open, and tell its owner."""
        now = self.now()
        if states.is_timed_out(job) and job.outcome is not None:
            return self._take(job, turn)
        if not job.settled:
            if job.state == "unknown" and now < states.given_up_at(job):
                return job
            if job.state == "cancelled":
                self.ledger.give_back(job.job_id, job.reservations)
            else:
                self.ledger.settle(job.job_id, job.reservations, None)
            return self.records.apply(job, happen.Settled(now))
        notice = job.notice
        if notice and notice.next_at and notice.next_at <= now and turn.tells:
            return self._tell(job, notice, turn)
        return job

    def _tell(self, job: Job, notice: Notice, turn: Turn) -> Job:
        shown = replace(job, images=self.assets.signed(job.images, job.max_age_s))
        delivered = self.notices.send(
            notice.url,
            message_id=job.job_id,
            event_type=f"job.{job.state}",
            occurred_at=job.finished_at or job.updated_at,
            data=shown.to_json(turn.owner),
            timeout_s=min(TIMEOUT_S, max(0.1, turn.answer_by - self.clock())),
        )
        now = self.now()
        next_at = now + min(TELL_AGAIN * 2 ** min(notice.tries, 10), timedelta(hours=1))
        gives_up = delivered or next_at > (job.finished_at or now) + TELL_FOR
        told = happen.Told(now, delivered, None if gives_up else next_at)
        # Not applied to a job that has changed meanwhile: its owner was told of another end.
        return self.records.attempt(job, told) or self.records.load(job.job_id)

    def _attended(self, job: Job, turn: Turn, stages: Stages) -> Job:
        """A job after waiting for fal to finish it, if that is what it waits for."""
        if job.state != "submitted" or job.outcome is not None:
            return job
        request_id = job.fal_request_id or ""
        try:
            self.fal.wait(job.model, request_id, ends_at=turn.answer_by, on_status=stages.hear)
            result = self.fal.result(job.model, request_id, ends_at=turn.answer_by)
            outcome: Outcome | None = outcomes.of_result(result, stages.timings_ms())
        except OutOfTime:
            return job
        except AppError as error:
            outcome = outcomes.of_failure(error, stages.timings_ms())
            if outcome is None and not self.is_durable:
                raise error.adding(falRequestId=request_id) from None
        return self.note(job, request_id, outcome, turn) if outcome else job

    def _noted(self, job: Job, event: happen.Event) -> Job:
        """Write down what became of a submit. fal may have been paid: the database gets some
        chances, and the caller is never told to try again."""
        try:
            return insisting(lambda: self.records.apply(job, event), self.sleep)
        except (DatabaseUnavailable, NotFound) as error:
            request_id = event.request_id if isinstance(event, happen.Answered) else None
            raise Internal(
                "the database did not take what fal answered to the submit",
                hint="Look at the job later: fal's webhook brings it back.",
                jobId=job.job_id,
                falRequestId=request_id,
            ) from error

    @property
    def manifests(self) -> Manifests:
        return Manifests(self.assets)

    @property
    def _copies(self) -> Copies:
        return Copies(
            self.fal,
            self.assets,
            self.records,
            self.ledger,
            self.now,
            self.is_durable,
            self.hooks,
        )

    def _webhook_url(self, job: Job) -> str | None:
        """Where fal tells us of the job's end, if it can reach us and somebody will remember."""
        if not self.is_durable or job.public_url is None:
            return None
        if not job.public_url.startswith("https://") and not self.accepts_loopback:
            return None
        token = webhooks.token(self.secrets, job.job_id)
        return f"{job.public_url}/webhooks/fal/{job.job_id}/{token}"

    def _lease(self, turn: Turn) -> Lease:
        return turn.lease(self.clock, self.now())

    def _is_paused(self, job: Job) -> bool:
        return job.retry_at is not None and job.retry_at > self.now()


_STEPS: Mapping[State, Callable[[Steps, Job, Turn], Job]] = {
    "new": Steps._begin,
    "submitting": Steps._find_lost,
    "submitted": Steps._follow,
    "storing": Steps._take,
    "unknown": Steps._close,
    "done": Steps._close,
    "failed": Steps._close,
    "cancelled": Steps._close,
}


def _stage(job: Job) -> tuple[object, ...]:
    """What must have changed for another step to be worth taking."""
    return (job.state, job.outcome is None, job.lease, job.settled, job.notice)


def _is_ours(job: Job, turn: Turn) -> bool:
    """Whether this turn holds the job. A submitter's lease also covers what it does next."""
    holds = job.lease is not None and job.lease.owner == turn.owner
    return holds and job.state in ("submitting", "storing")

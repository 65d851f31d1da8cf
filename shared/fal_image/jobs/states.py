"""What may happen to a job: `transition(job, event)`, pure, and the times that follow from it.

    new ──► submitting ──► submitted ──► storing ──► done
             │    │            │  ▲         │
             │    └► unknown ──┼──┘         └► failed (fal's URLs kept)
             └► failed         └► failed, cancelled

What is not in the table leaves the job as it is and is no error: events arrive twice, late and
from several drivers at once. Evidence first: what fal said (`Heard`) is recorded by anybody, at
once and without the lease; only whoever holds the lease acts on it. Refuses to know fal, storages
and databases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from .events import (
    Answered,
    Asked,
    Begun,
    CancelAsked,
    Concluded,
    CopyFailed,
    CopyPaused,
    Event,
    Heard,
    LeaseExpired,
    Lost,
    NotTaken,
    Settled,
    Stored,
    Taken,
    TimedOut,
    Told,
)
from .values import Cost, Fault, Job, Notice, Outcome, State

SUBMITTED_FOR = timedelta(hours=1)
"""How long a submitted job may take; then it is cancelled at fal and failed."""

UNKNOWN_FOR = timedelta(hours=2, minutes=15)
"""How long an unknown job keeps its reservation open: fal repeats a webhook for 2 h (fal docs,
webhooks page)."""

ASK_EVERY = timedelta(seconds=45)
"""fal forgets a result of 10 KB after 6 minutes (fal docs, queue): asked about well inside that."""

BEGIN_WITHIN = timedelta(seconds=30)
DRIVE_WITHIN = timedelta(seconds=10)
"""When the sweep takes up what nobody began, or what whoever heard of it did not finish."""


def transition(job: Job, event: Event) -> Job:
    """The job after the event: the same object if the event changes nothing."""
    change = TABLE.get((job.state, type(event)))
    return job if change is None else change(job, event)


def _begin(job: Job, event: Begun) -> Job:
    return replace(
        job, state="submitting", lease=event.lease, begun_at=event.at, updated_at=event.at
    )


def _submitted(job: Job, at: datetime, request_id: str, outcome: Outcome | None) -> Job:
    """Every move to `submitted` releases the lease: waiting for fal holds none."""
    return replace(
        job,
        state="submitted",
        fal_request_id=request_id,
        outcome=outcome,
        lease=None,
        fault=None,
        finished_at=None,
        updated_at=at,
    )


def _answer(job: Job, event: Answered) -> Job:
    return _submitted(job, event.at, event.request_id, None)


def _lose(job: Job, event: Lost) -> Job:
    return replace(job, state="unknown", fault=event.fault, lease=None, updated_at=event.at)


def _expire(job: Job, event: LeaseExpired) -> Job:
    if is_held(job, event.at):
        return job
    return replace(job, state="unknown", fault=event.fault, lease=None, updated_at=event.at)


def _not_taken(job: Job, event: NotTaken) -> Job:
    return _ended(job, "failed", event.at, fault=event.fault, settled=True)


def _hear(job: Job, event: Heard) -> Job:
    return _submitted(job, event.at, event.request_id, event.outcome)


def _hear_more(job: Job, event: Heard) -> Job:
    """A submitted job hears its outcome once; the first word is the last."""
    if job.fal_request_id != event.request_id or job.outcome or event.outcome is None:
        return job
    return replace(job, outcome=event.outcome, updated_at=event.at)


def _hear_after_failing(job: Job, event: Heard) -> Job:
    """A picture that was given up arrives after all; anything else comes too late."""
    if event.outcome is None or event.outcome.kind != "ok":
        return job
    if job.fal_request_id is None:
        return _submitted(job, event.at, event.request_id, event.outcome)
    if is_timed_out(job) and job.fal_request_id == event.request_id and job.outcome is None:
        return replace(job, outcome=event.outcome, updated_at=event.at)
    return job


def _ask(job: Job, event: Asked) -> Job:
    return replace(job, asked_at=event.at)


def _take(job: Job, event: Taken) -> Job:
    if job.outcome is None or job.outcome.kind != "ok" or is_held(job, event.at):
        return job
    return replace(job, state="storing", lease=event.lease, finished_at=None, updated_at=event.at)


def _take_after_failing(job: Job, event: Taken) -> Job:
    return _take(job, event) if is_timed_out(job) else job


def _store(job: Job, event: Stored) -> Job:
    if not _owns(job, event.owner) or job.outcome is None:
        return job
    return replace(
        _ended(job, "done", event.at, fault=None, settled=True),
        images=event.images,
        warnings=event.warnings,
        output=job.outcome.output,
        outcome=replace(_billed(job.outcome, event.billable_units), output=None),
        seed=job.outcome.seed,
        timings_ms=event.timings_ms,
        cost=_spent(job, event.actual_usd_micro, event.billable_units),
    )


def _pause(job: Job, event: CopyPaused) -> Job:
    if not _owns(job, event.owner):
        return job
    return replace(
        job,
        outcome=job.outcome and _billed(job.outcome, event.billable_units),
        lease=None,
        copy_tries=job.copy_tries + 1,
        retry_at=event.retry_at,
        fault=event.fault,
        updated_at=event.at,
    )


def _fail_copy(job: Job, event: CopyFailed) -> Job:
    if not _owns(job, event.owner):
        return job
    ended = _ended(job, "failed", event.at, fault=event.fault, settled=True)
    return replace(
        ended,
        outcome=job.outcome and _billed(job.outcome, event.billable_units),
        cost=_spent(job, event.actual_usd_micro, event.billable_units),
    )


def _conclude(job: Job, event: Concluded) -> Job:
    if job.outcome is None or job.outcome.kind == "ok":
        return job
    state: State = "cancelled" if job.outcome.kind == "cancelled" else "failed"
    return replace(
        _ended(job, state, event.at, fault=job.outcome.fault, settled=True),
        outcome=_billed(job.outcome, event.billable_units),
        cost=_spent(job, event.actual_usd_micro, event.billable_units),
    )


def _time_out(job: Job, event: TimedOut) -> Job:
    if job.outcome is not None or not has_run_out(job, event.at):
        return job
    return _ended(job, "failed", event.at, fault=event.fault, settled=job.settled)


def _cancel_new(job: Job, event: CancelAsked) -> Job:
    return replace(
        _ended(job, "cancelled", event.at, fault=None, settled=False), cancel_requested=True
    )


def _cancel(job: Job, event: CancelAsked) -> Job:
    return job if job.cancel_requested else replace(job, cancel_requested=True)


def _settle(job: Job, event: Settled) -> Job:
    return job if job.settled else replace(job, settled=True)


def _give_up(job: Job, event: Settled) -> Job:
    """An unknown job is over for its owner too when its reservation is settled."""
    if job.settled:
        return job
    return replace(job, settled=True, finished_at=event.at, notice=_notice(job, event.at))


def _tell(job: Job, event: Told) -> Job:
    if job.notice is None or job.notice.next_at is None:
        return job
    told = Notice(
        job.notice.url,
        job.notice.tries + 1,
        event.next_at,
        event.at if event.delivered else None,
    )
    return replace(job, notice=told)


TABLE: Mapping[tuple[State, type[Event]], Callable[[Job, Any], Job]] = {
    ("new", Begun): _begin,
    ("new", CancelAsked): _cancel_new,
    ("submitting", Answered): _answer,
    ("submitting", Lost): _lose,
    ("submitting", NotTaken): _not_taken,
    ("submitting", LeaseExpired): _expire,
    ("submitting", Heard): _hear,
    ("submitting", CancelAsked): _cancel,
    ("submitted", Heard): _hear_more,
    ("submitted", Asked): _ask,
    ("submitted", Taken): _take,
    ("submitted", Concluded): _conclude,
    ("submitted", TimedOut): _time_out,
    ("submitted", CancelAsked): _cancel,
    ("storing", Taken): _take,
    ("storing", Stored): _store,
    ("storing", CopyPaused): _pause,
    ("storing", CopyFailed): _fail_copy,
    ("unknown", Answered): _answer,
    ("unknown", NotTaken): _not_taken,
    ("unknown", Heard): _hear,
    ("unknown", CancelAsked): _cancel,
    ("unknown", Settled): _give_up,
    ("unknown", Told): _tell,
    ("failed", Heard): _hear_after_failing,
    ("failed", Taken): _take_after_failing,
    ("failed", Settled): _settle,
    ("failed", Told): _tell,
    ("cancelled", Settled): _settle,
    ("cancelled", Told): _tell,
    ("done", Told): _tell,
}


def is_held(job: Job, now: datetime) -> bool:
    """Whether somebody's lease keeps others from acting on the job."""
    return job.lease is not None and job.lease.ends_at > now


def is_timed_out(job: Job) -> bool:
    return job.fault is not None and job.fault.code == "job_timeout"


def has_run_out(job: Job, now: datetime) -> bool:
    """Whether fal has had a submitted job for longer than it may."""
    return now >= begun_at(job) + SUBMITTED_FOR


def begun_at(job: Job) -> datetime:
    return job.begun_at or job.created_at


def given_up_at(job: Job) -> datetime:
    """When nobody waits for fal's word any more; a later one still counts."""
    return begun_at(job) + UNKNOWN_FOR


def due_at(job: Job) -> datetime | None:
    """When the sweep should look at the job; None once it is over, settled and told."""
    if job.state == "new":
        return job.created_at + BEGIN_WITHIN
    if job.state == "submitting":
        return job.lease.ends_at if job.lease else job.updated_at
    if job.state == "submitted":
        if job.outcome is not None:
            return job.updated_at + DRIVE_WITHIN
        return (job.asked_at or job.updated_at) + ASK_EVERY
    if job.state == "storing":
        return job.lease.ends_at if job.lease else job.retry_at or job.updated_at
    return _due_after_the_end(job)


def _due_after_the_end(job: Job) -> datetime | None:
    if job.state == "unknown" and not job.settled:
        return given_up_at(job)
    if not job.settled or (job.state == "failed" and is_timed_out(job) and job.outcome):
        return job.updated_at + DRIVE_WITHIN
    return job.notice.next_at if job.notice else None


def _owns(job: Job, owner: str) -> bool:
    return job.lease is not None and job.lease.owner == owner


def _billed(outcome: Outcome, units: float | None) -> Outcome:
    """The outcome with the units that were found out since."""
    return outcome if units is None else replace(outcome, billable_units=units)


def _spent(job: Job, actual_usd_micro: int | None, found: float | None = None) -> Cost:
    units = _billed(job.outcome, found).billable_units if job.outcome else None
    return replace(job.cost, actual_usd_micro=actual_usd_micro, billable_units=units)


def _ended(job: Job, state: State, at: datetime, *, fault: Fault | None, settled: bool) -> Job:
    """The job at its end; whoever wants to be told of it is told from now on."""
    return replace(
        job,
        state=state,
        fault=fault,
        lease=None,
        retry_at=None,
        settled=settled,
        notice=_notice(job, at),
        finished_at=at,
        updated_at=at,
    )


def _notice(job: Job, at: datetime) -> Notice | None:
    return Notice(job.notice.url, next_at=at) if job.notice else None

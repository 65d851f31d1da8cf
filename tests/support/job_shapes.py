"""Jobs and events as tests need them: builders, and the way between real Jobs and the model's.

`shape` forgets of a real Job all that the model does not know; `job_of` and `event_of` make up
what it leaves out.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any, get_args

from fal_image.jobs import (
    Cost,
    Fault,
    Image,
    Job,
    Lease,
    Notice,
    Outcome,
    Reservation,
    Source,
    State,
    states,
)
from fal_image.jobs import events as happen
from fal_image.jobs.documents import from_document, to_document
from fal_image.jobs.states import SUBMITTED_FOR, UNKNOWN_FOR

from .job_rules import Doc, Event

T0 = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
STATES: tuple[State, ...] = get_args(State)
SINCE_BEGIN = (timedelta(minutes=10), SUBMITTED_FOR, UNKNOWN_FOR)  # by the model's clock
LEASE_FOR = timedelta(seconds=5)
FAULT = Fault("upload_failed", "the bucket is full", hint="Make room.", extensions={"sizeBytes": 5})
LATE = Fault("job_timeout", "fal did not finish within an hour")
URL = "https://owner.example/told"
IMAGE = Image(0, "file:///a.png", 8, 8, "image/png", 70, "0" * 64, False)
OUTCOMES = {
    "ok": Outcome(
        "ok",
        sources=(Source(0, "https://v3.fal.media/a.png", False),),
        seed=7,
        billable_units=1.0,
        timings_ms={"inference": 900},
    ),
    "error": Outcome("error", fault=Fault("fal_failed", "no luck")),
    "cancelled": Outcome("cancelled"),
}


def a_job(state: State = "submitted", **fields: Any) -> Job:
    """A job that was begun at T0, with a reservation that is still open."""
    known: dict[str, Any] = {
        "job_id": "0" * 26,
        "model": "fal-ai/flux/schnell",
        "created_at": T0,
        "updated_at": T0,
        "arguments": {"prompt": "a calico cat", "num_images": 1},
        "state": state,
        "begun_at": None if state == "new" else T0,
        "cost": Cost(estimate_usd_micro=3000),
        "reservations": (Reservation("budget:2026-03-01", 3000),),
        "version": 3,
    }
    return Job(**(known | fields))


def again(job: Job) -> Job:
    """The job after its document was written as JSON and read."""
    body = json.loads(json.dumps(to_document(job)))
    return from_document(job.job_id, job.version, body)


def shape(job: Job, now: datetime) -> Doc:
    """What the model knows of a job."""
    lease = None
    if job.lease is not None:
        lease = "live" if states.is_held(job, now) else "over"
    return Doc(
        state=job.state,
        lease=lease,
        known=job.fal_request_id is not None,
        outcome=job.outcome.kind if job.outcome else None,
        cancel=job.cancel_requested,
        settled=job.settled,
        timed_out=job.state == "failed" and states.is_timed_out(job),
        notice=_notice(job),
    )


def _notice(job: Job) -> str | None:
    if job.notice is None:
        return None
    if job.state not in ("done", "failed", "cancelled") and job.finished_at is None:
        return "waiting"
    return "told" if job.notice.next_at is None else "due"


def job_of(doc: Doc, now: datetime) -> Job:
    """A job of this shape as it may be at `now`."""
    is_over = doc.state in ("done", "failed", "cancelled") or (
        doc.state == "unknown" and doc.settled
    )
    fault = FAULT if doc.state in ("failed", "unknown") else None
    notices = {
        "waiting": Notice(URL),
        "due": Notice(URL, next_at=now),
        "told": Notice(URL, tries=1, delivered_at=now),
    }
    lease_ends_at = now + LEASE_FOR if doc.lease == "live" else now
    state = next(one for one in STATES if one == doc.state)
    return a_job(
        state,
        lease=Lease("holder", lease_ends_at) if doc.lease else None,
        fal_request_id="r-1" if doc.known else None,
        outcome=OUTCOMES[doc.outcome] if doc.outcome else None,
        cancel_requested=doc.cancel,
        settled=doc.settled,
        fault=LATE if doc.timed_out else fault,
        notice=notices[doc.notice] if doc.notice else None,
        finished_at=now if is_over else None,
        images=(IMAGE,) if doc.state == "done" else (),
    )


def event_of(event: Event, job: Job, now: datetime, owner: str = "newcomer") -> happen.Event:
    """The event as somebody says it of this job at `now`; a new lease is `owner`'s."""
    lease = Lease(owner, now + LEASE_FOR)
    holder = job.lease.owner if event.mine and job.lease else "nobody"
    outcome = OUTCOMES[event.outcome] if event.outcome else None
    made: dict[str, happen.Event] = {
        "begun": happen.Begun(now, lease),
        "answered": happen.Answered(now, "r-1"),
        "lost": happen.Lost(now, FAULT),
        "not_taken": happen.NotTaken(now, FAULT),
        "expired": happen.LeaseExpired(now, FAULT),
        "heard": happen.Heard(now, "r-1", outcome),
        "taken": happen.Taken(now, lease),
        "stored": happen.Stored(now, holder, (IMAGE,), (), {"total": 9}, 3000),
        "paused": happen.CopyPaused(now, holder, FAULT, now + LEASE_FOR),
        "copy_failed": happen.CopyFailed(now, holder, FAULT, 3000),
        "concluded": happen.Concluded(now, 0),
        "timed_out": happen.TimedOut(now, LATE),
        "cancel": happen.CancelAsked(now),
        "settled": happen.Settled(now),
        "told": happen.Told(now, True, None),
    }
    return made[event.name]

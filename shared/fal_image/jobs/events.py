"""What can happen to a job: facts that a driver found out or brought about, each with its time.

What a job makes of them is in `states`.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from .values import Fault, Image, JobWarning, Lease, Outcome


class Event(Struct, frozen=True):
    at: datetime


class Begun(Event, frozen=True):
    """Somebody is going to submit it now."""

    lease: Lease


class Answered(Event, frozen=True):
    """fal took the submit and gave it this id."""

    request_id: str


class Lost(Event, frozen=True):
    """The submit left and no answer came: fal may have taken it."""

    fault: Fault


class NotTaken(Event, frozen=True):
    """fal refused the submit, or it certainly never left. What was reserved is given back."""

    fault: Fault


class LeaseExpired(Event, frozen=True):
    """Somebody found a submit whose lease is over at `at`."""

    fault: Fault


class Heard(Event, frozen=True):
    """fal said which request this is, and what came of it if it is known."""

    request_id: str
    outcome: Outcome | None = None


class Asked(Event, frozen=True):
    """fal was asked and is still at work."""


class Taken(Event, frozen=True):
    """Somebody is going to copy the pictures now."""

    lease: Lease


class Stored(Event, frozen=True):
    """All pictures are stored and the reservations settled. Here and below, `billable_units` are
    what fal was found to bill, if that was not known before."""

    owner: str
    images: tuple[Image, ...]
    warnings: tuple[JobWarning, ...]
    timings_ms: dict[str, int]
    actual_usd_micro: int | None
    billable_units: float | None = None


class CopyPaused(Event, frozen=True):
    """The pictures could not be copied now; somebody tries again at `retry_at`."""

    owner: str
    fault: Fault
    retry_at: datetime
    billable_units: float | None = None


class CopyFailed(Event, frozen=True):
    """The pictures can never be copied. The reservations are settled."""

    owner: str
    fault: Fault
    actual_usd_micro: int | None
    billable_units: float | None = None


class Concluded(Event, frozen=True):
    """fal's error or cancellation is made the job's end. The reservations are settled."""

    actual_usd_micro: int | None
    billable_units: float | None = None


class TimedOut(Event, frozen=True):
    """fal did not finish in SUBMITTED_FOR; it was asked to cancel."""

    fault: Fault


class CancelAsked(Event, frozen=True):
    """The caller does not want it any more."""


class Settled(Event, frozen=True):
    """What was reserved is spent or given back."""


class Told(Event, frozen=True):
    """The owner's webhook was called; `next_at` is when to try again, None for never."""

    delivered: bool
    next_at: datetime | None

"""What can happen to a job: facts that a driver found out or brought about, each with its time.

What a job makes of them is in `states`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .values import Fault, Image, JobWarning, Lease, Outcome


@dataclass(frozen=True)
class Event:
    at: datetime


@dataclass(frozen=True)
class Begun(Event):
    """Somebody is going to submit it now."""

    lease: Lease


@dataclass(frozen=True)
class Answered(Event):
    """fal took the submit and gave it this id."""

    request_id: str


@dataclass(frozen=True)
class Lost(Event):
    """The submit left and no answer came: fal may have taken it."""

    fault: Fault


@dataclass(frozen=True)
class NotTaken(Event):
    """fal refused the submit, or it certainly never left. What was reserved is given back."""

    fault: Fault


@dataclass(frozen=True)
class LeaseExpired(Event):
    """Somebody found a submit whose lease is over at `at`."""

    fault: Fault


@dataclass(frozen=True)
class Heard(Event):
    """fal said which request this is, and what came of it if it is known."""

    request_id: str
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Asked(Event):
    """fal was asked and is still at work."""


@dataclass(frozen=True)
class Taken(Event):
    """Somebody is going to copy the pictures now."""

    lease: Lease


@dataclass(frozen=True)
class Stored(Event):
    """All pictures are stored and the reservations settled. Here and below, `billable_units` are
    what fal was found to bill, if that was not known before."""

    owner: str
    images: tuple[Image, ...]
    warnings: tuple[JobWarning, ...]
    timings_ms: dict[str, int]
    actual_usd_micro: int | None
    billable_units: float | None = None


@dataclass(frozen=True)
class CopyPaused(Event):
    """The pictures could not be copied now; somebody tries again at `retry_at`."""

    owner: str
    fault: Fault
    retry_at: datetime
    billable_units: float | None = None


@dataclass(frozen=True)
class CopyFailed(Event):
    """The pictures can never be copied. The reservations are settled."""

    owner: str
    fault: Fault
    actual_usd_micro: int | None
    billable_units: float | None = None


@dataclass(frozen=True)
class Concluded(Event):
    """fal's error or cancellation is made the job's end. The reservations are settled."""

    actual_usd_micro: int | None
    billable_units: float | None = None


@dataclass(frozen=True)
class TimedOut(Event):
    """fal did not finish in SUBMITTED_FOR; it was asked to cancel."""

    fault: Fault


@dataclass(frozen=True)
class CancelAsked(Event):
    """The caller does not want it any more."""


@dataclass(frozen=True)
class Settled(Event):
    """What was reserved is spent or given back."""


@dataclass(frozen=True)
class Told(Event):
    """The owner's webhook was called; `next_at` is when to try again, None for never."""

    delivered: bool
    next_at: datetime | None

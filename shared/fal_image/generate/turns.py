"""One driver's turn with jobs, and what it hears and measures on the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct

from ..fal.client import Status
from ..jobs import Lease, Progress
from ..web import Platform
from ..wire import Clock

LEASE_AFTER_S = 5.0  # a lease outlives the invocation of its owner
SERVER_TURN_S = 115.0  # a server's threads are not killed: this long and the lease make 120 s
SUBMIT_LEASE_S = 10.0  # with less of the lease left, no submit is begun

# What happens while a job runs: a name ("queued", "progress", "image") and its facts.
Listener = Callable[[str, dict[str, object]], None]


def ignore(name: str, facts: dict[str, object]) -> None:
    """A listener for whoever only wants the end."""


class Turn(Struct, frozen=True):
    """A driver's time: on the clock, `answer_by` ends its waiting and copying, `ends_at` every call
    it makes. `tells` says whether it may spend time on calling owners' webhooks."""

    owner: str
    answer_by: float
    ends_at: float
    listener: Listener = ignore
    tells: bool = False

    def lease(self, clock: Clock, now: datetime) -> Lease:
        """A lease that nobody can outlive: it ends after everything this driver may still do."""
        left_s = max(0.0, self.ends_at - clock()) + LEASE_AFTER_S
        return Lease(self.owner, now + timedelta(seconds=left_s))


def turn_of(
    platform: Platform,
    clock: Clock,
    *,
    owner: str,
    answer_by: float,
    listener: Listener = ignore,
    tells: bool = False,
) -> Turn:
    """The turn of whoever answers a request of this platform."""
    ends_at = platform.ends_at if platform.ends_at is not None else clock() + SERVER_TURN_S
    return Turn(owner, min(answer_by, ends_at), ends_at, listener, tells)


class Stages:
    """Tells the listener what fal's statuses say and remembers when each stage began."""

    def __init__(self, clock: Clock, listener: Listener) -> None:
        self._clock = clock
        self._listener = listener
        self._submitted = clock()
        self._started: float | None = None
        self._completed: float | None = None
        self._inference_s: float | None = None

    def hear(self, status: Status) -> None:
        now = self._clock()
        age_ms = milliseconds(now - self._submitted)
        if status.state == "IN_QUEUE":
            self._started = None  # fal starts over after a runner was lost
            self._listener("queued", {"position": status.position, "ageMs": age_ms})
            return
        self._started = self._started or now
        for log in status.logs:
            facts = {name: log.get(name) for name in ("message", "timestamp", "level")}
            self._listener("progress", facts)
        if status.is_completed:
            self._completed, self._inference_s = now, status.inference_s

    def timings_ms(self) -> dict[str, int]:
        started = self._started or self._submitted
        completed = self._completed or started
        inference_s = self._inference_s or completed - started
        return {
            "queue": milliseconds(max(0.0, completed - self._submitted - inference_s)),
            "inference": milliseconds(inference_s),
        }


class Overheard:
    """A listener that keeps what fal said last, for an answer that shows it."""

    def __init__(self) -> None:
        self._position: int | None = None
        self._logs: list[dict[str, object]] = []

    def __call__(self, name: str, facts: dict[str, object]) -> None:
        if name == "queued":
            position = facts["position"]
            self._position = position if isinstance(position, int) else None
        elif name == "progress":
            self._position = None
            self._logs.append(facts)

    def progress(self) -> Progress:
        return Progress(self._position, tuple(self._logs))


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

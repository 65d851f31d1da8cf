"""The queue: where each job stands, computed from the clock, and who waits for it to move.

Knows states, positions, logs, cancelling, giving up and how long a result is kept. No thread runs
a job: its times are fixed when it is taken, or when its inputs have come if that is later, and
whoever asks compares them with the clock. Refuses to know HTTP, fetching and drawing.

    created ──queue_s──> starts ──run_s──> ends
    IN_QUEUE             IN_PROGRESS       COMPLETED
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Literal

from .models import Endpoint, Order, Outcome, platform_error

State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]

MAX_JOBS = 10_000  # the oldest are forgotten
LOG_LINES = 4
NEVER = math.inf
LONGEST_WAIT_S = 3600.0  # nobody can wait for NEVER
LOOK_S = 0.02  # a clock that is moved by hand tells nobody
RETENTION_S = 3600.0  # of a result, after its job has ended (inference API reference)
LARGE_RETENTION_S = 360.0
LARGE_BYTES = 10_000  # "10 KB" there

Clock = Callable[[], float]

CANCELLED = platform_error(499, "client_cancelled", "Request was cancelled by the client")
TIMED_OUT = platform_error(
    504,
    "request_timeout",
    "Request did not start in the time that its caller allowed",
    {"x-fal-request-timeout-type": "user"},
)


@dataclass(eq=False)
class Job:
    """One taken request. Times are seconds of the queue's clock; they change under Queue.moved.

    `via` is the door it came in by. A job without its inputs does not end, however long it runs.
    `verdict` ends it without a run of the model. `has_expired` says that its result is gone.
    """

    order: Order
    endpoint: Endpoint
    via: Literal["queue", "run", "stream", "realtime"]
    run_s: float
    created_at: float
    has_inputs: bool = True
    webhook_url: str | None = None
    gives_up_at: float = NEVER
    starts_at: float = NEVER
    ends_at: float = NEVER
    is_cancelled: bool = False
    has_expired: bool = False
    verdict: Outcome | None = None
    outcome: Outcome | None = None
    webhook_answers: list[int | str] = field(default_factory=list)
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    born: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def schedule(self, starts_at: float) -> None:
        """Fix when the job runs, or that its caller will have given up by then."""
        self.starts_at = starts_at
        self.ends_at = starts_at + self.run_s if self.has_inputs else NEVER
        if starts_at > self.gives_up_at:
            self._end(max(self.gives_up_at, self.created_at), TIMED_OUT)

    def supply(self, order: Order, now: float) -> None:
        """The inputs have come, or turned out to be bad, which ends the job at once."""
        self.order, self.has_inputs = order, True
        if self.verdict is None:
            runs_until = now if order.errors else self.starts_at + self.run_s
            self.ends_at = max(now, runs_until)

    def cancel(self, now: float) -> bool:
        """False if it had ended."""
        state = self.state(now)
        if state == "COMPLETED":
            return False
        self.is_cancelled = True
        self._end(now, CANCELLED)
        return True

    def state(self, now: float) -> State:
        if now >= self.ends_at:
            return "COMPLETED"
        return "IN_PROGRESS" if now >= self.starts_at else "IN_QUEUE"

    def log(self, now: float) -> list[dict[str, str]]:
        """fal's log entries so far: one line for each quarter of the run."""
        return [
            {
                "message": f"{100 * line // LOG_LINES}%",
                "timestamp": self._written(at),
                "level": "STDERR",
                "source": "USER",
            }
            for line, at in enumerate(self.log_times(), start=1)
            if at <= min(now, self.ends_at)
        ]

    def log_times(self) -> list[float]:
        return [self.starts_at + self.run_s * line / LOG_LINES for line in range(1, LOG_LINES + 1)]

    def _end(self, at: float, verdict: Outcome) -> None:
        if at < self.starts_at:
            self.starts_at = NEVER
        self.ends_at, self.verdict = at, verdict

    def _written(self, at: float) -> str:
        moment = self.born + timedelta(seconds=at - self.created_at)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class View:
    """What fal says of a job at one moment; `log` is None unless it was asked for."""

    state: State
    position: int | None
    log: list[dict[str, str]] | None


class Queue:
    """All jobs, by request id. `complete` makes a finished job's outcome, once."""

    def __init__(self, complete: Callable[[Job], Outcome], clock: Clock) -> None:
        self.now = clock
        self._longest_wait_s = LONGEST_WAIT_S if clock is time.monotonic else LOOK_S
        lock = threading.RLock()
        self.moved = threading.Condition(lock)
        self._ends_moved = threading.Condition(lock)
        self._complete = complete
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: list[Job] = []
        self._expected: set[Job] = set()
        self._ends: list[tuple[float, int, Job]] = []  # a heap; a job may be in it twice
        self._counter = itertools.count()
        self._is_stopped = False

    def take(self, job: Job, *, queue_s: float) -> None:
        with self.moved:
            job.schedule(job.created_at + queue_s)
            self._jobs[job.request_id] = job
            if job.state(self.now()) == "IN_QUEUE":
                self._waiting.append(job)
            if len(self._jobs) > MAX_JOBS:
                self._jobs.popitem(last=False)

    def find(self, request_id: str, app: str) -> Job | None:
        with self.moved:
            job = self._jobs.get(request_id)
        return job if job is not None and job.endpoint.app == app else None

    def jobs(self) -> list[Job]:
        with self.moved:
            return list(self._jobs.values())

    def waiting(self, app: str) -> int:
        with self.moved:
            return len(self._ahead(app, self.now()))

    def view(self, job: Job, *, with_log: bool) -> View:
        with self.moved:
            return self._view(job, self.now(), with_log=with_log)

    def supply(self, job: Job, order: Order) -> None:
        """What the job works on is known from now on."""
        with self.moved:
            job.supply(order, self.now())
            self._look_for_end(job)
            self.moved.notify_all()

    def cancel(self, job: Job) -> bool:
        """False if it had ended."""
        with self.moved:
            is_cancelled = job.cancel(self.now())
            self._look_for_end(job)
            self.moved.notify_all()
            return is_cancelled

    def requeue(self, job: Job, wait_s: float) -> None:
        """A running job waits again, as after a runner's failure; one that has ended stays so."""
        with self.moved:
            now = self.now()
            if job.state(now) == "IN_PROGRESS":
                self._waiting = [*(other for other in self._waiting if other is not job), job]
                job.schedule(now + wait_s)
                self._look_for_end(job)
                self.moved.notify_all()

    def outcome(self, job: Job) -> Outcome | None:
        """How the job ended, None if it has not."""
        with self.moved:
            if job.state(self.now()) != "COMPLETED":
                return None
            if job.outcome is None:
                job.outcome = job.verdict or self._complete(job)
            return job.outcome

    def keeps_result(self, job: Job, size_bytes: Callable[[], int]) -> bool:
        """Whether the result of a job that has ended is still there; large ones go earlier.

        `size_bytes` is asked only where it matters, because it may have pictures drawn.
        """
        with self.moved:
            age_s = self.now() - job.ends_at
        if not job.has_expired and age_s > LARGE_RETENTION_S:
            job.has_expired = age_s > RETENTION_S or size_bytes() >= LARGE_BYTES
        return not job.has_expired

    def wait(self, job: Job) -> Outcome | None:
        """Block until the job has ended; None if the emulator stops first."""
        with self.moved:
            while not self._is_stopped:
                outcome = self.outcome(job)
                if outcome is not None:
                    return outcome
                self._pause_until(job.ends_at)
        return None

    def expect(self, job: Job) -> None:
        """Let `ended` tell of this job."""
        with self.moved:
            self._expected.add(job)
            self._look_for_end(job)

    def ended(self) -> Iterator[Job]:
        """The jobs that are expected, each as soon as it has ended, until the emulator stops."""
        while True:
            with self.moved:
                while (job := self._next_ended()) is None and not self._is_stopped:
                    at = self._ends[0][0] if self._ends else NEVER
                    self._ends_moved.wait(self._pause_s(at) if self._ends else None)
                if job is None or self._is_stopped:
                    return
            yield job

    def wait_to_run(self, job: Job) -> bool:
        """Block until the job runs; False if it ends before that, or the emulator stops."""
        with self.moved:
            while not self._is_stopped:
                state = job.state(self.now())
                if state != "IN_QUEUE":
                    return state == "IN_PROGRESS"
                self._pause_until(min(job.starts_at, job.ends_at))
        return False

    def wait_for_inputs(self, job: Job) -> bool:
        """Block until the job has its inputs; False if the emulator stops first."""
        with self.moved:
            while not self._is_stopped and not job.has_inputs:
                self._pause_until(NEVER)
            return not self._is_stopped

    def sleep_until(self, at: float) -> bool:
        """False if the emulator stops first."""
        with self.moved:
            while not self._is_stopped and at > self.now():
                self._pause_until(at)
            return not self._is_stopped

    def watch(
        self,
        job: Job,
        *,
        with_log: bool,
        comment_s: float,
        seen_running: Callable[[], float | None],
    ) -> Iterator[View | None]:
        """A view at each change until the job has ended; None after `comment_s` of silence.

        A view's log holds new entries only. `seen_running` is asked after each view of a running
        job and may send it back to the queue for that many seconds.
        """
        last, logged, spoke_at = None, 0, self.now()
        while True:
            with self.moved:
                now = self.now()
                view = self._view(job, now, with_log=with_log)
                fresh = (view.log or [])[logged:]
                is_news = bool(fresh) or (view.state, view.position) != last
                if self._is_stopped:
                    return
                if not is_news and now < spoke_at + comment_s:
                    change_at = self._next_change(job, now, with_log=with_log)
                    self._pause_until(min(change_at, spoke_at + comment_s))
                    continue
            spoke_at = now
            if not is_news:
                yield None
                continue
            last, logged = (view.state, view.position), logged + len(fresh)
            yield View(view.state, view.position, fresh if with_log else None)
            if view.state == "COMPLETED":
                return
            again_s = seen_running() if view.state == "IN_PROGRESS" else None
            if again_s is not None:
                self.requeue(job, again_s)
                logged = 0

    def stop(self) -> None:
        """Ends everybody's waiting."""
        with self.moved:
            self._is_stopped = True
            self.moved.notify_all()
            self._ends_moved.notify_all()

    def _pause_until(self, at: float) -> None:
        """Until then, or until something moves."""
        self.moved.wait(self._pause_s(at))

    def _pause_s(self, at: float) -> float:
        return max(0.0, min(at - self.now(), self._longest_wait_s))

    def _look_for_end(self, job: Job) -> None:
        """A job is new or ends at another time. Only who waits for the first end is woken."""
        if job in self._expected and job.ends_at < NEVER:
            heapq.heappush(self._ends, (job.ends_at, next(self._counter), job))
            if self._ends[0][2] is job:
                self._ends_moved.notify()

    def _next_ended(self) -> Job | None:
        now = self.now()
        while self._ends and self._ends[0][0] <= now:
            job = heapq.heappop(self._ends)[2]
            if job in self._expected and job.state(now) == "COMPLETED":
                self._expected.remove(job)
                return job
        return None

    def _view(self, job: Job, now: float, *, with_log: bool) -> View:
        state = job.state(now)
        position = self._ahead(job.endpoint.app, now).index(job) if state == "IN_QUEUE" else None
        return View(state, position, job.log(now) if with_log else None)

    def _ahead(self, app: str, now: float) -> list[Job]:
        self._waiting = [job for job in self._waiting if job.state(now) == "IN_QUEUE"]
        return [job for job in self._waiting if job.endpoint.app == app]

    def _next_change(self, job: Job, now: float, *, with_log: bool) -> float:
        moments = [job.starts_at, job.ends_at]
        if job.state(now) == "IN_QUEUE":
            moments += [other.starts_at for other in self._ahead(job.endpoint.app, now)]
        if with_log:
            moments += job.log_times()
        return min((at for at in moments if at > now), default=job.ends_at)

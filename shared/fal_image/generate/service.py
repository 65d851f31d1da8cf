"""The main job: an order becomes a paid request at fal, stored pictures and a finished Job.

Everything that can be refused is refused before money is spent. The job's document exists before
the submit; with a database it outlives the request, and every driver goes on with it. Refuses to
know HTTP and how callers prove who they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from ..database.memory import MemoryDatabase
from ..errors import (
    AppError,
    DatabaseRequired,
    DatabaseUnavailable,
    DeadlineExceeded,
    IdempotencyConflict,
    JobFinished,
    ModelNotAllowed,
    NotFound,
    Unauthorized,
)
from ..fal.webhooks import Delivery
from ..inputs import Order, field_error
from ..jobs import (
    ID,
    ID_BYTES,
    Cost,
    Job,
    JobWarning,
    Notice,
    State,
    base32,
    derived_id,
    new_job_id,
)
from ..jobs.documents import abbreviated, input_sha256
from ..jobs.events import CancelAsked
from ..ledger import Budgets, Ledger, Worst
from ..tickets import Ticket
from ..treatment import Label, Level, Treatment
from ..wire import Clock
from . import outcomes
from .orders import Orders, estimate_usd_micro, images_asked, is_allowed
from .steps import CANCEL_TIME_S, Steps
from .turns import LEASE_AFTER_S, SUBMIT_LEASE_S, Turn

MIN_TIME_S = 1.0  # with less left, nothing is sent to fal
MAX_REUSE_TRIES = 20  # failed jobs of one reusable input that are followed by another
NO_CALLER = "owner"  # the command line acts for the owner


class Wish(Struct, frozen=True):
    """How a caller wants an order to be carried out.

    With a `job_id` the order is one intent: it is paid once, however often it comes. `public_url`
    is where fal reaches us. Who `waits` does so until `wait_by` on the clock, or the turn is over.
    `headers` go to fal's queue with the submit. Without `keeps_images` the pictures stay at fal.
    What a `ticket` allows is taken from it, and its maker pays.
    """

    caller: str | None = None
    job_id: str | None = None
    notice_url: str | None = None
    public_url: str | None = None
    waits: bool = True
    wait_by: float = math.inf
    batch_id: str | None = None
    row: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keeps_images: bool = True
    ticket: Ticket | None = None


class Generator(Struct, frozen=True):
    orders: Orders
    steps: Steps
    clock: Clock
    now: Callable[[], datetime]
    randomness: Callable[[int], bytes]
    ai_label: Level = "off"

    def checked(self, order: Order) -> Order:
        """The order as it will be sent, but for its input pictures. Raises before any money."""
        return self.orders.checked(order)

    def generate(self, order: Order, turn: Turn, wish: Wish = Wish()) -> Job:
        """Pay fal for one job and, if the wish is to wait, store its pictures.

        With a database the job may still be open when the answer is due; it then goes on. Without,
        the job is done, or the error says what was paid for and where it still is. Raises
        AppError; it says `retryable` only if nothing can have been paid.
        """
        order = self.checked(order)
        if order.reuse:
            wish = replace(wish, job_id=self._reusable_id(order, wish))
        waiting = replace(turn, answer_by=min(turn.answer_by, wish.wait_by))
        if not self.steps.is_durable:
            return self._at_once(order, waiting, wish)
        job, arguments = self.begin(order, turn, wish)
        if arguments is not None:
            job = self.steps.submit(job, arguments, turn, wish.headers)
        if wish.waits:
            with suppress(DatabaseUnavailable):  # fal has the job: no reason to send it again
                job = self.steps.wait(job, waiting)
        if order.reuse and arguments is None:
            job = replace(job, cached=True, max_age_s=order.max_age_s)
        return self.presented(job)

    def start(self, order: Order, turn: Turn, wish: Wish) -> Job:
        """Submit a checked order, or find the job that it already is. See `generate`."""
        job, arguments = self.begin(order, turn, wish)
        return job if arguments is None else self.steps.submit(job, arguments, turn, wish.headers)

    def begin(self, order: Order, turn: Turn, wish: Wish) -> tuple[Job, dict[str, object] | None]:
        """Make the job of a checked order, `submitting` under this turn's lease, for the caller to
        send with what is given beside it; None there: it is a job that was made before."""
        self.steps.assets.warm()
        models = wish.ticket.models if wish.ticket else None
        if models is not None and not is_allowed(order.model, models):
            raise ModelNotAllowed(f"the ticket does not allow the model {order.model}")
        existing = self._existing(order, wish)
        if existing is not None:
            return existing, None
        self.steps.uploads.check_watermark(order.transforms, wish.caller)
        arguments = self.steps.uploads.readable(
            order.arguments, wish.caller, ends_at=turn.answer_by
        )
        self._refuse_too_late(turn)
        job, is_new = self._created(order, wish, "submitting", turn)
        return job, arguments if is_new else None

    def queue(self, order: Order, wish: Wish) -> Job:
        """Keep a job that somebody else begins: its document is `new`. See `generate`."""
        return self._created(order, wish, "new", None)[0]

    def poll(self, job_id: str, caller: str | None, turn: Turn) -> Job:
        """A caller's own job, after doing whatever can be done for it now. Raises NotFound."""
        job = self._own(job_id, caller)
        return self.presented(self.steps.advance(job, turn))

    def find(self, job_id: str, caller: str | None) -> Job:
        """A caller's own job as it is. Raises NotFound."""
        return self.presented(self._own(job_id, caller))

    def cancel(self, job_id: str, caller: str | None, turn: Turn) -> Job:
        """Ask fal to drop a job; what becomes of it is for fal to say.

        Raises NotFound, and JobFinished once its pictures are there or on their way.
        """
        job = self._own(job_id, caller)
        if job.state in ("storing", "done", "failed", "cancelled") or job.outcome is not None:
            raise JobFinished(f"the job is {job.state}")
        job = self.steps.records.apply(job, CancelAsked(self.now()))
        return self.presented(self.steps.advance(job, turn))

    def hear(self, job_id: str, delivery: Delivery, turn: Turn) -> Job:
        """Write down what a webhook says, before anything else is done about it.

        Raises NotFound, Unauthorized if it speaks of another request, DatabaseUnavailable.
        """
        job = self.steps.records.load(job_id)
        if job.fal_request_id not in (None, delivery.request_id):
            raise Unauthorized("the webhook is of another request")
        outcome = outcomes.of_delivery(delivery, job.model)
        return self.steps.note(job, delivery.request_id, outcome, turn)

    def presented(self, job: Job) -> Job:
        """The job with links to its pictures, and a warning where there should be one."""
        images = self.steps.assets.signed(job.images, job.max_age_s)
        unsigned = [
            str(image.index) for image in images if image.url is None and not image.withheld
        ]
        if not unsigned:
            return replace(job, images=images)
        text = f"No link could be signed for image {', '.join(unsigned)}; ask POST /links later."
        warning = JobWarning("link_failed", text)
        return replace(job, images=images, warnings=(warning, *job.warnings))

    def intended_id(self, secrets: tuple[str, ...], *intent: str) -> str:
        """The id of the job that an intent leads to. While secrets rotate, the job may have been
        made under the older one. Raises DatabaseRequired, DatabaseUnavailable."""
        if not self.steps.is_durable:
            raise DatabaseRequired("Idempotency-Key needs a database")
        ids = [derived_id(secret, *intent) for secret in secrets]
        known = self.steps.records.find_many(ids[1:]) if len(ids) > 1 else []
        return known[0].job_id if known else ids[0]

    def in_memory(self) -> Generator:
        """This one with jobs that live as long as it does: what there is without a database."""
        memory = MemoryDatabase()
        steps = dataclasses.replace(
            self.steps,
            records=replace(self.steps.records, database=lambda: memory),
            ledger=Ledger(lambda: memory, Budgets(), self.now),
        )
        return replace(self, steps=steps)

    def adopted(self, model: str, request_id: str, caller: str, *, keeps_images: bool) -> Job:
        """A job for a request that fal has and of which nothing was kept: for one in memory.

        Its id is of the request: what is stored of it has one name on each day.
        """
        now = self.now()
        digest = hashlib.sha256(request_id.encode()).digest()[:ID_BYTES]
        job = Job(
            job_id=base32(digest),
            model=model,
            created_at=now,
            updated_at=now,
            caller=caller,
            state="submitted",
            fal_request_id=request_id,
            settled=True,
            keeps_images=keeps_images,
            treatment=Treatment(label=Label.of(self.ai_label, None)),
        )
        return self.steps.records.create(job) or self.steps.records.load(job.job_id)

    def _at_once(self, order: Order, turn: Turn, wish: Wish) -> Job:
        """Without a database the job lives as long as this call, so its failure is an error."""
        own = self.in_memory()
        job, arguments = own.begin(order, turn, wish)
        try:
            job = own.steps.wait(own.steps.submit(job, arguments or {}, turn, wish.headers), turn)
        except KeyboardInterrupt:
            job = own.steps.records.load(job.job_id)
            if job.fal_request_id is not None:
                ends_at = self.clock() + CANCEL_TIME_S
                own.steps.fal.cancel(job.model, job.fal_request_id, ends_at=ends_at)
            raise
        if job.fault is not None and job.is_over:
            raise job.fault.error()
        if job.state != "done":
            raise own.out_of_time(job)
        return own.presented(job)

    def out_of_time(self, job: Job) -> DeadlineExceeded:
        """The error for a job that nobody could ask about later: it is cancelled at fal, unless fal
        was faster."""
        error = DeadlineExceeded("fal was still working when the time for the answer ran out")
        outcome = self.steps.withdraw(job)
        error.adding(falRequestId=job.fal_request_id)
        if outcome is not None:
            outcomes.tell_urls(error, outcome.sources, self.steps.hooks)
        return error

    def _refuse_too_late(self, turn: Turn) -> None:
        """A job that is kept need not be waited for, but its submit must fit into the lease."""
        now = self.clock()
        if self.steps.is_durable:
            is_late = now >= turn.answer_by or turn.ends_at - now + LEASE_AFTER_S < SUBMIT_LEASE_S
        else:
            is_late = turn.answer_by - now < MIN_TIME_S
        if is_late:
            raise DeadlineExceeded(
                "too little time is left to ask fal",
                hint="Nothing was sent to fal: allow the request more time and send it again.",
                retryable=True,
            )

    def _treatment(self, order: Order) -> Treatment:
        return Treatment(order.transforms, Label.of(self.ai_label, order.label))

    def _reusable_id(self, order: Order, wish: Wish) -> str:
        """The id of the job that all equal requests of a caller share. A job that failed, was
        cancelled or lost its pictures has nothing to reuse, and makes room for another."""
        if not self.steps.is_durable:
            raise DatabaseRequired("reuse needs a database")
        if wish.job_id is not None:
            raise field_error("reuse", "makes a key of its own: leave Idempotency-Key out")
        if wish.notice_url is not None:
            raise field_error("reuse", "and webhookUrl exclude each other: there may be no job")
        if not isinstance(order.arguments.get("seed"), int):
            raise field_error("reuse", "needs a seed: without one each picture is another")
        treatment = msgspec.to_builtins(self._treatment(order))
        intent = ("reuse", wish.caller or "", input_sha256(order.model, order.arguments, treatment))
        for attempt in range(MAX_REUSE_TRIES):
            job_id = self.intended_id(self.steps.secrets, *intent, str(attempt))
            job = self.steps.records.find(job_id)
            if job is None or self._is_of_use(job):
                break
        return job_id

    def _is_of_use(self, job: Job) -> bool:
        """Whether a request may share the job: it still goes on, or its pictures are there."""
        if job.state == "done":
            return self.steps.assets.has_all(job.images)
        return job.state not in ("failed", "cancelled")

    def _existing(self, order: Order, wish: Wish) -> Job | None:
        if wish.job_id is None or wish.batch_id is not None:
            return None  # a row of a batch finds its job by creating it
        job = self.steps.records.find(wish.job_id)
        return self._same(job, order, wish) if job else None

    def _same(self, job: Job, order: Order, wish: Wish) -> Job:
        if order.reuse:  # its id is made of all that it wants
            return job
        if job.input_sha256 != _fingerprint(order, wish):
            raise IdempotencyConflict("the Idempotency-Key was used for another request")
        return job

    def _created(
        self, order: Order, wish: Wish, state: State, turn: Turn | None
    ) -> tuple[Job, bool]:
        """A new job and True, or the one that a twin made first and False."""
        now = self.now()
        job_id = wish.job_id or new_job_id(now, self.randomness(16))
        estimate = estimate_usd_micro(order)
        job = Job(
            job_id=job_id,
            model=order.model,
            created_at=now,
            updated_at=now,
            arguments=abbreviated(order.arguments),
            caller=wish.caller,
            state=state,
            begun_at=now if turn else None,
            lease=turn.lease(self.clock, now) if turn else None,
            cost=Cost(estimate_usd_micro=estimate),
            input_sha256=_fingerprint(order, wish),
            max_age_s=order.max_age_s,
            public_url=wish.public_url,
            notice=Notice(wish.notice_url) if wish.notice_url else None,
            batch_id=wish.batch_id,
            row=wish.row,
            keeps_images=wish.keeps_images,
            treatment=self._treatment(order),
        )
        self.steps.records.check(job)
        payer = wish.ticket.caller if wish.ticket else wish.caller or NO_CALLER
        worst = Worst(estimate, images_asked(order))
        reservations = self.steps.ledger.reserve(payer, _purse(job, wish), worst, wish.ticket)
        created = self.steps.records.create(replace(job, reservations=reservations))
        if created is not None:
            return created, True
        twin = self.steps.records.load(job_id)
        shared = set() if twin.settled else {(one.counter, one.key) for one in twin.reservations}
        nobodys = tuple(one for one in reservations if (one.counter, one.key) not in shared)
        self.steps.ledger.give_back(job_id, nobodys)
        return self._same(twin, order, wish), False

    def _own(self, job_id: str, caller: str | None) -> Job:
        if not self.steps.is_durable:
            raise DatabaseRequired("jobs are kept in a database only")
        if not ID.fullmatch(job_id):
            raise NotFound("no such job")
        job = self.steps.records.load(job_id)
        if job.caller != caller:
            raise NotFound("no such job")
        return job


def _purse(job: Job, wish: Wish) -> str:
    """What a job's reservations are open under. An Idempotency-Key may come twice at once, with
    another input or another ticket: each has its own, or one would pay for the other."""
    if wish.job_id is None or wish.batch_id is not None:
        return job.job_id
    ticket_id = wish.ticket.id if wish.ticket else ""
    return f"{job.job_id}-{input_sha256(job.input_sha256 or '', {}, ticket_id)[:16]}"


def _fingerprint(order: Order, wish: Wish) -> str:
    """Of what the caller asked for: what the owner adds to it may change meanwhile."""
    ours = [one for one in (order.transforms, order.label) if one is not None]
    return input_sha256(
        order.model, order.arguments, wish.notice_url, *(msgspec.to_builtins(one) for one in ours)
    )


def failure_of(job: Job) -> AppError | None:
    """The error that a job ended with, for whoever waited for its pictures."""
    if job.state != "failed" or job.fault is None:
        return None
    return job.fault.error().adding(jobId=job.job_id)

"""The main job: an order becomes a paid request at fal, stored pictures and a finished Job.

Order of things: everything that can be refused is refused before money is spent; the storage opens
while fal works; once fal may have taken the job, every error says what was paid for and where it
still is. Refuses to know HTTP and who asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from .assets import Assets, Kept
from .errors import (
    AppError,
    DeadlineExceeded,
    FalAuthFailed,
    InvalidInput,
    MissingPrompt,
    ModelNotAllowed,
    NoImageReturned,
)
from .fal import catalog, outputs
from .fal.client import Fal, Outcome, OutOfTime, Status
from .inputs import Order
from .jobs import Cost, Image, Job, JobWarning, new_job_id
from .uploads import Uploads
from .wire import Clock

DEFAULT_IMAGE_SIZE = "landscape_16_9"  # the recipe's
MIN_TIME_S = 1.0  # with less left, nothing is sent to fal
CANCEL_TIME_S = 0.75  # spent twice at most, inside the 2 s kept back for the answer

# What happens while a job runs: a name ("queued", "progress", "image") and its facts.
Listener = Callable[[str, dict[str, object]], None]


def ignore(name: str, facts: dict[str, object]) -> None:
    """A listener for whoever only wants the end."""


@dataclass(frozen=True)
class Generator:
    fal: Fal
    assets: Assets
    uploads: Uploads
    allowed_models: tuple[str, ...]
    clock: Clock
    now: Callable[[], datetime]
    randomness: Callable[[int], bytes]

    def generate(
        self,
        order: Order,
        *,
        ends_at: float,
        caller: str | None = None,
        listener: Listener = ignore,
    ) -> Job:
        """Pay fal for one job, wait for it, store its pictures and return the finished job.

        `ends_at` is when the answer must be ready, on `clock`; uploads of `caller` may be inputs.
        Raises AppError; it says `retryable` only if nothing can have been paid.
        """
        order = self.checked(order)
        self.assets.warm()
        arguments = self.uploads.readable(order.arguments, caller, ends_at=ends_at)
        if ends_at - self.clock() < MIN_TIME_S:
            raise DeadlineExceeded("too little time is left to ask fal", retryable=True)
        began, created_at = self.clock(), self.now()
        job = Job(
            job_id=new_job_id(created_at, self.randomness(16)),
            model=order.model,
            prompt=order.prompt,
            created_at=created_at,
            updated_at=created_at,
            cost=Cost(estimate_usd_micro=_estimate(order)),
        )
        stages = _Stages(self.clock)
        request_id = self.fal.submit(order.model, arguments, ends_at=ends_at)
        outcome = self._outcome(order.model, request_id, ends_at, stages.heard(listener))
        done = self._stored(job, order, request_id, outcome, ends_at, listener)
        finished_at = self.now()
        timings = stages.timings_ms() | done.timings_ms | {"total": _ms(self.clock() - began)}
        return replace(
            done,
            state="done",
            updated_at=finished_at,
            finished_at=finished_at,
            timings_ms=timings,
        )

    def checked(self, order: Order) -> Order:
        """The order as it will be sent, but for its input pictures. Raises before any money."""
        model = catalog.find(order.model)
        if not is_allowed(order.model, self.allowed_models):
            raise ModelNotAllowed(f"the model {order.model} is not allowed here")
        needs_prompt = model is None or _requires(model, "prompt")
        if needs_prompt and order.prompt is None:
            raise MissingPrompt('"prompt" is absent, blank or not a string')
        if not self.fal.key:
            raise FalAuthFailed("FAL_KEY is not set")
        if model is None:
            return order
        if model.kind == "text-to-image" and "image_size" in model.fields:
            sized = {"image_size": DEFAULT_IMAGE_SIZE, **order.arguments}
            if sized["image_size"] is None:
                sized["image_size"] = DEFAULT_IMAGE_SIZE
            order = replace(order, arguments=sized)
        problems = catalog.check(model, order.arguments)
        if problems:
            fields = [
                {"field": ".".join(str(part) for part in problem.loc), "message": problem.msg}
                for problem in problems
            ]
            first = fields[0]
            raise InvalidInput(f"{first['field']}: {first['message']}", fields=fields)
        return order

    def _outcome(
        self, model: str, request_id: str, ends_at: float, on_status: Callable[[Status], None]
    ) -> Outcome:
        try:
            self.fal.wait(model, request_id, ends_at=ends_at, on_status=on_status)
            return self.fal.result(model, request_id, ends_at=ends_at)
        except OutOfTime:
            raise self._out_of_time(model, request_id) from None
        except AppError as error:
            raise error.adding(falRequestId=request_id) from None
        except KeyboardInterrupt:
            self.fal.cancel(model, request_id, ends_at=self.clock() + CANCEL_TIME_S)
            raise

    def _out_of_time(self, model: str, request_id: str) -> DeadlineExceeded:
        """Without a database nobody could fetch the result later: cancel, unless fal was faster."""
        facts: dict[str, object] = {"falRequestId": request_id}
        if self.fal.cancel(model, request_id, ends_at=self.clock() + CANCEL_TIME_S):
            try:
                outcome = self.fal.result(model, request_id, ends_at=self.clock() + CANCEL_TIME_S)
                facts["sourceUrls"] = _urls(outputs.sources(outcome.payload))
            except (AppError, OutOfTime):
                facts["sourceUrls"] = []
        error = DeadlineExceeded("fal was still working when the time for the answer ran out")
        return error.adding(**facts)

    def _stored(
        self,
        job: Job,
        order: Order,
        request_id: str,
        outcome: Outcome,
        ends_at: float,
        listener: Listener,
    ) -> Job:
        job = replace(
            job,
            fal_request_id=request_id,
            seed=outputs.seed(outcome.payload),
            cost=replace(
                job.cost,
                billable_units=outcome.billable_units,
                actual_usd_micro=_actual(order.model, outcome.billable_units),
            ),
        )
        sources = outputs.sources(outcome.payload)
        if sources is None:
            warning = JobWarning("not_pictures", "The output names no pictures; see `output`.")
            return replace(job, output=outcome.payload, warnings=(warning,))
        if not sources:
            raise NoImageReturned("fal finished without a picture", falRequestId=request_id)
        try:
            kept = self.assets.keep(
                sources,
                job.job_id,
                job.created_at,
                ends_at=ends_at,
                max_age_s=order.max_age_s,
                on_image=lambda image: listener("image", image.to_json()),
            )
        except AppError as error:
            raise error.adding(falRequestId=request_id, sourceUrls=_urls(sources)) from None
        images = tuple(one.image for one in kept)
        return replace(
            job, images=images, warnings=_warnings(images), timings_ms=_copy_timings(kept)
        )


def is_allowed(model: str, globs: tuple[str, ...]) -> bool:
    """Whether a model id matches one of the globs: `*` stops at a slash, `**` does not."""
    return any(_pattern(glob).fullmatch(model) for glob in globs)


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", glob)
    wild = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts))


class _Stages:
    """Tells the listener what fal's statuses say and remembers when each stage began."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._submitted = clock()
        self._started: float | None = None
        self._completed: float | None = None
        self._inference_s: float | None = None

    def heard(self, listener: Listener) -> Callable[[Status], None]:
        def on_status(status: Status) -> None:
            now = self._clock()
            age_ms = _ms(now - self._submitted)
            if status.state == "IN_QUEUE":
                self._started = None  # fal starts over after a runner was lost
                listener("queued", {"position": status.position, "ageMs": age_ms})
                return
            self._started = self._started or now
            for log in status.logs:
                facts = {"message": log.get("message"), "timestamp": log.get("timestamp")}
                listener("progress", facts)
            if status.is_completed:
                self._completed, self._inference_s = now, status.inference_s

        return on_status

    def timings_ms(self) -> dict[str, int]:
        started = self._started or self._submitted
        completed = self._completed or started
        inference_s = self._inference_s or completed - started
        return {
            "queue": _ms(max(0.0, completed - self._submitted - inference_s)),
            "inference": _ms(inference_s),
        }


def _requires(model: catalog.Model, field: str) -> bool:
    return field in model.fields and model.fields[field].required


def _estimate(order: Order) -> int | None:
    model = catalog.find(order.model)
    return None if model is None else catalog.estimate_micro_usd(model, order.arguments)


def _actual(model_id: str, units: float | None) -> int | None:
    """Units times the unit price, where one price covers every unit."""
    model = catalog.find(model_id)
    if units is None or model is None or model.price is None:
        return None
    if model.price.per == "first_megapixel":
        return None
    return round(float(model.price.usd) * units * 1_000_000)


def _warnings(images: tuple[Image, ...]) -> tuple[JobWarning, ...]:
    unsigned = [str(image.index) for image in images if image.url is None]
    flagged = [str(image.index) for image in images if image.nsfw]
    warnings = []
    if unsigned:
        text = f"No link could be signed for image {', '.join(unsigned)}; ask POST /links later."
        warnings.append(JobWarning("link_failed", text))
    if flagged:
        text = f"fal's safety checker flagged image {', '.join(flagged)}; it may be black."
        warnings.append(JobWarning("flagged", text))
    return tuple(warnings)


def _copy_timings(kept: list[Kept]) -> dict[str, int]:
    """The slowest of each half: the pictures are copied side by side."""
    return {
        "fetch": max(one.fetch_ms for one in kept),
        "store": max(one.store_ms for one in kept),
    }


def _urls(sources: tuple[outputs.Source, ...] | None) -> list[str]:
    return [source.url for source in sources or () if not source.url.startswith("data:")]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

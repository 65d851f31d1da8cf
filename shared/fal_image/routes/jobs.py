"""Making pictures and asking after them: `/generate` and `/jobs`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct, field

from ..batches import Batches
from ..drivers import Drivers
from ..errors import AppError, DatabaseRequired
from ..generate import Generator, Listener, Overheard, Turn, Wish, failure_of, ignore, turn_of
from ..inputs import field_error, parse_order
from ..jobs import Job, rfc3339
from ..logs import logger
from ..notices import Notices
from ..settings import Settings
from ..web import Event, Response, encode_comment, encode_event, json_response, problem
from ..wire import Clock
from .table import Call, Route, always, answer_by

RETRY_EARLY_S, RETRY_LATE_S = 1, 5
EARLY_S = 10  # how long a job counts as young
LOOK_EVERY_S = 0.5
COMMENT_EVERY_S = 15.0  # proxies drop a connection that is silent for longer
RECONNECT_MS = 2000
MAX_KEY_CHARS = 255

_WAIT = re.compile(r"wait=([0-9]{1,4})")
_EVENT_STREAM = ("content-type", "text/event-stream")
_NOT_KEPT = ("cache-control", "no-store")


class JobRoutes(Struct, frozen=True):
    settings: Settings
    generator: Generator
    drivers: Drivers
    notices: Notices
    clock: Clock
    sleep: Callable[[float], None]
    new_owner: Callable[[], str]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def table(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/", "ticket", self.generate, spends=always),
            Route("POST", "/generate", "ticket", self.generate, spends=always),
            Route("GET", "/jobs/{id}", "ticket", self.job),
            Route("DELETE", "/jobs/{id}", "ticket", self.cancel),
            Route("GET", "/jobs/{id}/events", "ticket", self.events),
        )

    def generate(self, call: Call) -> Response:
        order = parse_order(
            call.json(), default_model=self.settings.default_model, aliases=self.aliases
        )
        call.note(model=order.model, promptChars=len(order.prompt or ""))
        preference = _preference(call)
        if preference.is_async and not self.generator.steps.is_durable:
            raise DatabaseRequired("Prefer: respond-async needs a database")
        wish = Wish(
            caller=call.caller,
            job_id=intended_id(self.generator, self.settings, call, "generate"),
            notice_url=self._notice_url(order.webhook_url),
            public_url=public_url(self.settings, call),
            ticket=call.ticket,
            waits=not preference.is_async or preference.wait_s is not None,
            wait_by=math.inf if preference.wait_s is None else call.started_at + preference.wait_s,
        )
        job = self.generator.generate(order, self._turn(call), wish)
        call.note(jobId=job.job_id, falRequestId=job.fal_request_id, ms=job.timings_ms)
        failure = failure_of(job)
        if failure is not None:
            raise failure
        return self._answer(call, job, *preference.applied)

    def job(self, call: Call) -> Response:
        overheard = Overheard()
        turn = self._turn(call, listener=overheard)
        job = self.drivers.poll(call.params["id"], call.caller, turn)
        call.note(jobId=job.job_id, state=job.state)
        shown = job.to_json(call.request.platform.request_id, overheard.progress())
        return json_response(200, shown, _NOT_KEPT, *self._retry_after(job))

    def cancel(self, call: Call) -> Response:
        job = self.generator.cancel(call.params["id"], call.caller, self._turn(call))
        call.note(jobId=job.job_id, state=job.state)
        shown = job.to_json(call.request.platform.request_id)
        status = 200 if job.is_over and job.state != "unknown" else 202
        return json_response(status, shown, _NOT_KEPT, *self._retry_after(job))

    def events(self, call: Call) -> Response:
        """A job as it goes on, event by event; where answers are buffered, one look at it."""
        job_id, request_id = call.params["id"], call.request.platform.request_id
        telling = _Telling(request_id, self.generator.now)
        first = b"".join(telling.told(*self._look(call, job_id, telling)))
        call.note(jobId=job_id)
        if call.request.platform.name != "wsgi":
            first += b"retry: %d\n\n" % RECONNECT_MS
            return Response(200, first, (_EVENT_STREAM, _NOT_KEPT))
        followed = self._followed(call, job_id, telling, first)
        return Response(200, followed, (_EVENT_STREAM, _NOT_KEPT))

    def _followed(
        self, call: Call, job_id: str, telling: _Telling, first: bytes
    ) -> Iterator[bytes]:
        yield first
        turn, spoke_at = self._turn(call), self.clock()
        while not telling.is_over and self.clock() < turn.ends_at:
            self.sleep(LOOK_EVERY_S)
            try:
                news = b"".join(telling.told(*self._look(call, job_id, telling)))
            except AppError as error:
                logger.warning("a stream of events ends early: %s", error.detail)
                break
            if news:
                yield news
                spoke_at = self.clock()
            elif self.clock() - spoke_at >= COMMENT_EVERY_S:
                yield encode_comment("still here")
                spoke_at = self.clock()
        yield b"retry: %d\n\n" % RECONNECT_MS

    def _look(self, call: Call, job_id: str, telling: _Telling) -> tuple[Job, list[_Heard]]:
        """The job now, driven on, and what fal said meanwhile."""
        telling.begin()
        platform = call.request.platform
        turn = turn_of(
            platform,
            self.clock,
            owner=self.new_owner(),
            answer_by=answer_by(platform, self.clock(), self.settings.max_wait_s),
            listener=telling.hear,
        )
        return self.drivers.poll(job_id, call.caller, turn), telling.heard()

    def _turn(self, call: Call, *, listener: Listener = ignore) -> Turn:
        platform = call.request.platform
        return turn_of(
            platform,
            self.clock,
            owner=self.new_owner(),
            answer_by=answer_by(platform, call.started_at, self.settings.max_wait_s),
            listener=listener,
        )

    def _notice_url(self, url: str | None) -> str | None:
        if url is None:
            return None
        if not self.generator.steps.is_durable:
            raise DatabaseRequired("webhookUrl needs a database")
        return self.notices.check(url)

    def _answer(self, call: Call, job: Job, *applied: tuple[str, str]) -> Response:
        """200 with a job that is over, 202 with one that goes on or whose fate is open."""
        shown = job.to_json(call.request.platform.request_id)
        timing = ", ".join(f"{stage};dur={ms}" for stage, ms in job.timings_ms.items())
        headers = [_NOT_KEPT, *applied]
        if timing:
            headers.append(("server-timing", timing))
        if job.state in ("done", "cancelled"):
            return json_response(200, shown, *headers)
        place = f"{public_url(self.settings, call) or self.settings.base_path}/jobs/{job.job_id}"
        return json_response(202, shown, *headers, ("location", place), *self._retry_after(job))

    def _retry_after(self, job: Job) -> tuple[tuple[str, str], ...]:
        if job.is_over and job.state != "unknown":
            return ()
        age_s = (self.generator.now() - job.created_at).total_seconds()
        seconds = RETRY_EARLY_S if age_s < EARLY_S else RETRY_LATE_S
        return (("retry-after", str(seconds)),)


def intended_id(
    known: Generator | Batches, settings: Settings, call: Call, what: str
) -> str | None:
    """The id of what an Idempotency-Key means, None without one. Raises DatabaseRequired.

    `what` is asked for: a key may be used once for each.
    """
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARS:
        raise field_error("Idempotency-Key", f"must have 1 to {MAX_KEY_CHARS} characters")
    return known.intended_id(settings.secrets, what, call.caller or "", key)


def public_url(settings: Settings, call: Call) -> str | None:
    """Where this endpoint can be reached, by its owner's word or its gateway's."""
    return settings.public_url or call.request.platform.public_url


class _Preference(Struct, frozen=True):
    """What a caller prefers (RFC 7240): an answer at once, or after `wait_s` at the latest."""

    is_async: bool
    wait_s: int | None
    applied: tuple[tuple[str, str], ...]


def _preference(call: Call) -> _Preference:
    """Preferences that are not ours or not well formed are ignored, as RFC 7240 wants it."""
    is_async, wait_s, applied = False, None, []
    for part in (call.request.headers.get("prefer") or "").split(","):
        name = part.partition(";")[0].strip().lower()
        if name == "respond-async" and not is_async:
            is_async = True
            applied.append(name)
        elif wait_s is None and (found := _WAIT.fullmatch(name)):
            wait_s = int(found[1])
            applied.append(name)
    headers = (("preference-applied", ", ".join(applied)),) if applied else ()
    return _Preference(is_async, wait_s, headers)


# What fal said: the name of an event and its facts.
_Heard = tuple[str, dict[str, object]]


class _Telling:
    """What one listener of a job has been told, so that it is told the rest."""

    def __init__(self, request_id: str, now: Callable[[], datetime]) -> None:
        self._request_id = request_id
        self._now = now
        self._state: str | None = None
        self._logs_told = 0
        self._logs_heard = 0
        self._position: object = None
        self._heard: list[_Heard] = []
        self.is_over = False

    def begin(self) -> None:
        """fal is asked again: it repeats all it has said so far."""
        self._logs_heard, self._heard = 0, []

    def hear(self, name: str, facts: dict[str, object]) -> None:
        if name == "queued" and facts["position"] != self._position:
            self._position = facts["position"]
            self._heard.append((name, {"position": self._position}))
        elif name == "progress":
            self._logs_heard += 1
            if self._logs_heard > self._logs_told:
                self._logs_told = self._logs_heard
                told = {key: facts[key] for key in ("message", "timestamp")}
                self._heard.append((name, told))

    def heard(self) -> list[_Heard]:
        return self._heard

    def told(self, job: Job, heard: list[_Heard]) -> Iterator[bytes]:
        """The events that are new, each with the document's version as its id."""
        for name, facts in heard:
            age = {"ageMs": self._age_ms(job)} if name == "queued" else {}
            yield encode_event(_event(name, facts | age, job))
        if job.state == self._state:
            return
        self._state, self.is_over = job.state, job.is_over
        if not job.is_over:
            if not heard:
                yield encode_event(self._opening(job))
            return
        for image in job.images:
            yield encode_event(_event("image", image.to_json(), job))
        if job.fault is None:
            yield encode_event(_event("done", job.to_json(self._request_id), job))
        else:
            facts = problem(job.fault.error(), self._request_id) | {"jobId": job.job_id}
            yield encode_event(_event("error", facts, job))

    def _opening(self, job: Job) -> Event:
        """Where a job is of which fal says nothing now."""
        if job.state == "storing":
            at = rfc3339(job.updated_at)
            return _event("progress", {"message": "copying the pictures", "timestamp": at}, job)
        return _event("queued", {"position": None, "ageMs": self._age_ms(job)}, job)

    def _age_ms(self, job: Job) -> int:
        return round((self._now() - job.created_at).total_seconds() * 1000)


def _event(name: str, facts: Mapping[str, object], job: Job) -> Event:
    data = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return Event(data, name, str(job.version))

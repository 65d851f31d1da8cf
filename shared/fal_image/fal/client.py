"""fal's queue: submit once, wait, read the result, cancel.

One intent, one bill: a submit is sent again only when fal cannot have taken it. Every request goes
straight over the wire, as fal-client would send it. Refuses to know storage, callers and what is
done with the pictures.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import replace

from ..errors import AppError, FalAuthFailed, FalFailed, SubmitUnknown
from ..logs import logger
from ..web import Headers, decode_events
from ..wire import Answer, Clock, Wire, WireError
from . import refusals

SILENCE_S = 20.0  # fal sends a comment every 15 s (fal docs, queue status stream)
POLL_FIRST_S, POLL_LAST_S, POLL_GROWTH = 0.25, 2.0, 1.5
SUBMIT_TRIES = 5
CALL_TIMEOUT_S = 30.0
NOT_FOUND = "NOT_FOUND"
QUEUE_URL = "https://queue.fal.run"
NAMESPACES = ("workflows", "comfy")  # in front of the owner (fal-client source, application ids)

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # fal's are UUIDs

Sleep = Callable[[float], None]


class OutOfTime(Exception):
    """The deadline passed while fal was working; fal goes on unless it is cancelled."""


class Status(Struct, frozen=True):
    """One look at a job of fal's. `logs` are the entries not seen before."""

    state: str
    position: int | None = None
    logs: tuple[dict[str, object], ...] = ()
    inference_s: float | None = None

    @property
    def is_completed(self) -> bool:
        return self.state == "COMPLETED"


class Taken(Struct, frozen=True):
    """A submit that fal took: its request id, and how many are before it if fal said so."""

    request_id: str
    position: int | None


class Result(Struct, frozen=True):
    """What a finished job gave: the model's output, and the units fal bills for it if it said."""

    payload: object
    billable_units: float | None


class _NotTaken(Exception):
    """fal certainly has not taken the job: it may be submitted again."""

    def __init__(self, error: AppError, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Fal:
    """The queue of one fal account. Safe to share between threads; `ends_at` is on `clock`."""

    wire: Wire
    key: str | None = field(repr=False)
    clock: Clock = time.monotonic
    sleep: Sleep = time.sleep
    silence_s: float = SILENCE_S

    def submit(
        self,
        model: str,
        arguments: dict[str, object],
        *,
        ends_at: float,
        begin_by: float | None = None,
        webhook_url: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Taken:
        """Put a job into fal's queue. fal bills from here on.

        It is sent again, not after `begin_by`, if fal certainly has not taken it. fal calls
        `webhook_url` when the job has ended; `headers` are wishes for the queue. Raises
        SubmitUnknown if fal may have taken it, any other AppError if it certainly has not.
        """
        delay_s, last_at = POLL_FIRST_S, ends_at if begin_by is None else min(begin_by, ends_at)
        for attempt in range(1, SUBMIT_TRIES + 1):
            try:
                return self._submit_once(model, arguments, ends_at, webhook_url, headers)
            except _NotTaken as refusal:
                logger.warning("submit %d was not taken: %s", attempt, refusal.reason)
                pause_s = max(delay_s, refusal.retry_after_s)
                if attempt == SUBMIT_TRIES or self.clock() + pause_s >= last_at:
                    raise refusal.error from refusal
                self.sleep(pause_s)
                delay_s *= 2
        raise AssertionError("unreachable: the last attempt raises")

    def wait(
        self,
        model: str,
        request_id: str,
        *,
        ends_at: float,
        on_status: Callable[[Status], None] = lambda status: None,
    ) -> Status:
        """Wait until fal says COMPLETED, by the status stream and, where it fails, by polling.

        Raises OutOfTime, FalAuthFailed. Changes nothing; safe to repeat.
        """
        for status in self._statuses(model, request_id, ends_at):
            on_status(status)
            if status.is_completed:
                return status
        raise OutOfTime

    def look(self, model: str, request_id: str, *, ends_at: float) -> Status | None:
        """What fal says of a job now, None if it says nothing. A job it does not know any more is
        in state NOT_FOUND. Raises FalAuthFailed. Changes nothing; safe to repeat.
        """
        url = f"{status_url(model, request_id)}?logs=1"
        timeout_s = min(CALL_TIMEOUT_S, ends_at - self.clock())
        try:
            answer = self.wire.call("GET", url, key=self._required_key(), timeout_s=timeout_s)
        except WireError as error:
            logger.info("no answer from fal: %s", error.reason)
            return None
        self._refuse_key(answer, model, request_id)
        if refusals.is_forgotten(answer.status, answer.body):
            return Status(NOT_FOUND)
        found = refusals.parse_json(answer.body)
        return _status(found) if answer.status < 300 and isinstance(found, dict) else None

    def result(self, model: str, request_id: str, *, ends_at: float) -> Result:
        """The output of a completed job. Safe to repeat while fal keeps it.

        Raises FalRejected, FalFailed, FalAuthFailed if the job failed; OutOfTime if fal does not
        answer in time.
        """
        url = request_url(model, request_id)
        for answer in self._answers(url, ends_at):
            found = read_result(answer, model, request_id)
            if found is not None:
                return found
        raise OutOfTime

    def cancel(self, model: str, request_id: str, *, ends_at: float) -> bool:
        """Ask fal to drop a job. True if fal had already completed it; else its fate is open."""
        from . import official  # takes as long as a whole cold start

        try:
            said = official.cancel(
                self.wire, self._required_key(), model, request_id, ends_at - self.clock()
            )
        except WireError as error:
            logger.warning("cancel of %s got no answer: %s", request_id, error.reason)
            return False
        return b"ALREADY_COMPLETED" in said

    def _submit_once(
        self,
        model: str,
        arguments: dict[str, object],
        ends_at: float,
        webhook_url: str | None,
        headers: Mapping[str, str],
    ) -> Taken:
        key, asked = self._required_key(), f"?{urlencode({'fal_webhook': webhook_url})}"
        try:
            answer = self.wire.call(
                "POST",
                f"{QUEUE_URL}/{model}{asked if webhook_url else ''}",
                key=key,
                timeout_s=ends_at - self.clock(),
                headers={**headers, "content-type": "application/json"},
                body=_JSON.encode(arguments).encode(),
            )
        except WireError as error:
            raise _lost_submit(error) from error
        return _taken(answer, model)

    def _statuses(self, model: str, request_id: str, ends_at: float) -> Iterator[Status]:
        url = status_url(model, request_id)
        seen = 0
        try:
            for payload in self._streamed(f"{url}/stream?logs=1", ends_at):
                status = _status(payload)
                seen += len(status.logs)
                yield status
        except WireError as error:
            logger.info("the status stream of %s ended: %s", request_id, error.reason)
        for answer in self._answers(f"{url}?logs=1", ends_at):
            self._refuse_key(answer, model, request_id)
            found = refusals.parse_json(answer.body)
            if isinstance(found, dict) and answer.status < 300:
                status = _status(found)
                yield replace(status, logs=status.logs[seen:])
                seen = max(seen, len(status.logs))

    def _refuse_key(self, answer: Answer, model: str, request_id: str) -> None:
        if answer.status in {401, 403}:
            refusal = refusals.read(answer.status, answer.headers, answer.body)
            raise refusals.explain(refusal, model, request_id=request_id)

    def _streamed(self, url: str, ends_at: float) -> Iterator[dict[str, object]]:
        """Statuses as fal sends them: a stream carries only the log entries that are new."""
        completed = None
        stream = self.wire.stream(
            "GET",
            url,
            key=self._required_key(),
            timeout_s=ends_at - self.clock(),
            silence_s=self.silence_s,
        )
        with stream as reply:
            for event in decode_events(reply.chunks) if reply.status == 200 else ():
                payload = refusals.parse_json(event.data.encode())
                if not isinstance(payload, dict):
                    continue
                if payload.get("status") == "COMPLETED":
                    completed = payload
                    break
                yield payload
        if completed is not None:  # outside the block: the connection is free for the result
            yield completed

    def _answers(self, url: str, ends_at: float) -> Iterator[Answer]:
        """Whole answers to a repeated GET, slower and slower, until the deadline."""
        pause_s = POLL_FIRST_S
        while (left_s := ends_at - self.clock()) > 0:
            try:
                yield self.wire.call(
                    "GET", url, key=self._required_key(), timeout_s=min(CALL_TIMEOUT_S, left_s)
                )
            except WireError as error:
                logger.info("no answer from fal: %s", error.reason)
            self.sleep(min(pause_s, max(0.0, ends_at - self.clock())))
            pause_s = min(pause_s * POLL_GROWTH, POLL_LAST_S)

    def _required_key(self) -> str:
        if not self.key:
            raise FalAuthFailed("FAL_KEY is not set")
        return self.key


def request_url(model: str, request_id: str) -> str:
    """Where a job's result is: below its app, however long the path of the model is."""
    parts = model.split("/")
    app = parts[: 3 if parts[0] in NAMESPACES else 2]
    return f"{QUEUE_URL}/{'/'.join(app)}/requests/{request_id}"


def status_url(model: str, request_id: str) -> str:
    return f"{request_url(model, request_id)}/status"


def read_result(answer: Answer, model: str, request_id: str) -> Result | None:
    """What an answer says of a completed job, None if it says nothing yet.

    Raises FalRejected, FalFailed, FalAuthFailed if the job failed.
    """
    if 200 <= answer.status < 300:
        return result_of(answer.headers, answer.body)
    if refusals.is_forgotten(answer.status, answer.body):
        raise refusals.forgotten(request_id)
    refusal = refusals.read(answer.status, answer.headers, answer.body)
    too_early = refusal.status == 400 and "in progress" in str(refusal.detail)
    if refusal.is_fals_own and refusal.status != 429 and not too_early:
        raise refusals.explain(refusal, model, request_id=request_id)
    return None


def _taken(answer: Answer, model: str) -> Taken:
    """What fal's answer to a submit says. Raises _NotTaken, SubmitUnknown and other AppErrors."""
    if 200 <= answer.status < 300:
        payload = refusals.parse_json(answer.body)
        found = payload if isinstance(payload, dict) else {}
        request_id, position = found.get("request_id"), found.get("queue_position")
        if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
            raise SubmitUnknown(f"fal answered HTTP {answer.status} without a request id")
        return Taken(request_id, position if isinstance(position, int) else None)
    error = submit_error(answer, model)
    if answer.status == 429:
        pause_s = _seconds(answer.headers.get("retry-after"))
        raise _NotTaken(error, "HTTP 429", retry_after_s=pause_s)
    raise error


def submit_error(answer: Answer, model: str) -> AppError:
    """What an answer means that takes no job: SubmitUnknown if fal may have taken it all the same,
    any other error if it certainly has not."""
    refusal = refusals.read(answer.status, answer.headers, answer.body)
    if refusal.status == 429 or (refusal.detail is not None and refusal.status not in {408, 409}):
        return refusals.explain(refusal, model, request_id=None)
    return SubmitUnknown(
        f"fal's gateway answered HTTP {answer.status}", upstreamStatus=answer.status
    )


def submit_loss(error: WireError) -> AppError:
    """What a submit without an answer means: SubmitUnknown once a byte of it has left."""
    if error.sent:
        return SubmitUnknown(f"fal's answer to the submit was lost ({error.reason})")
    return FalFailed(
        f"fal could not be reached ({error.reason})",
        hint="The function has no way out to the internet: allow public network access or "
        "attach a NAT gateway. Nothing was sent to fal.",
        retryable=True,
    )


def _lost_submit(error: WireError) -> Exception:
    failure = submit_loss(error)
    return failure if error.sent else _NotTaken(failure, error.reason)


def result_of(headers: Headers, body: bytes) -> Result:
    """The result that a successful answer's headers and body are."""
    units = headers.get("x-fal-billable-units") or ""
    billable = float(units) if re.fullmatch(r"\d{1,9}(\.\d+)?", units) else None
    return Result(refusals.parse_json(body), billable)


def _status(payload: dict[str, object]) -> Status:
    state, position = payload.get("status"), payload.get("queue_position")
    logs, metrics = payload.get("logs"), payload.get("metrics")
    inference_s = metrics.get("inference_time") if isinstance(metrics, dict) else None
    if state not in {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}:
        logger.warning("fal answered the unknown state %r", state)
    return Status(
        state=str(state),
        position=position if isinstance(position, int) else None,
        logs=tuple(log for log in logs if isinstance(log, dict)) if isinstance(logs, list) else (),
        inference_s=float(inference_s) if isinstance(inference_s, (int, float)) else None,
    )


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0

"""queue.fal.run: submit, status, the status stream, result and cancel, as fal answers them.

Knows paths, status codes and bodies of the queue (fal docs, queue pages and inference API
reference). Refuses to know how a job comes to its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any

from ...fal import catalog
from ...web import Event, encode_comment, encode_event
from .addresses import QUEUE, FalCall
from .exchange import Answer, Flow, Reply, json_answer
from .faults import Script
from .gate import Gate
from .jobs import NEVER, Job, Queue, View
from .models import Endpoint, Order, Outcome, endpoint, unknown
from .pictures import Picture

MAX_INPUT_BYTES = 64 * 1024 * 1024  # fal states no limit; this one protects the emulator
SSE_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
Handler = Callable[[FalCall], Reply]
Route = tuple[str, Handler]


class QueueApi:
    def __init__(
        self,
        *,
        queue: Queue,
        gate: Gate,
        script: Script,
        accept: Callable[[Job], None],
        data_uri: Callable[[Picture], str],
        run_s: Callable[[], float],
        comment_s: float,
        pause: Callable[[float], object],
    ) -> None:
        """`accept` takes a new job into the queue; `pause` sleeps until the emulator stops."""
        self._queue = queue
        self._gate = gate
        self._script = script
        self._accept = accept
        self._data_uri = data_uri
        self._run_s = run_s
        self._comment_s = comment_s
        self._pause = pause

    def route(self, call: FalCall) -> Route | Answer:
        """What a call is called in counts and faults, and who answers it."""
        segments = call.segments
        if "requests" not in segments[2:]:
            return self._submit_route(call, segments)
        at = segments.index("requests", 2)
        target, tail = endpoint(segments[:at]), tuple(segments[at + 2 :])
        if target is None or at + 1 == len(segments):
            return _not_found()
        verbs = {
            (): ("GET", "result", self._result),
            ("response",): ("GET", "result", self._result),
            ("status",): ("GET", "status", self._status),
            ("status", "stream"): ("GET", "stream", self._stream),
            ("cancel",): ("PUT", "cancel", self._cancel),
        }
        if tail not in verbs:
            return _not_found()
        method, name, handler = verbs[tail]
        if call.method != method:
            return json_answer(405, {"detail": "Method Not Allowed"})
        app, request_id = target.app, segments[at + 1]
        return name, lambda call: self._of_job(call, app, request_id, handler)

    def _submit_route(self, call: FalCall, segments: list[str]) -> Route | Answer:
        target = endpoint(segments)
        if target is None:
            return json_answer(404, {"detail": "Not Found"})
        if call.method != "POST":
            return json_answer(405, {"detail": "Method Not Allowed"})
        return "submit", lambda call: self._submit(call, target)

    def _submit(self, call: FalCall, target: Endpoint) -> Reply:
        if refusal := self._gate.refusal(call.headers, app=target.app):
            return refusal
        model = catalog.find(target.id)
        if model is None:
            return unknown(target)
        most = call.query.get("fal_max_queue_length", "")
        if most.isdecimal() and self._queue.waiting(target.app) > int(most):
            return json_answer(429, {"detail": "The queue is longer than fal_max_queue_length"})
        order = Order.of(model, call.body.read(MAX_INPUT_BYTES))
        job = Job(
            order,
            target,
            "queue",
            run_s=0.0 if order.errors else self._run_s(),
            created_at=self._queue.now(),
            has_inputs=not order.wanted,
            webhook_url=call.query.get("fal_webhook"),
        )
        job.gives_up_at = job.created_at + patience_s(call.headers)
        self._accept(job)
        return json_answer(
            200,
            {
                "status": "IN_QUEUE",
                **self._links(call, job),
                "queue_position": self._queue.view(job, with_log=False).position or 0,
            },
            _id_header(job),
        )

    def _of_job(
        self, call: FalCall, app: str, request_id: str, handler: Callable[[FalCall, Job], Reply]
    ) -> Reply:
        if refusal := self._gate.refusal(call.headers, app=app):
            return refusal
        job = self._queue.find(request_id, app)
        return handler(call, job) if job else _not_found()

    def _status(self, call: FalCall, job: Job) -> Reply:
        with_log = _wants_log(call)
        view = self._queue.view(job, with_log=with_log)
        if view.state == "IN_PROGRESS" and (fault := self._script.take("status", "running")):
            self._queue.requeue(job, fault.options["seconds"])
            view = self._queue.view(job, with_log=with_log)
        status = 200 if view.state == "COMPLETED" else 202
        body = self._describe(call, job, view)
        if call.fault and call.fault.kind == "unknown-state":
            body["status"], status = call.fault.options["state"], 202
        return json_answer(status, body, _id_header(job))

    def _stream(self, call: FalCall, job: Job) -> Reply:
        return Flow(200, self._events(call, job), SSE_HEADERS | _id_header(job))

    def _events(self, call: FalCall, job: Job) -> Iterator[bytes]:
        fault = call.fault
        if fault and fault.kind == "stream-silent":
            self._pause(fault.options["seconds"])
            return
        if fault and fault.kind == "unknown-state":
            yield event({"status": fault.options["state"], **self._links(call, job)})
        for view in self._queue.watch(
            job,
            with_log=_wants_log(call),
            comment_s=self._comment_s,
            seen_running=self._back_to_queue_s,
        ):
            is_over = view is not None and view.state == "COMPLETED"
            if is_over and fault and fault.kind == "stream-ends-early":
                return
            yield (
                encode_comment("still here")
                if view is None
                else event(self._describe(call, job, view))
            )
            if fault and fault.kind == "stream-ends-early":
                return

    def _back_to_queue_s(self) -> float | None:
        fault = self._script.take("stream", "running")
        return float(fault.options["seconds"]) if fault else None

    def _result(self, call: FalCall, job: Job) -> Reply:
        outcome = self._queue.outcome(job)
        if outcome is None:
            return json_answer(400, {"detail": "Request is still in progress"}, _id_header(job))
        if call.fault and call.fault.kind == "expired":
            job.has_expired = True
        if not self._queue.keeps_result(job, lambda: len(outcome.body(self._data_uri))):
            return _not_found()
        return answer_of(outcome, job, self._data_uri)

    def _cancel(self, call: FalCall, job: Job) -> Reply:
        view = self._queue.view(job, with_log=False)
        if view.state == "IN_PROGRESS" and self._script.take("cancel", "running"):
            return json_answer(202, {"status": "CANCELLATION_REQUESTED"}, _id_header(job))
        if self._queue.cancel(job):
            return json_answer(202, {"status": "CANCELLATION_REQUESTED"}, _id_header(job))
        return json_answer(400, {"status": "ALREADY_COMPLETED"}, _id_header(job))

    def _describe(self, call: FalCall, job: Job, view: View) -> dict[str, object]:
        """A status body; `logs` is null when it was not asked for (fal's SDK, end-to-end tests)."""
        body: dict[str, object] = {"status": view.state, **self._links(call, job)}
        if view.state == "IN_QUEUE":
            return body | {"queue_position": view.position}
        body["logs"] = view.log
        outcome = self._queue.outcome(job) if view.state == "COMPLETED" else None
        if outcome is not None:
            body["metrics"] = {} if job.verdict else {"inference_time": job.run_s}
            body |= {"error": outcome.error} if outcome.error else {}
            body |= {"error_type": outcome.error_type} if outcome.error_type else {}
        return body

    def _links(self, call: FalCall, job: Job) -> dict[str, object]:
        """Absolute, app-only, and on the emulator itself: clients follow them as they are."""
        here = f"{call.origin}/{QUEUE}/{job.endpoint.app}/requests/{job.request_id}"
        return {
            "request_id": job.request_id,
            "response_url": here,
            "status_url": f"{here}/status",
            "cancel_url": f"{here}/cancel",
        }


def answer_of(outcome: Outcome, job: Job, data_uri: Callable[[Picture], str]) -> Answer:
    """The model's own answer, on the queue and on the run host alike."""
    body = json.dumps(outcome.payload, default=data_uri).encode()
    headers = outcome.all_headers() | _id_header(job)
    return Answer(outcome.status, body, {"content-type": "application/json", **headers})


def patience_s(headers: Message) -> float:
    """How long the caller lets a job wait before it starts; infinite if it does not say.

    The first header wins; the second is the older name that both clients still send.
    """
    for name in ("x-fal-request-start-timeout", "x-fal-request-timeout"):
        try:
            return float(headers[name])
        except (TypeError, ValueError):
            continue
    return NEVER


def event(value: object, **extra: Any) -> bytes:
    """One server-sent event; `extra` goes to json.dumps."""
    return encode_event(Event(json.dumps(value, separators=(",", ":"), **extra)))


def _wants_log(call: FalCall) -> bool:
    return call.query.get("logs", "").lower() in {"1", "true"}


def _id_header(job: Job) -> dict[str, str]:
    return {"x-fal-request-id": job.request_id}


def _not_found() -> Answer:
    return json_answer(404, {"status": "NOT_FOUND"})

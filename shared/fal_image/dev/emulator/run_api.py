"""fal.run: one call, one answer, and the /stream of models that show their work.

Knows which calls are billed without a queue. Refuses to retry anything, as fal does there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

from ...fal import catalog
from .addresses import FalCall
from .exchange import Answer, Flow, HangUp, Reply, json_answer
from .gate import Gate
from .jobs import LOG_LINES, Job, Queue
from .models import Endpoint, Order, endpoint, output, rejected, unknown
from .pictures import Picture
from .queue_api import MAX_INPUT_BYTES, SSE_HEADERS, Route, answer_of, event


class RunApi:
    def __init__(
        self,
        *,
        queue: Queue,
        gate: Gate,
        accept: Callable[[Job], None],
        publish: Callable[[Picture], str],
        data_uri: Callable[[Picture], str],
        run_s: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._gate = gate
        self._accept = accept
        self._publish = publish
        self._data_uri = data_uri
        self._run_s = run_s

    def route(self, call: FalCall) -> Route | Answer:
        target = endpoint(call.segments)
        if target is None:
            return json_answer(404, {"detail": "Not Found"})
        if call.method not in {"GET", "POST"}:
            return json_answer(405, {"detail": "Method Not Allowed"})
        if target.path.split("/")[-1] != "stream":
            return "run", lambda call: self._run(call, target)
        return "run-stream", lambda call: self._stream(call, target)

    def _run(self, call: FalCall, target: Endpoint) -> Reply:
        model = catalog.find(target.id)
        if refusal := self._refusal(call, target):
            return refusal
        if model is None:
            return unknown(target)
        job = self._begin(call, model, target, "run")
        outcome = self._queue.wait(job)
        return answer_of(outcome, job, self._data_uri) if outcome else HangUp()

    def _stream(self, call: FalCall, target: Endpoint) -> Reply:
        model = catalog.find(target.id.removesuffix("/stream"))
        if refusal := self._refusal(call, target):
            return refusal
        if model is None or not model.streams:
            return unknown(target)
        job = self._begin(call, model, target, "stream")
        if not self._queue.wait_for_inputs(job):
            return HangUp()
        if job.order.errors:
            return answer_of(rejected(job.order), job, self._data_uri)
        headers = SSE_HEADERS | {"x-fal-request-id": job.request_id}
        return Flow(200, self._outputs(job), headers)

    def _outputs(self, job: Job) -> Iterator[bytes]:
        """Ever clearer pictures; the last event is the result (fal docs, streaming page)."""
        for step, at in enumerate(job.log_times()[:-1], start=1):
            if not self._queue.sleep_until(at):
                return
            partial = job.order.pictures(ripeness=step / LOG_LINES)
            yield self._event(output(job.order, partial, self._publish, at - job.starts_at))
        outcome = self._queue.wait(job)
        if outcome is not None:
            yield self._event(outcome.payload)

    def _begin(
        self, call: FalCall, model: catalog.Model, target: Endpoint, via: Literal["run", "stream"]
    ) -> Job:
        if call.method == "GET":
            order = Order.of_input(model, _arguments(model, call.query))
        else:
            order = Order.of(model, call.body.read(MAX_INPUT_BYTES))
        job = Job(
            order,
            target,
            via,
            run_s=0.0 if order.errors else self._run_s(),
            created_at=self._queue.now(),
            has_inputs=not order.wanted,
        )
        self._accept(job)
        return job

    def _refusal(self, call: FalCall, target: Endpoint) -> Answer | None:
        if self._gate.token_opens(call.query.get("fal_jwt_token", ""), target.app):
            return None
        return self._gate.refusal(call.headers, app=target.app)

    def _event(self, payload: object) -> bytes:
        return event(payload, default=self._data_uri)


def _arguments(model: catalog.Model, query: dict[str, str]) -> dict[str, object]:
    """The input of a GET, whose values are all text: numbers and truth values become such again."""
    arguments: dict[str, object] = {}
    for name, text in query.items():
        field = model.fields.get(name)
        arguments[name] = text
        if field and field.type in {"integer", "number", "boolean"}:
            with suppress(ValueError):
                arguments[name] = json.loads(text)
    return arguments

"""fal's queue at the seam of the wire: no sockets, no threads, moved by the test's clock alone.

It holds callers to what fal does: the key, the methods and paths of the queue, a result only of
what has ended, the signature of its webhooks. What becomes of a submit is scripted by a `Fate`. It
imitates one model, and neither logs, positions, prices, input pictures nor the retention of
results; the emulator does.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Literal
from urllib.parse import parse_qs, urlsplit

from fal_image.dev.emulator.webhooks import Signer
from fal_image.web import Headers
from fal_image.wire import Answer, Fetched, FetchError, Reply, Wire, WireError

from . import pictures

KEY = "id:secret"
MODEL = "fal-ai/flux/schnell"
CANCELLED = {"detail": "Request was cancelled by the client", "error_type": "client_cancelled"}
FAILED = {"detail": "Runner disconnected", "error_type": "runner_disconnected"}
REFUSED = {"detail": [{"loc": ["body", "prompt"], "msg": "no such prompt", "type": "value_error"}]}
NEVER_S = 10.0**9

_APP = "/".join(MODEL.split("/")[:2])
_REQUEST = re.compile(rf"/{_APP}/requests/([0-9a-f-]+)(/status|/status/stream|/cancel)?")

State = Literal["working", "ok", "error", "cancelled"]


@dataclass(frozen=True)
class Fate:
    """What becomes of one submit.

    `answer` says what its caller hears: "taken"; "lost" (taken, and the answer never came); and of
    those that fal does not take "dropped" (no answer either), "unsent", "busy", "refused". A job
    that `is_stubborn` finishes although fal was asked to cancel it.
    """

    answer: Literal["taken", "lost", "dropped", "unsent", "busy", "refused"] = "taken"
    runs_s: float = 0.0
    ending: Literal["ok", "error"] = "ok"
    is_stubborn: bool = False


@dataclass
class Taken:
    """One submit that fal took, which is what it bills."""

    request_id: str
    webhook_url: str | None
    input: dict[str, Any]
    fate: Fate
    ends_at: float
    cancelled_at: float | None = None

    @property
    def job_id(self) -> str:
        return urlsplit(self.webhook_url or "").path.split("/")[3]

    @property
    def images(self) -> int:
        return int(self.input.get("num_images", 1))


@dataclass(frozen=True)
class Delivery:
    """One webhook as it leaves fal."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class FakeFal:
    clock: Callable[[], float]
    now: Callable[[], datetime]
    fates: list[Fate] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    submits: int = 0
    signer: Signer = field(default_factory=Signer)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wire(self) -> type[Wire]:
        """The way out for an app: everything it sends comes here."""

        class FalWire(_FalWire):
            fal = self

        return FalWire

    def of_job(self, job_id: str) -> list[Taken]:
        return [one for one in self.taken if one.job_id == job_id]

    def state(self, one: Taken) -> State:
        if one.cancelled_at is not None:
            return "cancelled"
        return one.fate.ending if self.clock() >= one.ends_at else "working"

    def billed_units(self, one: Taken) -> int:
        return one.images if self.state(one) == "ok" else 0

    def delivery(self, one: Taken) -> Delivery:
        """The webhook of a job that has ended, signed now."""
        status, payload = self.result(one)
        body: dict[str, object] = {"request_id": one.request_id, "payload": payload}
        body |= {"status": "OK"} if status < 400 else {"status": "ERROR"}
        if status >= 400:
            body["error"] = f"Invalid status code: {status}"
        content = json.dumps(body).encode()
        headers = self.signer.headers(one.request_id, content, int(self.now().timestamp()))
        return Delivery(urlsplit(one.webhook_url or "").path, headers, content)

    def result(self, one: Taken) -> tuple[int, dict[str, Any]]:
        state = self.state(one)
        if state == "working":
            return 400, {"detail": "Request is still in progress"}
        if state == "ok":
            return 200, self._output(one)
        return (499, CANCELLED) if state == "cancelled" else (500, FAILED)

    def content(self, url: str) -> bytes:
        """The bytes of a finished picture; no two are alike."""
        name, index = urlsplit(url).path.removeprefix("/files/").removesuffix(".png").split("/")
        return pictures.png(width=8 + int(index), height=8 + int(name, 16))

    def respond(self, method: str, url: str, body: bytes | None) -> Answer:
        target = urlsplit(url)
        if target.hostname != "queue.fal.run":
            return _json(404, {"detail": "Not Found"})
        if (method, target.path) == ("POST", f"/{MODEL}"):
            return self._submit(parse_qs(target.query), json.loads(body or b""))
        found = _REQUEST.fullmatch(target.path)
        one = self._find(found[1]) if found else None
        if found is None or one is None:
            return _json(404, {"status": "NOT_FOUND"})
        if method == "PUT" and found[2] == "/cancel":
            return self._cancel(one)
        if method == "GET" and found[2] == "/status":
            return self._status(one)
        if method == "GET" and found[2] is None:
            status, payload = self.result(one)
            units = {"x-fal-billable-units": str(self.billed_units(one))}
            return _json(status, payload, one, **units)
        return _json(405, {"detail": "Method Not Allowed"})

    def _submit(self, query: dict[str, list[str]], arguments: dict[str, Any]) -> Answer:
        with self.lock:
            fate = self.fates.pop(0) if self.fates else Fate()
            self.submits += 1
            if fate.answer == "unsent":
                raise WireError("no route to fal", sent=False)
            if fate.answer == "dropped":
                raise WireError("the connection was reset", sent=True)
            if fate.answer == "busy":
                return _json(429, {"detail": "Too many requests"})
            if fate.answer == "refused":
                return _json(422, REFUSED, None, **{"x-fal-billable-units": "0"})
            one = Taken(
                f"{len(self.taken):08x}",
                query["fal_webhook"][0] if "fal_webhook" in query else None,
                arguments,
                fate,
                self.clock() + fate.runs_s,
            )
            self.taken.append(one)
        if fate.answer == "lost":
            raise WireError("the answer was cut off", sent=True)
        return _json(200, {"status": "IN_QUEUE", "request_id": one.request_id}, one)

    def _cancel(self, one: Taken) -> Answer:
        with self.lock:
            if self.state(one) != "working":
                return _json(400, {"status": "ALREADY_COMPLETED"}, one)
            if not one.fate.is_stubborn:
                one.cancelled_at = self.clock()
            return _json(202, {"status": "CANCELLATION_REQUESTED"}, one)

    def _status(self, one: Taken) -> Answer:
        is_over = self.state(one) != "working"
        status = {"status": "COMPLETED" if is_over else "IN_PROGRESS", "logs": None}
        return _json(200 if is_over else 202, {"request_id": one.request_id, **status}, one)

    def _output(self, one: Taken) -> dict[str, Any]:
        start = f"https://v3.fal.media/files/{one.request_id}"
        images = [{"url": f"{start}/{n}.png"} for n in range(one.images)]
        flags = [False] * one.images
        return {"images": images, "seed": 7, "has_nsfw_concepts": flags, "timings": {}}

    def _find(self, request_id: str) -> Taken | None:
        return next((one for one in self.taken if one.request_id == request_id), None)


class _FalWire(Wire):
    """See Wire; only what jobs need of it."""

    fal: FakeFal

    def __init__(self, **options: Any) -> None:
        """Nothing is opened."""

    def call(self, method: str, url: str, *, key: str, timeout_s: float, **options: Any) -> Answer:
        if timeout_s <= 0:
            raise WireError("no time left", sent=False)
        if key != KEY:
            return _json(401, {"detail": "Cannot access application. Authentication is required."})
        return self.fal.respond(method, url, options.get("body"))

    def read(self, url: str, *, timeout_s: float, max_bytes: int) -> Answer:
        if url != "https://rest.fal.ai/.well-known/jwks.json":
            return _json(404, {"detail": "Not Found"})
        return _json(200, self.fal.signer.jwks())

    @contextmanager
    def stream(self, method: str, url: str, *, key: str, **options: Any) -> Iterator[Reply]:
        """Says what the status is and ends, as streams do that were cut."""
        assert (method, key) == ("GET", KEY)
        answer = self.fal.respond("GET", url.replace("/stream", ""), None)
        status = 200 if answer.status < 300 else answer.status
        yield Reply(status, answer.headers, iter([b"data: %b\n\n" % answer.body]))

    def fetch(self, url: str, into: BinaryIO, *, max_bytes: int, ends_at: float) -> Fetched:
        if self.fal.clock() >= ends_at:
            raise FetchError("no time left", may_pass=True)
        content = self.fal.content(url)
        into.write(content)
        return Fetched(len(content), hashlib.sha256(content).hexdigest())


def _json(status: int, value: object, one: Taken | None = None, **headers: str) -> Answer:
    named = {"x-fal-request-id": one.request_id if one else "none", **headers}
    return Answer(status, Headers(named.items()), json.dumps(value).encode())

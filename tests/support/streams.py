"""The proxy between callers and a fal that tests script to the byte, with clocks of their own.

`ProxyWorld` is a World whose fal also has fal.run and may forget results. `Show` is one answer of
fal.run, chunk by chunk. The emulator, which the helpers below work with as well, has sockets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import pytest

from fal_image.app import front
from fal_image.database.memory import MemoryDatabase
from fal_image.extend import Hooks
from fal_image.jobs import Job
from fal_image.jobs.documents import from_document
from fal_image.web import Event, Headers, Request, Response, decode_events, encode_event
from fal_image.wire import Answer, Fetched, FetchError, Reply, Wire, WireError

from .clocks import Time
from .effects import Crash, Effects
from .emulator import SCHNELL
from .entrypoints import KEY, KEY_SHA256
from .entrypoints import request as a_request
from .fake_fal import FakeFal, Fate, Taken
from .instances import CAT, OTHER_SHA256, Instance
from .instances import Answer as Got
from .world import World, webhook

PATH = "/api/fal/proxy"
QUEUE, RUN = "https://queue.fal.run", "https://fal.run"
APP = "/".join(SCHNELL.split("/")[:2])
SLOW = Fate(runs_s=50)  # longer than a run may wait
OURS = "https://links.example.com/"  # of the memory's storage
FALS = "https://v3.fal.media/files/"
SSE = (("content-type", "text/event-stream; charset=utf-8"), ("x-fal-request-id", "run-1"))
JSON = (("content-type", "application/json"), ("x-fal-request-id", "run-1"))


def to_run(body: object = CAT, *, model: str = SCHNELL, **headers: str) -> Request:
    return _proxied("POST", f"{RUN}/{model}", body, **headers)


def to_stream(body: object = CAT, *, model: str = SCHNELL, **headers: str) -> Request:
    return _proxied("POST", f"{RUN}/{model}/stream", body, **headers)


def run(app: Instance, body: object = CAT, *, model: str = SCHNELL, **headers: str) -> Got:
    return app.ask("POST", PATH, body, x_fal_target_url=f"{RUN}/{model}", **headers)


def submit(app: Instance, body: object = CAT, *, model: str = SCHNELL, **headers: str) -> str:
    """fal's request id of a submit that must be taken."""
    answer = app.ask("POST", PATH, body, x_fal_target_url=f"{QUEUE}/{model}", **headers)
    assert answer.status == 200, answer.body
    return str(answer.json["request_id"])


def result(app: Instance, request_id: str, **headers: str) -> Got:
    return app.ask("GET", PATH, x_fal_target_url=f"{QUEUE}/{APP}/requests/{request_id}", **headers)


def stream(app: Instance, body: object = CAT, *, model: str = SCHNELL, **headers: str) -> Got:
    """A stream that is read to its end."""
    answer = app.app(to_stream(body, model=model, **headers))
    named = {name.lower(): value for name, value in answer.headers}
    return Got(answer.status, named, answer.read())


def opened(app: Instance, body: object = CAT, *, model: str = SCHNELL) -> Response:
    """A stream whose body the test reads, piece by piece, and closes."""
    answer = app.app(to_stream(body, model=model))
    assert answer.status == 200, answer.read()
    assert not isinstance(answer.body, bytes)
    return answer


def pieces(answer: Response) -> Iterator[bytes]:
    assert not isinstance(answer.body, bytes)
    return answer.body


def events(body: bytes) -> list[Any]:
    """What the events of a whole stream say."""
    return [json.loads(event.data) for event in decode_events([body])]


def said(*outputs: object) -> list[bytes]:
    """An event for each output, as fal sends them."""
    return [encode_event(Event(json.dumps(output))) for output in outputs]


def from_the_queue(app: Instance, body: object = CAT, **headers: str) -> Any:
    answer = result(app, submit(app, body, **headers), **headers)
    assert answer.status == 200, answer.body
    return answer.json


def from_a_run(app: Instance, body: object = CAT, **headers: str) -> Any:
    answer = run(app, body, **headers)
    assert answer.status == 200, answer.body
    return answer.json


def from_a_stream(app: Instance, body: object = CAT, **headers: str) -> Any:
    """What the last event says, which is the result."""
    answer = stream(app, body, **headers)
    assert answer.status == 200, answer.body
    return events(answer.body)[-1]


WAYS: dict[str, Callable[..., Any]] = {
    "queue": from_the_queue,
    "run": from_a_run,
    "stream": from_a_stream,
}


def output(*urls: str, **others: object) -> dict[str, Any]:
    return {"images": [{"url": url} for url in urls], "seed": 8, **others}


def show(here: ProxyWorld, *outputs: object, **facts: Any) -> Show:
    """What the next stream gives; its pictures are those of FakeFal."""
    playing = Show(said(*outputs), **facts)
    here.fal.shows.append(playing)
    return playing


def told_to_come_back(answer: Got) -> Any:
    """The body of a 504 that no client of fal repeats by itself."""
    assert answer.status == 504, answer.body
    assert answer.headers["x-fal-request-timeout-type"] == "user"
    assert answer.json["error"] == "run_timeout"
    assert answer.json["retryable"] is True
    return answer.json


def withholding(*indexes: int) -> Hooks:
    return Hooks(on_image=lambda job, image: image.index not in indexes)


def reason(payload: Any) -> str | None:
    """Why the pictures are not kept, None if they are."""
    error = payload["fal_image"]["error"]
    return error and str(error["error"])


def urls(payload: Any) -> list[Any]:
    return [image["url"] for image in payload["images"]]


def _proxied(method: str, target: str, body: object, *, key: str = KEY, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return a_request(method, PATH, body, key=key, headers={"x-fal-target-url": target, **named})


@dataclass
class Show:
    """One answer of fal.run. A chunk that is an error is raised, one that can be called is called,
    for what happens meanwhile. `is_dropped` says that the connection was let go before its end."""

    chunks: Iterable[bytes | Exception | Callable[[], None]]
    status: int = 200
    headers: Sequence[tuple[str, str]] = SSE
    input: Any = None
    asked: dict[str, str] = field(default_factory=dict)
    is_closed: bool = False
    is_read: bool = False

    @property
    def is_dropped(self) -> bool:
        return self.is_closed and not self.is_read

    def flow(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            if callable(chunk):
                chunk()
            else:
                yield chunk
        self.is_read = True


@dataclass
class ScriptedFal(FakeFal):
    """`shows` are what fal.run answers, one a call, or the error that is all there is.

    `output` is what a finished job of the queue gives, if it is not FakeFal's own, `answer` all of
    its result. `refusal` are the errors in the input of every submit. `forgets` says that results
    are gone. `picture` is what the download of any picture comes to, if it is not FakeFal's own,
    after `fetch_s`.
    """

    shows: list[Show | WireError] = field(default_factory=list)
    seen: list[Show] = field(default_factory=list)
    output: Callable[[Taken], object] | None = None
    answer: tuple[int, dict[str, str], bytes] | None = None
    refusal: list[object] | None = None
    forgets: bool = False
    cancels: int = 0
    picture: bytes | FetchError | None = None
    fetch_s: float = 0.0
    fetched: list[str] = field(default_factory=list)
    time: Time = field(default_factory=Time)

    def wire(self) -> type[Wire]:
        fal = self

        class RunWire(super().wire()):  # type: ignore[misc]
            @contextmanager
            def stream(self, method: str, url: str, **options: Any) -> Iterator[Reply]:
                if urlsplit(url).hostname != "fal.run":
                    with super().stream(method, url, **options) as reply:
                        yield reply
                    return
                with fal.playing(method, url, **options) as reply:
                    yield reply

            def fetch(self, url: str, into: BinaryIO, **options: Any) -> Fetched:
                fal.fetched.append(url)
                fal.time.now_s += fal.fetch_s
                if isinstance(fal.picture, FetchError):
                    raise fal.picture
                if fal.picture is None:
                    found: Fetched = super().fetch(url, into, **options)
                    return found
                into.write(fal.picture)
                return Fetched(len(fal.picture), hashlib.sha256(fal.picture).hexdigest())

        return RunWire

    @contextmanager
    def playing(self, method: str, url: str, **options: Any) -> Iterator[Reply]:
        assert (method, urlsplit(url).path) == ("POST", f"/{SCHNELL}/stream")
        show = self.shows.pop(0)
        if isinstance(show, WireError):
            raise show
        show.input, show.asked = json.loads(options["body"]), dict(options["headers"])
        self.seen.append(show)
        try:
            yield Reply(show.status, Headers(show.headers), show.flow())
        finally:
            show.is_closed = True

    def result(self, one: Taken) -> tuple[int, dict[str, Any]]:
        status, payload = super().result(one)
        if status == 200 and self.output is not None:
            made: Any = self.output(one)
            return 200, made
        return status, payload

    def respond(self, method: str, url: str, body: bytes | None) -> Answer:
        is_result = method == "GET" and not url.partition("?")[0].endswith(("/status", "/stream"))
        if is_result and self.forgets:
            return Answer(404, Headers(), b'{"status": "NOT_FOUND"}')
        if is_result and self.answer is not None:
            status, headers, content = self.answer
            return Answer(status, Headers(headers.items()), content)
        if method == "POST" and self.refusal is not None:
            return Answer(422, Headers(), json.dumps({"detail": self.refusal}).encode())
        self.cancels += url.endswith("/cancel")
        return super().respond(method, url, body)


class ListedDatabase(MemoryDatabase):
    """Remembers what was created in it, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def create(self, id: str, body: Mapping[str, object], **times: Any) -> bool:
        is_new = super().create(id, body, **times)
        if is_new:
            self.ids.append(id)
        return is_new


@dataclass
class ProxyWorld(World):
    """Callers are `web` and `other`, with the keys of `support`. A run may wait for 20 s."""

    fal: ScriptedFal = field(init=False)
    kept: ListedDatabase = field(default_factory=ListedDatabase)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.database = self.kept
        self.fal = ScriptedFal(self.time, self.now, time=self.time)
        callers = (("web", KEY_SHA256), ("other", OTHER_SHA256))
        self.bent = {"api_keys": callers, "allow_anonymous": False, **self.bent}

    def app(self, effects: Effects | None = None, *, lives_s: float | None = None) -> Instance:
        return Instance(front(self.instance(effects, lives_s=lives_s).services))

    @property
    def jobs(self) -> list[Job]:
        """Every job as it is kept, oldest first."""
        found = self.kept.get_many([id for id in self.kept.ids if id.startswith("job:")])
        return [from_document(one.id.removeprefix("job:"), one.version, one.body) for one in found]

    @property
    def job(self) -> Job:
        [job] = self.jobs
        return job

    def spent(self, caller: str = "web") -> int:
        """Micro-USD of the caller's day: what was spent, and what is put aside."""
        return self.kept.total(f"spent:{caller}:{self.now():%Y-%m-%d}")

    def later(self, **by: float) -> None:
        self.pass_s(timedelta(**by).total_seconds())


def copying(here: ProxyWorld) -> str:
    """A request whose pictures somebody is copying, for as long as the lease says."""
    effects = Effects()

    def end(name: str) -> None:
        if name == "fal file":
            effects.last = len(effects.names)

    effects.told = end
    request_id = submit(here.app())
    with pytest.raises(Crash):
        here.instance(effects).ask(webhook(here.fal.delivery(here.fal.taken[0])))
    assert here.job.state == "storing"
    return request_id

"""Instances of the app that share a database and a directory, as servers and without a socket.

`Postbox` stands where fal delivers its webhooks, so that a test decides who gets them, and when.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fal_image.app import Seams, build_app
from fal_image.database.base import Document
from fal_image.dev.emulator import Emulator
from fal_image.extend import NO_HOOKS, Hooks
from fal_image.server import bind, running, url_of
from fal_image.settings import load
from fal_image.web import App, Headers, Platform, Request, Response

from .clocks import utc_now
from .databases import SqliteRig
from .entrypoints import FAL_KEY, KEY, KEY_SHA256, THROUGH
from .entrypoints import request as a_request
from .receiver import Receiver

OTHER_KEY = "k-fedcba9876543210"
OTHER_SHA256 = hashlib.sha256(OTHER_KEY.encode()).hexdigest()
SECRET = "canary0signing0secret0of0this0test"
NOWHERE = "http://127.0.0.1:9"  # the port of discard: nobody listens
CAT: Mapping[str, object] = {"prompt": "a calico cat", "seed": 7}


class Calendar:
    """The machine's own time, put forward by a test."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> Any:
        return utc_now() + self.ahead

    def forward(self, **by: float) -> None:
        self.ahead += timedelta(**by)


def environment(fal: Emulator, directory: Path, **bent: str | None) -> dict[str, str]:
    """Settings of an instance with a database and two callers, web and other; None unsets."""
    working: dict[str, str | None] = {
        "FAL_KEY": FAL_KEY,
        "FAL_IMAGE_EMULATOR_URL": fal.url,
        "FAL_IMAGE_STORAGE_URL": (directory / "pictures").as_uri(),
        "FAL_IMAGE_DATABASE_URL": f"sqlite://{directory}/jobs.db",
        "FAL_IMAGE_PUBLIC_URL": NOWHERE,
        "FAL_IMAGE_SECRET": SECRET,
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256},other={OTHER_SHA256}",
        "FAL_IMAGE_RATE_LIMIT": "off",  # the tests of the rate limit set it
    }
    return {name: value for name, value in (working | bent).items() if value is not None}


def instance(
    fal: Emulator,
    directory: Path,
    *,
    seams: Seams | None = None,
    **bent: str | None,
) -> Instance:
    """The app of `environment`, with no socket."""
    return extended(fal, directory, NO_HOOKS, seams=seams, **bent)


def extended(
    fal: Emulator,
    directory: Path,
    hooks: Hooks,
    *,
    seams: Seams | None = None,
    **bent: str | None,
) -> Instance:
    """`instance`, with its owner's own code around it."""
    environ = environment(fal, directory, **bent)
    app = build_app(
        load(environ),
        before=hooks.before,
        after=hooks.after,
        on_image=hooks.on_image,
        environ=environ,
        seams=seams or Seams(),
    )
    return Instance(app)


def kept(directory: Path, job_id: str) -> Document:
    """The document of a job, which nobody drives by looking at it."""
    found = SqliteRig(directory / "jobs.db").open().get(f"job:{job_id}")
    assert found is not None
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Instance:
    app: App

    def ask(
        self, method: str, path: str, body: object = None, *, key: str = KEY, **headers: str
    ) -> Answer:
        """One request, past every gateway; `idempotency_key=` is the header idempotency-key."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return read(self.app(a_request(method, path, body, key=key, headers=named)))

    def generate(self, body: object = CAT, **headers: Any) -> Answer:
        return self.ask("POST", "/generate", body, **headers)

    def submitted(self, body: object = CAT, **headers: Any) -> Any:
        """The job of a request that did not wait."""
        answer = self.generate(body, prefer="respond-async", **headers)
        assert answer.status == 202, answer.body
        return answer.json

    def job(self, job_id: str, **headers: Any) -> Any:
        """The job as a poll finds it, which also drives it on."""
        answer = self.ask("GET", f"/jobs/{job_id}", **headers)
        assert answer.status == 200, answer.body
        return answer.json

    def deliver(self, webhook: Request) -> Answer:
        """What fal is answered."""
        return read(self.app(webhook))

    def tick(self, *, ends_at: float | None = None) -> Any:
        """What a timer's event is answered."""
        platform = Platform("timer", "tick-1", ends_at=ends_at)
        answer = read(self.app(Request("POST", "/timer", platform)))
        assert answer.status == 200, answer.body
        return answer.json


@dataclass(frozen=True)
class Server(Instance):
    url: str = field(default="")

    def http(
        self, method: str, path: str, body: object = None, *, key: str = KEY, **headers: str
    ) -> Answer:
        """One request over a connection of its own."""
        with self.opened(method, path, body, key=key, **headers) as answer:
            pairs = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, pairs, answer.read())

    @contextmanager
    def opened(
        self, method: str, path: str, body: object = None, *, key: str = KEY, **headers: str
    ) -> Iterator[HTTPResponse]:
        """An answer whose body is read as it comes."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=15)
        given = a_request(method, path, body, key=key).headers
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, content, {**dict(given), **named})
            yield connection.getresponse()
        finally:
            connection.close()


@contextmanager
def serving(
    fal: Emulator, directory: Path, *, seams: Seams | None = None, **bent: str | None
) -> Iterator[Server]:
    """An instance as a server, which fal's webhooks reach."""
    with bind("127.0.0.1", 0) as listener:
        url = url_of(listener)
        settings = {"FAL_IMAGE_PUBLIC_URL": url} | bent
        app = instance(fal, directory, seams=seams, **settings).app
        with running(app, listener):
            yield Server(app, url)


class Postbox:
    """Where fal's webhooks end up, genuine and unopened. `url` is its FAL_IMAGE_PUBLIC_URL."""

    def __init__(self, fal: Emulator, *statuses: int) -> None:
        self._fal = fal
        self._receiver = Receiver(*statuses)
        self.url = self._receiver.url.partition("/hook")[0]

    def next(self, **bent: str) -> Request:
        """The webhook of the newest job; a keyword puts another value into a header."""
        headers, body = self._receiver.got.get(timeout=10)
        newest = self._fal.ledger[-1]
        assert newest.webhook_url is not None
        assert headers["x-fal-webhook-request-id"] == newest.request_id
        given = {name.lower(): value for name, value in headers.items()}
        given |= {name.replace("_", "-"): value for name, value in bent.items()}
        path = newest.webhook_url.removeprefix(self.url)
        return Request("POST", path, Platform("wsgi", "w-1"), (), Headers(given.items()), body)

    def __enter__(self) -> Postbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self._receiver.close()


def read(response: Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers}
    return Answer(response.status, headers, response.read())


def through(cloud: str, request: Request) -> Answer:
    """What a cloud's entrypoint answers under the settings of the process's environment."""
    return read(THROUGH[cloud](request))


def ask(cloud: str, *request: Any, **changes: Any) -> Answer:
    """`through` for a request of `support.entrypoints`."""
    return through(cloud, a_request(*request, **changes))

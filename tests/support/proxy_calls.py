"""Calls of fal's addresses through our proxy, in both of its forms, at an instance with no socket.

`Door` says everything as fal's clients do: an address at fal, a method, a body. `HeardFal` is a fal
that remembers who asked for what.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from fal_image.dev.emulator import Emulator
from fal_image.dev.emulator.exchange import Call, Reply
from fal_image.web import Request, Response

from .databases import SqliteRig
from .emulator import QUEUE, RUN, SCHNELL
from .entrypoints import KEY
from .entrypoints import request as a_request
from .instances import CAT, Answer, Instance, read

PROXY = "/api/fal/proxy"
FLUX = "fal-ai/flux"  # what the queue knows of SCHNELL
FORMS = ("header", "path")
Form = Literal["header", "path"]

# What is asked of a request in the queue: the method and the end of the address.
AFTERWARDS: Mapping[str, tuple[str, str]] = {
    "status": ("GET", "/status"),
    "status with logs": ("GET", "/status?logs=1"),
    "follow": ("GET", "/status/stream"),
    "result": ("GET", ""),
    "response": ("GET", "/response"),
    "cancel": ("PUT", "/cancel"),
}

# What is paid for: the method, the address at fal, the body.
PAID: Mapping[str, tuple[str, str, object]] = {
    "submit": ("POST", f"{QUEUE}/{SCHNELL}", CAT),
    "run": ("POST", f"{RUN}/{SCHNELL}", CAT),
    "run by GET": ("GET", f"{RUN}/{SCHNELL}?prompt=a%20calico%20cat&seed=7", None),
    "stream": ("POST", f"{RUN}/{SCHNELL}/stream", CAT),
}


@dataclass(frozen=True)
class Door:
    """One form of the proxy of an instance; `accept_language=` is the header accept-language."""

    one: Instance
    form: Form = "header"

    def request(
        self, method: str, url: str, body: object = None, *, key: str | None = KEY, **headers: str
    ) -> Request:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.form == "header":
            named["x-fal-target-url"] = url
            return a_request(method, PROXY, body, key=key, headers=named)
        parts = urlsplit(url)
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        path = f"{PROXY}/{parts.netloc}{parts.path}"
        return a_request(method, path, body, key=key, query=query, headers=named)

    def respond(self, *asked: Any, **changes: Any) -> Response:
        """The answer as the app gives it, with every header in its place."""
        return self.one.app(self.request(*asked, **changes))

    def ask(self, *asked: Any, **changes: Any) -> Answer:
        return read(self.respond(*asked, **changes))

    def submit(
        self, body: object = CAT, *, model: str = SCHNELL, query: str = "", **changes: Any
    ) -> Answer:
        return self.ask("POST", f"{QUEUE}/{model}{query}", body, **changes)

    def submitted(self, body: object = CAT, **changes: Any) -> str:
        """fal's id of a request that must be taken."""
        answer = self.submit(body, **changes)
        assert answer.status == 200, answer.body
        request_id: str = answer.json["request_id"]
        return request_id

    def afterwards(self, what: str, request_id: str, *, app: str = FLUX, **changes: Any) -> Answer:
        """One of AFTERWARDS."""
        method, ending = AFTERWARDS[what]
        return self.ask(method, f"{QUEUE}/{app}/requests/{request_id}{ending}", **changes)

    def pay(self, what: str, **changes: Any) -> Answer:
        """One of PAID."""
        return self.ask(*PAID[what], **changes)


class HeardFal(Emulator):
    """`heard` has for every call its method, its path and its headers, in order."""

    def __init__(self, **pace: Any) -> None:
        super().__init__(**pace)
        self._lock_heard = threading.Lock()
        self.heard: list[tuple[str, str, dict[str, str]]] = []

    def _respond(self, call: Call) -> Reply:
        headers = {name.lower(): value for name, value in call.headers.items()}
        with self._lock_heard:
            self.heard.append((call.method, call.target, headers))
        return super()._respond(call)


def job_id_of(fal: Emulator) -> str:
    """Our job of fal's newest request, as our webhook's address names it."""
    url = fal.ledger[-1].webhook_url
    assert url is not None
    job_id: str = url.split("/")[-2]
    return job_id


def spent_usd(directory: Path, caller: str = "web") -> float:
    """What a caller has spent and put aside today."""
    database = SqliteRig(directory / "jobs.db").open()
    return database.total(f"spent:{caller}:{datetime.now(timezone.utc):%Y-%m-%d}") / 1_000_000

"""Plain calls to the emulator, one connection each, so that a test sees every status and header."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from fal_image.dev.emulator import Emulator

KEY = "id:secret"
SCHNELL = "fal-ai/flux/schnell"
QUEUE, RUN, REST, CDN = (
    "https://queue.fal.run",
    "https://fal.run",
    "https://rest.fal.ai",
    "https://v3.fal.media",
)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events; comments are left out."""
        assert self.headers["content-type"].startswith("text/event-stream")
        lines = self.body.decode().split("\n")
        return [json.loads(line.removeprefix("data: ")) for line in lines if line[:5] == "data:"]


def ask(
    emulator: Emulator,
    method: str,
    url: str,
    body: object = None,
    *,
    key: str | None = KEY,
    headers: dict[str, str] | None = None,
) -> Reply:
    """One call. `url` is fal's own (https://…) or the emulator's; a body that is not bytes is
    sent as JSON."""
    response = begin(emulator, method, url, body, key=key, headers=headers)
    try:
        return Reply(response.status, response.headers, response.read())
    finally:
        response.close()


def begin(
    emulator: Emulator,
    method: str,
    url: str,
    body: object = None,
    *,
    key: str | None = KEY,
    headers: dict[str, str] | None = None,
) -> http.client.HTTPResponse:
    """A call whose answer is not read yet; close it."""
    parts = urlsplit(emulator.url)
    assert parts.hostname
    assert parts.port
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    target = url.removeprefix(emulator.url)
    if target.startswith("https://"):
        target = "/" + target.removeprefix("https://")
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    shown = {"authorization": f"Key {key}"} if key else {}
    try:
        connection.request(
            method, target, data, {**shown, "connection": "close", **(headers or {})}
        )
        return connection.getresponse()
    except BaseException:
        connection.close()  # nobody else can, and the collector warns in some later test
        raise


def submit(
    emulator: Emulator,
    model: str = SCHNELL,
    *,
    query: str = "",
    headers: dict[str, str] | None = None,
    **arguments: Any,
) -> dict[str, str]:
    """A submit that must be taken; the body of its answer."""
    arguments = {"prompt": "a calico cat", "seed": 7, **arguments}
    reply = ask(emulator, "POST", f"{QUEUE}/{model}{query}", arguments, headers=headers)
    assert reply.status == 200, reply.body
    taken: dict[str, str] = reply.json
    return taken


def finish(emulator: Emulator, taken: dict[str, str]) -> Reply:
    """Wait on the status stream until the job is over; its result, whatever its status."""
    stream = ask(emulator, "GET", f"{taken['status_url']}/stream")
    assert stream.events[-1]["status"] == "COMPLETED"
    return ask(emulator, "GET", taken["response_url"])


def picture_url(result: Reply) -> str:
    url: str = result.json["images"][0]["url"]
    return url

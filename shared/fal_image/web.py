"""What every entrance is turned into and what every answer is turned out of.

Plain values: a Request, a Response, problem bodies (RFC 9457) and the event-stream codec.
Refuses to know which cloud it is on and what the routes do.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import msgspec
from msgspec import Struct

from .errors import AppError

# "timer" and "queue" are events that no caller sent; only events/* may say so.
PlatformName = Literal["aws", "cloudbase", "wsgi", "direct", "timer", "queue"]

# The body of an answer is bytes, or an iterator of chunks for whoever can stream them.
Body = bytes | Iterator[bytes]


class Headers:
    """HTTP headers as they came: names match in any case, repeated ones are kept in order."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple([(name.lower(), value) for name, value in pairs])
        self._values: dict[str, list[str]] = {}
        for name, value in self._pairs:
            self._values.setdefault(name, []).append(value)

    def get(self, name: str) -> str | None:
        """The header's values joined by ", " (RFC 9110, field order), None when it is absent."""
        values = self._values.get(name.lower())
        return ", ".join(values) if values else None

    def get_all(self, name: str) -> list[str]:
        return [*self._values.get(name.lower(), ())]

    def items(self) -> tuple[tuple[str, str], ...]:
        return self._pairs

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __repr__(self) -> str:
        return f"Headers({[name for name, _ in self._pairs]})"  # values may be secrets


@dataclass(frozen=True)
class Platform:
    """What only the platform knows of one invocation; nothing here comes from the caller.

    `ends_at` is when the invocation is killed, on `time.monotonic`'s scale; `gateway_s` how long
    the entrance in front waits for an answer; `answer_bytes` how long an answer may be, with its
    headers, once it is written as the JSON that the platform takes. `caller` is who may call at
    all, by the platform's own rights; `identities` are pairs of a kind and a name that it vouches
    for, if the owner trusts that kind.
    `environment` are variables of this invocation alone, such as credentials that soon die; they
    win over the process's own.
    """

    name: PlatformName
    request_id: str
    client_ip: str | None = None
    ends_at: float | None = None
    gateway_s: float | None = None
    answer_bytes: int | None = None
    public_url: str | None = None
    caller: str | None = None
    identities: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Request(Struct, frozen=True):
    """One request to a route. `path` starts with "/", is percent-decoded and has lost the
    platform's stage; `query` keeps repeated keys in order.

    A PUT whose body is too long for memory has it unread in `file`, `file_bytes` long by its own
    word, where the entrance can do that; `body` is then empty. `fault` is why an entrance could not
    read the body at all; the app answers with it, so that it leaves as every error does.
    """

    method: str
    path: str
    platform: Platform
    query: tuple[tuple[str, str], ...] = ()
    headers: Headers = msgspec.field(default_factory=Headers)
    body: bytes = b""
    file: BinaryIO | None = None
    file_bytes: int = 0
    fault: AppError | None = None

    def open_body(self) -> tuple[BinaryIO, int]:
        """The body to be read once, no further than its length, which comes with it."""
        if self.file is not None:
            return self.file, self.file_bytes
        return io.BytesIO(self.body), len(self.body)

    def query_value(self, name: str) -> str | None:
        """The last value of a query key, None when it is absent.

        Entrances that keep one value of a repeated key keep the last (Elastic Load Balancing
        guide, "Use Lambda functions as targets"), so every entrance gives the same answer.
        """
        return next((value for key, value in reversed(self.query) if key == name), None)


class Response(Struct, frozen=True):
    status: int
    body: Body = b""
    headers: tuple[tuple[str, str], ...] = ()

    def with_headers(self, *pairs: tuple[str, str]) -> Response:
        return Response(self.status, self.body, self.headers + pairs)

    def close(self) -> None:
        """Drop a body that nobody will read; one that is whole has nothing to drop."""
        closing = getattr(self.body, "close", None)
        if closing is not None:
            closing()

    def read(self) -> bytes:
        """The whole body; for platforms that cannot stream. Reading an iterator empties it."""
        return self.body if isinstance(self.body, bytes) else b"".join(self.body)


# What turns a Request into a Response: the app, and whatever is wrapped around it.
App = Callable[[Request], Response]


def json_response(
    status: int, value: object, *headers: tuple[str, str], media_type: str = "application/json"
) -> Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status, body, (("content-type", media_type), *headers))


def problem(error: AppError, request_id: str) -> dict[str, object]:
    """The members of an error answer: RFC 9457's, the recipe's `error` and `message`, ours."""
    members: dict[str, object] = {
        "type": f"docs/errors.md#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "error": error.code,
        "message": error.detail,
        "requestId": request_id,
        "retryable": error.retryable,
        "hint": error.hint,
    }
    return members | error.extensions


def problem_response(error: AppError, request_id: str) -> Response:
    return json_response(
        error.status,
        problem(error, request_id),
        ("cache-control", "no-store"),
        *error.headers,
        media_type="application/problem+json",
    )


class Event(Struct, frozen=True):
    """One server-sent event."""

    data: str
    name: str = "message"
    id: str | None = None


def encode_event(event: Event) -> bytes:
    lines = [] if event.name == "message" else [f"event: {event.name}"]
    if event.id is not None:
        lines.append(f"id: {event.id}")
    lines += [f"data: {line}" for line in event.data.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def encode_comment(text: str = "") -> bytes:
    """A line that readers skip; it keeps a silent connection open."""
    return f": {text}\n\n".encode()


def decode_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Events out of a byte stream, each as soon as its blank line is there.

    Follows the parsing rules of the HTML standard, "Server-sent events": any line ending,
    comments dropped, an event cut by the end of the stream dropped.
    """
    data: list[str] = []
    name, event_id = "message", None
    for line in _lines(chunks):
        if not line:
            if data:
                yield Event("\n".join(data), name, event_id)
            data, name = [], "message"
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "data":
            data.append(value)
        elif key == "event":
            name = value or "message"
        elif key == "id":
            event_id = value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        # A "\r" at the very end may be the first half of "\r\n": wait for what follows it.
        tail = b"\r" if rest.endswith(b"\r") else b""
        lines = rest[: len(rest) - len(tail)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = lines.split(b"\n")
        rest += tail
        for line in whole:
            yield line.decode("utf-8", "replace")
    if rest.endswith(b"\r"):
        yield rest[:-1].decode("utf-8", "replace")


def header_map(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """One value per name, later ones joined by ", ": for platforms that take only a dict."""
    merged: dict[str, str] = {}
    for name, value in headers:
        merged[name] = f"{merged[name]}, {value}" if name in merged else value
    return merged

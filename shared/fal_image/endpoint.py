"""One way to speak to a fal-image endpoint: one that is deployed, or the same app in this process.

For programs of the endpoint's own house: the command line and the server for agents. An error of
the endpoint is an answer like any other. Refuses to know what is asked.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

import requests
import requests.utils
import urllib3.exceptions
from msgspec import Struct

from .connections import Tls, limit_reads, sending
from .sessions import cause, new_session
from .spellings import is_loopback, web_url
from .web import App, Headers, Platform, Request
from .wire import CONNECT_TIMEOUT_S, USER_AGENT, Clock

URL, TOKEN = "FAL_IMAGE_URL", "FAL_IMAGE_TOKEN"

# Who asks within this process. The colon keeps it apart from every caller that has a key.
OWN_CALLER = "local:owner"

PATIENCE_S = 300.0  # for one answer: longer than any gateway waits for its function
FETCH_S = 20.0
MAX_ANSWER_BYTES = 32 * 1024 * 1024

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_CHUNK_BYTES = 64 * 1024


class EndpointFailed(Exception):
    """No answer came. `sent` is False only if no byte of the request can have left: a request
    without an Idempotency-Key may else have been paid for."""

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent


class Answer(Struct, frozen=True):
    """An answer, whatever its status. `body` is empty where it is no JSON object: then something
    else answered, and not the endpoint."""

    status: int
    headers: Headers
    body: dict[str, Any]

    @property
    def is_error(self) -> bool:
        return not (200 <= self.status < 300 and self.body)

    @property
    def is_problem(self) -> bool:
        """Whether the endpoint itself says what is wrong, and no gateway in front of it."""
        said = self.body
        return isinstance(said.get("error"), str) and isinstance(said.get("retryable"), bool)

    @property
    def retry_after_s(self) -> int | None:
        """How long to wait before asking again, if the endpoint says so."""
        text = self.headers.get("retry-after") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


class Endpoint(Protocol):
    """Safe to share between threads."""

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        """One request. `path` is a route, "/jobs/ID", with a query if it needs one.

        Never sent twice by itself. Raises EndpointFailed when no answer came within `patience_s`.
        """

    def fetch(self, link: str, *, max_bytes: int, patience_s: float = FETCH_S) -> bytes:
        """The file behind a link that this endpoint has answered with, read without credentials.

        Raises EndpointFailed, also when it is longer than `max_bytes`, comes later than
        `patience_s` or is not to be read here.
        """


def deployed(environ: Mapping[str, str]) -> Deployed | None:
    """The endpoint that FAL_IMAGE_URL names, None where it names none.

    FAL_IMAGE_TOKEN is an API key of that endpoint, or a ticket. Raises ValueError, which names the
    variable that is wrong and does not repeat a token.
    """
    url = environ.get(URL, "").strip()
    if not url:
        return None
    token = environ.get(TOKEN, "").strip()
    if not re.fullmatch("[!-~]*", token):
        raise ValueError(f"{TOKEN}: must be ASCII without spaces, as API keys and tickets are")
    try:
        return Deployed(web_url(url), token or None)
    except ValueError as error:
        raise ValueError(f"{URL}: {error}") from None


@dataclass(frozen=True)
class Deployed:
    """An endpoint somewhere else, over HTTPS; over HTTP only on this machine.

    `url` may have a path, as a stage of a gateway has. Redirects are not followed: the token is for
    nobody else. Sockets are left to the end of the process.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    clock: Clock = time.monotonic
    _session: requests.Session = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        session = new_session(Tls, [_origin(self.url)], self.clock)
        object.__setattr__(self, "_session", session)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        said = {"accept": "application/json", **headers}
        if self.token is not None:
            said["authorization"] = f"Bearer {self.token}"
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            said["content-type"] = "application/json"
        outgoing = _Outgoing(method, self.url.rstrip("/") + path, said, content)
        status, answered, read = _exchange(
            self._session, self.clock, outgoing, patience_s, MAX_ANSWER_BYTES
        )
        return Answer(status, answered, _object(read))

    def fetch(self, link: str, *, max_bytes: int, patience_s: float = FETCH_S) -> bytes:
        if not link.startswith(("https://", f"{_origin(self.url)}/")):
            raise EndpointFailed("the link is neither https:// nor the endpoint's own", sent=False)
        return _fetched(self._session, self.clock, link, max_bytes, patience_s)


@dataclass(frozen=True)
class InProcess:
    """The app in this process, by a direct call. Its owner asks, who needs no key; without a
    `caller` requests show a key of their own, as they would over HTTP. How long an answer may take
    is the app's own affair, whatever the patience of who asks.

    Storage on this machine's disk that no server serves links to its files by their own address,
    file://…, and only here such a link is read.
    """

    app: App = field(repr=False)
    caller: str | None = OWN_CALLER
    new_id: Callable[[], str] = lambda: os.urandom(16).hex()
    clock: Clock = time.monotonic
    _session: requests.Session = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_session", new_session(Tls, (), self.clock))

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        address = urlsplit(path)
        request = Request(
            method=method,
            path=unquote(address.path),
            platform=Platform("direct", self.new_id(), caller=self.caller),
            query=tuple(parse_qsl(address.query, keep_blank_values=True)),
            headers=Headers({"content-type": "application/json", **headers}.items()),
            body=b"" if body is None else json.dumps(body).encode(),
        )
        response = self.app(request)
        return Answer(response.status, Headers(response.headers), _object(response.read()))

    def fetch(self, link: str, *, max_bytes: int, patience_s: float = FETCH_S) -> bytes:
        if link.startswith("https://"):
            return _fetched(self._session, self.clock, link, max_bytes, patience_s)
        if not link.startswith("file:///"):
            raise EndpointFailed("the link is neither https:// nor a file's", sent=False)
        try:
            with Path(url2pathname(urlsplit(link).path)).open("rb") as file:
                content = file.read(max_bytes + 1)
        except OSError as error:
            raise EndpointFailed(
                f"the file cannot be read: {error.strerror}", sent=False
            ) from error
        if len(content) > max_bytes:
            raise _too_long(max_bytes)
        return content


class _Outgoing(Struct, frozen=True):
    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None = None


def _exchange(
    session: requests.Session, clock: Clock, outgoing: _Outgoing, patience_s: float, max_bytes: int
) -> tuple[int, Headers, bytes]:
    """Send one request and read its whole answer. Raises EndpointFailed."""
    ends_at = clock() + patience_s
    here = is_loopback(urlsplit(outgoing.url).hostname or "")
    proxies = {} if here else requests.utils.get_environ_proxies(outgoing.url)
    said = {"user-agent": USER_AGENT, "accept-encoding": "identity", **outgoing.headers}
    sending.started = False
    try:
        with session.request(
            outgoing.method,
            outgoing.url,
            headers=said,
            data=outgoing.body,
            timeout=(min(CONNECT_TIMEOUT_S, patience_s), patience_s),
            stream=True,
            allow_redirects=False,
            proxies={scheme: str(proxy) for scheme, proxy in proxies.items()},
        ) as answer:
            content = _whole(answer, lambda: ends_at - clock(), max_bytes)
            return answer.status_code, Headers(answer.raw.headers.items()), content
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EndpointFailed(cause(error), sent=sending.started) from error
    except ValueError as error:  # its words may repeat a header
        detail = "the request cannot be written as HTTP"
        raise EndpointFailed(detail, sent=sending.started) from error


def _whole(answer: requests.Response, left_s: Callable[[], float], max_bytes: int) -> bytes:
    """The body to its end. Raises EndpointFailed when it is too long or comes too late."""
    chunks: list[bytes] = []
    size = 0
    while (seconds := left_s()) > 0:
        limit_reads(answer.raw, seconds)
        chunk = answer.raw.read1(_CHUNK_BYTES, decode_content=True)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise _too_long(max_bytes)
    raise EndpointFailed("the time ran out inside the answer", sent=True)


def _fetched(
    session: requests.Session, clock: Clock, link: str, max_bytes: int, patience_s: float
) -> bytes:
    outgoing = _Outgoing("GET", link, {})
    status, _, content = _exchange(session, clock, outgoing, patience_s, max_bytes)
    if status != 200:
        raise EndpointFailed(f"the link answers HTTP {status}", sent=True)
    return content


def _origin(url: str) -> str:
    address = urlsplit(url)
    return f"{address.scheme}://{address.netloc}"


def _too_long(max_bytes: int) -> EndpointFailed:
    return EndpointFailed(f"it is longer than {max_bytes} bytes", sent=True)


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

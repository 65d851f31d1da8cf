"""The one way out: every byte that no vendor's SDK sends or fetches goes through here.

Holds the rules that must not depend on the caller's care: which hosts may be reached, where the
fal key may go, size and time limits, no redirects with a key, no private addresses, and whether a
failed request can have reached the other side. Refuses to know what the bytes mean.

Built on urllib3's pools; the rules that live at the socket are in `connections`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
import urllib3.exceptions
from msgspec import Struct

from . import __version__
from .connections import (
    FileBody,
    Incoming,
    Pools,
    PublicTls,
    Tls,
    cause,
    drain,
    limit_reads,
    proxy_for,
    sending,
)
from .settings import FAL_HOSTS
from .web import Headers

CONNECT_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 96 * 1024 * 1024  # fal's JSON; data URIs of four large pictures fit
MAX_REDIRECTS = 3
MEDIA_HOSTS = ("*.fal.media", "fal.media")
USER_AGENT = f"fal-image/{__version__} (python)"

_CHUNK_BYTES = 64 * 1024
_URL = re.compile(r"https://([a-z0-9.-]+)(/[!-\[\]-~]*)?")

Clock = Callable[[], float]


class WireError(Exception):
    """No whole answer came back. `sent` is False only if no byte of the request can have left."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class FetchError(Exception):
    """A file could not be fetched or broke a rule; `status` is the other side's, if it answered.

    `may_pass` says that fetching again could work.
    """

    def __init__(self, reason: str, *, status: int | None = None, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.may_pass = may_pass


class Answer(Struct, frozen=True):
    status: int
    headers: Headers
    body: bytes


class Reply(Struct, frozen=True):
    """An answer whose body is still on its way; its chunks raise WireError."""

    status: int
    headers: Headers
    chunks: Iterator[bytes]


class Fetched(Struct, frozen=True):
    bytes: int
    sha256: str


class Wire:
    """Connections out, shared by all threads of a process. Closing is left to its end."""

    def __init__(
        self,
        *,
        emulator_url: str | None = None,
        fetch_hosts: tuple[str, ...] = (),
        detours: Mapping[str, str] = MappingProxyType({}),
        clock: Clock = time.monotonic,
    ) -> None:
        """`detours` sends `https://<host>/<path>` to `<its address>/<host>/<path>`: what the
        emulator is for fal's hosts, a test's own server is for others."""
        self._emulator_url = emulator_url
        self._media_hosts = MEDIA_HOSTS + fetch_hosts
        self._detours = dict(detours)
        self._clock = clock
        here = [*self._detours.values(), *([emulator_url] if emulator_url else [])]
        self._pools = Pools(PublicTls, here, clock)
        self._named_pools = Pools(Tls, self._detours.values(), clock)

    def call(
        self,
        method: str,
        url: str,
        *,
        key: str,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send one request to fal with the key and read its whole answer, whatever its status.

        Raises WireError; ValueError for a URL the key must not go to.
        """
        ends_at = self._clock() + timeout_s
        with self._opened(method, url, key, headers, body, timeout_s) as answer:
            content = b"".join(self._chunks(answer, ends_at, MAX_ANSWER_BYTES))
            return Answer(answer.status, _headers_of(answer), content)

    def read(self, url: str, *, timeout_s: float, max_bytes: int) -> Answer:
        """GET what fal publishes, without the key; its whole answer, whatever its status.

        Raises WireError, also when the answer is longer; ValueError for a URL that is not fal's.
        """
        _check_fals_own(url)
        ends_at = self._clock() + timeout_s
        headers = {"accept": "application/json"}
        with self._request("GET", url, headers, None, timeout_s) as answer:
            content = b"".join(self._chunks(answer, ends_at, max_bytes))
            return Answer(answer.status, _headers_of(answer), content)

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        key: str,
        timeout_s: float,
        silence_s: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[Reply]:
        """Send one request to fal with the key and read its event stream as it comes.

        Raises WireError, from the chunks too: when `silence_s` passes without a byte or
        `timeout_s` in all. Leaving the block early drops the connection.
        """
        ends_at = self._clock() + timeout_s
        accepting = {"accept": "text/event-stream", **(headers or {})}
        waits_s = min(timeout_s, silence_s)
        with self._opened(method, url, key, accepting, body, waits_s) as answer:
            chunks = self._chunks(answer, ends_at, None, silence_s=silence_s)
            yield Reply(answer.status, _headers_of(answer), chunks)
            drain(answer)

    @contextmanager
    def reach(
        self,
        method: str,
        url: str,
        *,
        host: str,
        timeout_s: float,
        silence_s: float,
        headers: Mapping[str, str],
        body: bytes | BinaryIO = b"",
        max_bytes: int | None = None,
    ) -> Iterator[Reply]:
        """Send one request to another vendor's host; a redirect is an answer, not followed.

        `host` is the one the caller's configuration means, or that vendor's own answer over TLS;
        it may have a private address, as a bucket's name has inside its vendor's network. A file
        is sent whole, with its length, as it is read. `silence_s` is the longest pause in either
        direction, `timeout_s` ends the reading of the answer. Raises WireError, from the chunks
        too, also when they are more than `max_bytes`; ValueError for a URL that is not https on
        exactly `host`. Leaving the block early drops the connection.
        """
        if parse_target(url).hostname != host:
            raise ValueError("the address is not on the host it was asked of")
        ends_at = self._clock() + timeout_s
        pools, content = self._named_pools, _content(body)
        waits_s = min(timeout_s, silence_s)
        with self._request(method, url, headers, content, waits_s, pools) as answer:
            chunks = self._chunks(answer, ends_at, max_bytes, silence_s=silence_s)
            yield Reply(answer.status, _headers_of(answer), chunks)
            drain(answer)

    def tell(
        self,
        url: str,
        body: bytes,
        *,
        hosts: tuple[str, ...],
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> int:
        """POST to a receiver that a caller named, without any credential; the answer's status.

        It has a public address, a redirect is an answer and what the answer says is not kept.
        Raises WireError; ValueError for a URL that is not https on one of `hosts`.
        """
        host = parse_target(url).hostname or ""
        if not any(host_matches(host, pattern) for pattern in hosts):
            raise ValueError("the host is not one that may be told")
        with self._request("POST", url, headers, body, timeout_s) as answer:
            drain(answer)
            return answer.status

    def hand_over(self, url: str, file: BinaryIO, *, content_type: str, timeout_s: float) -> int:
        """PUT a file where fal asked for it, without any credential; the status of the answer.

        Raises WireError; ValueError for a URL that is neither on fal's media hosts nor, where
        there is one, the emulator's.
        """
        is_emulators = self._emulator_url and url.startswith(f"{self._emulator_url}/")
        host = "" if is_emulators else parse_target(url).hostname or ""
        if not is_emulators and not any(host_matches(host, media) for media in MEDIA_HOSTS):
            raise ValueError("input pictures go to fal's media hosts only")
        headers = {"content-type": content_type}
        with self._request("PUT", url, headers, _content(file), timeout_s) as answer:
            return answer.status

    def fetch(self, url: str, into: BinaryIO, *, max_bytes: int, ends_at: float) -> Fetched:
        """Copy a finished picture into `into`, without any credential.

        Follows redirects only to allowed hosts. Raises FetchError, also when more or fewer bytes
        came than were declared; `into` may then hold a part.
        """
        for _ in range(MAX_REDIRECTS + 1):
            target = self.check_media_url(url)
            try:
                with self._request("GET", target, {}, None, ends_at - self._clock()) as answer:
                    if location := answer.get_redirect_location():
                        url = _redirected(url, location)
                        continue
                    return self._copy(answer, into, max_bytes, ends_at)
            except WireError as error:
                raise FetchError(error.reason, may_pass=True) from error
        raise FetchError("too many redirects")

    def check_media_url(self, url: str) -> str:
        """The URL itself. Raises FetchError unless it is https on a host pictures may come from."""
        try:
            target = parse_target(url)
        except ValueError as error:
            raise FetchError(f"not a fetchable address: {error}") from error
        if not any(host_matches(target.hostname or "", host) for host in self._media_hosts):
            raise FetchError(f"the host {target.hostname} is not in FAL_IMAGE_FETCH_HOSTS")
        return url

    def _copy(self, answer: Incoming, into: BinaryIO, max_bytes: int, ends_at: float) -> Fetched:
        status = answer.status
        if status != 200:
            passing = status >= 500 or status in {408, 429}
            raise FetchError(f"HTTP {status}", status=status, may_pass=passing)
        declared = answer.headers.get("content-length") or ""
        if declared.isdigit() and int(declared) > max_bytes:
            raise FetchError(f"{declared} bytes are more than the {max_bytes} allowed", status=200)
        digest, size = hashlib.sha256(), 0
        for chunk in self._chunks(answer, ends_at, None):
            size += len(chunk)
            if size > max_bytes:
                raise FetchError(f"more than the {max_bytes} bytes allowed", status=200)
            digest.update(chunk)
            into.write(chunk)
        return Fetched(size, digest.hexdigest())

    @contextmanager
    def _opened(
        self,
        method: str,
        url: str,
        key: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        timeout_s: float,
    ) -> Iterator[Incoming]:
        _check_fals_own(url)
        keyed = {"accept": "application/json", **(headers or {}), "authorization": f"Key {key}"}
        with self._request(method, url, keyed, body, timeout_s) as answer:
            yield answer

    @contextmanager
    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | FileBody | None,
        timeout_s: float,
        pools: Pools | None = None,
    ) -> Iterator[Incoming]:
        if timeout_s <= 0:
            raise WireError("no time left", sent=False)
        actual, proxy = self._route(url)
        sent = {"user-agent": USER_AGENT, "accept-encoding": "identity", **headers}
        if isinstance(body, FileBody):
            sent["content-length"] = str(len(body))
        try:
            answer = (pools or self._pools).send(
                method,
                actual,
                headers=sent,
                body=body,
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), read=timeout_s),
                proxy=proxy,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise WireError(cause(error), sent=sending.started) from error
        try:
            yield answer
        finally:
            answer.close()

    def _route(self, url: str) -> tuple[str, str | None]:
        """Where a request really goes, the emulator if there is one; and by which proxy."""
        if self._emulator_url and url.startswith(f"{self._emulator_url}/"):
            return url, None
        host = urlsplit(url).hostname or ""
        fals_own = host in FAL_HOSTS or any(host_matches(host, media) for media in MEDIA_HOSTS)
        if self._emulator_url and fals_own:
            return f"{self._emulator_url}/{url.removeprefix('https://')}", None
        if host in self._detours:
            return f"{self._detours[host]}/{url.removeprefix('https://')}", None
        return url, proxy_for(url)

    def _chunks(
        self,
        answer: Incoming,
        ends_at: float,
        max_bytes: int | None,
        *,
        silence_s: float | None = None,
    ) -> Iterator[bytes]:
        size = 0
        try:
            while True:
                left_s = ends_at - self._clock()
                if left_s <= 0:
                    raise WireError("the time ran out inside the answer", sent=True)
                limit_reads(answer, min(left_s, silence_s or left_s))
                chunk = answer.read1(_CHUNK_BYTES, decode_content=True)
                if not chunk:
                    return
                size += len(chunk)
                if max_bytes is not None and size > max_bytes:
                    raise WireError(f"the answer is longer than {max_bytes} bytes", sent=True)
                yield chunk
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise WireError(cause(error), sent=True) from error


def parse_target(url: str) -> SplitResult:
    """A URL in the one form we follow: https, a plain host name, no user, port or fragment.

    Raises ValueError; never guesses what an odd spelling could mean.
    """
    host = _plain_host(url)
    labels = host.split(".")
    are_labels = all(1 <= len(label) <= 63 for label in labels)  # longer ones cannot be looked up
    if len(labels) < 2 or not are_labels or labels[-1].isdigit():
        raise ValueError("it must name a public host")
    return urlsplit(url)


def _plain_host(url: str) -> str:
    found = _URL.fullmatch(url)
    if found is None or "#" in url:
        raise ValueError("it must be https:// and a plain host name in lower case")
    return found[1]


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads; what is no address at all is left for the check to refuse."""
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def host_matches(host: str, pattern: str) -> bool:
    """Whether a host is the pattern, or below it if the pattern starts with "*."."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern


def _check_fals_own(url: str) -> None:
    if _plain_host(url) not in FAL_HOSTS:
        raise ValueError("calls for fal, and its key, go to fal's own hosts only")


def _content(body: bytes | BinaryIO) -> bytes | FileBody | None:
    return (body if isinstance(body, bytes) else FileBody(body)) or None


def _headers_of(answer: Incoming) -> Headers:
    headers = answer.headers
    return headers if isinstance(headers, Headers) else Headers(headers.items())

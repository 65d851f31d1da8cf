"""The one way out: every byte this package sends to fal or fetches from it goes through here.

Holds the rules that must not depend on the caller's care: which hosts may be reached, where the
fal key may go, size and time limits, no redirects with a key, no private addresses, and whether a
failed request can have reached the other side. Refuses to know what the bytes mean.

Built on requests; its urllib3 pool is subclassed where a rule lives at the socket.
"""

from __future__ import annotations

import hashlib
import http.cookiejar
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from . import __version__
from .settings import FAL_HOSTS
from .web import Headers

CONNECT_TIMEOUT_S = 5.0
MAX_IDLE_S = 2.0  # an older connection may be dead already, and a submit must not find out by doing
MAX_ANSWER_BYTES = 96 * 1024 * 1024  # fal's JSON; data URIs of four large pictures fit
MAX_REDIRECTS = 3
MEDIA_HOSTS = ("*.fal.media", "fal.media")
USER_AGENT = f"fal-image/{__version__} (python)"

_CHUNK_BYTES = 64 * 1024
_POOL_SIZE = 64
_DRAIN_S = 0.05

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


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Fetched:
    bytes: int
    sha256: str


class Wire:
    """Connections out, shared by all threads of a process. Closing is left to its end."""

    def __init__(
        self,
        *,
        emulator_url: str | None = None,
        fetch_hosts: tuple[str, ...] = (),
        clock: Clock = time.monotonic,
    ) -> None:
        self._emulator_url = emulator_url
        self._media_hosts = MEDIA_HOSTS + fetch_hosts
        self._clock = clock
        self._session = _session(emulator_url, clock)

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
            return Answer(answer.status_code, _headers_of(answer), content)

    @contextmanager
    def stream(
        self, url: str, *, key: str, timeout_s: float, silence_s: float
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Read an event stream of fal as it comes: its status and its chunks.

        Raises WireError, from the chunks too: when `silence_s` passes without a byte or
        `timeout_s` in all. Leaving the block early drops the connection.
        """
        ends_at = self._clock() + timeout_s
        accept = {"accept": "text/event-stream"}
        with self._opened("GET", url, key, accept, None, min(timeout_s, silence_s)) as answer:
            yield answer.status_code, self._chunks(answer, ends_at, None, silence_s=silence_s)
            _drain(answer)

    def fetch(self, url: str, into: BinaryIO, *, max_bytes: int, ends_at: float) -> Fetched:
        """Copy a finished picture into `into`, without any credential.

        Follows redirects only to allowed hosts. Raises FetchError, also when more or fewer bytes
        came than were declared; `into` may then hold a part.
        """
        for _ in range(MAX_REDIRECTS + 1):
            target = self.check_media_url(url)
            try:
                with self._request("GET", target, {}, None, ends_at - self._clock()) as answer:
                    if answer.is_redirect:
                        url = urljoin(url, answer.headers["location"])
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

    def _copy(
        self, answer: requests.Response, into: BinaryIO, max_bytes: int, ends_at: float
    ) -> Fetched:
        status = answer.status_code
        if status != 200:
            passing = status >= 500 or status in {408, 429}
            raise FetchError(f"HTTP {status}", status=status, may_pass=passing)
        declared = answer.headers.get("content-length", "")
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
    ) -> Iterator[requests.Response]:
        if parse_target(url).hostname not in FAL_HOSTS:
            raise ValueError("the fal key goes to fal's own hosts only")
        keyed = {"accept": "application/json", **(headers or {}), "authorization": f"Key {key}"}
        with self._request(method, url, keyed, body, timeout_s) as answer:
            yield answer

    @contextmanager
    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> Iterator[requests.Response]:
        if timeout_s <= 0:
            raise WireError("no time left", sent=False)
        actual, proxies = self._route(url)
        _sending.started = False
        try:
            answer = self._session.request(
                method,
                actual,
                headers={"user-agent": USER_AGENT, "accept-encoding": "identity", **headers},
                data=body,
                timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s),
                stream=True,
                allow_redirects=False,
                proxies=proxies,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise WireError(_reason(error), sent=_sending.started) from error
        try:
            yield answer
        finally:
            answer.close()

    def _route(self, url: str) -> tuple[str, dict[str, str]]:
        """Where a request really goes: the emulator if there is one, else by the proxy settings."""
        host = urlsplit(url).hostname or ""
        fals_own = host in FAL_HOSTS or any(host_matches(host, media) for media in MEDIA_HOSTS)
        if self._emulator_url and fals_own:
            return f"{self._emulator_url}/{url.removeprefix('https://')}", {}
        proxies = requests.utils.get_environ_proxies(url)
        return url, {scheme: str(proxy) for scheme, proxy in proxies.items()}

    def _chunks(
        self,
        answer: requests.Response,
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
                _limit_reads(answer, min(left_s, silence_s or left_s))
                chunk = answer.raw.read1(_CHUNK_BYTES, decode_content=True)
                if not chunk:
                    return
                size += len(chunk)
                if max_bytes is not None and size > max_bytes:
                    raise WireError(f"the answer is longer than {max_bytes} bytes", sent=True)
                yield chunk
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise WireError(_reason(error), sent=True) from error


def parse_target(url: str) -> SplitResult:
    """A URL in the one form we follow: https, a plain host name, no user, port or fragment.

    Raises ValueError; never guesses what an odd spelling could mean.
    """
    if not re.fullmatch(r"https://[a-z0-9.-]+(/[!-\[\]-~]*)?", url) or "#" in url:
        raise ValueError("it must be https:// and a plain host name in lower case")
    target = urlsplit(url)
    labels = (target.hostname or "").split(".")
    if len(labels) < 2 or not all(labels) or labels[-1].isdigit():
        raise ValueError("it must name a public host")
    return target


def host_matches(host: str, pattern: str) -> bool:
    """Whether a host is the pattern, or below it if the pattern starts with "*."."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern


# Set by the connection when the first byte of a request leaves, read by whoever sent it.
class _Sending(threading.local):
    started = False


_sending = _Sending()


class _TracksSending:
    def send(self, data: Any) -> None:
        if getattr(self, "sock", None) is None:
            self.connect()  # type: ignore[attr-defined]
        _sending.started = True
        super().send(data)  # type: ignore[misc]


class _Plain(_TracksSending, urllib3.connection.HTTPConnection):
    """To the emulator or a proxy, which are on private addresses by nature."""


class _Tls(_TracksSending, urllib3.connection.HTTPSConnection):
    """Through a proxy, which resolves names itself."""


class _PublicTls(_Tls):
    """Straight out: every address the name resolves to is looked at before connecting."""

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error  # type: ignore[arg-type]
        addresses = [str(info[4][0]) for info in found]
        if not all(ipaddress.ip_address(address).is_global for address in addresses):
            raise urllib3.exceptions.NewConnectionError(self, "the host has a private address")
        return self._first_connection(addresses)

    def _first_connection(self, addresses: list[str]) -> socket.socket:
        """Connect to what was looked at: the name could resolve differently a second time."""
        name = self._dns_host
        for number, address in enumerate(addresses, start=1):
            self._dns_host = address
            try:
                return super()._new_conn()
            except urllib3.exceptions.NewConnectionError:
                if number == len(addresses):
                    raise
            finally:
                self._dns_host = name
        raise urllib3.exceptions.NewConnectionError(self, "the host has no address")


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, tls: type[_Tls], clock: Clock) -> None:
        self._pools = _pool_classes(tls, clock)
        self._proxied_pools = _pool_classes(_Tls, clock)
        super().__init__(pool_maxsize=_POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._proxied_pools
        return manager


def _pool_classes(tls: type[_Tls], clock: Clock) -> dict[str, type]:
    class Freshness:
        """Hands out no connection that has been idle for more than MAX_IDLE_S."""

        def _get_conn(self, timeout: float | None = None) -> Any:
            connection = super()._get_conn(timeout)  # type: ignore[misc]
            if clock() - getattr(connection, "idle_since", clock()) > MAX_IDLE_S:
                connection.close()
            return connection

        def _put_conn(self, connection: Any) -> None:
            if connection is not None:
                connection.idle_since = clock()
            super()._put_conn(connection)  # type: ignore[misc]

    class PlainPool(Freshness, urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = _Plain

    class TlsPool(Freshness, urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = tls

    return {"http": PlainPool, "https": TlsPool}


def _session(emulator_url: str | None, clock: Clock) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a ~/.netrc would replace our Authorization header
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.mount("https://", _Adapter(_PublicTls, clock))
    if emulator_url:
        session.mount(f"{emulator_url}/", _Adapter(_Tls, clock))
    return session


def _headers_of(answer: requests.Response) -> Headers:
    return Headers(answer.raw.headers.items())


def _limit_reads(answer: requests.Response, seconds: float) -> None:
    sock = getattr(answer.raw.connection, "sock", None)
    if sock is not None:  # a body that ends with the connection has taken the socket over
        sock.settimeout(seconds)


def _drain(answer: requests.Response) -> None:
    """Read an ended stream to its end, so that its connection can carry the next request."""
    try:
        _limit_reads(answer, _DRAIN_S)
        if answer.raw.read1(_CHUNK_BYTES):
            answer.raw.close()
    except (urllib3.exceptions.HTTPError, OSError):
        answer.raw.close()


def _reason(error: BaseException) -> str:
    """The innermost cause in words, without the URL (which may carry a signature)."""
    while isinstance(error, requests.RequestException) and error.args:
        inner = error.args[0]
        if not isinstance(inner, BaseException):
            break
        error = inner
    if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason:
        error = error.reason
    words = str(error).rpartition(": ")[2] or "no answer"
    return f"{type(error).__name__}: {words}"

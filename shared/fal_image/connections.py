"""The sockets under the wire: where they may lead, how old they get, how long an answer's head may
take, and whether a byte has left.

Subclasses of urllib3's pool, for these rules hold only where the socket is made. Refuses to know
what is sent over them and to whom.
"""

from __future__ import annotations

import http.client
import http.cookiejar
import io
import ipaddress
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import requests
import requests.adapters
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

MAX_IDLE_S = 2.0  # an older connection may be dead already, and a submit must not find out by doing
_CHUNK_BYTES = 64 * 1024
_DRAIN_S = 0.05
_POOL_SIZE = 64


class Sending(threading.local):
    """Set by a connection when the first byte of a request leaves, read by whoever sent it."""

    started = False


sending = Sending()


class _HeadReader(io.RawIOBase):
    """A socket's bytes; all reads before `whole` together take no longer than its time-out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._bytes = sock.makefile("rb", buffering=0)
        self._timeout_s = sock.gettimeout()
        self._ends_at = time.monotonic() + (self._timeout_s or math.inf)

    def whole(self) -> None:
        self._ends_at = math.inf
        self._sock.settimeout(self._timeout_s)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._ends_at < math.inf:
            left_s = self._ends_at - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the answer's head took too long")
            self._sock.settimeout(left_s)
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        self._bytes.close()
        super().close()


class _HeadInTime(http.client.HTTPResponse):
    """An answer that cannot keep us for longer than the time-out with one byte at a time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._reader = _HeadReader(sock)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        self._reader.whole()


class _Guarded:
    response_class: Any = _HeadInTime

    def send(self, data: Any) -> None:
        if getattr(self, "sock", None) is None:
            self.connect()  # type: ignore[attr-defined]
        sending.started = True
        super().send(data)  # type: ignore[misc]


class _Plain(_Guarded, urllib3.connection.HTTPConnection):
    """To the emulator or a proxy, which are on private addresses by nature."""


class Tls(_Guarded, urllib3.connection.HTTPSConnection):
    """To a host that configuration names, or through a proxy, which resolves names itself."""


class PublicTls(Tls):
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
    def __init__(self, tls: type[Tls], clock: Callable[[], float], max_idle_s: float) -> None:
        self._pools = _pool_classes(tls, clock, max_idle_s)
        self._proxied_pools = _pool_classes(Tls, clock, max_idle_s)
        super().__init__(pool_maxsize=_POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._proxied_pools
        return manager


def _pool_classes(tls: type[Tls], clock: Callable[[], float], max_idle_s: float) -> dict[str, type]:
    class Freshness:
        """Hands out no connection that has been idle for more than `max_idle_s`."""

        def _get_conn(self, timeout: float | None = None) -> Any:
            connection = super()._get_conn(timeout)  # type: ignore[misc]
            if clock() - getattr(connection, "idle_since", clock()) > max_idle_s:
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


class _Session(requests.Session):
    """Looks at no redirect: requests would read its body, however long, and its Location, which
    may be no address at all, also where it is told not to follow."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def new_session(
    tls: type[Tls],
    servers: Iterable[str],
    clock: Callable[[], float],
    *,
    max_idle_s: float = MAX_IDLE_S,
) -> requests.Session:
    """`tls` carries https; `servers` are addresses that may be reached in the clear. Whoever
    REQUESTS_CA_BUNDLE names vouches for servers, else the authorities of certifi."""
    session = _Session()
    session.trust_env = False  # a ~/.netrc would replace our Authorization header
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.mount("https://", _Adapter(tls, clock, max_idle_s))
    for server in servers:
        session.mount(f"{server}/", _Adapter(Tls, clock, max_idle_s))
    return session


def limit_reads(answer: requests.Response, seconds: float) -> None:
    """Let the next read of an answer's body wait no longer than this."""
    sock = getattr(answer.raw.connection, "sock", None)
    if sock is not None:  # a body that ends with the connection has taken the socket over
        sock.settimeout(seconds)


def drain(answer: requests.Response) -> None:
    """Read an ended answer to its end, so that its connection can carry the next request."""
    try:
        limit_reads(answer, _DRAIN_S)
        if answer.raw.read1(_CHUNK_BYTES):
            answer.raw.close()
    except (urllib3.exceptions.HTTPError, OSError):
        answer.raw.close()


def cause(error: BaseException) -> str:
    """The innermost cause in words, without the URL (which may carry a signature)."""
    if isinstance(error, requests.exceptions.InvalidHeader):  # its words repeat the value
        return "InvalidHeader: a header's value cannot be sent"
    while isinstance(error, requests.RequestException) and error.args:
        inner = error.args[0]
        if not isinstance(inner, BaseException):
            break
        error = inner
    if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason:
        error = error.reason
    words = str(error).rpartition(": ")[2] or "no answer"
    return f"{type(error).__name__}: {words}"

"""Connections that are kept for the next request, and how old they may get.

Subclasses of urllib3's pools; requests, which sits on the same pools, is left out, for loading it
is a part of every cold start. Refuses to know what is sent and how a socket is opened.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.util

from .plain import Incoming
from .sockets import PlainHttp, Tls, sending

MAX_IDLE_S = 2.0  # an older connection may be dead already, and a submit must not find out by doing
POOL_SIZE = 64
MAX_POOLS = 16  # callers may name hosts of their own

_BROKEN = (urllib3.exceptions.HTTPError, OSError)  # a certificate's error is a ValueError too
_CHUNK_BYTES = 64 * 1024
_DRAIN_S = 0.05
_NAMES_PROXY = re.compile(r"(?i:(http|https|all|no)_proxy)\Z").match
# What urllib3 would write in no other way.
_SIMPLE_URL = re.compile(r"(https?://[a-z0-9.-]+(?::[0-9]+)?)(/(?:[\w~/=?&-]|(?<!/)\.)*)", re.ASCII)


def pool_classes(
    tls: type[Tls], clock: Callable[[], float], max_idle_s: float
) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """By scheme, pools whose connections keep the rules above."""

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

        def taken(self) -> Any:
            """A connection, kept or not yet open. Raises urllib3's HTTPError."""
            try:
                return self._get_conn()
            except http.client.InvalidURL as error:
                words = "the address names no possible host"
                raise urllib3.exceptions.LocationValueError(words) from error

        def ask(
            self,
            method: str,
            target: str,
            *,
            headers: Mapping[str, str],
            body: Iterable[bytes] | None,
            timeout: urllib3.Timeout,
        ) -> Incoming:
            """As `urlopen`, once, and with its errors."""
            connection, is_waiting = self.taken(), True
            try:
                connection.timeout = timeout.connect_timeout
                self._validate_conn(connection)  # type: ignore[attr-defined]  # shakes hands
                is_waiting = False
                connection.ask(method, target, headers, body)
                connection.timeout, is_waiting = timeout.read_timeout, True
                answer: Incoming = connection.answer(method, self)
                return answer
            except (OSError, http.client.HTTPException) as error:
                waited_s = connection.timeout if is_waiting else None
                connection.close()
                raise _as_urllib3s(self, target, error, waited_s) from error
            except BaseException:
                connection.close()
                raise

    class PlainPool(Freshness, urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = PlainHttp

    class TlsPool(Freshness, urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = tls

    return {"http": PlainPool, "https": TlsPool}


class Pools:
    """Connections to any number of hosts, kept for the next request. Safe to share between threads.

    `tls` carries https; `servers` are addresses that may be reached in the clear, or by https as a
    host that configuration names. Whoever `authorities` names, a file of certificates, vouches for
    servers; else REQUESTS_CA_BUNDLE, else the authorities of certifi.
    """

    def __init__(
        self,
        tls: type[Tls],
        servers: Iterable[str],
        clock: Callable[[], float],
        *,
        max_idle_s: float = MAX_IDLE_S,
        authorities: str | None = None,
    ) -> None:
        self._servers = tuple(f"{server}/" for server in servers)
        self._classes = pool_classes(tls, clock, max_idle_s)
        self._named_classes = pool_classes(Tls, clock, max_idle_s)
        self._authorities = authorities
        self._lock = threading.Lock()
        # By origin, and whether it may be a private one.
        self._pools: dict[tuple[str, bool], urllib3.HTTPConnectionPool] = {}
        self._managers: dict[str, urllib3.ProxyManager] = {}  # by proxy

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        timeout: urllib3.Timeout,
        proxy: str | None = None,
    ) -> Incoming:
        """The head of the answer to one request, whatever it says; its body is still to be read.

        An iterable body needs a content-length among the headers. No cookie is kept, no redirect
        followed, nothing sent twice. Raises urllib3's HTTPError, OSError, and ValueError for what
        cannot be sent; `sending.started` then says whether a byte has left.
        """
        sending.started = False
        if proxy is not None:
            return self._manager(proxy).urlopen(
                method,
                url,
                headers=headers,
                body=body,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        is_named = url.startswith(self._servers)
        if not is_named and not url.startswith("https://"):
            words = "the address is neither https nor a server that was named"
            raise urllib3.exceptions.LocationValueError(words)
        pool, target = self._straight(url, is_named=is_named)
        answer: Incoming = pool.ask(method, target, headers=headers, body=body, timeout=timeout)
        return answer

    def connect(self, url: str, *, timeout_s: float) -> None:
        """Open a connection for the next request to the URL's host, which goes by no proxy, unless
        one is open. Raises urllib3's HTTPError and OSError."""
        pool, _ = self._straight(url, is_named=url.startswith(self._servers))
        connection = pool.taken()
        if connection.is_closed:
            connection.timeout = timeout_s
            connection.connect()
        pool._put_conn(connection)

    def _straight(self, url: str, *, is_named: bool) -> tuple[Any, str]:
        """The pool of a URL's host, and what it is asked for."""
        simple = _SIMPLE_URL.fullmatch(url)
        if simple is not None:
            origin, target = simple[1], simple[2]
        else:
            parsed = urllib3.util.parse_url(url)
            origin, target = f"{parsed.scheme}://{parsed.netloc}", parsed.request_uri
        pool = self._pools.get((origin, is_named))
        return (pool or self._pool(origin, is_named)), target

    def _pool(self, origin: str, is_named: bool) -> urllib3.HTTPConnectionPool:
        place = urllib3.util.parse_url(origin)
        scheme, options = place.scheme or "", self._options()
        if scheme == "http":
            del options["ca_certs"]
        new = (self._named_classes if is_named else self._classes)[scheme]
        with self._lock:
            if (origin, is_named) not in self._pools:
                if len(self._pools) == MAX_POOLS:
                    del self._pools[next(iter(self._pools))]
                # Without a port http.client would look for one in the host, and IPv6 has colons.
                port = place.port or urllib3.connection.port_by_scheme[scheme]
                self._pools[origin, is_named] = new(place.host or "", port, **options)
            return self._pools[origin, is_named]

    def _manager(self, proxy: str) -> urllib3.ProxyManager:
        with self._lock:
            if proxy not in self._managers:
                address, headers = _proxy(proxy)
                manager = urllib3.ProxyManager(address, proxy_headers=headers, **self._options())
                manager.pool_classes_by_scheme = self._named_classes
                self._managers[proxy] = manager
            return self._managers[proxy]

    def _options(self) -> dict[str, Any]:
        authorities = self._authorities or os.environ.get("REQUESTS_CA_BUNDLE") or None
        return {"maxsize": POOL_SIZE, "ca_certs": authorities}


def _as_urllib3s(
    pool: Any, target: str, error: Exception, waited_s: float | None
) -> urllib3.exceptions.HTTPError:
    """What `urlopen` would have raised; `waited_s` is how long the other side might have taken."""
    if isinstance(error, TimeoutError) and waited_s is not None:
        words = f"Read timed out. (read timeout={waited_s})"
        return urllib3.exceptions.ReadTimeoutError(pool, target, words)
    if isinstance(error, ssl.SSLError):
        return urllib3.exceptions.SSLError(error)
    return urllib3.exceptions.ProtocolError("Connection aborted.", error)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address, or None; NO_PROXY as requests reads
    it."""
    if sys.platform == "linux" and not any(map(_NAMES_PROXY, os.environ)):
        return None  # as in most functions, which need not load requests then
    import requests.utils

    return requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))


def _proxy(address: str) -> tuple[str, dict[str, str]]:
    """A proxy's address without the user, who goes into a header."""
    if "://" not in address:
        address = f"http://{address}"
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return address, {}
    return (
        f"{parts.scheme}://{host}",
        urllib3.util.make_headers(proxy_basic_auth=unquote(user)),
    )


def limit_reads(answer: Incoming, seconds: float) -> None:
    """Let the next read of an answer's body wait no longer than this."""
    sock = getattr(answer.connection, "sock", None)
    if sock is not None:  # a body that ends with the connection has taken the socket over
        sock.settimeout(seconds)


def drain(answer: Incoming) -> None:
    """Read an ended answer to its end, so that its connection can carry the next request."""
    try:
        limit_reads(answer, _DRAIN_S)
        if answer.read1(_CHUNK_BYTES):
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError):
        answer.close()


def cause(error: BaseException) -> str:
    """The innermost cause in words, without the URL (which may carry a signature)."""
    if isinstance(error, urllib3.exceptions.LocationParseError):
        return "LocationParseError: the address cannot be read"
    if isinstance(error, ValueError) and not isinstance(error, _BROKEN):
        return "InvalidHeader: a header's value cannot be sent"  # its own words repeat the value
    if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason:
        error = error.reason
    words = str(error).rpartition(": ")[2] or "no answer"
    return f"{type(error).__name__}: {words}"

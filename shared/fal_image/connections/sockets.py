"""How a connection is made: where it may lead, how long an answer's head may take, and whether a
byte of the request has left.

Subclasses of urllib3's connections, for these rules hold only where the socket is. Refuses to know
what is sent and when a connection is used again.
"""

from __future__ import annotations

import errno
import functools
import http.client
import io
import ipaddress
import math
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import urllib3
import urllib3.connection
import urllib3.exceptions
import urllib3.util

from . import plain

_RECEIVED_BYTES = 64 * 1024
# Whoever hangs up may have answered before; so do urllib3 and Darwin's own number for it.
_HUNG_UP = (errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE)
_HEAD_ENDS = re.compile(rb"\n\r?\n").search
_ONE_PIECE_BYTES = 16 * 1024  # what a socket that waits for nothing takes at once


class Sending(threading.local):
    """Set by a connection when the first byte of a request leaves, read by whoever sent it."""

    started = False


sending = Sending()


class _HeadReader(io.RawIOBase):
    """What came already and then a socket's bytes; no read before `whole` waits past `ends_at`."""

    def __init__(self, sock: socket.socket, started: bytes, ends_at: float) -> None:
        self._sock = sock
        self._started = started
        self._bytes = sock.makefile("rb", buffering=0)
        self._timeout_s = sock.gettimeout()
        self._ends_at = ends_at

    def whole(self) -> None:
        self._ends_at = math.inf
        self._sock.settimeout(self._timeout_s)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._started:
            piece, self._started = self._started[: len(buffer)], self._started[len(buffer) :]
            buffer[: len(piece)] = piece
            return len(piece)
        if self._ends_at < math.inf:
            _wait_until(self._ends_at, self._sock)
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        self._bytes.close()
        super().close()


class _HeadInTime(http.client.HTTPResponse):
    """An answer that cannot keep us for longer than the time-out with one byte at a time."""

    def __init__(
        self,
        sock: socket.socket,
        *args: Any,
        started: bytes = b"",
        ends_at: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        until = _end_of(sock.gettimeout()) if ends_at is None else ends_at
        self._reader = _HeadReader(sock, started, until)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        self._reader.whole()


def _end_of(timeout_s: float | None) -> float:
    return time.monotonic() + (timeout_s or math.inf)


def _wait_until(ends_at: float, sock: socket.socket) -> None:
    """Let the next read of a head end with its time. Raises TimeoutError."""
    left_s = ends_at - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the answer's head took too long")
    sock.settimeout(left_s)


class _Guarded:
    response_class: Any = _HeadInTime
    sock: Any
    timeout: Any
    host: Any
    port: Any
    default_port: ClassVar[int]

    @property
    def is_connected(self) -> bool:
        """Whether the other side neither hung up nor said a word that nobody asked for. The pool
        looks before each request."""
        if self.sock is None:
            return False
        is_tls = isinstance(self.sock, ssl.SSLSocket)
        if is_tls and self.sock.pending():
            return False
        if not urllib3.util.wait_for_read(self.sock, timeout=0.0):
            return True
        return is_tls and _is_only_tls(self.sock)

    def send(self, data: Any) -> None:
        if getattr(self, "sock", None) is None:
            self.connect()  # type: ignore[attr-defined]
        sending.started = True
        super().send(data)  # type: ignore[misc]

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | bytes | None,
    ) -> None:
        """Send a request without http.client, to a host with no proxy in between; `answer` is
        next. Raises what `connect` and a socket raise, ValueError for what cannot be sent."""
        start = plain.written(method, target, self._authority(), headers, body)
        pieces = [body] if isinstance(body, bytes) else body or ()
        if isinstance(body, bytes) and len(body) <= _ONE_PIECE_BYTES:
            start, pieces = start + body, ()
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        elif self.sock.gettimeout() != self.timeout:  # what the last answer was read with
            self.sock.settimeout(self.timeout)
        sending.started = True
        try:
            self.sock.sendall(start)
            for piece in pieces:
                self.sock.sendall(piece)
        except OSError as error:
            if error.errno not in _HUNG_UP:
                raise

    def answer(self, method: str, pool: Any) -> plain.Incoming:
        """The answer to what was asked, which gives the connection back to the pool. Raises what a
        socket and http.client raise."""
        if self.sock.gettimeout() != self.timeout:
            self.sock.settimeout(self.timeout)
        ends_at = _end_of(self.timeout)
        started = self._head(ends_at)
        head = plain.parsed(method, started)
        if head is not None:
            return plain.PlainAnswer(head, pool, self, started[head.length :])
        return self._other_answer(method, pool, started, ends_at)

    def _head(self, ends_at: float) -> bytes:
        """What has come when a head may be whole: an end of a paragraph, or more than any head."""
        started = bytes(self.sock.recv(_RECEIVED_BYTES))
        if not started:
            words = "Remote end closed connection without response"
            raise http.client.RemoteDisconnected(words)
        if _HEAD_ENDS(started):
            return started
        seen = 0
        while len(started) < _RECEIVED_BYTES and not _HEAD_ENDS(started, seen):
            _wait_until(ends_at, self.sock)
            piece = self.sock.recv(_RECEIVED_BYTES)
            if not piece:
                break
            seen = max(0, len(started) - 2)  # where the end may have begun
            started += piece
        self.sock.settimeout(self.timeout)
        return started

    def _other_answer(
        self, method: str, pool: Any, started: bytes, ends_at: float
    ) -> plain.Incoming:
        """An answer that begins with what has come, read as http.client and urllib3 do."""
        original = _HeadInTime(self.sock, method=method, started=started, ends_at=ends_at)
        try:
            original.begin()
        except BaseException:
            original.close()
            raise
        if original.will_close:
            self.close()  # type: ignore[attr-defined]  # the answer holds the socket
        return urllib3.HTTPResponse(
            original,
            urllib3.HTTPHeaderDict(original.msg.items()),
            original.status,
            original.version,
            reason=original.reason,
            preload_content=False,
            original_response=original,
            pool=pool,
            connection=self,  # type: ignore[arg-type]
            request_method=method,
        )

    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else str(self.host)
        return host if self.port in (None, self.default_port) else f"{host}:{self.port}"


def _is_only_tls(sock: ssl.SSLSocket) -> bool:
    """Whether what came is TLS's own: after a handshake of TLS 1.3 the server sends tickets."""
    timeout_s = sock.gettimeout()
    sock.settimeout(0)
    try:
        sock.recv(1)
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False
    finally:
        sock.settimeout(timeout_s)
    return False


class PlainHttp(_Guarded, urllib3.connection.HTTPConnection):
    """To the emulator or a proxy, which are on private addresses by nature."""


class Tls(_Guarded, urllib3.connection.HTTPSConnection):
    """To a host that configuration names, or through a proxy, which resolves names itself."""

    def connect(self) -> None:
        if self.ssl_context is None:
            self.ssl_context = _trusting(self.ca_certs or self.ca_cert_dir)
            # urllib3 would read them into the context, which is everybody's, at each connection.
            self.ca_certs = self.ca_cert_dir = None
        if self.proxy_config is not None and self.proxy_config.ssl_context is None:
            self.proxy_config = self.proxy_config._replace(ssl_context=self.ssl_context)
        super().connect()


@functools.cache
def _trusting(authorities: str | None) -> ssl.SSLContext:
    """A context for all connections: reading the authorities takes 10 ms and more each time."""
    context = urllib3.util.create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    if authorities is None:
        import certifi  # takes 10 ms, which who speaks in the clear need not wait for

        authorities = certifi.where()
    if os.path.isdir(authorities):
        context.load_verify_locations(capath=authorities)
    else:
        context.load_verify_locations(cafile=authorities)
    return context


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

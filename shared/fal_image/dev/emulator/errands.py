"""Calls that the emulator makes itself, each on a thread that ends with the emulator.

Knows how a connection to a web address is opened, and how one that hangs is broken. Refuses to
know what is sent.
"""

from __future__ import annotations

import http.client
import socket
import string
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote, urlsplit

JOIN_S = 15.0  # longer than any connection takes to open


class Errands:
    """Threads that call out."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._at_work: dict[threading.Thread, socket.socket | None] = {}

    def send(self, errand: Callable[[], object]) -> None:
        """Begin one; it must return soon once `pause` says so or `connect` refuses."""
        thread = threading.Thread(target=self._do, args=(errand,), daemon=True)
        with self._lock:
            self._at_work[thread] = None
        thread.start()

    def pause(self, seconds: float) -> bool:
        """True if the errands were stopped meanwhile."""
        return self._stopped.wait(seconds)

    def connect(self, connection: http.client.HTTPConnection) -> None:
        """Open a connection that `stop` may break. Raises OSError, also after `stop`."""
        try:
            connection.connect()
        except UnicodeError as error:  # a host name that DNS could not spell
            raise OSError(str(error)) from error
        with self._lock:
            if self._stopped.is_set():
                raise ConnectionAbortedError("the emulator has stopped")
            # Not the connection: it forgets its socket before the answer's body has been read.
            self._at_work[threading.current_thread()] = connection.sock

    def stop(self) -> None:
        """Breaks what hangs and waits until every errand has returned."""
        self._stopped.set()
        with self._lock:
            at_work = dict(self._at_work)
        for open_socket in at_work.values():
            if open_socket is not None:
                with suppress(OSError):  # it may be closed already
                    open_socket.shutdown(socket.SHUT_RDWR)
        for thread in at_work:
            thread.join(JOIN_S)

    def _do(self, errand: Callable[[], object]) -> None:
        try:
            errand()
        finally:
            with self._lock:
                self._at_work.pop(threading.current_thread(), None)


def connection_to(url: str, *, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is not open yet, and the target to ask it for.

    `timeout_s` bounds each wait for the other side. Raises ValueError for anything but a web
    address.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"not a web address: {url!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    try:
        connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    except http.client.InvalidURL as error:
        raise ValueError(str(error)) from error
    return connection, quote(target, safe=string.punctuation)

"""Calls that the emulator makes itself, on threads that end with the emulator.

Knows how a connection to a web address is opened and kept, and how one that hangs is broken.
Refuses to know what is sent.
"""

from __future__ import annotations

import http.client
import socket
import string
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import quote, urlsplit

from urllib3.util.wait import wait_for_read

JOIN_S = 15.0  # longer than any connection takes to open
READ_S = 1.0  # for the body of an answer, which nobody needs but for the next call
READ_BYTES = 64 * 1024

Place = tuple[type[http.client.HTTPConnection], str, int]


class Errands:
    """Threads that call out, as many as have something to do at once, and their connections."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._waiting: deque[Callable[[], object]] = deque()
        self._busy: set[threading.Thread] = set()
        self._at_work: dict[threading.Thread, socket.socket | None] = {}
        self._kept: dict[Place, list[http.client.HTTPConnection]] = {}

    def send(self, errand: Callable[[], object]) -> None:
        """Begin one; it must return soon once `pause` says so or `connect` refuses."""
        with self._lock:
            self._waiting.append(errand)
            if len(self._at_work) - len(self._busy) >= len(self._waiting):
                self._more.notify()  # if the free ones are not on their way here anyhow
                return
            thread = threading.Thread(target=self._work, daemon=True)
            self._at_work[thread] = None
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            with self._lock:
                del self._at_work[thread]
            raise

    def pause(self, seconds: float) -> bool:
        """True if the errands were stopped meanwhile."""
        return self._stopped.wait(seconds)

    def connect(self, connection: http.client.HTTPConnection) -> None:
        """Open a connection that `stop` may break. Raises OSError, also after `stop`."""
        try:
            connection.connect()
        except UnicodeError as error:  # a host name that DNS could not spell
            raise OSError(str(error)) from error
        self._watch(connection)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> int:
        """The status of the answer; the connection is kept for the next call to the same place.

        Raises ValueError for anything but a web address, OSError and HTTPException.
        """
        fresh, target = connection_to(url, timeout_s=timeout_s)
        place = (type(fresh), fresh.host, fresh.port)
        kept = self._kept_to(place)
        if kept is not None:
            with suppress(ConnectionError):  # it was closed in this moment: open another
                return self._posted(kept, place, target, body, headers, timeout_s)
        return self._posted(fresh, place, target, body, headers, timeout_s)

    def stop(self) -> None:
        """Breaks what hangs and waits until every errand has returned."""
        self._stopped.set()
        with self._lock:
            self._more.notify_all()
            at_work, kept = dict(self._at_work), self._kept
            self._kept = {}
        for open_socket in at_work.values():
            if open_socket is not None:
                with suppress(OSError):  # it may be closed already
                    open_socket.shutdown(socket.SHUT_RDWR)
        for connections in kept.values():
            for connection in connections:
                connection.close()
        for thread in at_work:
            thread.join(JOIN_S)

    def _work(self) -> None:
        try:
            while (errand := self._next()) is not None:
                errand()
        finally:
            with self._lock:
                self._busy.discard(threading.current_thread())
                self._at_work.pop(threading.current_thread(), None)

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            self._busy.discard(threading.current_thread())
            self._at_work[threading.current_thread()] = None
            while not self._waiting and not self._stopped.is_set():
                self._more.wait()
            if self._stopped.is_set():
                return None
            self._busy.add(threading.current_thread())
            return self._waiting.popleft()

    def _posted(
        self,
        connection: http.client.HTTPConnection,
        place: Place,
        target: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> int:
        is_kept = False
        try:
            if connection.sock is None:
                self.connect(connection)
            else:
                connection.sock.settimeout(timeout_s)
                self._watch(connection)
            connection.request("POST", target, body, dict(headers))
            answer = connection.getresponse()
            is_kept = _is_read(answer, connection)
            return answer.status
        finally:
            with self._lock:
                self._at_work[threading.current_thread()] = None
                if is_kept and not self._stopped.is_set():
                    self._kept.setdefault(place, []).append(connection)
                else:
                    connection.close()

    def _kept_to(self, place: Place) -> http.client.HTTPConnection | None:
        """A connection that nobody uses and the other side has not closed."""
        while True:
            with self._lock:
                kept = self._kept.get(place)
                if not kept:
                    return None
                connection = kept.pop()
            if not wait_for_read(connection.sock, timeout=0):
                return connection
            connection.close()

    def _watch(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise ConnectionAbortedError("the emulator has stopped")
            # Not the connection: it forgets its socket before the answer's body has been read.
            self._at_work[threading.current_thread()] = connection.sock


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


def _is_read(answer: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> bool:
    """Whether the answer was read to its end, so that another call may follow."""
    if answer.will_close or answer.length is None or answer.length > READ_BYTES:
        return False
    if connection.sock is not None:
        connection.sock.settimeout(READ_S)
    try:
        answer.read()
    except (OSError, http.client.HTTPException):
        return False
    return True

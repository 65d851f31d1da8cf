"""waitress's loop over its sockets, which looks only at those that something happened to.

waitress's own asks every connection before each wait whether it wants to read or write; with two
hundred callers who wait for their pictures that took more time than the pictures. Here a connection
is asked after something was read or written on it, after a thread has served it, and once a second
whatever happens. Refuses to know HTTP.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from waitress import wasyncore
from waitress.trigger import trigger

ALL_EVERY_S = 1.0

_SERVING = threading.local()


class Sockets(dict[int, Any]):
    """waitress's map of sockets, by their numbers; `changed` are those to be asked what they want,
    from whatever thread."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: deque[int] = deque()

    def __setitem__(self, number: int, one: Any) -> None:
        super().__setitem__(number, one)
        self.changed.append(number)


class Trigger(trigger):  # type: ignore[misc]
    """Wakes the thread that waits for the sockets; not again while a pull is still unseen."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._is_pulled = False
        super().__init__(sockets)

    def pull_trigger(self, thunk: Callable[[], None] | None = None) -> None:
        number = getattr(_SERVING, "number", None)
        if number is not None:
            self._sockets.changed.append(number)
        if thunk is None and self._is_pulled:
            return
        self._is_pulled = True
        super().pull_trigger(thunk)

    def handle_read(self) -> None:
        super().handle_read()
        self._is_pulled = False  # only now: a pull in between may have been read with the others


def serves(number: int | None) -> None:
    """Say which socket's request this thread answers from now on: its pulls are about that one."""
    _SERVING.number = number


class Loop:
    """What `waitress` runs in the place of its own module's `loop`."""

    def __init__(self, server: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._poller = select.poll()
        self._wanted: dict[int, int] = {}
        self._all_at = clock()

    def loop(self, *, timeout: float, map: Sockets, use_poll: bool) -> None:
        """Until no socket is left."""
        wait_ms = int(min(timeout, ALL_EVERY_S) * 1000)
        while map:
            self._ask(map)
            for number, happened in self._poller.poll(wait_ms):
                map.changed.append(number)
                one = map.get(number)
                if one is not None:
                    wasyncore.readwrite(one, happened)

    def _ask(self, sockets: Sockets) -> None:
        """Bring up to date what is waited for."""
        if self._clock() >= self._all_at:
            self._all_at = self._clock() + ALL_EVERY_S
            sockets.changed.extend([*sockets, *self._wanted])
        sockets.changed.append(self._server._fileno)
        while sockets.changed:
            number = sockets.changed.popleft()
            wanted = _wanted_by(sockets.get(number))
            if wanted == self._wanted.get(number, 0):
                continue
            if wanted:
                self._poller.register(number, wanted)
                self._wanted[number] = wanted
            else:  # a socket that is asked nothing would still tell that the other side hung up
                self._poller.unregister(number)
                del self._wanted[number]


def _wanted_by(one: Any) -> int:
    """What a socket waits for, 0 if nothing or if it is gone."""
    if one is None:
        return 0
    # Not POLLPRI: nobody reads a byte that is out of band, which would be told without end.
    wanted = select.POLLIN if one.readable() else 0
    return wanted | select.POLLOUT if one.writable() and not one.accepting else wanted

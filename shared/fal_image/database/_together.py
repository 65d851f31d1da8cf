"""Writers of one process that share a commit: one of them writes what all of them wait with.

A commit waits for the disk, whatever it holds. Who comes while one is on its way queues up, and as
soon as it is through, the first in the queue commits for the whole queue. So nobody waits for
company, and everybody still returns after the disk has what is theirs. Refuses to know what is
written, and to what.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Write(Generic[T]):
    """One thread's piece of work, which `work` does, and what became of it."""

    def __init__(self, work: Callable[[Any], T]) -> None:
        self.work = work
        self._others: list[Write[Any]] = []  # which it takes along when it leads
        self._told = threading.Lock()
        self._told.acquire()
        self._values: list[T] = []
        self._error: BaseException | None = None

    def succeeded(self, value: T) -> None:
        self._values = [value]

    def failed(self, error: BaseException) -> None:
        self._error = error

    @property
    def is_over(self) -> bool:
        return bool(self._values) or self._error is not None

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._values[0]

    def _tell(self) -> None:
        """Wake its thread, which may be awake; under the queue's lock."""
        if self._told.locked():
            self._told.release()


class Together:
    """A queue of writes. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # which knows whose it is
        self._queue: list[Write[Any]] = []
        self._leader: Write[Any] | None = None  # commits for the queue

    def do(self, work: Callable[[Any], T], commit: Callable[[Sequence[Write[Any]]], object]) -> T:
        """What `work` gives once it is committed, with others' or alone. Raises what it raises.

        `commit` carries writes out and says of each how it went; it is called by one thread at a
        time. What it said nothing of, because it was cut off, failed. Ctrl-C may end this at any
        moment, and then it is not known whether the work is written; nobody else waits for it.
        """
        mine = Write(work)
        try:
            try:
                self._come(mine)
                if self._leader is not mine:
                    mine._told.acquire()
                if not mine.is_over:
                    self._lead(mine, commit)
            finally:
                self._leave(mine)
        finally:
            self._leave(mine)  # a Ctrl-C may have cut off the first
        return mine.result()

    def _come(self, mine: Write[Any]) -> None:
        with self._lock:
            self._queue.append(mine)
            if self._leader is None:
                self._leader = mine

    def _lead(self, mine: Write[Any], commit: Callable[[Sequence[Write[Any]]], object]) -> None:
        with self._lock:
            mine._others = [write for write in self._queue if write is not mine]
            self._queue = []
        commit([mine, *mine._others])

    def _leave(self, mine: Write[Any]) -> None:
        """Keep nobody waiting for this one. It may be done again, wherever it was cut off."""
        try:
            with self._lock:
                self._pass_on(mine)
        finally:
            with suppress(RuntimeError):  # this thread has not locked it any more
                while True:  # it has if Ctrl-C came between the lock and its block
                    self._lock.release()

    def _pass_on(self, mine: Write[Any]) -> None:
        cut_off = [write for write in (mine, *mine._others) if not write.is_over]
        if cut_off:
            self._queue = [write for write in self._queue if write not in cut_off]
        for write in cut_off:
            write.failed(InterruptedError("the write was cut off"))
        if self._leader is mine:
            self._leader = self._queue[0] if self._queue else None
        if self._leader is not None:
            self._leader._tell()
        for write in mine._others:
            write._tell()

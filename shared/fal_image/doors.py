"""Opening something slow once, in a thread of its own, so that its cold start hides behind work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Door(Generic[T]):
    """A failure to open is kept until what is behind the door is needed."""

    def __init__(self, opener: Callable[[], T]) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._opened: Future[T] | None = None

    def start(self) -> Future[T]:
        """Begin to open, unless it is open or being opened."""
        with self._lock:
            failed = self._opened and self._opened.done() and self._opened.exception()
            if self._opened is None or failed:
                self._opened = Future()
                threading.Thread(target=_fulfil, args=(self._opened, self._opener)).start()
            return self._opened

    def get(self) -> T:
        """What is behind the door. Raises whatever opening it raised; the next call tries again."""
        return self.start().result()


def _fulfil(promise: Future[T], opener: Callable[[], T]) -> None:
    try:
        promise.set_result(opener())
    except Exception as error:
        promise.set_exception(error)

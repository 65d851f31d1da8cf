"""A part that a test breaks and mends while the app uses it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from fal_image.database.base import DatabaseError
from fal_image.storage.base import StorageError


class Breakable:
    """Stands before a storage or a database: counts the calls, and fails them while `is_broken`.

    After `hang` calls do not come back until `mend`; one that hung is then carried out.
    """

    def __init__(self, error: type[Exception], *only: str) -> None:
        self.calls: Counter[str] = Counter()
        self.is_broken = False
        self._spared: int | None = None
        self._error = error
        self._only = only
        self._inner: Any = None
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()

    def around(self, inner: Any) -> Any:
        """What app.Seams wants: this, before whatever was opened."""
        self._inner = inner
        return self

    def hang(self) -> None:
        self._flowing.clear()

    def break_after(self, calls: int) -> None:
        """So many calls still work."""
        self._spared = calls

    def mend(self) -> None:
        self.is_broken = False
        self._spared = None
        self._flowing.set()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.calls[name] += 1
            if not self._only or name in self._only:
                self._flowing.wait(30)
                if self.is_broken or self._is_used_up():
                    raise self._error(f"{name} is broken")
            return getattr(self._inner, name)(*args, **kwargs)

        return call

    def _is_used_up(self) -> bool:
        with self._lock:
            if self._spared is None or self._spared > 0:
                self._spared = None if self._spared is None else self._spared - 1
                return False
            return True


def breakable_storage(*only: str) -> Breakable:
    return Breakable(StorageError, *only)


def breakable_database(*only: str) -> Breakable:
    return Breakable(DatabaseError, *only)

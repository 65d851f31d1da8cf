"""A database that counts what it is asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from fal_image.database.base import Database

METHODS = frozenset(
    {"create", "get", "get_many", "replace_if", "mark", "take", "settle", "total", "due", "purge"}
)


class CountingDatabase:
    """See Database. `calls` counts the operations by their names; each call is one."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.inner, name)
        if name not in METHODS:
            return method

        def counted(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                self.calls[name] += 1
            return method(*arguments, **named)

        return counted

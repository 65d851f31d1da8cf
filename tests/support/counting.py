"""What is counted where a clock would say nothing: calls of a database, and SQLite's statements."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fal_image.database.base import Database
from fal_image.database.sqlite import SqliteDatabase

METHODS = frozenset(
    {"create", "get", "get_many", "replace_if", "mark", "take", "settle", "total", "due", "purge"}
)


class CountingDatabase:
    """See Database. `calls` counts the operations by their names; each call is one. `kinds` counts
    them by what they are about, too: `mark chunk`, `create job`."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.inner, name)
        if name not in METHODS:
            return method

        def counted(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                self.calls[name] += 1
                self.kinds[f"{name} {_kind(arguments[0])}"] += 1
            return method(*arguments, **named)

        return counted


def _kind(about: object) -> str:
    """What stands before the colon of an id, or of the first of several; "" for a time."""
    first = about[0] if isinstance(about, list) and about else about
    return first.partition(":")[0] if isinstance(first, str) else ""


class CountingSqlite(SqliteDatabase):
    """`statements` counts what SQLite is told, by the first word: SELECT, INSERT, BEGIN, COMMIT."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.statements: Counter[str] = Counter()
        self._counting = threading.Lock()

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        connection.set_trace_callback(self._count)
        return connection

    def _count(self, statement: str) -> None:
        with self._counting:
            self.statements[statement.split(maxsplit=1)[0]] += 1

"""Documents that die with the process: what stands in where no database is configured."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field
from msgspec.structs import replace

from .base import Document, check_body, check_id, check_marks


class _Counter(Struct):
    expires_at: datetime
    total: int = 0
    open: dict[str, int] = field(default_factory=dict)


class MemoryDatabase:
    """See Database. Bodies are kept as JSON text, so that nobody changes them by accident."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: dict[str, Document] = {}
        self._texts: dict[str, str] = {}
        self._counters: dict[str, _Counter] = {}

    def create(
        self,
        id: str,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        text = _text(body)
        with self._lock:
            if check_id(id) in self._documents:
                return False
            self._texts[id] = text
            self._documents[id] = Document(id, {}, 1, due_at, expires_at)
            return True

    def get(self, id: str) -> Document | None:
        with self._lock:
            return self._copy(id)

    def get_many(self, ids: Sequence[str]) -> list[Document]:
        with self._lock:
            return [found for id in ids if (found := self._copy(id)) is not None]

    def replace_if(
        self,
        id: str,
        version: int,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        text = _text(body)
        with self._lock:
            found = self._documents.get(id)
            if found is None or found.version != version:
                return False
            self._texts[id] = text
            self._documents[id] = replace(
                found, version=version + 1, due_at=due_at, expires_at=expires_at
            )
            return True

    def mark(self, id: str, marks: Mapping[str, str]) -> Document | None:
        check_marks(marks)
        with self._lock:
            found = self._documents.get(id)
            if found is None:
                return None
            self._documents[id] = replace(found, marks={**found.marks, **marks})
            return self._copy(id)

    def take(
        self, counter: str, key: str, amount: int, limit: int, *, expires_at: datetime
    ) -> bool:
        with self._lock:
            found = self._counters.get(check_id(counter)) or _Counter(expires_at)
            if key in found.open:
                return True
            if found.total + amount > limit:
                return False
            found.total += amount
            found.open[key] = amount
            self._counters[counter] = found
            return True

    def settle(self, counter: str, key: str, *, reserved: int, actual: int) -> None:
        with self._lock:
            found = self._counters.get(counter)
            if found is not None and found.open.pop(key, None) is not None:
                found.total += actual - reserved

    def total(self, counter: str) -> int:
        with self._lock:
            found = self._counters.get(counter)
            return found.total if found else 0

    def due(self, now: datetime, limit: int) -> list[str]:
        with self._lock:
            times = [
                (found.due_at, found.id)
                for found in self._documents.values()
                if found.due_at is not None and found.due_at <= now
            ]
        return [id for _, id in sorted(times)[:limit]]

    def purge(self, now: datetime, limit: int) -> int:
        with self._lock:
            documents = [
                found.id
                for found in self._documents.values()
                if found.expires_at is not None and found.expires_at <= now
            ][:limit]
            for id in documents:
                del self._documents[id], self._texts[id]
            room = limit - len(documents)
            counters = [name for name, one in self._counters.items() if one.expires_at <= now]
            for name in counters[:room]:
                del self._counters[name]
            return len(documents) + len(counters[:room])

    def _copy(self, id: str) -> Document | None:
        found = self._documents.get(id)
        return None if found is None else replace(found, body=json.loads(self._texts[id]))


def _text(body: Mapping[str, object]) -> str:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    check_body(text.encode())
    return text

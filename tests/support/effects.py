"""What one program does to the world outside, counted, so that it can be ended after any of it.

The wrappers stand where `Seams` lets them: around the wire, the database and the storage. An
effect counts once the other side has acknowledged it and before the code that asked for it knows.
Reads of the database and of the storage change nothing and are not counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from fal_image.database.base import Database, Document
from fal_image.storage.base import ObjectStorage, StoredObject
from fal_image.wire import Answer, Fetched, Reply, Wire


class Crash(BaseException):
    """The program ends here: nothing may catch it, and nothing it would still do happens."""


def crash() -> None:
    raise Crash


@dataclass
class Effects:
    """`ending` is called right after effect number `last`, counted from 1; None: never.

    Whatever the program's other threads try after that ends too. One effect happens at a time.
    """

    last: int | None = None
    ending: Callable[[], None] = crash
    told: Callable[[str], None] = lambda name: None
    names: list[str] = field(default_factory=list)
    is_over: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def alive(self) -> None:
        if self.is_over:
            raise Crash

    def took_place(self, name: str) -> None:
        self.names.append(name)
        self.told(name)
        if len(self.names) == self.last:
            self.is_over = True
            self.ending()

    def of(self, name: str, act: Callable[[], Any]) -> Any:
        """What `act` gives, if the program is still there to hear of it."""
        with self.lock:
            self.alive()
            given = act()
            self.took_place(name)
            return given


def counted_wire(effects: Effects, base: type[Wire] = Wire) -> type[Wire]:
    """The wire, each of its calls an effect."""

    class CountedWire(base):  # type: ignore[misc, valid-type]
        def call(self, method: str, url: str, **options: Any) -> Answer:
            act = super().call
            name = "submit" if method == "POST" else url.partition("?")[0].rpartition("/")[2]
            name = name if name in {"submit", "status", "cancel"} else "result"
            answer: Answer = effects.of(f"fal {name}", lambda: act(method, url, **options))
            return answer

        def read(self, url: str, **options: Any) -> Answer:
            act = super().read
            answer: Answer = effects.of("fal jwks", lambda: act(url, **options))
            return answer

        @contextmanager
        def stream(self, method: str, url: str, **options: Any) -> Iterator[Reply]:
            effects.alive()
            with super().stream(method, url, **options) as reply:
                effects.took_place("fal stream")
                yield reply

        def fetch(self, url: str, into: BinaryIO, **options: Any) -> Fetched:
            act = super().fetch
            fetched: Fetched = effects.of("fal file", lambda: act(url, into, **options))
            return fetched

        def tell(self, url: str, body: bytes, **options: Any) -> int:
            act = super().tell
            status: int = effects.of("owner told", lambda: act(url, body, **options))
            return status

    return CountedWire


@dataclass(frozen=True)
class CountedDatabase:
    """See Database."""

    inner: Database
    effects: Effects

    def create(
        self,
        id: str,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        act = self.inner.create
        made: bool = self.effects.of(
            f"create {_kind(id, body)}",
            lambda: act(id, body, due_at=due_at, expires_at=expires_at),
        )
        return made

    def get(self, id: str) -> Document | None:
        self.effects.alive()
        return self.inner.get(id)

    def get_many(self, ids: Sequence[str]) -> list[Document]:
        self.effects.alive()
        return self.inner.get_many(ids)

    def replace_if(
        self,
        id: str,
        version: int,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        act = self.inner.replace_if
        written: bool = self.effects.of(
            f"write {_kind(id, body)}",
            lambda: act(id, version, body, due_at=due_at, expires_at=expires_at),
        )
        return written

    def mark(self, id: str, marks: Mapping[str, str]) -> Document | None:
        marked: Document | None = self.effects.of("mark", lambda: self.inner.mark(id, marks))
        return marked

    def take(
        self, counter: str, key: str, amount: int, limit: int, *, expires_at: datetime
    ) -> bool:
        act = self.inner.take
        taken: bool = self.effects.of(
            "take", lambda: act(counter, key, amount, limit, expires_at=expires_at)
        )
        return taken

    def settle(self, counter: str, key: str, *, reserved: int, actual: int) -> None:
        act = self.inner.settle
        self.effects.of("settle", lambda: act(counter, key, reserved=reserved, actual=actual))

    def total(self, counter: str) -> int:
        self.effects.alive()
        return self.inner.total(counter)

    def due(self, now: datetime, limit: int) -> list[str]:
        self.effects.alive()
        return self.inner.due(now, limit)

    def purge(self, now: datetime, limit: int) -> int:
        deleted: int = self.effects.of("purge", lambda: self.inner.purge(now, limit))
        return deleted


class CountedStorage:
    """A storage whose puts are effects; all else is the inner one's."""

    def __init__(self, inner: ObjectStorage, effects: Effects) -> None:
        self._inner = inner
        self._effects = effects

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        act = self._inner.put
        facts = {"content_type": content_type, "sha256": sha256, "create_only": create_only}
        stored: StoredObject = self._effects.of("put", lambda: act(key, file, **facts))  # type: ignore[arg-type]
        return stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _kind(id: str, body: Mapping[str, object]) -> str:
    """What is written: a job's state, else the document's sort."""
    sort = id.partition(":")[0]
    return str(body.get("state", "submitting")) if sort == "job" else id

"""A whole house for batches: the emulator, a server that its webhooks reach, and a database."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from fal_image import app, server
from fal_image.app import Seams
from fal_image.database.base import Database
from fal_image.database.memory import MemoryDatabase
from fal_image.dev.emulator import Emulator
from fal_image.extend import NO_HOOKS, Hooks
from fal_image.generate import Turn
from fal_image.routes import Routes
from fal_image.settings import Settings

from .counting import CountingDatabase

SECRET = "s" * 32
SMALL = {"image_size": {"width": 64, "height": 64}}
CALLER = "ann"


@dataclass
class Calendar:
    """The time of day, moved by hand on top of the real one."""

    offset: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(timezone.utc) + self.offset

    def advance(self, **time: float) -> None:
        self.offset += timedelta(**time)


@dataclass
class House:
    """`services` are one driver of the database; `another` makes a second one."""

    fal: Emulator
    directory: Path
    settings: Settings
    database: CountingDatabase
    now: Calendar = field(default_factory=Calendar)
    detours: Mapping[str, str] = field(default_factory=dict)
    hooks: Hooks = NO_HOOKS
    services: Routes = field(init=False)

    def __post_init__(self) -> None:
        self.services = self.another()

    def another(self) -> Routes:
        seams = Seams(now=self.now, database=self._shared, detours=self.detours)
        return app.compose(self.settings, environ={}, seams=seams, hooks=self.hooks)

    def _shared(self, opened: Database) -> Database:
        return self.database

    def turn(self, left_s: float = 15.0, *, tells: bool = False) -> Turn:
        ends_at = time.monotonic() + left_s
        return Turn("test", answer_by=ends_at, ends_at=ends_at + 30, tells=tells)

    def start(
        self, rows: int | list[Any] | None = None, *, public: bool = True, **body: object
    ) -> dict[str, Any]:
        """Begin a batch of small pictures; what the caller sees of it."""
        if isinstance(rows, int):
            rows = [{"prompt": f"cat {row}", "rowId": f"r{row}"} for row in range(rows)]
        if rows is not None:
            body["rows"] = rows
        defaults = {**SMALL, **dict(body.pop("defaults", None) or {})}  # type: ignore[call-overload]
        url = self.settings.public_url if public else None
        batch = self.services.batches.start(
            {**body, "defaults": defaults}, CALLER, self.turn(), url
        )
        return batch.to_json()

    def find(self, batch_id: object) -> dict[str, Any]:
        return self.services.batches.find(str(batch_id), CALLER).to_json()

    def sweep(self, *, tells: bool = False) -> None:
        self.services.drivers.sweep(self.turn(tells=tells))

    def until(self, batch_id: object, state: str = "done", *, sweeps: bool = False) -> Any:
        """The batch when it has reached a state."""
        return self.wait_for(
            lambda: (found := self.find(batch_id))["state"] == state and found, sweeps=sweeps
        )

    def wait_for(self, found: Callable[[], Any], *, sweeps: bool = False) -> Any:
        """What `found` gives once that is true."""
        for _ in range(1200):
            if answer := found():
                return answer
            if sweeps:
                self.now.advance(seconds=61)
                self.sweep()
            time.sleep(0.05)
        raise AssertionError("it never came to that")

    def is_quiet(self) -> bool:
        """Whether every webhook has been answered: the server may go."""
        return all(
            entry.webhook_answers
            for entry in self.fal.ledger
            if entry.webhook_url and entry.billable_units is not None and not entry.is_cancelled
        )

    def results(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of the results that a batch links to."""
        assert batch["resultsUrl"]
        key = str(batch["resultsUrl"]).partition("/files/")[2].partition("?")[0]
        with self.services.assets.door.get().open(key) as chunks:
            return [json.loads(line) for line in b"".join(chunks).splitlines()]


@contextmanager
def house(
    fal: Emulator,
    directory: Path,
    database: Database | None = None,
    detours: Mapping[str, str] | None = None,
    hooks: Hooks = NO_HOOKS,
    **settings: Any,
) -> Iterator[House]:
    """A house that is open for webhooks; `settings` are more of the owner's."""
    listener = server.bind("127.0.0.1", 0)
    known: dict[str, Any] = {
        "fal_key": "id:secret",
        "emulator_url": fal.url,
        "storage_url": (directory / "pictures").as_uri(),
        "database_url": f"sqlite:///{directory}/unused.db",
        "secrets": (SECRET,),
        "public_url": server.url_of(listener),
        "log_level": "ERROR",
    }
    counted = CountingDatabase(database or MemoryDatabase())
    made = House(
        fal,
        directory,
        Settings(**known | settings),
        counted,
        detours=detours or {},
        hooks=hooks,
    )
    with server.running(app.front(made.services), listener):
        yield made
        made.wait_for(made.is_quiet)

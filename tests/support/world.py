"""Whole instances of the app around one fal, one database and one storage, as in a cloud.

An Instance is what one invocation runs: services of its own, asked through the app's front like
any entrance asks. A World is all that instances share, with clocks that only the test moves.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO

from fal_image.app import Seams, compose, front
from fal_image.database.base import Database
from fal_image.database.memory import MemoryDatabase
from fal_image.errors import NotFound
from fal_image.extend import NO_HOOKS, Hooks
from fal_image.jobs import Job
from fal_image.logs import logger
from fal_image.routes import Routes
from fal_image.settings import Settings
from fal_image.storage.base import Link, ObjectStorage, StorageError, StoredObject, UploadLink
from fal_image.web import Headers, Platform, PlatformName, Request
from support.values import replace

from .clocks import Time
from .effects import CountedDatabase, CountedStorage, Effects, counted_wire
from .fake_fal import KEY, Delivery, FakeFal

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
PUBLIC_URL = "https://pictures.example.com"
SECRET = "a-secret-of-at-least-32-characters"
CALLER = "anonymous"


@dataclass(frozen=True)
class Said:
    """What a caller was answered."""

    status: int
    json: Any

    @property
    def job_id(self) -> str:
        return str(self.json["jobId"])


@dataclass(frozen=True)
class Ask:
    """One request or event that reaches an instance; plain values, so that it can travel."""

    method: str
    path: str
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    platform: PlatformName = "wsgi"


def order(*, key: str | None = None, prefer: str | None = None, **arguments: Any) -> Ask:
    """`key` is the caller's Idempotency-Key, `prefer` how it wants to be answered."""
    headers = {"idempotency-key": key, "prefer": prefer}
    given = {name: value for name, value in headers.items() if value is not None}
    return Ask("POST", "/generate", json.dumps({"prompt": "a calico cat", **arguments}), given)


def poll(job_id: str) -> Ask:
    return Ask("GET", f"/jobs/{job_id}")


def cancel(job_id: str) -> Ask:
    return Ask("DELETE", f"/jobs/{job_id}")


def webhook(delivery: Delivery) -> Ask:
    return Ask("POST", delivery.path, delivery.body.decode(), delivery.headers)


def message(job_id: str) -> Ask:
    return Ask("POST", "/", json.dumps({"jobId": job_id}), platform="queue")


SWEEP = Ask("POST", "/", platform="timer")


@dataclass(frozen=True)
class Instance:
    """One composed app. `ends_at` is when its platform kills it, on its clock; None: never."""

    services: Routes
    ends_at: float | None = None

    def ask(self, wanted: Ask) -> Said:
        platform = Platform(wanted.platform, "request-1", ends_at=self.ends_at)
        headers, body = Headers(wanted.headers.items()), wanted.body.encode()
        request = Request(wanted.method, wanted.path, platform, (), headers, body)
        response = front(self.services)(request)
        return Said(response.status, json.loads(response.read()))

    def job(self, job_id: str) -> Job:
        """The job as it is kept; nobody is asked to go on with it."""
        return self.services.generator.steps.records.load(job_id)

    def intended_id(self, key: str) -> str:
        """The id of the job that a caller's Idempotency-Key means."""
        settings = self.services.settings
        job_id = self.services.generator.intended_id(settings.secrets, "generate", CALLER, key)
        assert job_id
        return job_id


@dataclass
class MemoryStorage:
    """See ObjectStorage. `is_down`: it takes nothing. `created` are the keys of all puts that made
    an object, in order."""

    is_down: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        pass

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        if self.is_down:
            raise StorageError("the storage is down")
        file.seek(0)
        content = file.read()
        assert hashlib.sha256(content).hexdigest() == sha256
        if not create_only:
            self.objects.pop(key, None)
        is_new = self.objects.setdefault(key, content) is content
        if is_new:
            self.created.append(key)
            self.types[key] = content_type
        return self._facts(key, created=is_new)

    @property
    def pictures(self) -> list[str]:
        """What was stored, but for the manifests beside it."""
        return [key for key in self.created if not key.endswith(".json")]

    def head(self, key: str) -> StoredObject:
        return self._facts(key, created=False)

    def delete(self, key: str) -> None:
        raise StorageError("nobody deletes here")

    @contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        if key not in self.objects:
            raise NotFound("no such file")
        yield iter([self.objects[key][start:]])

    def link(self, key: str, ttl_s: int) -> Link:
        return Link(f"https://links.example.com/{key}", None)

    def upload_link(self, key: str, *, content_type: str, bytes: int, ttl_s: int) -> UploadLink:
        raise StorageError("nobody uploads here")

    def file_id(self, key: str) -> str:
        return f"memory:///{key}"

    def key(self, file_id: str) -> str:
        return file_id.removeprefix("memory:///")

    def _facts(self, key: str, *, created: bool) -> StoredObject:
        content = self.objects[key]
        digest = hashlib.sha256(content).hexdigest()
        return StoredObject(
            key, self.file_id(key), len(content), digest, self.types[key], created=created
        )


@dataclass
class World:
    """One fal, one database, one storage, and time. `noted` are the errors that were logged, `bent`
    the settings that differ."""

    database_url: str = "sqlite:////nowhere/jobs.db"
    database: Database | None = field(default_factory=MemoryDatabase)
    environ: Mapping[str, str] = field(default_factory=dict)
    budget_usd_micro: int | None = 1_000_000
    max_wait_s: int = 20
    time: Time = field(default_factory=Time)
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    noted: list[str] = field(default_factory=list)
    hooks: Hooks = NO_HOOKS
    bent: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fal = FakeFal(self.time, self.now)
        self._made = 0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.time.now_s - 1000.0)

    def pass_s(self, seconds: float) -> None:
        self.time.now_s += seconds

    def instance(self, effects: Effects | None = None, *, lives_s: float | None = None) -> Instance:
        """A new one. With `effects` it is counted and may crash; `lives_s`: it is killed then."""
        settings = Settings(
            fal_key=KEY,
            storage_url="file:///nowhere",
            database_url=self.database_url,
            public_url=PUBLIC_URL,
            secrets=(SECRET,),
            allow_anonymous=True,
            rate_limit=None,
            daily_budget_usd_micro=self.budget_usd_micro,
            max_wait_s=self.max_wait_s,
            log_level="ERROR",
        )
        settings = replace(settings, **self.bent)
        effects = effects or Effects()
        seams = Seams(
            clock=self.time,
            now=self.now,
            sleep=self.time.sleep,
            randomness=self._randomness,
            wire=counted_wire(effects, self.fal.wire()),
            storage=lambda opened: counted_storage(self.storage, effects),
            database=lambda opened: CountedDatabase(self.database or opened, effects),
        )
        services = compose(settings, environ=self.environ, seams=seams, hooks=self.hooks)
        ends_at = None if lives_s is None else self.time() + lives_s
        return Instance(services, ends_at)

    def sweep_until_nothing_is_due(self, database: Database) -> None:
        """The timer, every minute at first and then by the hour."""
        for pause_s in (0, 1, 60, 60, 60, 60, 60, 3600, 60, 60, 3600, 3600, 60, 60):
            self.pass_s(pause_s)
            assert self.instance().ask(SWEEP).json["failed"] == 0
            if not is_anything_due(database, self.now()):
                return
        raise AssertionError(f"still due: {database.due(self.now() + timedelta(days=9), 9)}")

    def _randomness(self, count: int) -> bytes:
        """Never the same twice."""
        self._made += 1
        return hashlib.sha256(str(self._made).encode()).digest()[:count]


def counted_storage(storage: ObjectStorage, effects: Effects) -> ObjectStorage:
    counted: Any = CountedStorage(storage, effects)
    typed: ObjectStorage = counted
    return typed


def is_anything_due(database: Database, now: datetime) -> bool:
    """Whether anybody will ever have to look at anything again."""
    return bool(database.due(now + timedelta(days=9), 1))


@contextmanager
def errors_logged() -> Iterator[list[str]]:
    """What is logged as an error meanwhile, however often the log is configured anew."""
    messages: list[str] = []

    class Listener(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.levelno >= logging.ERROR:
                messages.append(record.getMessage())
            return True

    listener = Listener()
    logger.addFilter(listener)
    try:
        yield messages
    finally:
        logger.removeFilter(listener)

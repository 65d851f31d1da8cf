"""The rigs: every database with what its tests need around it, each behind the same few names.

A new database joins the contract suite by a class here with the names of Rig, a line in RIGS, and
a line in CANNOT for what its vendor has no way to do. A rig owns data that no other rig sees, and
what it starts ends with its `with` block.
"""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from fal_image import database
from fal_image.database.base import Database
from fal_image.database.memory import MemoryDatabase
from fal_image.wire import Wire

from .fake_cloudbase_documents import FakeCloudbaseDocuments
from .storages import AWS_ENVIRON


def wall_clock() -> datetime:
    return datetime.now(timezone.utc)


class Rig(Protocol):
    @property
    def url(self) -> str:
        """What FAL_IMAGE_DATABASE_URL says."""

    @property
    def environ(self) -> Mapping[str, str]:
        """What another process needs to open the same database."""

    def open(self, now: Callable[[], datetime] = wall_clock) -> Database:
        """A handle of its own on the same data, as another process would have it."""


@dataclass
class MemoryRig:
    """Nothing is configured; the handles are one, for nobody else can have the data."""

    url: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    database: MemoryDatabase = field(default_factory=MemoryDatabase)

    def open(self, now: Callable[[], datetime] = wall_clock) -> Database:
        return self.database


@dataclass
class SqliteRig:
    """A file that is made with the first call."""

    file: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"sqlite://{self.file}"

    def open(self, now: Callable[[], datetime] = wall_clock) -> Database:
        return open_anywhere(self.url, self.environ, now)


@dataclass
class DynamodbRig:
    """A table of its own on moto, which does one DynamoDB call at a time.

    moto puts items of any size (DynamoDB: 400 KB; moto's updates count an old value and the new one
    that replaces it together) and reads keys of any length (2,048 bytes), is never busy, never
    deletes what expired, looks at no signature, and its index knows a write at once, where
    DynamoDB's may be seconds behind. It does refuse reserved words, names that are not used, more
    than 100 keys in one BatchGetItem and a key that is there twice, and answers at most 16 MB.
    """

    endpoint_url: str
    table: str = field(default_factory=lambda: f"jobs-{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        from fal_image.database import dynamodb

        self.call("CreateTable", dynamodb.table_definition(self.table))
        ttl = {"Enabled": True, "AttributeName": dynamodb.TTL_ATTRIBUTE}
        table = {"TableName": self.table}
        self.call("UpdateTimeToLive", {**table, "TimeToLiveSpecification": ttl})

    @property
    def url(self) -> str:
        return f"dynamodb://{self.table}"

    @property
    def environ(self) -> Mapping[str, str]:
        return AWS_ENVIRON | {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.endpoint_url}

    def open(self, now: Callable[[], datetime] = wall_clock) -> Database:
        return open_anywhere(self.url, self.environ, now)

    def call(self, operation: str, body: Mapping[str, object]) -> dict[str, Any]:
        """What the owner of the table sees and does, past the code under test."""
        request = urllib.request.Request(
            self.endpoint_url,
            json.dumps(body).encode(),
            {
                "x-amz-target": f"DynamoDB_20120810.{operation}",
                "content-type": "application/x-amz-json-1.0",
                # moto reads the region here, and nothing else.
                "authorization": "AWS4-HMAC-SHA256 Credential=x/20261121/us-east-1/dynamodb/x",
            },
        )
        client = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with client.open(request) as answer:
            said: dict[str, Any] = json.load(answer)
        return said


@dataclass
class CloudbaseRig:
    """A collection of an environment whose gateway is a fake: the real one has no local twin."""

    fake: FakeCloudbaseDocuments
    url: str = "cloudbase://env-1/jobs"

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "CLOUDBASE_APIKEY": self.fake.api_key,
            "FAKE_CLOUDBASE": json.dumps(self.fake.detours),
        }

    def open(self, now: Callable[[], datetime] = wall_clock) -> Database:
        return open_anywhere(self.url, self.environ, now)


@contextmanager
def cloudbase_rig() -> Iterator[CloudbaseRig]:
    fake = FakeCloudbaseDocuments()
    with fake.serving():
        yield CloudbaseRig(fake)


# Each is given a directory of its own, and what starts the run's moto server and gives its URL.
RIGS: dict[str, Callable[[Path, Callable[[], str]], AbstractContextManager[Rig]]] = {
    "memory": lambda directory, moto: nullcontext(MemoryRig()),
    "sqlite": lambda directory, moto: nullcontext(SqliteRig(directory / "jobs.db")),
    "dynamodb": lambda directory, moto: nullcontext(DynamodbRig(moto())),
    "cloudbase": lambda directory, moto: cloudbase_rig(),
}

# What a vendor cannot do: the test of the contract that says it, and why.
CANNOT: dict[str, dict[str, str]] = {
    "dynamodb": dict.fromkeys(
        (
            "test_what_is_past_its_time_is_purged",
            "test_a_purged_name_starts_anew",
            "test_no_more_is_purged_than_asked",
        ),
        "DynamoDB deletes what is past its time by itself, some time later",
    ),
}


def open_anywhere(
    url: str, environ: Mapping[str, str], now: Callable[[], datetime] = wall_clock
) -> Database:
    """The database of a rig, in its process or another, from its `url` and `environ`."""
    wire = Wire(detours=json.loads(environ.get("FAKE_CLOUDBASE", "{}")))
    return database.open_database(database.parse(url), environ=environ, now=now, wire=wire)

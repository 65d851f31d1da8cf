"""Which database FAL_IMAGE_DATABASE_URL means, and opening it.

`parse` reads the address and touches nothing; `open_database` imports the chosen database only, so
that no start pays for a vendor's library it does not use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import unquote

from msgspec import Struct

from ..vendors import aws_endpoint, aws_lacks, aws_region, cloudbase_lacks, env_id, region_in
from ..wire import Wire
from .base import Database

SETTING = "FAL_IMAGE_DATABASE_URL"

# AWS DynamoDB developer guide, "Naming rules"
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")

_COLLECTION = re.compile(r"[A-Za-z0-9_-]{1,32}")


class SqliteConfig(Struct, frozen=True):
    """A file of this machine, absolute; it is made with the first call."""

    scheme: ClassVar[Literal["sqlite"]] = "sqlite"
    path: Path


class DynamodbConfig(Struct, frozen=True):
    """A table; region and endpoint come from the environment when it is opened."""

    scheme: ClassVar[Literal["dynamodb"]] = "dynamodb"
    table: str


class CloudbaseConfig(Struct, frozen=True):
    """A collection of a CloudBase environment; without a region it is that of the function, else
    one in China."""

    scheme: ClassVar[Literal["cloudbase"]] = "cloudbase"
    env_id: str
    collection: str
    region: str | None


DatabaseConfig = SqliteConfig | DynamodbConfig | CloudbaseConfig


def parse(url: str) -> DatabaseConfig:
    """What a database URL means. Raises ValueError that says what is wrong and what would be
    right; the message does not repeat the URL, which may hold a password by mistake."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError(
            "must be dynamodb://table, cloudbase://envId/collection or sqlite:///path/to/file"
        )
    if scheme == "dynamodb":
        return _parse_dynamodb(url)
    if scheme == "cloudbase":
        return _parse_cloudbase(url)
    if scheme == "sqlite":
        return _parse_sqlite(url)
    raise ValueError("must start with dynamodb://, cloudbase:// or sqlite:///")


def _parse_dynamodb(url: str) -> DynamodbConfig:
    table = url.removeprefix("dynamodb://")
    if not _TABLE.fullmatch(table):
        raise ValueError(
            "after dynamodb:// stands the table's name and nothing else, 3 to 255 of letters, "
            "digits, '-', '_' and '.': dynamodb://fal-image-jobs"
        )
    return DynamodbConfig(table)


def _parse_cloudbase(url: str) -> CloudbaseConfig:
    address, question, query = url.removeprefix("cloudbase://").partition("?")
    text, _, collection = address.partition("/")
    name = env_id(text, example="cloudbase://my-env-3gabc/jobs")
    if not _COLLECTION.fullmatch(collection):
        raise ValueError(
            "after the environment's id stands the collection, at most 32 of letters, digits, '-' "
            "and '_': cloudbase://my-env-3gabc/jobs"
        )
    return CloudbaseConfig(name, collection, region_in(query) if question else None)


def _parse_sqlite(url: str) -> SqliteConfig:
    """More than three slashes are three: other programs write four before an absolute path."""
    if not url.startswith("sqlite:///"):
        raise ValueError("needs three slashes and an absolute path: sqlite:///home/me/jobs.db")
    if "?" in url or "#" in url:
        raise ValueError("must be sqlite:///path/to/file, without '?' and '#'")
    path = unquote(url.removeprefix("sqlite:///")).lstrip("/")
    if not path or path.endswith(("/", "/.", "/..")) or path in {".", ".."} or "\0" in path:
        raise ValueError("must name a file: sqlite:///home/me/jobs.db")
    return SqliteConfig(Path("/" + path))


def missing(config: DatabaseConfig, environ: Mapping[str, str]) -> list[str]:
    """What the environment lacks for this database, one sentence each, without opening it."""
    if isinstance(config, SqliteConfig):
        return []
    if isinstance(config, CloudbaseConfig):
        return cloudbase_lacks(environ, SETTING)
    return aws_lacks(environ, SETTING, what="table", service="DYNAMODB")


def open_database(
    config: DatabaseConfig,
    *,
    environ: Mapping[str, str],
    now: Callable[[], datetime],
    credentials: Callable[[], Mapping[str, str]] | None = None,
    wire: Wire | None = None,
) -> Database:
    """The database behind a config; no call to it is made yet. Safe to share between threads.

    `credentials` gives the variables of the invocation that is running, Tencent's short-lived keys
    among them; without it they are those of `environ`. CloudBase is called over `wire`, without it
    over one of its own. Raises ValueError for what `missing` reports, ImportError without the
    vendor's library.
    """
    if isinstance(config, SqliteConfig):
        from .sqlite import SqliteDatabase

        return SqliteDatabase(config.path)
    if isinstance(config, CloudbaseConfig):
        from ..tencent import Gateway
        from .cloudbase import CloudbaseDatabase

        gateway = Gateway(
            config.env_id,
            region=config.region or environ.get("TENCENTCLOUD_REGION") or None,
            wire=wire or Wire(),
            credentials=credentials or (lambda: environ),
            now=now,
        )
        return CloudbaseDatabase(gateway, config.collection)
    from .dynamodb import DynamodbDatabase

    return DynamodbDatabase(
        config.table,
        region=aws_region(environ, "table"),
        endpoint_url=aws_endpoint(environ, "DYNAMODB"),
    )

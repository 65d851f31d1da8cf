"""The storage, the database and the queue that the settings name: what they lack is found at once,
opened is each with its first use.

Refuses to know what is kept in them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from . import database, storage
from .batches import Enqueue
from .database.base import Database, DatabaseError
from .doors import Door
from .routes import Variables
from .seams import Seams
from .settings import Settings
from .storage.base import ObjectStorage
from .vendors import aws_endpoint, aws_lacks, aws_region
from .wire import Wire


def open_storage(
    settings: Settings, variables: Variables, wire: Wire, seams: Seams, problems: list[str]
) -> tuple[Door[ObjectStorage], str]:
    """The door to the storage, and the prefix of its keys; what is wrong goes into `problems`."""
    name, environ = "FAL_IMAGE_STORAGE_URL", variables.process
    if settings.storage_url is None:
        problems.append(f"{name}: must say where pictures are kept, for example s3://my-bucket")
        return Door(_nothing_to_open), ""
    try:
        config = storage.parse(settings.storage_url)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return Door(_nothing_to_open), ""
    problems += storage.missing(config, environ)
    if config.scheme == "file":
        problems += _local_problems(settings, environ)

    def opener() -> ObjectStorage:
        opened = storage.open_storage(
            config,
            secrets=settings.secrets,
            public_url=settings.public_url,
            environ=environ,
            now=seams.now,
            credentials=variables.current,
            wire=wire,
        )
        threading.Thread(target=opened.prepare, name="storage", daemon=True).start()
        return opened

    return Door(lambda: seams.storage(opener())), config.prefix


def open_database(
    settings: Settings, variables: Variables, wire: Wire, seams: Seams, problems: list[str]
) -> Callable[[], Database]:
    """What gives the database; what is wrong with it goes into `problems`."""
    if settings.database_url is None:
        if settings.has_budget:
            problems.append(
                "FAL_IMAGE_DAILY_BUDGET_USD: needs FAL_IMAGE_DATABASE_URL, to keep what was spent"
            )
        return _as_call(Door(_no_database))
    name, environ = "FAL_IMAGE_DATABASE_URL", variables.process
    try:
        config = database.parse(settings.database_url)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return _as_call(Door(_no_database))
    problems += database.missing(config, environ)
    if config.scheme == "sqlite" and _is_on_lost_disk(settings, environ):
        problems.append(f"{name}: a function's disk is lost with it; use dynamodb or cloudbase")
    if not settings.secrets:
        problems.append("FAL_IMAGE_SECRET: must be set with a database: it signs webhooks' URLs")

    def opener() -> Database:
        return seams.database(
            database.open_database(
                config,
                environ=environ,
                now=seams.now,
                credentials=variables.current,
                wire=wire,
            )
        )

    return _as_call(Door(opener))


def _as_call(door: Door[Database]) -> Callable[[], Database]:
    """Opening counts as a call: its failure is the database's."""

    def opened() -> Database:
        try:
            return door.get()
        except ValueError as error:
            raise DatabaseError(str(error)) from error

    return opened


def open_queue(
    settings: Settings, environ: Mapping[str, str], problems: list[str]
) -> Enqueue | None:
    """What queues jobs, if there is a queue; opened with the first. What it lacks goes into
    `problems`: a queue that cannot be opened would keep every sweep from its work."""
    if settings.queue_url is None:
        return None
    problems += aws_lacks(environ, "FAL_IMAGE_QUEUE_URL", what="queue", service="SQS")
    url = settings.queue_url

    def open_queue() -> Enqueue:
        from .sqs import SqsQueue

        region, endpoint_url = aws_region(environ, "queue"), aws_endpoint(environ, "SQS")
        return SqsQueue(url, region=region, endpoint_url=endpoint_url).send

    door = Door(open_queue)
    return lambda job_ids: door.get()(job_ids)


def _is_on_lost_disk(settings: Settings, environ: Mapping[str, str]) -> bool:
    in_cloud = "AWS_LAMBDA_FUNCTION_NAME" in environ or environ.get("TENCENTCLOUD_RUNENV") == "SCF"
    return in_cloud and settings.emulator_url is None


def _local_problems(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """What speaks against keeping pictures on this machine's disk."""
    if _is_on_lost_disk(settings, environ):
        return ["FAL_IMAGE_STORAGE_URL: a function's disk is lost with it; use a bucket"]
    if settings.public_url and not settings.secrets:
        return ["FAL_IMAGE_SECRET: must be set to sign links of file:// storage"]
    return []


def _no_database() -> Database:
    raise ValueError("no database is configured")


def _nothing_to_open() -> ObjectStorage:
    raise ValueError("no storage is configured")

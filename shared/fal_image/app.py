"""The composition root: settings in, one callable out. Maps errors to answers, in one place.

Nothing is opened here: the storage opens with the first job, connections with the first call.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import partial

from . import database, storage
from .access import Access
from .assets import Assets
from .batches import Batches, Enqueue
from .database.base import Database, DatabaseError
from .doors import Door
from .drivers import Drivers
from .errors import (
    AppError,
    FalFailed,
    FalRejected,
    Internal,
    MethodNotAllowed,
    Misconfigured,
    NotFound,
)
from .events.paths import strip_base_path
from .extend import NO_HOOKS, After, Before, Hooks, OnImage
from .fal.client import Fal
from .fal.webhooks import Verifier
from .generate import Generator, Orders, Records, Steps
from .jobs import base32
from .ledger import Ledger
from .logs import configure, logger
from .notices import Notices
from .routes import Call, Route, Routes, Variables
from .settings import Settings, load
from .storage.base import ObjectStorage
from .uploads import Uploads
from .vendors import aws_lacks
from .web import App, Request, Response, problem_response
from .wire import Wire

OWNER_BYTES = 8  # of a lease: nobody else's by chance


@dataclass(frozen=True)
class Seams:
    """What a test may replace: the clocks, the dice, the way out, and what is kept where."""

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    sleep: Callable[[float], None] = time.sleep
    randomness: Callable[[int], bytes] = secrets.token_bytes
    detours: Mapping[str, str] = field(default_factory=dict)
    wire: type[Wire] = Wire
    storage: Callable[[ObjectStorage], ObjectStorage] = lambda opened: opened
    database: Callable[[Database], Database] = lambda opened: opened


def build(environ: Mapping[str, str]) -> App:
    """The app for an environment. Never raises for what the owner set: see `Settings.problems`."""
    return build_app(load(environ), environ=environ)


def build_app(
    settings: Settings,
    *,
    before: Before | None = None,
    after: After | None = None,
    on_image: OnImage | None = None,
    environ: Mapping[str, str] = os.environ,
    seams: Seams = Seams(),
) -> App:
    """The app for these settings, with the owner's own code around it: see `docs/extend.md`."""
    hooks = Hooks(before, after, on_image)
    return front(compose(settings, environ=environ, seams=seams, hooks=hooks))


def front(services: Routes) -> App:
    """The services as one callable: routing, callers, errors and log lines around them."""
    settings = services.settings
    configure(settings.log_level, _secrets(settings))
    access = Access(settings.api_keys, settings.allow_anonymous, settings.cors_origins)
    return _Front(settings, access, services.table(), services)


def compose(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    seams: Seams = Seams(),
    hooks: Hooks = NO_HOOKS,
) -> Routes:
    """The services behind the routes, wired together; `environ` holds vendors' credentials."""
    problems = list(settings.problems)
    variables = Variables(environ)
    wire = seams.wire(
        emulator_url=settings.emulator_url,
        fetch_hosts=settings.fetch_hosts,
        detours=seams.detours,
        clock=seams.clock,
    )
    open_storage, prefix = _storage(settings, variables, wire, seams, problems)
    opened = _database_call(_database(settings, variables, wire, seams, problems))
    records = Records(opened, seams.now, timedelta(days=settings.job_retention_days))
    is_durable = settings.database_url is not None
    assets = Assets(
        wire=wire,
        door=Door(open_storage),
        prefix=prefix,
        max_image_bytes=settings.max_image_bytes,
        link_ttl_s=settings.link_ttl_s,
        link_base_url=settings.link_base_url,
        clock=seams.clock,
        sleep=seams.sleep,
        is_held_back=partial(records.is_held_back, is_judged=hooks.on_image is not None)
        if is_durable
        else _never,
    )
    fal = Fal(wire, settings.fal_key, seams.clock, seams.sleep)
    uploads = Uploads(
        assets=assets,
        fal=fal,
        secrets=settings.secrets,
        now=seams.now,
        randomness=seams.randomness,
    )
    notices = Notices(wire, settings.secrets, settings.webhook_hosts, seams.now)
    steps = Steps(
        fal=fal,
        assets=assets,
        uploads=uploads,
        records=records,
        ledger=Ledger(opened, settings.daily_budget_usd_micro, seams.now),
        notices=notices,
        secrets=settings.secrets,
        clock=seams.clock,
        now=seams.now,
        sleep=seams.sleep,
        is_durable=is_durable,
        accepts_loopback=settings.emulator_url is not None,
        hooks=hooks,
    )
    generator = Generator(
        orders=Orders(settings.models, settings.fal_key),
        steps=steps,
        clock=seams.clock,
        now=seams.now,
        randomness=seams.randomness,
    )
    enqueue = _enqueue(settings, environ, problems)
    batches = Batches(
        generator=generator,
        database=opened,
        notices=notices,
        enqueue=enqueue,
        settings=settings,
        clock=seams.clock,
        now=seams.now,
        randomness=seams.randomness,
    )
    return Routes(
        settings=replace(settings, problems=tuple(problems)),
        generator=generator,
        assets=assets,
        uploads=uploads,
        batches=batches,
        drivers=Drivers(generator, batches, opened, enqueue, seams.clock, seams.now),
        notices=notices,
        verifier=Verifier(
            wire=wire, now=seams.now, clock=seams.clock, user_id=settings.webhook_user_id
        ),
        variables=variables,
        new_owner=lambda: base32(seams.randomness(OWNER_BYTES)),
        now=seams.now,
        sleep=seams.sleep,
        clock=seams.clock,
        aliases=dict(settings.model_aliases),
        hooks=hooks,
    )


def _storage(
    settings: Settings, variables: Variables, wire: Wire, seams: Seams, problems: list[str]
) -> tuple[Callable[[], ObjectStorage], str]:
    """What opens the storage, and the prefix of its keys; what is wrong goes into `problems`."""
    name, environ = "FAL_IMAGE_STORAGE_URL", variables.process
    if settings.storage_url is None:
        problems.append(f"{name}: must say where pictures are kept, for example s3://my-bucket")
        return _nothing_to_open, ""
    try:
        config = storage.parse(settings.storage_url)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return _nothing_to_open, ""
    problems += storage.missing(config, environ)
    if config.scheme == "file":
        problems += _local_problems(settings, environ)

    def opener() -> ObjectStorage:
        return storage.open_storage(
            config,
            secrets=settings.secrets,
            public_url=settings.public_url,
            environ=environ,
            now=seams.now,
            credentials=variables.current,
            wire=wire,
        )

    return lambda: seams.storage(opener()), config.prefix


def _database(
    settings: Settings, variables: Variables, wire: Wire, seams: Seams, problems: list[str]
) -> Door[Database]:
    """The door to the database; what is wrong with it goes into `problems`."""
    if settings.database_url is None:
        if settings.daily_budget_usd_micro is not None:
            problems.append(
                "FAL_IMAGE_DAILY_BUDGET_USD: needs FAL_IMAGE_DATABASE_URL, to keep what was spent"
            )
        return Door(_no_database)
    name, environ = "FAL_IMAGE_DATABASE_URL", variables.process
    try:
        config = database.parse(settings.database_url)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return Door(_no_database)
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

    return Door(opener)


def _database_call(door: Door[Database]) -> Callable[[], Database]:
    """Opening counts as a call: its failure is the database's."""

    def opened() -> Database:
        try:
            return door.get()
        except ValueError as error:
            raise DatabaseError(str(error)) from error

    return opened


def _enqueue(settings: Settings, environ: Mapping[str, str], problems: list[str]) -> Enqueue | None:
    """What queues jobs, if there is a queue; opened with the first. What it lacks goes into
    `problems`: a queue that cannot be opened would keep every sweep from its work."""
    if settings.queue_url is None:
        return None
    problems += aws_lacks(environ, "FAL_IMAGE_QUEUE_URL", what="queue", service="SQS")
    url, region = settings.queue_url, environ.get("AWS_REGION")

    def open_queue() -> Enqueue:
        from .sqs import SqsQueue

        return SqsQueue(url, region=region).send

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


def _never(job_id: str, index: int, caller: str | None) -> bool:
    """Nothing is kept of whose pictures they are."""
    return False


def _no_database() -> Database:
    raise ValueError("no database is configured")


def _nothing_to_open() -> ObjectStorage:
    raise ValueError("no storage is configured")


def _secrets(settings: Settings) -> list[str]:
    """What must never stand in a log line, whole or in its halves."""
    key_parts = [settings.fal_key, *(settings.fal_key or "").split(":")]
    return [part for part in key_parts if part and len(part) >= 8] + list(settings.secrets)


@dataclass(frozen=True)
class _Front:
    """Every request enters here: route, caller, answer, errors as data, one log line."""

    settings: Settings
    access: Access
    table: tuple[Route, ...]
    services: Routes

    def __call__(self, request: Request) -> Response:
        clock = self.services.clock
        started_at = clock()
        self.services.variables.invocation = request.platform.environment
        request_id = request.platform.request_id
        facts: dict[str, object] = {"requestId": request_id, "route": None, "caller": None}
        response = _as_answer(lambda: self._answer(request, started_at, facts), request_id, facts)
        took_ms = round((clock() - started_at) * 1000)
        facts |= {"status": response.status, "totalMs": took_ms}
        logger.info("request", extra={"fields": facts})
        if request.method == "HEAD":
            response = Response(response.status, b"", response.headers)
        return response.with_headers(
            ("x-request-id", request_id),
            ("x-content-type-options", "nosniff"),
            *self.access.cors_headers(request),
        )

    def _answer(self, request: Request, started_at: float, facts: dict[str, object]) -> Response:
        if request.platform.name in ("timer", "queue"):
            return self._unasked(request, facts)
        path = strip_base_path(request.path, self.settings.base_path)
        route, params = self._route(request.method, path, facts)
        if route is None:
            return self.access.preflight(request, str(params["methods"]))
        call = Call(request, None, params, started_at, facts.update)
        if route.who in ("ticket", "key"):
            return self._of_caller(route, call, facts)
        if self.settings.problems and route.pattern != "/health":
            raise Misconfigured("; ".join(self.settings.problems))
        return route.handle(call)

    def _of_caller(self, route: Route, call: Call, facts: dict[str, object]) -> Response:
        """A caller's request, with the owner's own code before and after its route."""
        request, hooks = call.request, self.services.hooks
        caller: str | None = None

        def answer() -> Response:
            nonlocal caller
            if self.settings.problems:
                raise Misconfigured("; ".join(self.settings.problems))
            caller = self.access.identify(request)
            facts["caller"] = caller
            instead = hooks.instead(request, caller)
            return instead or route.handle(replace(call, caller=caller))

        response = _as_answer(answer, request.platform.request_id, facts)
        return hooks.final(request, response, caller)

    def _unasked(self, request: Request, facts: dict[str, object]) -> Response:
        """Do what an event wants that no caller sent. Raises Misconfigured."""
        facts["route"] = request.platform.name
        if self.settings.problems:
            raise Misconfigured("; ".join(self.settings.problems))
        return self.services.unasked(request, facts.update)

    def _route(
        self, method: str, path: str, facts: dict[str, object]
    ) -> tuple[Route | None, dict[str, str]]:
        """The route of a request, or None and the path's methods when a browser asks for them."""
        path = path.rstrip("/") or "/"
        matches = [
            (route, params) for route in self.table if (params := route.match(path)) is not None
        ]
        if not matches:
            raise NotFound(f"there is no route {_shown(path)}")
        methods = ", ".join(sorted({route.method for route, _ in matches} | {"OPTIONS"}))
        facts["route"] = f"{method} {matches[0][0].pattern}"
        if method == "OPTIONS":
            return None, {"methods": methods}
        wanted = "GET" if method == "HEAD" else method
        for route, params in matches:
            if route.method == wanted:
                return route, params
        raise MethodNotAllowed(
            f"{method[:20]} is not a method of {_shown(path)}", headers=(("allow", methods),)
        )


def _as_answer(act: Callable[[], Response], request_id: str, facts: dict[str, object]) -> Response:
    """What `act` answers, its errors as answers too; `facts` gets what the log should say."""
    try:
        return act()
    except AppError as error:
        facts["error"] = error.code
        if not isinstance(error, (FalFailed, FalRejected)):  # fal's words may quote the prompt
            facts["detail"] = error.detail
        facts |= {name: error.extensions[name] for name in _LOGGED if name in error.extensions}
        return problem_response(error, request_id)
    except Exception:
        logger.exception("unexpected", extra={"fields": facts})
        return problem_response(Internal("something broke inside"), request_id)


def _shown(path: str) -> str:
    """A path as errors and logs may repeat it: a webhook's address lets its holder in."""
    return re.sub(r"(/webhooks/fal/).*", r"\1…", path[:200])


# What of an error's facts helps to find it again; never what a caller sent.
_LOGGED = ("falRequestId", "upstreamStatus", "falErrorType", "sourceUrls")

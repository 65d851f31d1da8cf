"""The composition root: settings in, one callable out. Maps errors to answers, in one place.

Nothing is opened here: the storage opens with the first job, connections with the first call.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from . import storage
from .access import Access
from .assets import Assets, StorageDoor
from .errors import (
    AppError,
    DatabaseRequired,
    FalFailed,
    FalRejected,
    Internal,
    MethodNotAllowed,
    Misconfigured,
    NotFound,
)
from .events.paths import strip_base_path
from .fal.client import Fal
from .generate import Generator
from .logs import configure, logger
from .routes import Call, Route, Routes, Variables
from .settings import Settings, load
from .storage.base import ObjectStorage
from .uploads import Uploads
from .web import App, Request, Response, json_response, problem_response
from .wire import Wire


@dataclass(frozen=True)
class Seams:
    """What a test may replace: the clocks, the dice and the way out."""

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    sleep: Callable[[float], None] = time.sleep
    randomness: Callable[[int], bytes] = secrets.token_bytes
    detours: Mapping[str, str] = field(default_factory=dict)


def build(environ: Mapping[str, str]) -> App:
    """The app for an environment. Never raises for what the owner set: see `Settings.problems`."""
    return build_app(load(environ), environ=environ)


def build_app(
    settings: Settings, *, environ: Mapping[str, str] = os.environ, seams: Seams = Seams()
) -> App:
    """The app for these settings."""
    return front(compose(settings, environ=environ, seams=seams))


def front(services: Routes) -> App:
    """The services as one callable: routing, callers, errors and log lines around them."""
    settings = services.settings
    configure(settings.log_level, _secrets(settings))
    access = Access(settings.api_keys, settings.allow_anonymous, settings.cors_origins)
    return _Front(settings, access, services.table(), services.variables, services.clock)


def compose(settings: Settings, *, environ: Mapping[str, str], seams: Seams = Seams()) -> Routes:
    """The services behind the routes, wired together; `environ` holds vendors' credentials."""
    problems = list(settings.problems)
    variables = Variables(environ)
    wire = Wire(
        emulator_url=settings.emulator_url,
        fetch_hosts=settings.fetch_hosts,
        detours=seams.detours,
        clock=seams.clock,
    )
    opener, prefix = _opener(settings, variables, wire, seams, problems)
    assets = Assets(
        wire=wire,
        door=StorageDoor(opener),
        prefix=prefix,
        max_image_bytes=settings.max_image_bytes,
        link_ttl_s=settings.link_ttl_s,
        link_base_url=settings.link_base_url,
        clock=seams.clock,
        sleep=seams.sleep,
    )
    fal = Fal(wire, settings.fal_key, seams.clock, seams.sleep)
    uploads = Uploads(
        assets=assets,
        fal=fal,
        secrets=settings.secrets,
        now=seams.now,
        randomness=seams.randomness,
    )
    generator = Generator(
        fal=fal,
        assets=assets,
        uploads=uploads,
        allowed_models=settings.models,
        clock=seams.clock,
        now=seams.now,
        randomness=seams.randomness,
    )
    return Routes(
        settings=replace(settings, problems=tuple(problems)),
        generator=generator,
        assets=assets,
        uploads=uploads,
        variables=variables,
        clock=seams.clock,
        now_s=lambda: seams.now().timestamp(),
        aliases=dict(settings.model_aliases),
    )


def _opener(
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

    return opener, config.prefix


def _local_problems(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """What speaks against keeping pictures on this machine's disk."""
    in_cloud = "AWS_LAMBDA_FUNCTION_NAME" in environ or environ.get("TENCENTCLOUD_RUNENV") == "SCF"
    if in_cloud and settings.emulator_url is None:
        return ["FAL_IMAGE_STORAGE_URL: a function's disk is lost with it; use a bucket"]
    if settings.public_url and not settings.secrets:
        return ["FAL_IMAGE_SECRET: must be set to sign links of file:// storage"]
    return []


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
    variables: Variables
    clock: Callable[[], float]

    def __call__(self, request: Request) -> Response:
        started_at = self.clock()
        self.variables.invocation = request.platform.environment
        request_id = request.platform.request_id
        facts: dict[str, object] = {"requestId": request_id, "route": None, "caller": None}
        try:
            response = self._answer(request, started_at, facts)
        except AppError as error:
            facts["error"] = error.code
            if not isinstance(error, (FalFailed, FalRejected)):  # fal's words may quote the prompt
                facts["detail"] = error.detail
            facts |= {name: error.extensions[name] for name in _LOGGED if name in error.extensions}
            response = problem_response(error, request_id)
        except Exception:
            logger.exception("unexpected", extra={"fields": facts})
            response = problem_response(Internal("something broke inside"), request_id)
        took_ms = round((self.clock() - started_at) * 1000)
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
        if self.settings.problems and route.pattern != "/health":
            raise Misconfigured("; ".join(self.settings.problems))
        caller = self.access.identify(request) if route.who == "ticket" else None
        facts["caller"] = caller
        return route.handle(Call(request, caller, params, started_at, facts.update))

    def _unasked(self, request: Request, facts: dict[str, object]) -> Response:
        """Do what an event wants that no caller sent. Raises Misconfigured, DatabaseRequired."""
        facts["route"] = request.platform.name
        if self.settings.problems:
            raise Misconfigured("; ".join(self.settings.problems))
        if request.platform.name == "queue":
            raise DatabaseRequired("a queue's message names a job, and no database keeps jobs")
        facts["detail"] = "nothing to sweep without a database"
        return json_response(200, {"swept": 0})

    def _route(
        self, method: str, path: str, facts: dict[str, object]
    ) -> tuple[Route | None, dict[str, str]]:
        """The route of a request, or None and the path's methods when a browser asks for them."""
        path = path.rstrip("/") or "/"
        matches = [
            (route, params) for route in self.table if (params := route.match(path)) is not None
        ]
        if not matches:
            raise NotFound(f"there is no route {path[:200]}")
        methods = ", ".join(sorted({route.method for route, _ in matches} | {"OPTIONS"}))
        facts["route"] = f"{method} {matches[0][0].pattern}"
        if method == "OPTIONS":
            return None, {"methods": methods}
        wanted = "GET" if method == "HEAD" else method
        for route, params in matches:
            if route.method == wanted:
                return route, params
        raise MethodNotAllowed(
            f"{method[:20]} is not a method of {path[:200]}", headers=(("allow", methods),)
        )


# What of an error's facts helps to find it again; never what a caller sent.
_LOGGED = ("falRequestId", "upstreamStatus", "falErrorType", "sourceUrls")

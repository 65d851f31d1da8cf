"""Where every request enters: its route, its caller, its answer, and one log line.

Maps errors to answers, in one place. Refuses to know what any route does and how it was wired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec import Struct
from msgspec.structs import replace

from .access import Access
from .errors import (
    AppError,
    BodyTooLarge,
    FalFailed,
    FalRejected,
    HeadersTooLarge,
    Internal,
    MethodNotAllowed,
    Misconfigured,
    NotFound,
    Unauthorized,
    UriTooLong,
)
from .events.paths import strip_base_path
from .events.wsgi import MAX_BODY_BYTES
from .logs import configure, logger
from .routes import Call, Refuse, Route, Routes, Table, Variables
from .settings import Settings
from .web import App, Request, Response, problem_response

# What no honest client comes near; gateways have limits of their own, a server may have none.
MAX_HEADER_BYTES = 32 * 1024
MAX_HEADER_FIELDS = 100
MAX_ADDRESS_BYTES = 8 * 1024

# A page may not frame an answer nor take it for one of its own files, and no answer is a page that
# may do anything.
_GUARDS = (("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"))
_NO_PAGE = ("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
_FOR_ALL_PAGES = ("cross-origin-resource-policy", "cross-origin")
_PICTURES = re.compile(r"image/(?!svg)[a-z0-9.+-]+")

# The vendors' own secrets. What is shorter than the minimum is a test's, or no secret.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "CLOUDBASE_APIKEY",
    "TENCENTCLOUD_SECRETID",
    "TENCENTCLOUD_SECRETKEY",
    "TENCENTCLOUD_SESSIONTOKEN",
)
_MIN_SECRET_CHARS = 8


def front(services: Routes) -> App:
    """The services as one callable: routing, callers, errors and log lines around them."""
    settings = services.settings
    configure(settings.log_level, Secrets(settings, services.variables))
    for warning in settings.warnings:
        logger.warning(warning)
    access = Access(
        api_keys=settings.api_keys,
        allow_anonymous=settings.allow_anonymous,
        cors_origins=settings.cors_origins,
        trust=settings.trust,
        secrets=settings.secrets,
        takes_tickets=settings.database_url is not None,
        now_s=lambda: services.now().timestamp(),
    )
    return _Front(settings, access, Table(services.table()), services)


@dataclass(frozen=True)
class Secrets:
    """What must never stand in a log line, whole or in its halves, at the moment of the line:
    an invocation may bring credentials of its own."""

    settings: Settings = field(repr=False)
    variables: Variables = field(repr=False)

    def __iter__(self) -> Iterator[str]:
        yield from self.settings.secrets
        key = self.settings.fal_key or ""
        held = [key, *key.split(":")]
        for variables in (self.variables.process, self.variables.invocation):
            held += [variables.get(name, "") for name in _CREDENTIALS]
        yield from (secret for secret in held if len(secret) >= _MIN_SECRET_CHARS)


class _Front(Struct, frozen=True):
    """Every request enters here: route, caller, answer, errors as data, one log line."""

    settings: Settings
    access: Access
    table: Table
    services: Routes

    def __call__(self, request: Request) -> Response:
        clock = self.services.clock
        started_at = clock()
        self.services.variables.invocation = request.platform.environment
        request_id = request.platform.request_id
        facts: dict[str, object] = {"requestId": request_id, "route": None, "caller": None}
        response = _as_answer(
            lambda: self._answer(request, started_at, facts),
            request_id,
            facts,
            lambda error, request_id: self._dialect(request)(error, request_id),
        )
        took_ms = round((clock() - started_at) * 1000)
        facts |= {"status": response.status, "totalMs": took_ms}
        logger.info("request", extra={"fields": facts})
        if request.method == "HEAD":
            response.close()
            response = Response(response.status, b"", response.headers)
        is_private = facts["caller"] is not None or _shows_credential(request)
        told = (("x-request-id", request_id), *self.access.cors_headers(request))
        return guarded(_telling(response, told), is_private=is_private)

    def _dialect(self, request: Request) -> Refuse:
        """How errors are told at a path, whatever its method."""
        path = strip_base_path(request.path, self.settings.base_path).rstrip("/") or "/"
        return next((route.refuse for route, _ in self.table.at(path)), problem_response)

    def _answer(self, request: Request, started_at: float, facts: dict[str, object]) -> Response:
        if request.platform.name in ("timer", "queue"):
            return self._unasked(request, facts)
        _check_size(request)
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
        told: tuple[tuple[str, str], ...] = ()

        def answer() -> Response:
            nonlocal caller, told
            if self.settings.problems:
                raise Misconfigured("; ".join(self.settings.problems))
            who = self.access.identify(request)
            caller = facts["caller"] = who.name
            if who.ticket is not None:
                facts["ticketId"] = who.ticket.id
            if who.ticket is not None and route.who == "key":
                raise Unauthorized("a ticket does not open this: it takes an API key")
            instead = hooks.instead(request, caller)
            if instead is not None:
                return instead
            own = replace(call, caller=caller, ticket=who.ticket)
            if self.services.rates is not None and route.spends(own):
                told = self.services.rates.admit(who, request.platform.request_id)
            return route.handle(own)

        response = _as_answer(answer, request.platform.request_id, facts, route.refuse)
        return hooks.final(request, response.with_headers(*told), caller)

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
        matches = self.table.at(path)
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


def _check_size(request: Request) -> None:
    """Refuse what is too large before anybody reads it, and what the entrance could not read.

    A body counts as it is once base64 is undone. One in a file is measured by its route.
    Raises UriTooLong, HeadersTooLarge, BodyTooLarge, and the entrance's own errors.
    """
    parts = [request.path, *(f"{name}={value}&" for name, value in request.query)]
    if _bytes("".join(parts)) > MAX_ADDRESS_BYTES:
        raise UriTooLong(f"path and query are longer than {MAX_ADDRESS_BYTES} bytes")
    fields = [name + value for name, value in request.headers]
    if len(fields) > MAX_HEADER_FIELDS or _bytes("".join(fields)) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(
            f"more than {MAX_HEADER_FIELDS} header fields or {MAX_HEADER_BYTES} bytes of them"
        )
    if request.fault is not None:
        raise request.fault
    if len(request.body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"The body is longer than {MAX_BODY_BYTES} bytes")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _shows_credential(request: Request) -> bool:
    return "authorization" in request.headers or "x-api-key" in request.headers


def _telling(response: Response, told: tuple[tuple[str, str], ...]) -> Response:
    """The answer with these headers said once: by us, whoever said them before. `Vary` adds up."""
    ours = {name for name, _ in told} - {"vary"}
    kept = tuple(pair for pair in response.headers if pair[0].lower() not in ours)
    return Response(response.status, response.body, (*kept, *told))


def guarded(response: Response, *, is_private: bool) -> Response:
    """The answer with what it tells browsers and caches, unless its route said otherwise.

    Errors, and whatever somebody known was told, are kept by nobody. A picture is for pages of any
    origin; the link is what lets them in.
    """
    said = {name.lower(): value for name, value in response.headers}
    is_picture = response.status == 200 and _PICTURES.fullmatch(said.get("content-type", ""))
    pairs = [*_GUARDS, _FOR_ALL_PAGES if is_picture else _NO_PAGE]
    if is_private or response.status >= 400:
        pairs.append(("cache-control", "no-store"))
    return response.with_headers(*(pair for pair in pairs if pair[0] not in said))


def _as_answer(
    act: Callable[[], Response],
    request_id: str,
    facts: dict[str, object],
    refuse: Refuse,
) -> Response:
    """What `act` answers, its errors as answers too; `facts` gets what the log should say."""
    try:
        return act()
    except AppError as error:
        facts["error"] = error.code
        if not isinstance(error, (FalFailed, FalRejected)):  # fal's words may quote the prompt
            facts["detail"] = error.detail
        facts |= {name: error.extensions[name] for name in _LOGGED if name in error.extensions}
        return refuse(error, request_id)
    except Exception:
        logger.exception("unexpected", extra={"fields": facts})
        return refuse(Internal("something broke inside"), request_id)


def _shown(path: str) -> str:
    """A path as errors and logs may repeat it: a webhook's address lets its holder in."""
    return re.sub(r"(/webhooks/fal/).*", r"\1…", path[:200])


# What of an error's facts helps to find it again; never what a caller sent.
_LOGGED = ("falRequestId", "upstreamStatus", "falErrorType", "sourceUrls")

"""Where every request enters: its route, its caller, its answer, and one log line.

Maps errors to answers, in one place. Refuses to know what any route does and how it was wired.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from .access import Access
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
from .logs import configure, logger
from .routes import Call, Refuse, Route, Routes
from .settings import Settings
from .web import App, Request, Response, problem_response


def front(services: Routes) -> App:
    """The services as one callable: routing, callers, errors and log lines around them."""
    settings = services.settings
    configure(settings.log_level, _secrets(settings))
    access = Access(settings.api_keys, settings.allow_anonymous, settings.cors_origins)
    return _Front(settings, access, services.table(), services)


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
        response = _as_answer(
            lambda: self._answer(request, started_at, facts),
            request_id,
            facts,
            self._dialect(request),
        )
        took_ms = round((clock() - started_at) * 1000)
        facts |= {"status": response.status, "totalMs": took_ms}
        logger.info("request", extra={"fields": facts})
        if request.method == "HEAD":
            response.close()
            response = Response(response.status, b"", response.headers)
        return response.with_headers(
            ("x-request-id", request_id),
            ("x-content-type-options", "nosniff"),
            *self.access.cors_headers(request),
        )

    def _dialect(self, request: Request) -> Refuse:
        """How errors are told at a path, whatever its method."""
        path = strip_base_path(request.path, self.settings.base_path).rstrip("/") or "/"
        found = (route.refuse for route in self.table if route.match(path) is not None)
        return next(found, problem_response)

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

        response = _as_answer(answer, request.platform.request_id, facts, route.refuse)
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

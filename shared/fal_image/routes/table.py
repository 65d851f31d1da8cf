"""What a route is, and one request at it. Refuses to know what any route does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from msgspec import Struct

from ..errors import AppError, UnsupportedMediaType
from ..inputs import parse_object
from ..tickets import Ticket
from ..web import Platform, Request, Response, problem_response

KEPT_BACK_S = 2.0  # for copying the answer out, before the platform or its gateway hangs up

# "fal" and "signed" show in the address who they are.
Who = Literal["open", "ticket", "key", "signed", "fal"]


# The answer that an error becomes, of the request with this id.
Refuse = Callable[[AppError, str], Response]


class Call(Struct, frozen=True):
    """One request at its route: who asks, what the path says, when the request came in."""

    request: Request
    caller: str | None
    params: Mapping[str, str]
    started_at: float
    note: Callable[..., None]  # adds facts to the request's log line
    ticket: Ticket | None = None

    def json(self) -> dict[str, object]:
        """The body as a JSON object. Raises InvalidJson, UnsupportedMediaType."""
        content_type = self.request.headers.get("content-type")
        media_type = (content_type or "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise UnsupportedMediaType(f"the body is declared as {media_type[:100]}, not JSON")
        return parse_object(self.request.body)


def _never(call: Call) -> bool:
    return False


def always(call: Call) -> bool:
    return True


class Route(Struct, frozen=True):
    method: str
    pattern: str
    who: Who
    handle: Callable[[Call], Response]
    refuse: Refuse = problem_response
    spends: Callable[[Call], bool] = _never  # whether a request may cost something at fal

    def match(self, path: str) -> dict[str, str] | None:
        """The path's parameters, None if it is another route's. `{name*}` takes the rest."""
        start, wanted = _read(self.pattern)
        if not path.startswith(start):
            return None
        if start == self.pattern:
            return {} if path == start else None
        given = path.split("/")
        params: dict[str, str] = {}
        for place, part in enumerate(wanted):
            if part.endswith("*}"):
                params[part[1:-2]] = "/".join(given[place:])
                return params if params[part[1:-2]] else None
            if place >= len(given):
                return None
            if part.startswith("{"):
                params[part[1:-1]] = given[place]
            elif part != given[place]:
                return None
        return params if len(wanted) == len(given) else None


class Table:
    """Routes by the first part of their patterns, which is never a parameter."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_start: dict[str, list[Route]] = defaultdict(list)
        for route in routes:
            self._by_start[route.pattern.split("/")[1]].append(route)

    def at(self, path: str) -> list[tuple[Route, dict[str, str]]]:
        """The routes of a path, whatever their method, in their order; with its parameters."""
        routes = self._by_start.get(path.split("/", 2)[1], ())
        return [(route, params) for route in routes if (params := route.match(path)) is not None]


@cache
def _read(pattern: str) -> tuple[str, tuple[str, ...]]:
    """What every path of a pattern starts with, and the pattern's parts."""
    return pattern.partition("{")[0], tuple(pattern.split("/"))


@dataclass
class Variables:
    """The process's environment, and over it what the invocation that is being answered brings.

    One plain place is enough, and its copy threads need no hand-over: an instance of an event
    function answers one invocation at a time, and a server with many threads has no variables but
    the process's own. A thread that outlives its invocation reads the next one's credentials,
    which are as good and live longer.
    """

    process: Mapping[str, str] = field(repr=False)
    invocation: Mapping[str, str] = field(default_factory=dict, repr=False)

    def current(self) -> Mapping[str, str]:
        return {**self.process, **self.invocation}


def answer_by(platform: Platform, started_at: float, max_wait_s: float) -> float:
    """When the answer must be ready, on the monotonic clock: before anybody in front hangs up."""
    limits = [started_at + max_wait_s]
    if platform.ends_at is not None:
        limits.append(platform.ends_at - KEPT_BACK_S)
    if platform.gateway_s is not None:
        limits.append(started_at + platform.gateway_s - KEPT_BACK_S)
    return min(limits)

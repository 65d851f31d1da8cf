"""What the endpoint says of itself to programs: `/openapi.json`."""

from __future__ import annotations

from collections.abc import Iterable

from ..settings import Settings
from ..web import Response
from .jobs import public_url
from .table import Call, Route

_JSON = ("content-type", "application/json")
_KEPT = ("cache-control", "public, max-age=300")


def described(routes: Iterable[Route], settings: Settings, call: Call) -> Response:
    """The document of these routes, at the address by which this endpoint is known."""
    from ..openapi import Described, document  # an entrypoint's start does without

    table = tuple(Described(route.method, route.pattern, route.who) for route in routes)
    server = public_url(settings, call) or settings.base_path or "/"
    return Response(200, document(table, server), (_JSON, _KEPT))

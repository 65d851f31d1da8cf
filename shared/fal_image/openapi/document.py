"""The OpenAPI document of a table of routes, put together from the data beside this.

Refuses to know who asks, the owner's settings, and what a route does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from .. import __version__, errors
from ..errors import AppError
from .operations import OPERATIONS, Operation, Reply
from .parts import (
    HEADERS,
    PARAMETERS,
    SECURITY_SCHEMES,
    TAGS,
    Refusals,
    header_refs,
    parameter_refs,
)
from .schemas import Schema, ref, schemas

_EVERYWHERE: tuple[type[AppError], ...] = (
    errors.InvalidJson,
    errors.InvalidInput,
    errors.BodyTooLarge,
    errors.UriTooLong,
    errors.HeadersTooLarge,
    errors.Internal,
)
_REST = re.compile(r"\*\}")
_ABOUT = (
    "Pictures from fal.ai, through the owner's own function, into the owner's own bucket. Every "
    "path also answers OPTIONS, and HEAD where it answers GET; another method is a 405 that names "
    "those there are. The owner may let callers in without a credential, and may answer some "
    "requests with code of their own."
)


class Described(Struct, frozen=True):
    """What of a route the document tells."""

    method: str
    pattern: str
    who: str


@functools.lru_cache(maxsize=8)  # one, and one more for every name that the endpoint has
def document(routes: tuple[Described, ...], server: str) -> bytes:
    """The document as JSON, for an endpoint at `server`: a URL, or a path of the host's."""
    return msgspec.json.encode(assembled(routes, server))


def assembled(routes: Iterable[Described], server: str) -> Schema:
    """The document of these routes. Raises KeyError for one that nobody has described."""
    refusals = Refusals()
    paths: dict[str, Schema] = {}
    for route in routes:
        described = OPERATIONS[route.method, route.pattern]
        path = paths.setdefault(shown(route.pattern), {})
        path[route.method.lower()] = _operation(route, described, refusals)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fal-image",
            "version": __version__,
            "summary": "Pictures from fal.ai into your own bucket.",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "responses": dict(sorted(refusals.components.items())),
            "parameters": dict(PARAMETERS),
            "headers": dict(HEADERS),
            "securitySchemes": dict(SECURITY_SCHEMES),
        },
    }


def shown(pattern: str) -> str:
    """A route's pattern as a path of the document, which has no word for the rest of a path."""
    return _REST.sub("}", pattern)


def _operation(route: Described, described: Operation, refusals: Refusals) -> Schema:
    is_open = route.who not in ("ticket", "key")
    kinds = [*described.errors, *_EVERYWHERE]
    if not is_open:
        kinds.append(errors.Unauthorized)
    if route.pattern != "/health":
        kinds.append(errors.Misconfigured)
    made: Schema = {
        "operationId": described.id,
        "tags": [described.tag],
        "summary": described.summary,
    }
    if described.description:
        made["description"] = described.description
    made["security"] = [] if is_open else [{name: []} for name in SECURITY_SCHEMES]
    if described.parameters:
        made["parameters"] = parameter_refs(described.parameters)
    if described.takes:
        made["requestBody"] = {
            "content": _content(described.takes),
            "required": described.needs_body,
        }
    replies = {status: _reply(reply) for status, reply in described.replies.items()}
    made["responses"] = replies | refusals.responses(kinds, described.dialect)
    if described.tells:
        made["callbacks"] = {"ended": _notice(described.tells)}
    return made


def _reply(reply: Reply) -> Schema:
    answer: Schema = {
        "description": reply.description,
        "headers": header_refs(("X-Request-Id", *reply.headers)),
    }
    return answer | ({"content": _content(reply.content)} if reply.content else {})


def _content(by_type: Any) -> Schema:
    return {media_type: {"schema": schema} for media_type, schema in by_type.items()}


def _notice(name: str) -> Schema:
    """What the address in `webhookUrl` is told (Standard Webhooks)."""
    event = {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": ref(name),
        },
        "required": ["type", "timestamp", "data"],
        "additionalProperties": False,
    }
    headers = ("webhook-id", "webhook-timestamp", "webhook-signature")
    told = {
        "summary": "It came to its end",
        "parameters": [
            {"name": one, "in": "header", "required": True, "schema": {"type": "string"}}
            for one in headers
        ],
        "requestBody": {"content": {"application/json": {"schema": event}}, "required": True},
        "responses": {"2XX": {"description": "Taken. Anything else is told again, for a day."}},
    }
    return {"{$request.body#/webhookUrl}": {"post": told}}

"""Tencent CloudBase event functions: the HTTP access service and direct calls.

Field names: CloudBase docs, "Access cloud functions via HTTP" (also Tencent Cloud document
876/41776, which adds `multiValueHeaders`); the context: Tencent Cloud document 583/9210. A shape
can be forged by whoever may call the function, so it never grants anything. Refuses to know any
route and any storage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import unquote

from ..errors import InvalidInput
from ..web import App, Headers, Platform, Request, Response, header_map
from . import _fields, direct
from ._answers import answered, body_text, buffered

Kind = Literal["http", "timer", "direct"]

# How long the access service waits is not documented: 60 s pass for safe, 5 s are for the way.
ACCESS_TIMEOUT_S = 55.0


def handle(
    event: object,
    context: object,
    app: App,
    *,
    clock: Callable[[], float] = time.monotonic,
    new_id: Callable[[], str] = _fields.new_request_id,
) -> dict[str, Any]:
    """Answer one invocation with `app`: an integrated response, or a direct call's object.

    Never raises, whatever the event holds. `clock` is seconds on `time.monotonic`'s scale.
    """
    kind = classify(event)
    platform = platform_of(event, context, kind, clock=clock, new_id=new_id)
    response = answered(
        lambda: buffered(app(to_request(event, kind, platform))), platform.request_id
    )
    return reply(response) if kind == "http" else direct.reply(response)


def classify(event: object) -> Kind:
    if not isinstance(event, dict):
        return "direct"
    has_address = isinstance(event.get("path"), str) or isinstance(event.get("headers"), dict)
    if isinstance(event.get("httpMethod"), str) and has_address:
        return "http"
    if event.get("Type") == "Timer" and isinstance(event.get("TriggerName"), str):
        return "timer"
    return "direct"


def platform_of(
    event: object,
    context: object,
    kind: Kind,
    *,
    clock: Callable[[], float],
    new_id: Callable[[], str],
) -> Platform:
    """What CloudBase says of this invocation. Never raises.

    Call it first: the time limit counts from the invocation's start, and so does the clock here.
    """
    facts = _fields.table(context)
    limit_ms = _fields.milliseconds(facts.get("time_limit_in_ms"))
    gateway = _fields.table(_fields.table(event).get("requestContext"))
    is_http = kind == "http"
    gateways_id = gateway.get("requestId") if is_http else None
    return Platform(
        name="cloudbase" if is_http else "direct",
        request_id=_fields.first_request_id(gateways_id, facts.get("request_id")) or new_id(),
        client_ip=_client_ip(event, facts) if is_http else None,
        ends_at=None if limit_ms is None else clock() + limit_ms / 1000,
        gateway_s=ACCESS_TIMEOUT_S if is_http else None,
    )


def to_request(event: object, kind: Kind, platform: Platform) -> Request:
    """The request behind an event. Raises InvalidJson, InvalidInput (a timer)."""
    if kind == "timer":
        raise InvalidInput(
            "This function has nothing to do for a timer",
            hint="Remove the timer trigger from the function.",
            fields=[{"field": "Type", "message": "is Timer"}],
        )
    if kind == "direct" or not isinstance(event, dict):
        return direct.to_request(_direct_event(event), platform)
    return Request(
        method=_fields.method(event["httpMethod"]),
        path=_fields.path(unquote(_fields.path(event.get("path")))),
        platform=platform,
        query=_fields.pairs(event.get("queryStringParameters")),
        headers=Headers(_headers(event)),
        body=_fields.body(event),
    )


def reply(response: Response) -> dict[str, Any]:
    """The answer as an integrated response; one value per header is all that is documented."""
    body, is_base64 = body_text(response)
    return {
        "statusCode": response.status,
        "headers": dict(header_map((name.lower(), value) for name, value in response.headers)),
        "body": body,
        "isBase64Encoded": is_base64,
    }


def _headers(event: Mapping[str, object]) -> _fields.Pairs:
    """Every header once, repeated ones from `multiValueHeaders` where the gateway sends it."""
    several = _fields.pairs(event.get("multiValueHeaders"))
    known = {name.lower() for name, _ in several}
    single = _fields.pairs(event.get("headers"))
    return (*several, *(pair for pair in single if pair[0].lower() not in known))


def _direct_event(event: object) -> object:
    """The event without what WeChat adds to it, and with its body found where callers put it.

    `userInfo` would be sent to the model as a field of its own. An event whose `body` holds the
    prompt is what clients of a plain HTTP function send.
    """
    if not isinstance(event, dict) or "route" in event:
        return event
    own = {name: value for name, value in event.items() if name != "userInfo"}
    if "body" in own and "prompt" not in own:
        return {"route": direct.DEFAULT_ROUTE, **own}
    return own


def _client_ip(event: object, facts: Mapping[str, object]) -> str | None:
    """The caller's address; good enough for a log, not for a decision.

    CloudBase's own SDK reads `TCB_SOURCE_IP` from the invocation's environment. Without it the
    nearest hop's word counts, because everything left of it is the caller's own text.
    """
    stated = _fields.address(_environment(facts).get("TCB_SOURCE_IP"))
    forwarded = Headers(_headers(_fields.table(event))).get("x-forwarded-for") or ""
    return stated or _fields.address(forwarded.rpartition(",")[2])


def _environment(facts: Mapping[str, object]) -> Mapping[str, object]:
    """The invocation's own environment: an object written as a JSON string."""
    value = facts.get("environment")
    try:
        return _fields.table(json.loads(value) if isinstance(value, str) else value)
    except (ValueError, RecursionError):
        return {}

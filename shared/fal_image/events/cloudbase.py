"""Tencent CloudBase event functions: the HTTP access service, timers and `callFunction`.

Field names: CloudBase docs, "Access cloud functions via HTTP" (also Tencent Cloud document
876/41776, which adds `multiValueHeaders`); the timer: document 583/31927; the context: document
583/9210. Whoever may call the function may forge any event, so no shape grants anything: who
calls, the request id and the credentials come from the context alone. Refuses to know any route
and any storage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import unquote

from ..web import App, Platform, PlatformName, Request, Response, header_map
from . import _fields, _unsent, direct
from ._answers import answered, body_text, buffered
from ._identities import NOBODY, Identities, identity

Kind = Literal["http", "timer", "direct"]

# How long the access service waits is not documented: 60 s pass for safe, 5 s are for the way.
ACCESS_TIMEOUT_S = 55.0
ANSWER_BYTES = 6_000_000  # of a synchronous reply (Tencent Cloud document 583/11637: 6 MB)

_NAMES: Mapping[Kind, PlatformName] = {"http": "cloudbase", "timer": "timer", "direct": "direct"}


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
    stated = _stated(facts)
    environment = _joined(facts) if stated is None else stated
    is_http = kind == "http"
    return Platform(
        name=_NAMES[kind],
        request_id=_fields.first_request_id(facts.get("request_id")) or new_id(),
        client_ip=_client_ip(event, environment) if is_http else None,
        ends_at=None if limit_ms is None else clock() + limit_ms / 1000,
        gateway_s=ACCESS_TIMEOUT_S if is_http else None,
        answer_bytes=ANSWER_BYTES,
        identities=NOBODY if kind == "timer" else _identities(stated or {}),
        environment=environment,
    )


def to_request(event: object, kind: Kind, platform: Platform) -> Request:
    """The request behind an event. Raises InvalidJson, InvalidInput (`route`)."""
    if kind == "timer":
        return _unsent.tick(platform)
    if kind == "direct" or not isinstance(event, dict):
        return direct.to_request(_direct_event(event), platform)
    body, fault = _fields.body(event)
    return Request(
        method=_fields.method(event["httpMethod"]),
        path=_fields.path(unquote(_fields.path(event.get("path")))),
        platform=platform,
        query=_fields.pairs(event.get("queryStringParameters")),
        headers=_fields.repeated_headers(event),
        body=body,
        fault=fault,
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


def _client_ip(event: object, environment: Mapping[str, str]) -> str | None:
    """The caller's address; good enough for a log, not for a decision.

    CloudBase's own SDK reads `TCB_SOURCE_IP` from the invocation's environment. Without it the
    nearest hop's word counts, because everything left of it is the caller's own text.
    """
    stated = _fields.address(environment.get("TCB_SOURCE_IP"))
    return stated or _fields.nearest_hop(_fields.repeated_headers(_fields.table(event)))


def _identities(stated: Mapping[str, str]) -> Identities:
    """Who is logged in, by WeChat and by CloudBase, as CloudBase's own SDK for Node reads it.

    An anonymous login is nobody: anyone can have as many of them as they like.
    """
    is_anonymous = (
        stated.get("TCB_ISANONYMOUS_USER") == "true" or stated.get("LOGINTYPE") == "ANONYMOUS"
    )
    user = NOBODY if is_anonymous else identity("cloudbase", stated.get("TCB_UUID"))
    return identity("wechat", stated.get("WX_OPENID")) + user


def _stated(facts: Mapping[str, object]) -> dict[str, str] | None:
    """The variables of this invocation, None where a platform is too old to say them in JSON."""
    value = facts.get("environment")
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return None
    texts = ((_fields.text(name), _fields.text(value)) for name, value in found.items())
    return {name: value for name, value in texts if name is not None and value is not None}


def _joined(facts: Mapping[str, object]) -> dict[str, str]:
    """The variables in their old form, `K=V;K=V`.

    It cannot say that a value holds a semicolon, so a value could pose as a variable of its own:
    it tells nothing about who calls, and a name that it has twice is left out.
    """
    pairs = [part.partition("=") for part in (_fields.text(facts.get("environ")) or "").split(";")]
    names = [name for name, _, _ in pairs]
    return {name: value for name, sign, value in pairs if sign and name and names.count(name) == 1}

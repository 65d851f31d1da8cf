"""AWS Lambda: Function URL, API Gateway HTTP API (payload format 2.0) and direct invocation.

Which kind an event is, is read from the shape of `requestContext`, never from `version`, which
VPC Lattice and EventBridge set too. Kinds that are known but not served get a clear refusal in
the form their sender understands. Field names: AWS Lambda guide, "Invoking function URLs"; API
Gateway guide, "AWS Lambda proxy integrations for HTTP APIs". Refuses to know any route.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import unquote

from ..errors import InvalidInput
from ..web import App, Headers, Platform, Request, Response, header_map
from . import _fields, direct
from ._answers import answered, body_text, buffered
from .paths import strip_base_path

Kind = Literal[
    "function_url", "http_api", "rest", "alb", "other_gateway", "records", "eventbridge", "direct"
]

HTTP_API_TIMEOUT_S = 29.0  # API Gateway guide, HTTP API quotas: 30 s, not raisable; 1 s for the way

_NOT_SERVED: Mapping[Kind, str] = {
    "rest": "an API Gateway API with payload format 1.0",
    "alb": "an Application Load Balancer",
    "other_gateway": "a gateway of another kind",
    "records": "a queue or stream",
    "eventbridge": "EventBridge",
}
_OBJECT_REPLIES: frozenset[Kind] = frozenset({"records", "eventbridge", "direct"})
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")


def handle(
    event: object,
    context: object,
    app: App,
    *,
    clock: Callable[[], float] = time.monotonic,
    new_id: Callable[[], str] = _fields.new_request_id,
) -> dict[str, Any]:
    """Answer one invocation with `app`: an HTTP reply, or the body's object for a direct call.

    Never raises, whatever the event holds. `clock` is seconds on `time.monotonic`'s scale.
    """
    kind = classify(event)
    platform = platform_of(event, context, kind, clock=clock, new_id=new_id)
    response = answered(
        lambda: buffered(app(to_request(event, kind, platform))), platform.request_id
    )
    return direct.reply(response) if kind in _OBJECT_REPLIES else reply(response)


def classify(event: object) -> Kind:
    """Whose event this is. What no gateway marks as its own is a direct call."""
    if not isinstance(event, dict):
        return "direct"
    if isinstance(event.get("Records"), list):
        return "records"
    if "source" in event and "detail-type" in event:
        return "eventbridge"
    context = _fields.table(event.get("requestContext"))
    if "elb" in context:
        return "alb"
    if isinstance(context.get("http"), dict):
        domain = _fields.text(context.get("domainName")) or ""
        return "function_url" if ".lambda-url." in domain else "http_api"
    if "httpMethod" in event:
        return "rest"
    # A direct call is the caller `iam`: nothing that a gateway let in may pass for one.
    return "other_gateway" if "requestContext" in event or "raw_path" in event else "direct"


def platform_of(
    event: object,
    context: object,
    kind: Kind,
    *,
    clock: Callable[[], float],
    new_id: Callable[[], str],
) -> Platform:
    """What Lambda and the gateway say of this invocation. Never raises."""
    gateway = _fields.table(_fields.table(event).get("requestContext"))
    http = _fields.table(gateway.get("http"))
    is_direct = kind == "direct"
    gateways_id = None if is_direct else gateway.get("requestId")
    own_id = getattr(context, "aws_request_id", None)
    return Platform(
        name="direct" if is_direct else "aws",
        request_id=_fields.first_request_id(gateways_id, own_id) or new_id(),
        client_ip=_fields.address(http.get("sourceIp")),
        ends_at=_ends_at(context, clock),
        gateway_s=HTTP_API_TIMEOUT_S if kind == "http_api" else None,
        public_url=_public_url(gateway) if kind in ("function_url", "http_api") else None,
        caller="iam" if is_direct else None,
    )


def to_request(event: object, kind: Kind, platform: Platform) -> Request:
    """The request behind an event. Raises InvalidJson, InvalidInput (a kind that is not served)."""
    if kind in _NOT_SERVED:
        raise InvalidInput(
            f"This function does not serve events of {_NOT_SERVED[kind]}",
            hint="Use a Function URL, an HTTP API with payload format 2.0, or a direct call.",
            fields=[{"field": "event", "message": f"comes from {_NOT_SERVED[kind]}"}],
        )
    if kind == "direct" or not isinstance(event, dict):
        return direct.to_request(event, platform)
    gateway = _fields.table(event.get("requestContext"))
    http = _fields.table(gateway.get("http"))
    return Request(
        method=_fields.method(http.get("method")),
        path=_path(event.get("rawPath") or http.get("path"), gateway.get("stage"), kind),
        platform=platform,
        query=_query(event),
        headers=Headers(_headers(event)),
        body=_fields.body(event),
    )


def reply(response: Response) -> dict[str, Any]:
    """The answer in payload format 2.0, which the other gateways take for an error as well."""
    body, is_base64 = body_text(response)
    headers = [(name.lower(), value) for name, value in response.headers]
    cookies = [value for name, value in headers if name == "set-cookie"]
    answer: dict[str, Any] = {
        "statusCode": response.status,
        "headers": dict(header_map(pair for pair in headers if pair[0] != "set-cookie")),
        "body": body,
        "isBase64Encoded": is_base64,
    }
    return answer | {"cookies": cookies} if cookies else answer


def _path(raw: object, stage: object, kind: Kind) -> str:
    """The path without the stage, percent-decoded.

    A Function URL hands the path over as it was sent, an HTTP API has decoded it already (seen in
    captures, github.com/hotsock/voker pull request 8): decoding twice would invent slashes.
    """
    path = _fields.path(raw)
    if kind == "function_url":
        return _fields.path(unquote(path))
    name = _fields.text(stage)
    return path if name in (None, "", "$default") else strip_base_path(path, f"/{name}")


def _query(event: Mapping[str, object]) -> _fields.Pairs:
    raw = _fields.text(event.get("rawQueryString"))
    # The decoded dict joins repeated keys by commas, so it serves hand-made events only.
    return _fields.query_pairs(raw) if raw else _fields.pairs(event.get("queryStringParameters"))


def _headers(event: Mapping[str, object]) -> _fields.Pairs:
    headers = _fields.pairs(event.get("headers"))
    cookies = event.get("cookies")
    # A Function URL sends the cookies twice, an HTTP API only in the list.
    if not isinstance(cookies, list) or any(name.lower() == "cookie" for name, _ in headers):
        return headers
    joined = "; ".join(text for cookie in cookies if (text := _fields.text(cookie)))
    return (*headers, ("cookie", joined)) if joined else headers


def _public_url(gateway: Mapping[str, object]) -> str | None:
    """The address that the gateway says it has; a `Host` header is the caller's and is not asked.

    The stage is part of the path only on the API's own domain, not on a custom one.
    """
    domain, stage = _fields.text(gateway.get("domainName")), _fields.text(gateway.get("stage"))
    if not domain or not _HOST.fullmatch(domain):
        return None
    is_named = ".execute-api." in domain and stage and stage != "$default"
    return f"https://{domain}/{stage}" if is_named else f"https://{domain}"


def _ends_at(context: object, clock: Callable[[], float]) -> float | None:
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    left_ms = _fields.milliseconds(remaining()) if callable(remaining) else None
    return None if left_ms is None else clock() + left_ms / 1000

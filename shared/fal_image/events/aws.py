"""AWS Lambda: what calls the function, and what this invocation may do.

Function URLs, API Gateway (HTTP and REST APIs), load balancers, EventBridge, SQS and direct
invocation. Which kind an event is, is read from the shape of `requestContext`, never from
`version`, which VPC Lattice and EventBridge set too. Kinds that are known but not served get a
clear refusal in the form their sender understands.

Through a gateway nobody can choose that shape, but whoever holds `lambda:InvokeFunction` can send
any event, a gateway's too, and nothing beside the event tells them apart: where an owner trusts
identities, that right is the right to be anybody. Refuses to know any route.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ..errors import InvalidInput
from ..web import App, Platform, PlatformName, Request, Response
from . import _fields, _format1, _format2, _unsent, direct
from ._answers import answered, buffered
from ._identities import NOBODY, Identities, identity

Kind = Literal[
    "function_url",
    "http_api",
    "rest",
    "alb",
    "other_gateway",
    "queue",
    "other_records",
    "timer",
    "other_eventbridge",
    "direct",
]

# How long the entrance in front waits, less 1 s for the way (5 s on a balancer, whose limit is
# only its default). API Gateway guide, quotas of HTTP and REST APIs: 30 s and 29 s; Elastic Load
# Balancing guide, idle time-out: 60 s. A Function URL waits as long as the function may run.
GATEWAY_TIMEOUTS_S: Mapping[Kind, float] = {"http_api": 29.0, "rest": 28.0, "alb": 55.0}

# The longest reply: Lambda's own limit (AWS Lambda guide, quotas: 6 MB), and what a load balancer
# takes of it (Elastic Load Balancing guide, Lambda functions as targets: 1 MB).
ANSWER_BYTES = 6_000_000
ALB_ANSWER_BYTES = 1_000_000

# The constant input of an EventBridge schedule, which otherwise has no shape of its own.
SWEEP = {"job": "sweep"}

_NOT_SERVED: Mapping[Kind, str] = {
    "other_gateway": "a gateway of another kind",
    "other_records": "a stream, or a queue other than SQS",
    "other_eventbridge": "EventBridge that are no schedule",
}
_NAMES: Mapping[Kind, PlatformName] = {"direct": "direct", "timer": "timer", "queue": "queue"}
_HTTP: frozenset[Kind] = frozenset({"function_url", "http_api", "rest", "alb", "other_gateway"})
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")


def handle(
    event: object,
    context: object,
    app: App,
    *,
    clock: Callable[[], float] = time.monotonic,
    new_id: Callable[[], str] = _fields.new_request_id,
) -> dict[str, Any]:
    """Answer one invocation with `app` in the form its sender reads: an HTTP reply, a report on a
    batch of messages, or the body's object.

    Never raises, whatever the event holds. `clock` is seconds on `time.monotonic`'s scale.
    """
    kind = classify(event)
    platform = platform_of(event, context, kind, clock=clock, new_id=new_id)
    if kind == "queue":
        return _unsent.answer_batch(_records(event), platform, app)
    response = answered(
        lambda: buffered(app(to_request(event, kind, platform))), platform.request_id
    )
    return reply(response, event, kind)


def classify(event: object) -> Kind:
    """Whose event this is. What no gateway marks as its own is a direct call."""
    if not isinstance(event, dict):
        return "direct"
    if isinstance(event.get("Records"), list):
        is_queue = any(
            _fields.table(one).get("eventSource") == _unsent.SQS for one in _records(event)
        )
        return "queue" if is_queue else "other_records"
    if "source" in event and "detail-type" in event:
        return "timer" if event["detail-type"] == "Scheduled Event" else "other_eventbridge"
    context = _fields.table(event.get("requestContext"))
    if "elb" in context:
        return "alb"
    if isinstance(context.get("http"), dict):
        domain = _fields.text(context.get("domainName")) or ""
        return "function_url" if ".lambda-url." in domain else "http_api"
    if "httpMethod" in event:
        return "rest"
    if "requestContext" in event or "raw_path" in event:
        # A direct call is the caller `iam`: nothing that a gateway let in may pass for one.
        return "other_gateway"
    return "timer" if event == SWEEP else "direct"


def platform_of(
    event: object,
    context: object,
    kind: Kind,
    *,
    clock: Callable[[], float],
    new_id: Callable[[], str],
) -> Platform:
    """What Lambda and the gateway say of this invocation. Never raises.

    A load balancer has no request id but a trace id, whose first half its caller may choose:
    Lambda's own is used there. Variables of one invocation alone are unknown on Lambda.
    """
    fields = _fields.table(event)
    gateway = _fields.table(fields.get("requestContext"))
    gateways_id = gateway.get("requestId") if kind in _HTTP else None
    own_id = getattr(context, "aws_request_id", None)
    has_address = kind in ("function_url", "http_api", "rest")
    return Platform(
        name=_NAMES.get(kind, "aws"),
        request_id=_fields.first_request_id(gateways_id, own_id) or new_id(),
        client_ip=_client_ip(fields, kind),
        ends_at=_ends_at(context, clock),
        gateway_s=GATEWAY_TIMEOUTS_S.get(kind),
        answer_bytes=ALB_ANSWER_BYTES if kind == "alb" else ANSWER_BYTES,
        public_url=_public_url(gateway) if has_address else None,
        caller="iam" if kind == "direct" else None,
        identities=_identities(gateway, kind),
    )


def to_request(event: object, kind: Kind, platform: Platform) -> Request:
    """The request behind an event that makes one. Raises InvalidJson, InvalidInput (a kind that is
    not served)."""
    if kind in _NOT_SERVED:
        raise InvalidInput(
            f"This function does not serve events of {_NOT_SERVED[kind]}",
            hint="Use a Function URL, an HTTP or REST API, a load balancer, a schedule, SQS, or a "
            "direct call.",
            fields=[{"field": "event", "message": f"comes from {_NOT_SERVED[kind]}"}],
        )
    if kind == "timer":
        return _unsent.tick(platform)
    if kind == "direct" or not isinstance(event, dict):
        return direct.to_request(event, platform)
    if kind == "rest":
        return _format1.rest_request(event, platform)
    if kind == "alb":
        return _format1.alb_request(event, platform)
    return _format2.to_request(event, platform, is_encoded=kind == "function_url")


def reply(response: Response, event: object, kind: Kind) -> dict[str, Any]:
    """The answer in the form that the sender of `event` reads."""
    if kind not in _HTTP:
        return direct.reply(response)
    if kind == "rest":
        return _format1.rest_reply(response)
    if kind == "alb":
        return _format1.alb_reply(response, event)
    return _format2.reply(response)


def _records(event: object) -> list[Any]:
    records = _fields.table(event).get("Records")
    return records if isinstance(records, list) else []


def _client_ip(event: Mapping[str, object], kind: Kind) -> str | None:
    if kind == "rest":
        return _format1.rest_client_ip(event)
    if kind == "alb":
        return _format1.alb_client_ip(event)
    return _format2.client_ip(event) if kind in _HTTP else None


def _identities(gateway: Mapping[str, object], kind: Kind) -> Identities:
    """Whom the gateway has let in, by what it writes into the event itself.

    Field names: API Gateway guide, "Control access to HTTP APIs with JWT authorizers" and "Input
    format of a Lambda function for proxy integration"; AWS Lambda guide, "Invoking function URLs".
    A Lambda authorizer has no such field of its own: it says `sub` in its context. What a load
    balancer has found out comes in headers, which whoever reaches another entrance can send.
    """
    authorizer = _fields.table(gateway.get("authorizer"))
    signer = _fields.table(authorizer.get("iam"))
    if kind == "function_url":
        return _signed_in_format2(signer)
    if kind == "http_api":
        claims = _fields.table(_fields.table(authorizer.get("jwt")).get("claims"))
        context = _fields.table(authorizer.get("lambda"))
        return _token(claims, context) + _signed_in_format2(signer)
    if kind == "rest":
        claims = _fields.table(authorizer.get("claims"))
        return _token(claims, authorizer) + _signed_in_format1(gateway)
    return NOBODY


def _token(claims: Mapping[str, object], context: Mapping[str, object]) -> Identities:
    """Whose token it was: the gateway's own authorizer has claims, a Lambda one its context."""
    return identity("jwt", claims.get("sub")) or identity("jwt", context.get("sub"))


def _signed_in_format2(signer: Mapping[str, object]) -> Identities:
    pool = _fields.table(signer.get("cognitoIdentity"))
    methods = pool.get("amr")
    is_known = isinstance(methods, list) and "authenticated" in methods
    return _signer(signer.get("userArn"), pool.get("identityId"), is_known=is_known)


def _signed_in_format1(gateway: Mapping[str, object]) -> Identities:
    signer = _fields.table(gateway.get("identity"))
    is_known = signer.get("cognitoAuthenticationType") == "authenticated"
    return _signer(signer.get("userArn"), signer.get("cognitoIdentityId"), is_known=is_known)


def _signer(arn: object, pool_id: object, *, is_known: bool) -> Identities:
    """Who has signed. The users of a Cognito identity pool share one ARN: they go by their ids.

    Its guests are nobody: anyone can be as many of them as they like.
    """
    if pool_id is None:
        return identity("iam", arn)
    return identity("iam", pool_id) if is_known else NOBODY


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

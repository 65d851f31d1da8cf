"""Payload format 1.0 (REST APIs) and the load balancer's kin of it: repeated values in lists.

Field names: API Gateway guide, "Input format of a Lambda function for proxy integration"; Elastic
Load Balancing guide, "Use Lambda functions as targets". Refuses to know any route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

from ..web import Platform, Request, Response, header_map
from . import _fields
from ._answers import body_text, reason
from ._format2 import without_stage


def rest_request(event: Mapping[str, object], platform: Platform) -> Request:
    """The request behind an event of API Gateway."""
    body, fault = _fields.body(event)
    return Request(
        method=_fields.method(event.get("httpMethod")),
        path=_rest_path(event),
        platform=platform,
        query=_fields.repeated_query(event),
        headers=_fields.repeated_headers(event),
        body=body,
        fault=fault,
    )


def alb_request(event: Mapping[str, object], platform: Platform) -> Request:
    """The request behind an event of a load balancer, which decodes nothing."""
    body, fault = _fields.body(event)
    query = _fields.repeated_query(event)
    return Request(
        method=_fields.method(event.get("httpMethod")),
        path=_fields.path(unquote(_fields.path(event.get("path")))),
        platform=platform,
        query=tuple((unquote_plus(name), unquote_plus(value)) for name, value in query),
        headers=_fields.repeated_headers(event),
        body=body,
        fault=fault,
    )


def rest_reply(response: Response) -> dict[str, Any]:
    """The answer for API Gateway, every header in exactly one of its two places."""
    body, is_base64 = body_text(response)
    headers = _listed(response)
    return {
        "statusCode": response.status,
        "headers": {name: values[0] for name, values in headers.items() if len(values) == 1},
        "multiValueHeaders": {name: values for name, values in headers.items() if len(values) > 1},
        "body": body,
        "isBase64Encoded": is_base64,
    }


def alb_reply(response: Response, event: object) -> dict[str, Any]:
    """The answer for a load balancer, its headers in lists if the event had them in lists.

    Which of the two a target group wants is a switch of its own, and it ignores the other.
    """
    body, is_base64 = body_text(response)
    pairs = ((name.lower(), value) for name, value in response.headers)
    has_lists = isinstance(_fields.table(event).get("multiValueHeaders"), dict)
    headers = (
        {"multiValueHeaders": _listed(response)}
        if has_lists
        else {"headers": dict(header_map(pairs))}
    )
    return {
        "statusCode": response.status,
        "statusDescription": f"{response.status} {reason(response.status)}",
        **headers,
        "body": body,
        "isBase64Encoded": is_base64,
    }


def rest_client_ip(event: Mapping[str, object]) -> str | None:
    identity = _fields.table(_fields.table(event.get("requestContext")).get("identity"))
    return _fields.address(identity.get("sourceIp"))


def alb_client_ip(event: Mapping[str, object]) -> str | None:
    """The address that the load balancer itself saw: it appends, so the rest is hearsay."""
    return _fields.nearest_hop(_fields.repeated_headers(event))


def _rest_path(event: Mapping[str, object]) -> str:
    """The path without the stage, percent-decoded.

    A REST API hands it over as it was sent and without the stage. An HTTP API, which marks format
    1.0 by `version`, has decoded it, and a stage with a name stands in front of it there, as in
    `requestContext.path` (captures: github.com/hotsock/voker pull request 8, github.com/
    dougmoscrop/serverless-http pull request 143).
    """
    path = _fields.path(event.get("path"))
    if event.get("version") != "1.0":
        return _fields.path(unquote(path))
    gateway = _fields.table(event.get("requestContext"))
    return without_stage(path, gateway) if gateway.get("path") == path else path


def _listed(response: Response) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in response.headers:
        headers.setdefault(name.lower(), []).append(value)
    return headers

"""Payload format 2.0: Function URLs and HTTP APIs. One value per header, cookies apart.

Field names: AWS Lambda guide, "Invoking function URLs"; API Gateway guide, "AWS Lambda proxy
integrations for HTTP APIs". Refuses to know any route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ..web import Headers, Platform, Request, Response, header_map
from . import _fields
from ._answers import body_text
from .paths import strip_base_path


def to_request(event: Mapping[str, object], platform: Platform, *, is_encoded: bool) -> Request:
    """The request behind an event; `is_encoded`: its path is as it was sent.

    A Function URL hands the path over as it was sent, an HTTP API has decoded it already (seen in
    captures, github.com/hotsock/voker pull request 8): decoding twice would invent slashes.
    """
    gateway = _fields.table(event.get("requestContext"))
    http = _fields.table(gateway.get("http"))
    path = _fields.path(event.get("rawPath") or http.get("path"))
    body, fault = _fields.body(event)
    return Request(
        method=_fields.method(http.get("method")),
        path=_fields.path(unquote(path)) if is_encoded else without_stage(path, gateway),
        platform=platform,
        query=_query(event),
        headers=Headers(_headers(event)),
        body=body,
        fault=fault,
    )


def reply(response: Response) -> dict[str, Any]:
    """The answer in format 2.0, which gateways that are not served take for an error as well."""
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


def client_ip(event: Mapping[str, object]) -> str | None:
    gateway = _fields.table(event.get("requestContext"))
    return _fields.address(_fields.table(gateway.get("http")).get("sourceIp"))


def without_stage(path: str, gateway: Mapping[str, object]) -> str:
    """The path of an HTTP API, where a stage with a name stands in front of it."""
    stage = _fields.text(gateway.get("stage"))
    return path if stage in (None, "", "$default") else strip_base_path(path, f"/{stage}")


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

"""Calls that are not HTTP: `wx.cloud.callFunction`, `lambda invoke`, one function calling another.

    {"route": "GET /jobs/ID", "headers": {}, "query": {}, "body": {}}

or, without `route`, the body of `POST /generate`. The answer is the body's object; an object with
`error` is a failure. Who calls is the platform's word, never the event's: see `aws`, `cloudbase`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import InvalidInput, InvalidJson
from ..web import Headers, Platform, Request, Response
from . import _fields
from ._answers import body_text, media_type

DEFAULT_ROUTE = "POST /generate"

_ROUTE = re.compile(r"([A-Za-z]{1,20}) +(/\S*)")
_JSON = re.compile(r"application/(.*\+)?json")


def to_request(event: object, platform: Platform) -> Request:
    """The request behind a direct call. Raises InvalidJson, InvalidInput (`route`)."""
    if not isinstance(event, dict):
        raise InvalidJson("The event is not a JSON object")
    if "route" not in event:
        event = {"route": DEFAULT_ROUTE, "body": event}
    method, path = _route(event["route"])
    headers = _fields.pairs(event.get("headers"))
    body, fault = _fields.body(event)
    return Request(
        method=method,
        path=path,
        platform=platform,
        query=_fields.pairs(event.get("query")),
        # A direct call carries JSON and nothing else, so it need not say so.
        headers=Headers((*headers, *_missing_content_type(headers))),
        body=body,
        fault=fault,
    )


def reply(response: Response) -> dict[str, Any]:
    """The object in the body; what is not a JSON object comes as `contentType` and `body`."""
    if not response.body:
        return {}
    body, is_base64 = body_text(response)
    if not is_base64 and _JSON.fullmatch(media_type(response)):
        value = json.loads(body)
        if isinstance(value, dict):
            return value
    return {"contentType": media_type(response), "body": body, "isBase64Encoded": is_base64}


def _route(value: object) -> tuple[str, str]:
    match = _ROUTE.fullmatch(_fields.text(value) or "")
    if match is None:
        message = 'must be a method and a path, for example "GET /models"'
        raise InvalidInput(f"route {message}", fields=[{"field": "route", "message": message}])
    return match[1].upper(), match[2]


def _missing_content_type(headers: _fields.Pairs) -> _fields.Pairs:
    named = any(name.lower() == "content-type" for name, _ in headers)
    return () if named else (("content-type", "application/json"),)

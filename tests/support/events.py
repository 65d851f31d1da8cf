"""Builders of requests and genuine events; a test names only the field that it bends."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fal_image.dev import platforms
from fal_image.web import Headers, Platform, Request, Response, json_response

DATA = Path(__file__).parents[1] / "data" / "events"
AT = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
JSON_HEADERS = (("content-type", "application/json"),)


def published(name: str) -> Any:
    """The published payload `tests/data/events/<name>.json`."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def a_request(
    *,
    method: str = "POST",
    path: str = "/generate",
    query: tuple[tuple[str, str], ...] = (),
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS,
    body: bytes = b'{"prompt":"a calico cat"}',
    client_ip: str = "203.0.113.7",
) -> Request:
    platform = Platform("wsgi", "r-1", client_ip=client_ip)
    return Request(method, path, platform, query, Headers(headers), body)


def function_url_event(overrides: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    return platforms.function_url_event(a_request(**request), at=AT) | (overrides or {})


def http_api_event(
    overrides: dict[str, Any] | None = None, *, stage: str = "$default", **request: Any
) -> dict[str, Any]:
    event = platforms.http_api_event(a_request(**request), at=AT, stage=stage)
    return event | (overrides or {})


def cloudbase_event(overrides: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    return platforms.cloudbase_event(a_request(**request)) | (overrides or {})


def frozen(at_s: float = 1000.0) -> float:
    """A monotonic clock that stands still."""
    return at_s


class Recorder:
    """An app that keeps the request and answers what it was told to."""

    def __init__(self, response: Response | None = None) -> None:
        self.response = response or json_response(200, {"jobId": "j-1"})
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return self.response

    @property
    def request(self) -> Request:
        """The one request that arrived."""
        (request,) = self.requests
        return request


def echo(request: Request) -> Response:
    """An app that answers with what it was asked."""
    return json_response(
        200,
        {
            "method": request.method,
            "path": request.path,
            "query": list(request.query),
            "headers": list(request.headers),
            "bytes": len(request.body),
            "requestId": request.platform.request_id,
        },
    )

"""Builders of requests and genuine events; a test names only the field that it bends."""

from __future__ import annotations

import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fal_image.dev import platforms
from fal_image.events import wsgi
from fal_image.web import App, Headers, Platform, Request, Response, header_map, json_response

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


def rest_event(
    overrides: dict[str, Any] | None = None, *, stage: str = "dev", **request: Any
) -> dict[str, Any]:
    event = platforms.rest_event(a_request(**request), at=AT, stage=stage)
    return event | (overrides or {})


def alb_event(
    overrides: dict[str, Any] | None = None, *, has_lists: bool = False, **request: Any
) -> dict[str, Any]:
    return platforms.alb_event(a_request(**request), has_lists=has_lists) | (overrides or {})


def sqs_message(message_id: str, body: object = '{"jobId":"j-1"}') -> dict[str, Any]:
    """One record of a batch, the published one with another id and body."""
    record: dict[str, Any] = published("aws_sqs")["Records"][0]
    return record | {"messageId": message_id, "body": body}


def cloudbase_event(overrides: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    return platforms.cloudbase_event(a_request(**request)) | (overrides or {})


def wsgi_environ(request: Request) -> dict[str, Any]:
    """What a WSGI server makes of a request; like waitress it joins repeated headers."""
    joined = {
        f"HTTP_{name.upper().replace('-', '_')}": value
        for name, value in header_map(request.headers).items()
    }
    if "HTTP_CONTENT_TYPE" in joined:
        joined["CONTENT_TYPE"] = joined.pop("HTTP_CONTENT_TYPE")
    return {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "QUERY_STRING": urlencode(request.query),
        "CONTENT_LENGTH": str(len(request.body)),
        "REMOTE_ADDR": request.platform.client_ip,
        "wsgi.input": io.BytesIO(request.body),
        **joined,
    }


def as_wsgi(app: App) -> App:
    """`app` behind WSGI: a request goes in as an environ, and the answer is what a server sends."""

    def serve(request: Request) -> Response:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            started.append((status, headers))

        application = wsgi.wsgi_app(app, new_id=lambda: request.platform.request_id)
        body = b"".join(application(wsgi_environ(request), start_response))
        ((status, headers),) = started
        return Response(int(status[:3]), body, tuple(headers))

    return serve


def frozen(at_s: float = 1000.0) -> float:
    """A monotonic clock that stands still."""
    return at_s


class Recorder:
    """An app that keeps the request and answers what it was told to."""

    def __init__(self, response: Response | None = None) -> None:
        self.response = response or json_response(200, {"jobId": "j-1"})
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        if request.fault is not None:
            raise request.fault  # as every app must
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

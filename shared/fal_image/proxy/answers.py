"""Answers as fal gives them: its own passed on, ours in a shape that its clients can read.

Refuses to know what was asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ..errors import AppError, FalAuthFailed, FalRejected, SubmitUnknown
from ..fal import refusals
from ..web import Body, Headers, Response, json_response, problem
from ..wire import Answer

# Of one connection (RFC 9110, 7.6.1), of a body that is written anew, or ours to say; and where a
# redirect leads: a client would follow it with the key that it shows us.
_NOT_PASSED = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "content-encoding",
        "content-security-policy",
        "cross-origin-resource-policy",
        "location",
        "alt-svc",
        "date",
        "referrer-policy",
        "server",
        "set-cookie",
        "strict-transport-security",
        "vary",
        "via",
        "x-accel-buffering",
        "x-content-type-options",
        "x-request-id",
        # The caller's alone, at an address that stands for many of fal's: never to be kept.
        "age",
        "cache-control",
        "expires",
        "last-modified",
        "pragma",
        # What would hold for everything that our host says (the Reporting API, Clear-Site-Data).
        "clear-site-data",
        "nel",
        "report-to",
        "reporting-endpoints",
    }
)
NOT_KEPT = ("cache-control", "no-store")
_URLS: Mapping[str, str] = {
    "status_url": "/status",
    "response_url": "",
    "cancel_url": "/cancel",
}


def refusal(error: AppError, request_id: str) -> Response:
    """An error as fal's clients read it: `detail` is what they show, and JSON is JSON.

    What fal itself said keeps fal's status. A submit that may have been taken is told by fal's
    header for the kind of an error, and by a status that no client of fal repeats; so is a key that
    repeating does not mend.
    """
    status, body = error.status, problem(error, request_id)
    headers = (NOT_KEPT, *error.headers)
    upstream = error.extensions.get("upstreamStatus")
    if isinstance(error, FalRejected):
        body["detail"] = error.extensions.get("falErrors", error.detail)  # a long list is not kept
    elif "falMessage" in error.extensions and isinstance(upstream, int):
        status, body["detail"] = upstream, error.extensions["falMessage"]
        body |= {"status": status, "error_type": error.extensions.get("falErrorType")}
    elif isinstance(error, FalAuthFailed):
        status = body["status"] = 500
    if isinstance(error, SubmitUnknown):
        headers += (("x-fal-error-type", error.code),)
    return json_response(status, body, *headers)


def passed_on(answer: Answer, *, urls: str | None = None) -> Response:
    """fal's answer. With `urls` the addresses in it lead there instead of to fal."""
    body = answer.body if urls is None else with_urls(answer.body, urls)
    return Response(answer.status, body, headers_of(answer.headers))


def headers_of(headers: Headers) -> tuple[tuple[str, str], ...]:
    """The headers of an answer of fal's that is passed on. CORS is ours to allow."""
    named = {name.strip().lower() for name in (headers.get("connection") or "").split(",")}
    dropped = _NOT_PASSED | named
    passed = (
        (name, value)
        for name, value in headers
        if name not in dropped and not name.startswith("access-control-")
    )
    return (*passed, NOT_KEPT)


def places(url: str) -> dict[str, str]:
    """The addresses of a request as fal's answers name them."""
    return {name: url + ending for name, ending in _URLS.items()}


def with_urls(body: bytes, url: str) -> bytes:
    """A status of fal's whose addresses lead to `url`; anything else as it is."""
    payload = refusals.parse_json(body)
    if not isinstance(payload, dict):
        return body
    theirs = {name: place for name, place in places(url).items() if name in payload}
    return encoded(payload | theirs) if theirs else body


def encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def in_pieces(status: int, headers: Iterable[tuple[str, str]], body: Body) -> Response:
    """An answer that comes bit by bit; nobody on the way may collect it first."""
    return Response(status, body, (*headers, ("x-accel-buffering", "no")))

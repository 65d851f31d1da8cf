"""WSGI (PEP 3333): any Python web server. Bodies that are iterators are streamed.

Refuses to know which server it is and who is behind it; there is no time limit but the app's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..errors import AppError, BodyTooLarge, InvalidJson
from ..web import App, Headers, Platform, Request, Response
from . import _fields
from ._answers import answered, reason

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# What Lambda takes (AWS Lambda guide, quotas), so that a request works alike everywhere.
MAX_BODY_BYTES = 6 * 1024 * 1024

_LENGTH = re.compile(r"[0-9]{1,18}")
_UNPREFIXED = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


def wsgi_app(
    app: App,
    *,
    public_url: str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    new_id: Callable[[], str] = _fields.new_request_id,
) -> WSGIApplication:
    """`app` as a WSGI application that knows itself under `public_url`.

    A body above `max_body_bytes` is not read and the app is told, but a PUT's: that one is the
    app's to read, as a file.
    """

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        platform = Platform(
            name="wsgi",
            request_id=new_id(),
            client_ip=_fields.address(environ.get("REMOTE_ADDR")),
            public_url=public_url,
        )
        response = answered(
            lambda: app(to_request(environ, platform, max_body_bytes=max_body_bytes)),
            platform.request_id,
        )
        return reply(response, start_response, is_head=environ.get("REQUEST_METHOD") == "HEAD")

    return serve


def to_request(environ: WSGIEnvironment, platform: Platform, *, max_body_bytes: int) -> Request:
    """The request in `environ`, its body read unless it is a long PUT's."""
    method = _fields.method(environ.get("REQUEST_METHOD"))
    body, file_bytes, fault = b"", 0, None
    try:
        length = _declared_length(environ.get("CONTENT_LENGTH")) or 0
        if method == "PUT" and length > max_body_bytes:
            file_bytes = length
        else:
            body = _read_body(environ, max_body_bytes)
    except AppError as error:
        fault = error
    return Request(
        method=method,
        path=_fields.path(_utf8(environ.get("PATH_INFO", ""))),
        platform=platform,
        query=_fields.query_pairs(_utf8(environ.get("QUERY_STRING", ""))),
        headers=Headers(_headers(environ)),
        body=body,
        file=environ["wsgi.input"] if file_bytes else None,
        file_bytes=file_bytes,
        fault=fault,
    )


def reply(
    response: Response, start_response: StartResponse, *, is_head: bool = False
) -> Iterable[bytes]:
    """Start the answer and return its body for the server to send and then to close."""
    headers = [(name, _native(value)) for name, value in response.headers]
    names = {name.lower() for name, _ in headers}
    has_no_body = is_head or response.status < 200 or response.status in (204, 304)
    if isinstance(response.body, bytes) and not has_no_body and "content-length" not in names:
        headers.append(("Content-Length", str(len(response.body))))
    start_response(f"{response.status} {reason(response.status)}", headers)
    if has_no_body:
        return []
    return [response.body] if isinstance(response.body, bytes) else response.body


def _headers(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    """Header names and values; the server has joined repeated ones already."""
    found = []
    for key, value in environ.items():
        name = _UNPREFIXED.get(key) or (key[5:] if key.startswith("HTTP_") else None)
        if name and isinstance(value, str) and value:
            found.append((name.replace("_", "-").lower(), value))
    return found


def _read_body(environ: WSGIEnvironment, max_body_bytes: int) -> bytes:
    """The body, as long as CONTENT_LENGTH says; without one, to the end if the server marks it."""
    declared_bytes = _declared_length(environ.get("CONTENT_LENGTH"))
    if declared_bytes is None and not environ.get("wsgi.input_terminated"):
        return b""
    too_large = BodyTooLarge(f"The body is longer than {max_body_bytes} bytes")
    wanted_bytes = max_body_bytes + 1 if declared_bytes is None else declared_bytes
    if declared_bytes is not None and declared_bytes > max_body_bytes:
        raise too_large
    try:
        body = bytes(environ["wsgi.input"].read(wanted_bytes))
    except OSError as error:
        raise InvalidJson("The body did not arrive") from error
    if len(body) > max_body_bytes:
        raise too_large
    if declared_bytes is not None and len(body) < declared_bytes:
        raise InvalidJson("The body is shorter than its Content-Length")
    return body


def _declared_length(value: object) -> int | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str) or not _LENGTH.fullmatch(value):
        raise InvalidJson("Content-Length is not a number of bytes")
    return int(value)


def _utf8(native: str) -> str:
    """PEP 3333 hands bytes over as latin-1; they were UTF-8."""
    return native.encode("latin-1", "replace").decode("utf-8", "replace")


def _native(value: str) -> str:
    return value.encode("utf-8", "replace").decode("latin-1")

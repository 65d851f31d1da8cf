"""The pictures that an order names, fetched as a runner of fal fetches them before it begins.

Knows data URIs, redirects, limits, and that addresses of fal's CDN mean the emulator's own files.
Unlike fal it also fetches from loopback addresses. Refuses to know what is painted from them.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin

from .addresses import cdn_path
from .errands import Errands, connection_to
from .media import StoreFull
from .models import Order, Wanted
from .originals import Original, Unusable, look_at

MOST_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 64 * 1024
MAX_HOPS = 5
REDIRECTS = {301, 302, 303, 307, 308}


class Supplier:
    """Fetches on the thread that asks, which must be one of `errands`."""

    def __init__(
        self,
        *,
        errands: Errands,
        find: Callable[[str], bytes | None],
        keep: Callable[[bytes], Path],
        timeout_s: float,
    ) -> None:
        """`find` reads a file of the CDN by its path, or what is too much of it; `keep` puts bytes
        on disk. `timeout_s` is for each wait, and for all until the last block begins.
        """
        self._errands = errands
        self._find = find
        self._keep = keep
        self._timeout_s = timeout_s

    def supplied(self, order: Order) -> Order:
        """The order with its pictures, or with what the first bad one makes the model answer."""
        originals = []
        for wanted in order.wanted:
            try:
                originals.append(self._original(wanted.url))
            except Unusable as problem:
                return replace(order, errors=[_error(wanted, problem)])
        return order.supplied(originals)

    def _original(self, url: str) -> Original:
        body = self._bytes_of(url)
        width, height = look_at(body)
        try:
            return Original(self._keep(body), width, height)
        except StoreFull as error:
            raise Unusable("file_too_large", str(error)) from error

    def _bytes_of(self, url: str) -> bytes:
        if url[:5].lower() == "data:":
            return _decoded(url)
        try:
            path = cdn_path(url)
            body = self._downloaded(url) if path is None else self._find(path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _not_downloaded() from error
        if body is None:
            raise _not_downloaded()
        if len(body) > MOST_BYTES:
            raise _too_many_bytes()
        return body

    def _downloaded(self, url: str) -> bytes | None:
        """None if there is no such file, or too many redirects before it."""
        until = time.monotonic() + self._timeout_s
        for _ in range(MAX_HOPS):
            connection, target = connection_to(url, timeout_s=self._timeout_s)
            try:
                self._errands.connect(connection)
                headers = {"user-agent": "fal-emulator", "connection": "close"}
                connection.request("GET", target, headers=headers)
                with connection.getresponse() as response:
                    if response.status == 200:
                        return _body(response, until)
                    location = response.headers.get("location")
                if response.status not in REDIRECTS or not location:
                    return None
                url = urljoin(url, location)
            finally:
                connection.close()
        return None


def _body(response: http.client.HTTPResponse, until: float) -> bytes:
    """All of it. Raises Unusable if it is too long, OSError if it is too slow or too short."""
    announced = response.length  # None if it is sent in chunks or ends with the connection
    if announced is not None and announced > MOST_BYTES:
        raise _too_many_bytes()
    blocks, got = [], 0
    while announced is None or got < announced:
        if time.monotonic() > until:
            raise TimeoutError("the picture took too long")
        block = response.read1(BLOCK_BYTES)
        if not block:
            break
        blocks.append(block)
        got += len(block)
        if got > MOST_BYTES:
            raise _too_many_bytes()
    if announced is not None and got < announced:
        raise ConnectionError("the picture is shorter than announced")
    return b"".join(blocks)


def _decoded(uri: str) -> bytes:
    """What a data URI holds (RFC 2397)."""
    head, comma, data = uri.partition(",")
    try:
        body = unquote_to_bytes(data)
        if head.lower().endswith(";base64"):
            body = base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        body = b""
    if not comma or not body:
        raise Unusable("file_download_error", "Failed to decode the data URI.")
    return body


def _error(wanted: Wanted, problem: Unusable) -> dict[str, object]:
    """An entry of `detail`; a data URI is not sent back."""
    error: dict[str, object] = {
        "loc": ["body", *wanted.loc],
        "msg": str(problem),
        "type": problem.kind,
        "url": f"https://docs.fal.ai/errors/#{problem.kind}",
    }
    if problem.ctx:
        error["ctx"] = problem.ctx
    if wanted.url[:5].lower() != "data:":
        error["input"] = wanted.url
    return error


def _not_downloaded() -> Unusable:
    return Unusable(
        "file_download_error",
        "Failed to download the file. Please check if the URL is accessible and try again.",
    )


def _too_many_bytes() -> Unusable:
    return Unusable(
        "file_too_large",
        f"File size exceeds the maximum allowed size of {MOST_BYTES} bytes.",
        {"max_size": MOST_BYTES},
    )

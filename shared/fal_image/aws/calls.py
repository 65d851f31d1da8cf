"""One signed request on its way to AWS, and the answer on its way back.

Refuses to know what is asked, whose keys sign it, and whether it is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import urllib3
import urllib3.exceptions

from ..connections import FileBody, Incoming, Pools, Tls, cause, drain, proxy_for
from ..web import Headers
from .attempts import AwsError

CONNECT_TIMEOUT_S = 2.0
IDLE_S = 20.0  # a call may be sent again, so an older connection that is dead costs an attempt
_CHUNK_BYTES = 256 * 1024

_BROKEN = (urllib3.exceptions.HTTPError, OSError)


class Reply:
    """An answer whose body is still on its way; close it. What reads it raises AwsError, also when
    the body is shorter than was promised."""

    def __init__(self, answer: Incoming) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = Headers(answer.headers.items())

    def read(self, max_bytes: int | None = None) -> bytes:
        """What is left of the body, or no more than its next `max_bytes`."""
        try:
            return self._answer.read(max_bytes, decode_content=False)
        except _BROKEN as error:
            raise AwsError(cause(error), may_pass=True) from error

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.read(_CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """Give the connection back, or up if there is more to read."""
        drain(self._answer)
        self._answer.close()


class Calls:
    """Connections to one service, kept for IDLE_S. Safe to share between threads."""

    def __init__(
        self, endpoint_url: str | None, *, read_timeout_s: float, environ: Mapping[str, str]
    ) -> None:
        """Only `endpoint_url` may be in the clear. Whoever AWS_CA_BUNDLE names vouches for it."""
        servers = [endpoint_url] if endpoint_url else []
        authorities = environ.get("AWS_CA_BUNDLE") or None
        self._pools = Pools(
            Tls, servers, time.monotonic, max_idle_s=IDLE_S, authorities=authorities
        )
        self._timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s)

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | BinaryIO | None
    ) -> Reply:
        """The answer to one request, whatever it says; a redirect is one. A file is sent whole,
        with its length, as it is read. Raises AwsError: without an answer it may pass, but not
        where the request cannot be sent at all."""
        content = body if body is None or isinstance(body, bytes) else FileBody(body)
        sent = {**headers, "accept-encoding": "identity"}
        if content is not None:
            sent["content-length"] = str(len(content))
        try:
            answer = self._pools.send(
                method,
                url,
                headers=sent,
                body=content or None,
                timeout=self._timeout,
                proxy=proxy_for(url),
            )
        except ValueError as error:  # some of urllib3's errors too
            raise AwsError(cause(error)) from error
        except _BROKEN as error:
            raise AwsError(cause(error), may_pass=True) from error
        return Reply(answer)

    def connect(self, url: str) -> None:
        """Open a connection for the next call to the URL's host, unless one is open or a proxy is
        in between. Raises AwsError."""
        if proxy_for(url) is not None:
            return
        try:
            self._pools.connect(url, timeout_s=CONNECT_TIMEOUT_S)
        except _BROKEN as error:
            raise AwsError(cause(error), may_pass=True) from error

"""HTTP/1.1 as nearly every request and answer of ours is: written in one piece, read in one.

The parser of http.client is one for mails, and urllib3 reads after it once more: together they take
several times as long as all else that a small call costs. What is read here is the answer that is
plain in every way: a strict head, a length, nothing encoded, the connection kept. Of everything
else `parsed` says no, and the parsers above read it from its first byte. Refuses to know how a
connection is made.
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import urllib3.exceptions
from msgspec import Struct

from ..web import Headers

_CHUNK_BYTES = 64 * 1024
_BODY_EXPECTED = ("POST", "PUT", "PATCH")
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [^\r\n]*)?\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*)\r\n"
)
_FIELD = re.compile(r"([^:]+):([^\r]*)\r\n")
_LENGTH = re.compile(r"[0-9]{1,18}")
_MAX_FIELDS = 100  # as http.client has it
_NO_BODY = frozenset({204, 304})


class UnknownLength(urllib3.exceptions.HTTPError, ValueError):
    """A body comes in pieces, and no header says how long it is."""


class _Fields(Protocol):
    def get(self, name: str, /) -> str | None: ...

    def items(self) -> Iterable[tuple[str, str]]: ...


class Incoming(Protocol):
    """An answer whose body is still to be read: ours or urllib3's."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> _Fields: ...

    @property
    def connection(self) -> Any: ...

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes: ...

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes: ...

    def get_redirect_location(self) -> Any: ...

    def close(self) -> None: ...


class Head(Struct, frozen=True):
    status: int
    headers: Headers
    body_bytes: int
    length: int  # its own


def written(
    method: str,
    target: str,
    host: str,
    headers: Mapping[str, str],
    body: Iterable[bytes] | bytes | None,
) -> bytes:
    """The head of a request. Raises ValueError for what would not be one line each."""
    names = {name.lower() for name in headers}
    lines = [f"{method} {target} HTTP/1.1"]
    if "host" not in names:
        lines.append(f"host: {host}")
    if "accept-encoding" not in names:
        lines.append("accept-encoding: identity")
    if "content-length" not in names:
        if isinstance(body, bytes):
            lines.append(f"content-length: {len(body)}")
        elif body is not None:
            raise UnknownLength("a body in pieces needs its length")
        elif method in _BODY_EXPECTED:
            lines.append("content-length: 0")
    if "user-agent" not in names:
        lines.append("user-agent: python-urllib3")  # as urllib3 itself would say
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join((*lines, "\r\n"))
    if head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1:
        raise ValueError("a line of the request's head holds another")
    return head.encode("latin-1")


def parsed(method: str, start: bytes) -> Head | None:
    """The head that an answer starts with, None if the answer is not a plain one."""
    found = _HEAD.match(start)
    if found is None or method == "HEAD":
        return None
    fields = _FIELD.findall(found[2].decode("latin-1"))
    status, headers = int(found[1]), Headers((name, said.strip(" \t")) for name, said in fields)
    length = headers.get("content-length") or ""
    is_plain = (
        len(fields) <= _MAX_FIELDS
        and status not in _NO_BODY
        and _LENGTH.fullmatch(length)
        and "transfer-encoding" not in headers
        and "content-encoding" not in headers
        and (headers.get("connection") or "keep-alive").lower() == "keep-alive"
    )
    return Head(status, headers, int(length), found.end()) if is_plain else None


class PlainAnswer:
    """The connection is the pool's again once the body is read; whoever closes the answer before
    drops it."""

    def __init__(self, head: Head, pool: Any, connection: Any, started: bytes) -> None:
        self.status = head.status
        self.headers = head.headers
        self._pool = pool
        self._connection = connection
        self._body_bytes = head.body_bytes
        self._held = started[: head.body_bytes]
        self._left_bytes = head.body_bytes - len(self._held)  # in the socket
        self._is_followed = len(started) > head.body_bytes  # by what nobody asked for

    @property
    def connection(self) -> Any:
        """What the next read waits for, None when there is nothing to wait for."""
        return self._connection if self._left_bytes else None

    def get_redirect_location(self) -> str | None:
        if self.status in (301, 302, 303, 307, 308):
            return self.headers.get("location")
        return None

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """What has come, `amt` bytes at most; b"" at the end."""
        limit = _CHUNK_BYTES if amt is None else amt
        if self._held:
            piece, self._held = self._held[:limit], self._held[limit:]
        elif self._left_bytes:
            piece = self._received(min(limit, self._left_bytes))
            self._left_bytes -= len(piece)
        else:
            piece = b""
        if not self._held and not self._left_bytes:
            self._release()
        return piece

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """The next `amt` bytes, fewer at the end; all that is left by default."""
        return b"".join(self._pieces(self._body_bytes if amt is None else amt))

    def close(self) -> None:
        if self._left_bytes or self._held:
            self._drop()
        else:
            self._release()

    def _pieces(self, wanted: int) -> Iterator[bytes]:
        while wanted and (piece := self.read1(min(wanted, _CHUNK_BYTES))):
            wanted -= len(piece)
            yield piece

    def _received(self, most: int) -> bytes:
        """Raises urllib3's HTTPError, as its own answers do."""
        try:
            piece = bytes(self._connection.sock.recv(most))
            if not piece:
                read_bytes = self._body_bytes - self._left_bytes
                raise urllib3.exceptions.IncompleteRead(read_bytes, self._left_bytes)
            return piece
        except TimeoutError as error:
            self._drop()
            words = "Read timed out."
            raise urllib3.exceptions.ReadTimeoutError(self._pool, "", words) from error
        except ssl.SSLError as error:
            self._drop()
            raise urllib3.exceptions.SSLError(error) from error
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            words = f"Connection broken: {error!r}"
            raise urllib3.exceptions.ProtocolError(words, error) from error

    def _drop(self) -> None:
        self._held, self._left_bytes = b"", 0
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _release(self) -> None:
        if self._connection is not None:
            if self._is_followed:
                self._connection.close()
            self._pool._put_conn(self._connection)
            self._connection = None

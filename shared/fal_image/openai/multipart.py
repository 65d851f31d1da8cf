"""multipart/form-data (RFC 7578), read strictly from a body that is whole.

Bytes in, parts out; what is not well formed is refused, never guessed at. Refuses to know which
fields there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from ..errors import InvalidInput, UnsupportedMediaType

MAX_PARTS = 100
MAX_HEAD_BYTES = 4096  # of one part: its headers
MAX_NAME_CHARS = 200

# RFC 2046, 5.1.1: the characters of a boundary; it does not end with a space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_QUOTED = r'"(?:[^"\\\r\n]|\\.)*"'
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*([A-Za-z0-9!#$&+.^_`|~*-]+)=({_QUOTED}|[^;\s\"]+)")
_PADDING = b" \t"
_AS_IT_IS = {"binary", "8bit", "7bit"}


class Part(Struct, frozen=True):
    """One field: a text, or a file if the form names one, however empty its name."""

    name: str
    content: bytes
    is_file: bool


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def parse(body: bytes, content_type: str) -> list[Part]:
    """The parts of a form, in order. Raises InvalidInput, UnsupportedMediaType."""
    return list(_parts(body, b"--" + _boundary(content_type)))


def _boundary(content_type: str) -> bytes:
    kind, semicolon, rest = content_type.partition(";")
    parameters = _parameters(semicolon + rest)
    if parameters is None or kind.strip().lower() != "multipart/form-data":
        raise UnsupportedMediaType(
            "the body is not declared as multipart/form-data",
            hint="Send the fields as multipart/form-data with its boundary, as a form does.",
        )
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise _broken("its boundary is missing or not one")
    return boundary.encode("ascii")


def _parts(body: bytes, dashed: bytes) -> Iterator[Part]:
    if not body.startswith(dashed):
        raise _broken("it does not begin with its boundary")
    delimiter, at, count = b"\r\n" + dashed, len(dashed), 0
    while True:
        end_of_line = body.find(b"\r\n", at, at + MAX_HEAD_BYTES)
        if body.startswith(b"--", at):
            if body[at + 2 :].strip(b"\r\n" + _PADDING):
                raise _broken("something stands behind its end")
            return
        if end_of_line < 0 or body[at:end_of_line].strip(_PADDING):
            raise _broken("a boundary does not end its line")
        count += 1
        if count > MAX_PARTS:
            raise _broken(f"it has more than {MAX_PARTS} parts")
        start = body.find(b"\r\n\r\n", end_of_line, end_of_line + MAX_HEAD_BYTES)
        if start < 0:
            raise _broken(f"a part has no headers, or more than {MAX_HEAD_BYTES} bytes of them")
        end = body.find(delimiter, start + 4)
        if end < 0:
            raise _broken("it is cut short")
        name, is_file = _read_head(body[end_of_line + 2 : start])
        yield Part(name, body[start + 4 : end], is_file)
        at = end + len(delimiter)


def _read_head(head: bytes) -> tuple[str, bool]:
    """A part's name, and whether it is a file."""
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise _broken("the headers of a part are not UTF-8") from None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip() or name in headers:
            raise _broken("the headers of a part cannot be read")
        headers[name] = value.strip()
    if headers.get("content-transfer-encoding", "binary").lower() not in _AS_IT_IS:
        raise _broken("a part is encoded")  # which RFC 7578, 4.7 has done away with
    kind, semicolon, rest = headers.get("content-disposition", "").partition(";")
    parameters = _parameters(semicolon + rest)
    if kind.strip().lower() != "form-data" or parameters is None:
        raise _broken("a part does not say that it is form data")
    name = parameters.get("name", "")
    if not name or len(name) > MAX_NAME_CHARS:
        raise _broken("a part has no name, or a very long one")
    return name, "filename" in parameters or "filename*" in parameters


def _parameters(text: str) -> dict[str, str] | None:
    """The parameters of a header's value, None if they cannot be read or one comes twice."""
    found: dict[str, str] = {}
    at = 0
    while match := _PARAMETER.match(text, at):
        if match[1].lower() in found:
            return None
        found[match[1].lower()] = _plain(match[2])
        at = match.end()
    return None if text[at:].strip(" \t;") else found


def _plain(value: str) -> str:
    """A parameter's value. Browsers write a quote in a name as %22 (the HTML standard, multipart
    form data), others put a backslash before it."""
    if not value.startswith('"'):
        return value
    return re.sub(r'\\(["\\])', r"\1", value[1:-1]).replace("%22", '"')


def _broken(why: str) -> InvalidInput:
    message = f"is not well-formed multipart/form-data: {why}"
    return InvalidInput(f"the body {message}", fields=[{"field": "body", "message": message}])

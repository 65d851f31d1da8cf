"""Reading an event whose every field may be missing, null or of another type.

What cannot be read is treated as absent, except a body: half a body must not become an order, so
it comes with its fault.
Refuses to know the shape of any platform's event.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from ..errors import AppError, InvalidJson
from ..web import Headers

Pairs = tuple[tuple[str, str], ...]

_REQUEST_ID = re.compile(r"[!-~]{1,128}")  # it goes out in a header and into the log
_METHOD = re.compile(r"[A-Z]{1,20}")


def new_request_id() -> str:
    return os.urandom(16).hex()


def text(value: object) -> str | None:
    """A string as it is, without lone surrogates, which JSON allows and UTF-8 cannot carry."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def scalar(value: object) -> str | None:
    """A string, number or boolean as the text it would have had in HTTP."""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return text(value)


def pairs(value: object) -> Pairs:
    """Names and values of a dict of scalars or of lists of them; anything else is left out."""
    return tuple(
        (name, one)
        for key, item in table(value).items()
        for candidate in (item if isinstance(item, list) else [item])
        if (name := text(key)) is not None and (one := scalar(candidate)) is not None
    )


def repeated_query(event: Mapping[str, object]) -> Pairs:
    """The query's pairs, repeated keys from the list of values where the gateway sends one."""
    several = pairs(event.get("multiValueQueryStringParameters"))
    return several or pairs(event.get("queryStringParameters"))


def repeated_headers(event: Mapping[str, object]) -> Headers:
    """Every header once, repeated ones from the list of values where the gateway sends one."""
    several = pairs(event.get("multiValueHeaders"))
    known = {name.lower() for name, _ in several}
    single = pairs(event.get("headers"))
    return Headers((*several, *(pair for pair in single if pair[0].lower() not in known)))


def query_pairs(raw: str) -> Pairs:
    """The pairs of a raw query string, in order; blank values and repeated keys are kept."""
    return tuple(parse_qsl(raw, keep_blank_values=True))


def milliseconds(value: object) -> float | None:
    """A positive number of milliseconds, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 < value < math.inf else None


def method(value: object) -> str:
    """The method in upper case; GET, which never costs anything, when it cannot be read."""
    name = (text(value) or "").upper()
    return name if _METHOD.fullmatch(name) else "GET"


def path(value: object) -> str:
    found = text(value) or ""
    return found if found.startswith("/") else f"/{found}"


def address(value: object) -> str | None:
    """An IP address; samples of AWS show one with a net mask, which is cut off."""
    found = (text(value) or "").partition("/")[0].strip()
    return found if 0 < len(found) <= 45 else None


def nearest_hop(headers: Headers) -> str | None:
    """The last address of `x-forwarded-for`; what is left of it is the caller's own text."""
    forwarded = headers.get("x-forwarded-for") or ""
    return address(forwarded.rpartition(",")[2])


def first_request_id(*candidates: object) -> str | None:
    """The first candidate that is safe to log and to send in a header."""
    texts = (one for one in candidates if isinstance(one, str))
    return next((one for one in texts if _REQUEST_ID.fullmatch(one)), None)


def body(event: Mapping[str, object]) -> tuple[bytes, AppError | None]:
    """The bytes of `event["body"]`, decoded if `isBase64Encoded` says so, never by guessing; and
    why it cannot be read, if it cannot.

    A body that is already an object is accepted as its JSON.
    """
    try:
        return _body(event), None
    except InvalidJson as error:
        return b"", error


def _body(event: Mapping[str, object]) -> bytes:
    value = event.get("body")
    if value is None:
        return b""
    if not isinstance(value, str):
        return json_bytes(value)
    raw = text_bytes(value)
    if str(event.get("isBase64Encoded")).lower() != "true":  # CloudBase documents it as text
        return raw
    try:
        return base64.b64decode(raw, validate=True)
    except ValueError as error:
        raise InvalidJson("The event says that its body is base64, but it is not") from error


def text_bytes(value: str) -> bytes:
    """A body's text as bytes; with a lone surrogate they are no UTF-8, and refused when read."""
    return value.encode("utf-8", "surrogatepass")


def json_bytes(value: object) -> bytes:
    """A value as JSON. Raises InvalidJson for what JSON cannot say (NaN, bytes, endless depth)."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJson("The event cannot be read as JSON") from error

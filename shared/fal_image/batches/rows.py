"""The rows of a batch, before anything is done with them. Pure: bytes in, values out.

A row is one line of JSON, the body of a generate request and a `rowId` of the caller's own. A line
that cannot be read is a row that fails, so that what comes after it keeps its number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ..errors import InvalidInput, InvalidJson
from ..inputs import MAX_DEPTH, field_error, is_deep, read_fields
from ..uploads import FIELDS

MAX_ROWS = 100_000
MAX_ROW_BYTES = 64 * 1024
MAX_WINDOW = 200
DEFAULT_WINDOW = 20
MAX_ID_CHARS = 200

_BATCHS_OWN = ("rowId", "webhookUrl")  # of all rows at once they make no sense
JsonlID = Annotated[str, Meta(description="the file id of an uploaded JSONL file")]
_BOM = b"\xef\xbb\xbf"


class BatchBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Many rows, sent along or uploaded before, and what all of them have in common.

    At most `window` of them are at fal at once. `webhook_url` is told when the batch is done.
    """

    rows: Annotated[list[Any], Meta(min_length=1, max_length=MAX_ROWS)] | None = None
    file: JsonlID | None = None
    defaults: dict[str, Any] | None = None
    window: Annotated[int, Meta(ge=1, le=MAX_WINDOW)] | None = None
    webhook_url: str | None = None


class BatchOrder(Struct, frozen=True):
    """What a caller wants: rows sent along as JSONL, or the file id of rows uploaded before.

    At most `window` of them are at fal at once. `webhook_url` is as it came, not checked yet.
    """

    lines: bytes | None
    file_id: str | None
    defaults: dict[str, object]
    window: int
    webhook_url: str | None

    def sha256(self) -> str:
        """The fingerprint of what is wanted: equal for equal batches."""
        rows = hashlib.sha256(self.lines).hexdigest() if self.lines is not None else self.file_id
        return fingerprint(rows, self.defaults, self.window, self.webhook_url)


class Line(Struct, frozen=True):
    """A line that is not blank: where it begins in its file, how long it is with its ending, and
    what it says; None if it is too long."""

    start: int
    size_bytes: int
    content: bytes | None


class Row(Struct, frozen=True):
    """`body` is that of a generate request."""

    row_id: str | int | None
    body: dict[str, object]


def parse_batch(body: Mapping[str, object]) -> BatchOrder:
    """A batch out of a request's body. Raises InvalidInput; rows are looked at one by one later."""
    for name in body:
        if name not in BatchBody.__struct_encode_fields__:
            raise field_error(
                name[:100],
                "is no field of a batch; what all rows have in common belongs into `defaults`",
            )
    wanted = read_fields(body, BatchBody)
    if (wanted.rows is None) == (wanted.file is None):
        raise field_error("rows", "or `file` must be there, and only one of them")
    return BatchOrder(
        lines=None if wanted.rows is None else _lines_of(wanted.rows),
        file_id=wanted.file,
        defaults=parse_defaults(wanted.defaults),
        window=DEFAULT_WINDOW if wanted.window is None else wanted.window,
        webhook_url=wanted.webhook_url,
    )


def parse_defaults(defaults: dict[str, object] | None) -> dict[str, object]:
    """What all rows have in common. Raises InvalidInput."""
    if defaults is None:
        return {}
    for name in _BATCHS_OWN:
        if name in defaults:
            raise field_error(f"defaults.{name}", "is not for all rows at once")
    if len(msgspec.json.encode(defaults)) > MAX_ROW_BYTES:
        raise field_error("defaults", f"must have at most {MAX_ROW_BYTES} bytes")
    return defaults


def fingerprint(*parts: object) -> str:
    """The SHA-256 of some values, equal for equal ones."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def lines(chunks: Iterable[bytes], start: int = 0) -> Iterator[Line]:
    """The lines of a file from `start` on, where a line begins; blank ones are left out.

    Keeps no more than one line of MAX_ROW_BYTES, however long the lines are.
    """
    place, size, kept = start, 0, bytearray()
    for chunk in chunks:
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            size += end - begin
            if size <= MAX_ROW_BYTES:
                kept += chunk[begin:end]
            yield from _line(place, size + 1, size, kept)
            place, size, begin = place + size + 1, 0, end + 1
            kept.clear()
        size += len(chunk) - begin
        if size <= MAX_ROW_BYTES:
            kept += chunk[begin:]
    yield from _line(place, size, size, kept)


def parse_row(content: bytes | None, defaults: Mapping[str, object]) -> Row:
    """The row in a line. Raises InvalidInput, InvalidJson."""
    if content is None:
        raise InvalidInput(f"the line is longer than {MAX_ROW_BYTES} bytes")
    try:
        given = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"the line is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise InvalidJson("the line is not a JSON object")
    if is_deep(given):
        raise InvalidJson(f"the line is nested more than {MAX_DEPTH} levels deep")
    if "webhookUrl" in given:
        raise field_error("webhookUrl", "belongs to the batch, not to a row")
    body = {**defaults, **given}
    if body.get("reuse"):
        raise field_error("reuse", "is not for rows of a batch, which are paid once as they are")
    row_id = body.pop("rowId", None)
    if not _is_id(row_id):
        raise field_error(
            "rowId", f"must be a whole number or a string of at most {MAX_ID_CHARS} characters"
        )
    for name in FIELDS:
        values = body.get(name)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str) and value.startswith("data:"):
                raise field_error(name, "must not be a data URI in a batch: upload the picture")
    return Row(row_id, body)


def row_id_of(content: bytes | None) -> str | int | None:
    """What a line calls its row, also if nothing else about it is right."""
    try:
        given = msgspec.json.decode(content or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    row_id = given.get("rowId") if isinstance(given, dict) else None
    return row_id if _is_id(row_id) else None


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _lines_of(rows: Sequence[object]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _line(start: int, length: int, size: int, kept: bytearray) -> Iterator[Line]:
    if size > MAX_ROW_BYTES:
        yield Line(start, length, None)
        return
    content = bytes(kept)
    if start == 0:
        content = content.removeprefix(_BOM)
    content = content.strip(b" \t\r")
    if content:
        yield Line(start, length, content)


# msgspec learns a type with its first use, which two threads must not do at once (msgspec 0.22).
msgspec.json.Decoder(BatchBody)

"""What callers may send, checked before anything costs money. Pure: bytes in, values out.

Knows our own fields; what a model takes is the catalog's business, and a field nobody knows is
passed on to the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from .errors import InvalidInput, InvalidJson

MAX_LINKS = 50
MAX_DEPTH = 64  # what walks through the input calls itself for each level

_MODEL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
_OURS = frozenset({"model", "maxAge", "transforms", "aiLabel", "webhookUrl", "reuse"})
# fal would answer with data URIs instead of files; we copy files, so this is ours to decide.
_NOT_FORWARDED = frozenset({"sync_mode"})


class Order(Struct, frozen=True):
    """What to generate: `arguments` are the model's own fields, the prompt among them."""

    model: str
    arguments: dict[str, object]
    max_age_s: int | None = None

    @property
    def prompt(self) -> str | None:
        prompt = self.arguments.get("prompt")
        return prompt if isinstance(prompt, str) and prompt.strip() else None


class LinkOrder(Struct, frozen=True):
    file_ids: tuple[str, ...]
    max_age_s: int | None
    is_single: bool


class UploadOrder(Struct, frozen=True):
    content_type: str
    bytes: int


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object of a body; an empty body is an empty object. Raises InvalidJson."""
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"The body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidJson(f"The body is a JSON {_kind(value)}, not an object")
    if is_deep(value):
        raise InvalidJson(f"The body is nested more than {MAX_DEPTH} levels deep")
    return value


def parse_order(
    body: Mapping[str, object], *, default_model: str, aliases: Mapping[str, str]
) -> Order:
    """An order out of the body of a generate request. Raises AppError naming the field."""
    model = body.get("model")
    if model is None:
        model = default_model
    if not isinstance(model, str):
        raise field_error("model", f"must be a model id, not a {_kind(model)}")
    model = aliases.get(model, model)
    # Below "requests" a queue keeps what was submitted: no model is called that.
    if not _MODEL.fullmatch(model) or len(model) > 200 or "requests" in model.split("/"):
        raise field_error("model", "must be a model id such as fal-ai/flux/schnell")
    _refuse_what_is_not_here(body)
    arguments = {
        name: value
        for name, value in body.items()
        if name not in _OURS and name not in _NOT_FORWARDED
    }
    return Order(model, arguments, _max_age(body))


def parse_links(body: Mapping[str, object]) -> LinkOrder:
    """The file ids that links are wanted for. Raises InvalidInput."""
    single, several = body.get("fileID"), body.get("fileIDs")
    if several is None and isinstance(single, str):
        return LinkOrder((single,), _max_age(body), is_single=True)
    if not isinstance(several, list) or not several or len(several) > MAX_LINKS:
        raise field_error("fileIDs", f"must be a list of 1 to {MAX_LINKS} file ids")
    if not all(isinstance(file_id, str) for file_id in several):
        raise field_error("fileIDs", "must hold strings only")
    return LinkOrder(tuple(several), _max_age(body), is_single=False)


def parse_upload(body: Mapping[str, object], *, max_bytes: Mapping[str, int]) -> UploadOrder:
    """What is going to be uploaded: `max_bytes` of each type there is. Raises InvalidInput."""
    content_type, size = body.get("contentType"), body.get("bytes")
    if not isinstance(content_type, str) or content_type not in max_bytes:
        raise field_error("contentType", f"must be one of {', '.join(max_bytes)}")
    most = max_bytes[content_type]
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= most:
        raise field_error("bytes", f"must be the file's length: a whole number, 1 to {most}")
    return UploadOrder(content_type, size)


def field_error(field: str, message: str) -> InvalidInput:
    return InvalidInput(f"{field} {message}", fields=[{"field": field, "message": message}])


def _refuse_what_is_not_here(body: Mapping[str, object]) -> None:
    """Fields with a meaning of ours that this version cannot keep are never silently dropped."""
    for name in ("transforms", "aiLabel", "reuse"):
        if body.get(name) not in (None, False):
            raise field_error(name, "is not available in this version: leave it out")


def _max_age(body: Mapping[str, object]) -> int | None:
    value = body.get("maxAge")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise field_error("maxAge", "must be a whole number of seconds, 1 or more")
    return value


def is_deep(value: object) -> bool:
    """Whether a JSON value is nested more than MAX_DEPTH levels deep."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _kind(value: object) -> str:
    kinds = {list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else kinds.get(type(value), "object")

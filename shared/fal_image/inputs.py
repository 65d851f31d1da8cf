"""What callers may send, checked before anything costs money. Pure: bytes in, values out.

Knows our own fields; what a model takes is the catalog's business, and a field nobody knows is
passed on to the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field, inspect
from msgspec.inspect import Type

from .errors import InvalidInput, InvalidJson
from .treatment import LabelWish, Transforms

MAX_LINKS = 50
MAX_DEPTH = 64  # what walks through the input calls itself for each level

_MODEL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
# fal would answer with data URIs instead of files; we copy files, so this is ours to decide.
_NOT_FORWARDED = frozenset({"sync_mode"})

# A description stands in the errors, in the place of what a type's words would be.
Seconds = Annotated[int, Meta(ge=1, description="a whole number of seconds, 1 or more")]
FileID = Annotated[str, Meta(description="a file id")]
FileType = Annotated[str, Meta(description="a content type such as image/png")]
S = TypeVar("S", bound=Struct)

_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


class OurFields(Struct, frozen=True, rename="camel"):
    """What a generate request says to us; every other field is the model's own.

    `model` is fal's endpoint id or an alias, `max_age` how long links live, in seconds,
    `webhook_url` where to tell of the job's end. With `reuse` an equal request of a pinned seed
    gets the picture that is there instead of paying for another.
    """

    model: str | None = None
    max_age: Seconds | None = None
    transforms: Transforms | None = None
    ai_label: Literal["metadata", "visible"] | LabelWish | None = None
    webhook_url: str | None = None
    reuse: bool | None = None


class Order(Struct, frozen=True):
    """What to generate: `arguments` are the model's own fields, the prompt among them."""

    model: str
    arguments: dict[str, object]
    max_age_s: int | None = None
    transforms: Transforms | None = None
    label: LabelWish | None = None
    webhook_url: str | None = None
    reuse: bool = False

    @property
    def prompt(self) -> str | None:
        prompt = self.arguments.get("prompt")
        return prompt if isinstance(prompt, str) and prompt.strip() else None


class LinksBody(Struct, frozen=True, rename="camel"):
    """Whose links are wanted: one file id, or a list of them, for `max_age` seconds."""

    file_id: FileID | None = field(name="fileID", default=None)
    file_ids: Annotated[tuple[FileID, ...], Meta(min_length=1, max_length=MAX_LINKS)] | None = (
        field(name="fileIDs", default=None)
    )
    max_age: Seconds | None = None


class LinkOrder(Struct, frozen=True):
    file_ids: tuple[str, ...]
    max_age_s: int | None
    is_single: bool


class UploadOrder(Struct, frozen=True, rename="camel"):
    """What is going to be uploaded: its type, and its length in bytes."""

    content_type: FileType
    bytes: Annotated[int, Meta(ge=1)]


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
    ours = read_fields(body, OurFields)
    model = default_model if ours.model is None else ours.model
    model = aliases.get(model, model)
    # Below "requests" a queue keeps what was submitted: no model is called that.
    if not _MODEL.fullmatch(model) or len(model) > 200 or "requests" in model.split("/"):
        raise field_error("model", "must be a model id such as fal-ai/flux/schnell")
    wish = ours.ai_label
    if ours.transforms is not None:
        _check_transforms(ours.transforms)
    return Order(
        model=model,
        arguments={
            name: value
            for name, value in body.items()
            if name not in _OURS and name not in _NOT_FORWARDED
        },
        max_age_s=ours.max_age,
        transforms=ours.transforms,
        label=LabelWish(wish) if isinstance(wish, str) else wish,
        webhook_url=ours.webhook_url,
        reuse=ours.reuse is True,
    )


def parse_links(body: Mapping[str, object]) -> LinkOrder:
    """The file ids that links are wanted for. Raises InvalidInput."""
    wanted = read_fields(body, LinksBody)
    if wanted.file_ids is not None:
        return LinkOrder(wanted.file_ids, wanted.max_age, is_single=False)
    if wanted.file_id is None:
        raise field_error("fileIDs", f"must be a list of 1 to {MAX_LINKS} file ids")
    return LinkOrder((wanted.file_id,), wanted.max_age, is_single=True)


def parse_upload(body: Mapping[str, object], *, max_bytes: Mapping[str, int]) -> UploadOrder:
    """What is going to be uploaded: `max_bytes` of each type there is. Raises InvalidInput."""
    order = read_fields(body, UploadOrder)
    most = max_bytes.get(order.content_type)
    if most is None:
        raise field_error("contentType", f"must be one of {', '.join(max_bytes)}")
    if order.bytes > most:
        raise field_error("bytes", f"must be the file's length: a whole number, 1 to {most}")
    return order


def field_error(field: str, message: str) -> InvalidInput:
    return InvalidInput(f"{field} {message}", fields=[{"field": field, "message": message}])


def _check_transforms(wanted: Transforms) -> None:
    """What no single field can say. Raises InvalidInput."""
    if wanted == Transforms():
        raise field_error(
            "transforms", f"must name one of {', '.join(Transforms.__struct_fields__)}"
        )
    resize, mark = wanted.resize, wanted.watermark
    if resize is not None and resize.width is None and resize.height is None:
        raise field_error("transforms.resize", "must have a width, a height or both")
    if mark is not None and (mark.text is None) == (mark.image is None):
        raise field_error("transforms.watermark", "must have a text or an image, and only one")
    if mark is not None and mark.text is not None and not mark.text.strip():
        raise field_error("transforms.watermark.text", "must not be blank")
    if wanted.quality is not None and wanted.format == "png":
        raise field_error("transforms.quality", "is not for png, which loses nothing")


def read_fields(body: Mapping[str, object], kind: type[S]) -> S:
    """The fields of ours in a body. Raises InvalidInput for the first that is wrong, which says
    what would be right."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), kind) from None


def _explained(text: str, kind: type[Struct]) -> InvalidInput:
    """msgspec's words as ours: `text` ends with the place, the type there says what it takes."""
    text, _, rest = text.partition(" - at `$")
    place = rest.removesuffix("`")
    if unknown := _UNKNOWN.fullmatch(text):
        known = ", ".join(_fields(_at(kind, place)))
        return field_error(f"{place}.{unknown[1]}".lstrip(".")[:100], f"is none of {known}")
    missing = _MISSING.fullmatch(text)
    place = f"{place}.{missing[1]}" if missing else place.partition("[")[0]  # a list as a whole
    right = _words(_at(kind, place))
    message = f"is missing: it must be {right}" if missing else f"must be {right}"
    return field_error(place.lstrip(".") or "body", message)


def _at(kind: type[Struct], place: str) -> Type:
    """What msgspec knows of the type at a place such as `.transforms.crop`."""
    found = inspect.type_info(kind)
    for name in place.split(".")[1:]:
        found = _fields(found).get(name, inspect.AnyType())
    return found


def _fields(found: Type) -> dict[str, Type]:
    """The types of an object's fields; of a union, of the objects among it."""
    if isinstance(found, inspect.UnionType):
        return {name: one for part in found.types for name, one in _fields(part).items()}
    if isinstance(found, inspect.Metadata):
        return _fields(found.type)
    known = found.fields if isinstance(found, inspect.StructType) else ()
    return {one.encode_name: one.type for one in known}


def _words(found: Type) -> str:
    """What a type takes, in words a caller knows. Null is as good as nothing, and is not told."""
    if isinstance(found, inspect.UnionType):
        parts = (one for one in found.types if not isinstance(one, inspect.NoneType))
        return " or ".join(map(_words, parts))
    if isinstance(found, inspect.Metadata):
        described = (found.extra_json_schema or {}).get("description")
        return str(described) if described else _words(found.type)
    if isinstance(found, inspect.LiteralType):
        return f"one of {', '.join(map(str, found.values))}"
    if isinstance(found, inspect.IntType):
        return f"a whole number{_range(found)}"
    if isinstance(found, inspect.FloatType):
        return f"a number{_range(found)}"
    if isinstance(found, inspect.StrType):
        return f"a string{_length(found)}{' characters' if found.max_length else ''}"
    if isinstance(found, (inspect.ListType, inspect.VarTupleType)):
        is_any = isinstance(found.item_type, inspect.AnyType)
        return f"a list{_length(found)}{'' if is_any else f', each {_words(found.item_type)}'}"
    return "true or false" if isinstance(found, inspect.BoolType) else "an object"


def _range(found: inspect.IntType | inspect.FloatType) -> str:
    low, high = found.ge, found.le
    if found.gt is not None:
        return f", more than {found.gt}" + ("" if high is None else f" and at most {high}")
    if low is None:
        return "" if high is None else f", at most {high}"
    return f", {low} or more" if high is None else f", {low} to {high}"


def _length(found: inspect.StrType | inspect.ListType | inspect.VarTupleType) -> str:
    if found.max_length is None:
        return ""
    return f" of {found.min_length or 0} to {found.max_length}"


_OURS = frozenset(OurFields.__struct_encode_fields__)

# msgspec learns a type with its first use, which two threads must not do at once (msgspec 0.22).
for _kind_of_body in (OurFields, LinksBody, UploadOrder):
    msgspec.json.Decoder(_kind_of_body)


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

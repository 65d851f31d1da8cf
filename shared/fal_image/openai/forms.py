"""The form of an edit: texts become the values that JSON would have had, files become pictures.

Refuses to know where pictures are kept and what OpenAI's other fields mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ..errors import InvalidInput, InvalidJson
from ..fal import catalog
from ..fal.catalog import Model
from ..inputs import MAX_DEPTH, OurFields, field_error, is_deep, parse_object
from .multipart import Part, is_form, parse

# FLUX.2 follows an instruction and takes up to four pictures; its inpainting is the only FLUX model
# of the catalog that takes a mask.
DEFAULT_MODEL = "fal-ai/flux-2/edit"
DEFAULT_MASKED_MODEL = "fal-ai/flux-lora/inpainting"

MAX_IMAGES = 16  # OpenAI's own limit

_IMAGE, _IMAGES, _MASK = "image_url", "image_urls", "mask_url"
_OURS = frozenset(OurFields.__struct_encode_fields__)
_THEIRS: Mapping[str, str] = {
    "n": "integer",
    "output_compression": "integer",
    "partial_images": "integer",
    "stream": "boolean",
}
_IN_JSON = {"object_list", "url_list", "image_size"}

# A picture as the caller gave it: its bytes, or a text that names one.
Given = bytes | str


class Edit(Struct, frozen=True):
    """What a form says: the fields, and the pictures apart. `is_list`: they came as a list, as
    which a single one may come too."""

    fields: dict[str, object]
    images: tuple[Given, ...]
    is_list: bool
    mask: Given | None

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """The files, each with the field it came in."""
        for image in self.images:
            if isinstance(image, bytes):
                yield "image", image
        if isinstance(self.mask, bytes):
            yield "mask", self.mask


def read(body: bytes, content_type: str) -> Edit:
    """An edit out of a form, or out of a JSON object whose pictures are texts. Raises InvalidInput,
    InvalidJson, UnsupportedMediaType."""
    if not is_form(content_type) and "json" in content_type.lower():
        return _of_json(parse_object(body))
    images: list[Given] = []
    mask: Given | None = None
    is_list = False
    texts: list[tuple[str, str]] = []
    for part in parse(body, content_type):
        if part.name in ("image", "image[]"):
            images.append(_given(part, "image"))
            is_list = is_list or part.name == "image[]"
        elif part.name == "mask":
            if mask is not None:
                raise field_error("mask", "came twice")
            mask = _given(part, "mask")
        elif part.is_file:
            raise field_error(part.name, "is a file: only image and mask are")
        else:
            texts.append((part.name, _text(part)))
    return _edit(_nested(texts), images, is_list or len(images) > 1, mask)


def with_pictures(edit: Edit, model_id: str, images: Sequence[str], mask: str | None) -> Edit:
    """The edit with its pictures in the fields that the model has for them. Raises InvalidInput."""
    model = catalog.find(model_id)
    fields = dict(edit.fields)
    fields |= _placed(model, images, is_list=edit.is_list)
    if mask is not None:
        if model is not None and _MASK not in model.fields:
            raise field_error(
                "mask", f"is nothing that {model.id} takes: {DEFAULT_MASKED_MODEL} does"
            )
        fields[_MASK] = mask
    return Edit(fields, edit.images, edit.is_list, edit.mask)


def typed(fields: Mapping[str, object], model_id: str) -> dict[str, object]:
    """Texts of a form as what they stand for: numbers, truth values and lists where the model, or
    we, have such. What cannot be read stays a text, for whoever checks it to refuse. Raises
    InvalidJson for what is nested too deep."""
    model = catalog.find(model_id)
    found = {name: _typed(name, value, model) for name, value in fields.items()}
    if is_deep(found):
        raise InvalidJson(f"A field is nested more than {MAX_DEPTH} levels deep")
    ours = {name: found.pop(name) for name in _OURS & set(found) if name != "model"}
    try:
        known = msgspec.to_builtins(msgspec.convert(ours, OurFields, strict=False))
    except msgspec.ValidationError:
        return found | ours
    return found | {name: value for name, value in known.items() if value is not None}


def _of_json(fields: dict[str, object]) -> Edit:
    given, mask = fields.pop("image", None), fields.pop("mask", None)
    images = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(one, str) for one in images):
        raise field_error("image", "must be a URL, a data URI or a file id, or a list of them")
    if mask is not None and not isinstance(mask, str):
        raise field_error("mask", "must be a URL, a data URI or a file id")
    return _edit(fields, images, isinstance(given, list), mask)


def _edit(fields: dict[str, object], images: list[Any], is_list: bool, mask: Given | None) -> Edit:
    if not images:
        raise field_error("image", "is missing: send the picture that is to be edited")
    if len(images) > MAX_IMAGES:
        raise field_error("image", f"came more than {MAX_IMAGES} times")
    return Edit(fields, tuple(images), is_list, mask)


def _placed(model: Model | None, images: Sequence[str], *, is_list: bool) -> dict[str, object]:
    """Nothing is known of other models: a list is their list, a single picture the one."""
    if model is None:
        return {_IMAGES: list(images)} if is_list else {_IMAGE: images[0]}
    if _IMAGES in model.fields:
        most = model.fields[_IMAGES].max_items
        if most is not None and len(images) > most:
            raise field_error("image", f"came too often: {model.id} takes at most {most} pictures")
        return {_IMAGES: list(images)}
    if _IMAGE not in model.fields:
        raise field_error(
            "model", f"{model.id} makes pictures of words alone: name one such as {DEFAULT_MODEL}"
        )
    if len(images) > 1:
        raise field_error("image", f"came more than once: {model.id} takes one picture")
    return {_IMAGE: images[0]}


def _given(part: Part, name: str) -> Given:
    if part.is_file:
        return part.content
    text = _text(part)
    if not text.strip():
        raise field_error(name, "is blank")
    return text


def _text(part: Part) -> str:
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError:
        raise field_error(part.name, "is not text in UTF-8") from None


def _nested(texts: Sequence[tuple[str, str]]) -> dict[str, object]:
    """Fields by their names: a[b] is b of an object a, a[] one more of a list."""
    found: dict[str, Any] = {}
    for name, text in texts:
        first, *rest = name.replace("]", "").split("[")
        if name != first + "".join(f"[{part}]" for part in rest) or len(rest) > MAX_DEPTH:
            raise field_error(name, "is no name of a field")
        is_item = bool(rest) and rest[-1] == ""
        steps = [first, *(rest[:-1] if is_item else rest)]
        _put(found, name, steps, text, is_item=is_item)
    return found


def _put(
    found: dict[str, Any], name: str, steps: Sequence[str], text: str, *, is_item: bool
) -> None:
    spot = found
    for step in steps[:-1]:
        spot = spot.setdefault(step, {})
        if not isinstance(spot, dict) or not step:
            raise _unclear(name)
    last = steps[-1]
    if not last or isinstance(spot.get(last), dict) or (not is_item and last in spot):
        raise _unclear(name)
    if not is_item:
        spot[last] = text
    elif isinstance(spot.setdefault(last, []), list):
        spot[last].append(text)
    else:
        raise _unclear(name)


def _unclear(name: str) -> InvalidInput:
    return field_error(name, "came twice, or in two forms: send such a field as JSON")


def _typed(name: str, value: object, model: Model | None) -> object:
    if not isinstance(value, str):
        return value
    kind = _kind(name, model)
    text = value.strip()
    is_json = name in _OURS - {"webhookUrl", "model"} or kind in _IN_JSON
    if is_json and text.startswith(("{", "[")):
        return _json(text, value)
    if kind in ("integer", "number", "boolean"):
        plain = _json(text, value)
        return plain if isinstance(plain, (bool, int, float)) else value
    return value


def _kind(name: str, model: Model | None) -> str | None:
    """The type of a field; of a model without a row, what other models mean by the name."""
    if name in _THEIRS:
        return _THEIRS[name]
    for one in catalog.models().values() if model is None else (model,):
        if name in one.fields:
            return one.fields[name].type
    return None


def _json(text: str, otherwise: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return otherwise

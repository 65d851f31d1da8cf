"""OpenAI's `size` in the words of a model: pixels where it takes them, else the shape.

Refuses to know every other field.
"""

from __future__ import annotations

import math
import re

from ..errors import InvalidInput
from ..fal.catalog import Model
from ..inputs import field_error

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_RATIO = re.compile(r"([1-9][0-9]?):([1-9][0-9]?)")
_SHAPES = ("aspect_ratio", "resolution_mode")


def sized(model: Model | None, size: object) -> dict[str, object]:
    """The field of the model that says this size, none for "auto". Raises InvalidInput for a size
    that the model cannot be told, and says which it can."""
    if size == "auto":
        return {}
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if found is None:
        raise field_error("size", "must be auto, or WIDTHxHEIGHT such as 1024x1024")
    width, height = int(found[1]), int(found[2])
    if model is None or "image_size" in model.fields:
        return {"image_size": {"width": width, "height": height}}
    name = next((name for name in _SHAPES if name in model.fields), None)
    if name is None:
        raise field_error("size", f"is not for {model.id}: its pictures are as large as the input")
    return {name: _shape(model, name, width, height)}


def field_of_size(model: Model | None) -> str | None:
    """The model's own field that `size` is put into."""
    if model is None:
        return "image_size"
    return next((name for name in ("image_size", *_SHAPES) if name in model.fields), None)


def _shape(model: Model, name: str, width: int, height: int) -> str:
    field = model.fields[name]
    shapes = [choice for choice in field.choices or () if _RATIO.fullmatch(choice)]
    for shape in shapes:
        across, down = (int(side) for side in shape.split(":"))
        if width * down == height * across:
            return shape
    if field.open_choices:
        common = math.gcd(width, height)
        return f"{width // common}:{height // common}"
    raise _no_such_shape(model, shapes)


def _no_such_shape(model: Model, shapes: list[str]) -> InvalidInput:
    return field_error(
        "size", f"must have one of the shapes that {model.id} makes: {', '.join(shapes)}"
    )

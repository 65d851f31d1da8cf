"""How much one request may ask for, whatever its model would take: the owner's limits.

Refuses to know prices and budgets. Values are read as fal's apps read them: pydantic takes "4" and
4.0 for a 4, and no spelling of a number or of a no may lead past a limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from ..fal import catalog
from ..fal.catalog import Problem

MOST_TOLERANT = "6"
"""The highest safety_tolerance there is at fal (fal model pages), for models without a row."""

_SAFETY_SWITCH = re.compile(r"enable_\w*safety\w*")  # enable_safety_checker and its variants
_YES = frozenset({"true", "1", "on", "t", "y", "yes"})
_HUGE = 10**18


class Limits(Struct, frozen=True):
    """`max_megapixels` is of one picture, in megapixels of 1,048,576 pixels, rounded up."""

    max_images: int = 4
    max_megapixels: int = 4
    max_steps: int = 50
    max_prompt_chars: int = 4000
    allows_unsafe: bool = False

    def problems(
        self, model: catalog.Model | None, arguments: Mapping[str, object]
    ) -> list[Problem]:
        """What of these arguments is more than the owner allows; [] is fine. Of a known model they
        are such as `catalog.check` accepts; of any other they may be anything."""
        found = [
            _at_most("num_images", arguments, self.max_images),
            self._size(model, arguments),
            _at_most("num_inference_steps", arguments, self.max_steps),
            self._prompt(arguments),
        ]
        problems = [problem for problem in found if problem]
        return problems if self.allows_unsafe else [*problems, *_unsafe(model, arguments)]

    def _size(self, model: catalog.Model | None, arguments: Mapping[str, object]) -> Problem | None:
        sizes = [said_size_px(model, arguments)]
        if model is None:  # which of the two ways it takes is not known
            sizes.append(said_size_px(None, {**arguments, "image_size": None}))
        asked = max((catalog.megapixels(*size) for size in sizes if size), default=0)
        if asked <= self.max_megapixels:
            return None
        name = "image_size" if arguments.get("image_size") is not None else "width"
        text = f"Picture should have at most {self.max_megapixels} megapixels, not {asked}"
        ctx = {"max_megapixels": self.max_megapixels}
        return Problem((name,), text, "value_error", arguments.get(name), ctx)

    def _prompt(self, arguments: Mapping[str, object]) -> Problem | None:
        prompt, most = arguments.get("prompt"), self.max_prompt_chars
        if not isinstance(prompt, str) or len(prompt) <= most:
            return None
        text = f"String should have at most {most} characters, not {len(prompt)}"
        return Problem(("prompt",), text, "string_too_long", None, {"max_length": most})


def said_size_px(
    model: catalog.Model | None, arguments: Mapping[str, object]
) -> tuple[int, int] | None:
    """Width and height of each picture as far as the request, or its model's row, tells them."""
    if model is not None:
        return catalog.size_px(model, arguments)
    size = arguments.get("image_size")
    size = arguments if size is None else size
    if isinstance(size, str):
        return catalog.PRESETS.get(size)
    if not isinstance(size, Mapping) or not {"width", "height"} & set(size):
        return None
    width, height = (whole_number(size.get(side)) for side in ("width", "height"))
    return max(0, width or catalog.SIDE_PX), max(0, height or catalog.SIDE_PX)


def whole_number(value: object) -> int | None:
    """A number as fal's apps would read it, rounded up; None for what is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int):
        return value
    if not isinstance(value, float) or math.isnan(value):
        return None
    return math.ceil(max(-_HUGE, min(value, _HUGE)))


def _at_most(name: str, arguments: Mapping[str, object], most: int) -> Problem | None:
    number = whole_number(arguments.get(name))
    if number is None or number <= most:
        return None
    text = f"Input should be less than or equal to {most}"
    return Problem((name,), text, "less_than_equal", arguments[name], {"le": most})


def _unsafe(model: catalog.Model | None, arguments: Mapping[str, object]) -> Iterator[Problem]:
    for name, value in arguments.items():
        if _SAFETY_SWITCH.fullmatch(name) and str(value).lower() not in _YES:
            text = "The safety checker stays on here: leave this out"
            yield Problem((name,), text, "value_error", value)
    tolerance = whole_number(arguments.get("safety_tolerance"))
    highest = _most_tolerant(model)
    if tolerance is not None and tolerance >= highest:
        text = f"Input should be less than {highest}: the safety checker stays on here"
        value = arguments["safety_tolerance"]
        yield Problem(("safety_tolerance",), text, "less_than", value, {"lt": highest})


def _most_tolerant(model: catalog.Model | None) -> int:
    known = model.fields.get("safety_tolerance") if model else None
    choices = known.choices if known and known.choices else (MOST_TOLERANT,)
    return max(int(choice) for choice in choices)

"""What a FLUX model takes and what it costs: the data of catalog.json and the questions to it.

Knows field names, ranges, defaults and prices, and where each was read. Refuses to know HTTP, keys,
storage, our own limits and budgets, and any model without a row: unknown models and unknown fields
pass, because fal adds both faster than a table can follow.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

PRESETS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "square_hd": (1024, 1024),
        "square": (512, 512),
        "portrait_4_3": (768, 1024),
        "portrait_16_9": (576, 1024),
        "landscape_4_3": (1024, 768),
        "landscape_16_9": (1024, 576),
    }
)
"""Width and height of each image_size name (fal model pages)."""

# Types that fal documents itself carry a link (fal docs, errors page); others are plain pydantic.
DOCUMENTED_TYPES = frozenset(
    {
        "greater_than",
        "greater_than_equal",
        "image_too_large",
        "less_than",
        "less_than_equal",
        "multiple_of",
        "one_of",
        "sequence_too_long",
        "sequence_too_short",
    }
)

SIDE_PX = 512  # ImageSize's default for a side that is left out (fal toolkit)
_MEGAPIXEL = 1024 * 1024  # fal's examples bill 1024x1024 as 1 and 1920x1080 as 2 (fal model pages)
_MICRO = Decimal(1_000_000)
_LONGEST_ID = 200  # difflib is quadratic, and ids come from strangers
_ALIKE = 0.7  # below this, any other "text-to-image" model looks alike


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input field of a model.

    `choices` are the allowed words: for an image_size those besides the presets, and with
    `open_choices` any other string is allowed too. `min_px`/`max_px` bound each side of an
    image_size object; 14142 is fal's own ceiling (fal toolkit, ImageSize). A list longer than
    `max_items` is refused, or with `ignores_rest` used up to there. `items` are the fields of each
    object in an object_list.
    """

    type: Literal[
        "string", "integer", "number", "boolean", "image_size", "url", "url_list", "object_list"
    ]
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] | None = None
    open_choices: bool = False
    min: int | float | None = None
    max: int | float | None = None
    min_px: int = 1
    max_px: int = 14142
    max_items: int | None = None
    ignores_rest: bool = False
    items: dict[str, Field] | None = None


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A published or reported price in USD; a default for estimates, never what fal bills.

    `first_megapixel` prices take `usd` for the first and `further_megapixel` for each other one.
    With `counts_input` the pictures in image_urls are billed like outputs. `unsized_megapixels` is
    the most that a picture counts for when the request does not tell its size: an input, or an
    output that follows its input. `evidence` is "published" only if fal itself states the price.
    """

    per: Literal["megapixel", "image", "first_megapixel"]
    usd: Decimal
    evidence: Literal["published", "third party", "unverified"]
    further_megapixel: Decimal = Decimal(0)
    counts_input: bool = False
    unsized_megapixels: int | None = None


class Model(msgspec.Struct, frozen=True):
    """One endpoint of fal. `price` is None where none was found.

    `output` "full" answers images, timings, seed, has_nsfw_concepts and prompt; "short" only images
    and seed. `streams` says whether fal shows its /stream, `realtime` whether a guide connects to
    its /realtime. `source` says where the row was read.
    """

    id: str
    kind: Literal["text-to-image", "image-to-image"]
    fields: dict[str, Field]
    price: Price | None
    output: Literal["full", "short"]
    streams: bool
    realtime: bool
    source: str


class Problem(msgspec.Struct, frozen=True):
    """One thing that fal would refuse, in the form of an entry of its `detail` list.

    `loc` leads to the value from the arguments on (fal puts "body" before it); `type` and `ctx` are
    pydantic 2's (fal docs, errors page).
    """

    loc: tuple[str | int, ...]
    msg: str
    type: str
    input: Any = None
    ctx: dict[str, Any] | None = None

    def to_fal(self) -> dict[str, object]:
        """The entry as fal's answer has it."""
        entry: dict[str, object] = {
            "loc": ["body", *self.loc],
            "msg": self.msg,
            "type": self.type,
            "input": self.input,
        }
        if self.ctx:
            entry["ctx"] = self.ctx
        if self.type in DOCUMENTED_TYPES:
            entry["url"] = f"https://docs.fal.ai/errors/#{self.type}"
        return entry


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model as catalog.json spells it: `fields` are names of shared definitions."""

    kind: Literal["text-to-image", "image-to-image"]
    fields: list[str]
    price: Price | None
    output: Literal["full", "short"]
    source: str
    streams: bool = False
    realtime: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: list[str]
    fields: dict[str, Field]
    models: dict[str, _Row]


# Made with our import: msgspec learns a type with its first use, and a second thread that uses the
# half-learnt type meanwhile crashes the process (msgspec 0.22, StructInfo_Convert).
_DECODER = msgspec.json.Decoder(_File)


@functools.lru_cache(maxsize=1)
def models() -> Mapping[str, Model]:
    """Every known model by its full id, in the order of catalog.json; the file is read once."""
    file = _DECODER.decode(Path(__file__).with_name("catalog.json").read_bytes())
    known = {}
    for model_id, row in file.models.items():
        fields = {name.split()[0]: file.fields[name] for name in row.fields}
        known[model_id] = Model(
            model_id,
            row.kind,
            fields,
            row.price,
            row.output,
            row.streams,
            row.realtime,
            row.source,
        )
    return MappingProxyType(known)


def find(model_id: str) -> Model | None:
    """The model with exactly this id, or None: nothing is known about it, which is no error."""
    return models().get(model_id)


def nearest(model_id: str) -> str | None:
    """The known id that a misspelt one most likely meant, or None if none comes close.

    The same words with other separators or in another order win ("flux-schnell" is "flux/schnell",
    "flux-2/pro" is "flux-2-pro"); otherwise the most similar spelling.
    """
    if len(model_id) > _LONGEST_ID:
        return None
    from difflib import get_close_matches  # only wanted on this error path

    words = _words(model_id)
    spellings = {}
    for known in models():
        if sorted(_words(known)) == sorted(words):
            return known
        spellings["-".join(_words(known))] = known
    close = get_close_matches("-".join(words), spellings, n=1, cutoff=_ALIKE)
    return spellings[close[0]] if close else None


def _words(model_id: str) -> list[str]:
    return re.findall(r"[a-z0-9.]+", model_id.lower().removeprefix("fal-ai/"))


def check(model: Model, arguments: object) -> list[Problem]:
    """What fal would refuse in these arguments, in the order of the model's fields; [] is fine.

    Never raises, whatever JSON it is given. Null in an optional field means "not given". Numbers in
    strings, and true or 4.0 for an integer, are refused although fal would convert them: whoever
    reads the arguments afterwards may rely on the declared types.
    """
    if not isinstance(arguments, Mapping):
        return [Problem((), "Input should be a valid dictionary", "dict_type", arguments)]
    return _check_fields(model.fields, arguments, ())


def size_px(model: Model, arguments: Mapping[str, object]) -> tuple[int, int] | None:
    """Width and height that the answer will have.

    None when the request does not tell: the size follows an input picture or an aspect ratio, fal
    chooses it ("auto"), or image_size is one that `check` refuses.
    """
    size = _value(model, arguments, "image_size")
    if isinstance(size, Mapping):
        return size.get("width", SIDE_PX), size.get("height", SIDE_PX)
    return PRESETS.get(size) if isinstance(size, str) else None


def megapixels(width: int, height: int) -> int:
    """What a picture counts for: whole megapixels, rounded up (fal model pages, pricing)."""
    return -(-width * height // _MEGAPIXEL)


def images(model: Model, arguments: Mapping[str, object]) -> int | None:
    """How many pictures the answer will have; None if num_images is one that `check` refuses."""
    count = _value(model, arguments, "num_images") if "num_images" in model.fields else 1
    return count if isinstance(count, int) else None


def units(model: Model, arguments: Mapping[str, object]) -> int | None:
    """The most that this request counts for in what its price is per: pictures, or megapixels.

    None when the price, a size or a count is unknown; fields that do not bear on the price need
    not be valid.
    """
    price, count = model.price, images(model, arguments)
    if price is None or count is None or price.per == "image":
        return count if price else None
    size = size_px(model, arguments)
    each = megapixels(*size) if size else price.unsized_megapixels
    inputs = _input_megapixels(model, price, arguments) if price.counts_input else 0
    return None if each is None or inputs is None else each * count + inputs


def estimate_micro_usd(model: Model, arguments: Mapping[str, object]) -> int | None:
    """The most that this request should cost by the listed price, in micro-USD, rounded up; None
    where its `units` are."""
    price, count = model.price, units(model, arguments)
    if price is None or count is None:
        return None
    if price.per == "first_megapixel":
        return _micro_usd(price.usd + price.further_megapixel * (count - 1))
    return _micro_usd(price.usd * count)


def _input_megapixels(model: Model, price: Price, arguments: Mapping[str, object]) -> int | None:
    urls = _value(model, arguments, "image_urls")
    if urls is None or price.unsized_megapixels is None:
        return None
    used = min(len(urls), model.fields["image_urls"].max_items or len(urls))
    return used * price.unsized_megapixels


def _micro_usd(usd: Decimal) -> int:
    return int((usd * _MICRO).to_integral_value(ROUND_CEILING))


def _value(model: Model, arguments: Mapping[str, object], name: str) -> Any:
    """What fal will use for one field: the given value, else the default; None if it is refused."""
    field = model.fields.get(name)
    if field is None:
        return None
    value = arguments.get(name)
    if value is None:
        return field.default
    return None if _CHECKS[field.type](field, value, (name,)) else value


# The checks of one value. Wording and types are pydantic 2's, as fal's apps answer them.

_Loc = tuple[str | int, ...]


def _check_fields(
    fields: Mapping[str, Field], values: Mapping[Any, object], loc: _Loc
) -> list[Problem]:
    problems: list[Problem] = []
    for name, field in fields.items():
        here = (*loc, name)
        if field.required and name not in values:
            problems.append(Problem(here, "Field required", "missing", values))
        elif field.required or values.get(name) is not None:
            problems += _CHECKS[field.type](field, values[name], here)
    return problems


def _check_string(field: Field, value: object, loc: _Loc) -> list[Problem]:
    if field.choices is None or field.open_choices:
        if isinstance(value, str):
            return []
        return [Problem(loc, "Input should be a valid string", "string_type", value)]
    if value in field.choices:
        return []
    return [_not_one_of(field.choices, value, loc)]


def _check_integer(field: Field, value: object, loc: _Loc) -> list[Problem]:
    if isinstance(value, bool) or not isinstance(value, int):
        return [Problem(loc, "Input should be a valid integer", "int_type", value)]
    return _check_range(field.min, field.max, value, loc)


def _check_number(field: Field, value: object, loc: _Loc) -> list[Problem]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return [Problem(loc, "Input should be a valid number", "float_type", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return [Problem(loc, "Input should be a finite number", "finite_number", value)]
    return _check_range(field.min, field.max, value, loc)


def _check_boolean(field: Field, value: object, loc: _Loc) -> list[Problem]:
    if isinstance(value, bool):
        return []
    return [Problem(loc, "Input should be a valid boolean", "bool_type", value)]


def _check_image_size(field: Field, value: object, loc: _Loc) -> list[Problem]:
    names = (*PRESETS, *(field.choices or ()))
    if isinstance(value, Mapping):
        return [
            problem
            for side in ("width", "height")
            for problem in _check_side(field, value.get(side, SIDE_PX), (*loc, side))
        ]
    if not isinstance(value, str):
        text = "Input should be a preset name or an object with width and height"
        return [Problem(loc, text, "model_type", value)]
    if value in names:
        return []
    return [_not_one_of(names, value, loc, also="an object with width and height")]


def _check_side(field: Field, value: object, loc: _Loc) -> list[Problem]:
    if isinstance(value, bool) or not isinstance(value, int):
        return [Problem(loc, "Input should be a valid integer", "int_type", value)]
    if value <= 0:
        return [Problem(loc, "Input should be greater than 0", "greater_than", value, {"gt": 0})]
    return _check_range(field.min_px, field.max_px, value, loc)


def _check_list(field: Field, value: object, loc: _Loc) -> list[Problem]:
    if not isinstance(value, list):
        return [Problem(loc, "Input should be a valid list", "list_type", value)]
    most = field.max_items
    if most is not None and len(value) > most and not field.ignores_rest:
        text = f"List should have at most {most} items after validation, not {len(value)}"
        ctx = {"field_type": "List", "max_length": most, "actual_length": len(value)}
        return [Problem(loc, text, "too_long", value, ctx)]
    check_item = _check_string if field.items is None else _check_object
    return [p for i, item in enumerate(value) for p in check_item(field, item, (*loc, i))]


def _check_object(field: Field, value: object, loc: _Loc) -> list[Problem]:
    if not isinstance(value, Mapping):
        return [Problem(loc, "Input should be a valid dictionary", "dict_type", value)]
    return _check_fields(field.items or {}, value, loc)


def _check_range(low: float | None, high: float | None, value: float, loc: _Loc) -> list[Problem]:
    if low is not None and value < low:
        text = f"Input should be greater than or equal to {low}"
        return [Problem(loc, text, "greater_than_equal", value, {"ge": low})]
    if high is not None and value > high:
        text = f"Input should be less than or equal to {high}"
        return [Problem(loc, text, "less_than_equal", value, {"le": high})]
    return []


def _not_one_of(
    names: tuple[str, ...], value: object, loc: _Loc, *, also: str | None = None
) -> Problem:
    shown = [f"'{name}'" for name in names]
    *others, last = [*shown, also] if also else shown
    expected = f"{', '.join(others)} or {last}"
    text = f"Input should be {expected}"
    return Problem(loc, text, "literal_error", value, {"expected": expected})


_CHECKS: Mapping[str, Callable[[Field, object, _Loc], list[Problem]]] = {
    "string": _check_string,
    "integer": _check_integer,
    "number": _check_number,
    "boolean": _check_boolean,
    "image_size": _check_image_size,
    "url": _check_string,
    "url_list": _check_list,
    "object_list": _check_list,
}

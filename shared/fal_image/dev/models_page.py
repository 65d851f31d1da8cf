"""docs/models.md out of the catalog: what each model takes and costs, and a body that it accepts.

Refuses to know what an endpoint's owner allows; `GET /models` of that endpoint says it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..fal.catalog import PRESETS, Field, Model, Price, models
from ..inputs import OurFields

PICTURE = "https://shop.example.com/room.png"
_GIVEN: Mapping[str, object] = {
    "image_url": PICTURE,
    "image_urls": [PICTURE],
    "mask_url": "https://shop.example.com/mask.png",
}
_KINDS = {"text-to-image": "text", "image-to-image": "picture"}


def models_page() -> str:
    known = models().values()
    lines = [*_ABOUT, "", "| model | from | USD | price |", "|---|---|---|---|"]
    for model in known:
        link = f"[`{model.id}`](#{anchor(model.id)})"
        lines.append(f"| {link} | {_KINDS[model.kind]} | {_usd(model.price)} |")
    lines += ["", *_UNKNOWN]
    for model in known:
        lines += ["", *_section(model)]
    return "\n".join(lines) + "\n"


def anchor(model_id: str) -> str:
    """The fragment that GitHub gives a heading of this text."""
    return "".join(c for c in model_id.lower() if c.isalnum() or c in "-_")


def example(model: Model) -> dict[str, object]:
    """A body of `POST /generate` for this model: its required fields, and a size or a seed."""
    body: dict[str, object] = {"model": model.id}
    for name, field in model.fields.items():
        if name == "prompt":
            is_edit = model.kind == "image-to-image"
            body[name] = "the same room at night" if is_edit else "a calico cat at sunset"
        elif field.required:
            body[name] = _GIVEN[name]
    if "image_size" in model.fields and model.kind == "text-to-image":
        body["image_size"] = "square_hd"
    elif "aspect_ratio" in model.fields:
        body["aspect_ratio"] = "16:9"
    return body | {"seed": 7}


def _section(model: Model) -> list[str]:
    lines = [
        f"## {model.id}",
        "",
        f"{_price(model.price)} From: {model.source}.{_streams(model)}",
        "",
        "| field | takes | unless given |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {_takes(field)} |{_default(field)}|" for name, field in _shown(model)]
    return [*lines, "", "```json", json.dumps(example(model)), "```"]


def _shown(model: Model) -> list[tuple[str, Field]]:
    """The fields but `sync_mode`, which is not forwarded."""
    return [(name, field) for name, field in model.fields.items() if name != "sync_mode"]


def _usd(price: Price | None) -> str:
    if price is None:
        return "not known | none found"
    unit = "an image" if price.per == "image" else "a megapixel"
    further = f", then {price.further_megapixel}" if price.per == "first_megapixel" else ""
    return f"{price.usd}{further} {unit} | {price.evidence}"


def _price(price: Price | None) -> str:
    if price is None:
        return "**No price was found.**"
    amount = f"**{price.usd} USD**"
    if price.per == "image":
        text = f"{amount} an image"
    elif price.per == "megapixel":
        text = f"{amount} a megapixel"
    else:
        text = f"{amount} for the first megapixel, {price.further_megapixel} for each other one"
    if price.counts_input:
        text += ", input pictures counted too"
    if price.unsized_megapixels is not None:
        noun = "megapixel" if price.unsized_megapixels == 1 else "megapixels"
        text += f"; a picture of unknown size counts as {price.unsized_megapixels} {noun}"
    return f"{text} ({price.evidence})."


def _streams(model: Model) -> str:
    """What it does besides, through the proxy."""
    ways = [
        name
        for name, is_there in (("streams", model.streams), ("realtime", model.realtime))
        if is_there
    ]
    return f" Through [the proxy](proxy.md) also: {', '.join(ways)}." if ways else ""


def _takes(field: Field) -> str:
    """The values of a field, in words."""
    if field.type == "image_size":
        words = ", ".join(f"`{choice}`" for choice in field.choices or ())
        sides = f"sides of {field.min_px} to {field.max_px} px"
        return f"[a size](#sizes), {sides}" + (f", or {words}" if words else "")
    if field.choices is not None:
        words = ", ".join(f"`{choice}`" for choice in field.choices)
        return f"{words}, or another text" if field.open_choices else words
    text = _TYPES[field.type]
    if field.min is not None or field.max is not None:
        text += f", {_number(field.min)} to {_number(field.max)}"
    if field.items is not None:
        text += " with " + ", ".join(
            f"`{name}` ({_takes(inner)})" for name, inner in field.items.items()
        )
    if field.max_items is not None:
        text += (
            f", the first {field.max_items} count"
            if field.ignores_rest
            else f", {field.max_items} at most"
        )
    return text


_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "url": "a file id or https address of a picture",
    "url_list": "a list of file ids or https addresses of pictures",
    "object_list": "a list of objects",
}


def _number(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _default(field: Field) -> str:
    if field.required:
        return " **required** "
    if field.default is None:
        return " "
    return f" `{json.dumps(field.default)}` "


_OURS = ", ".join(f"`{name}`" for name in OurFields.__struct_encode_fields__)

_ABOUT = (
    "# Models",
    "",
    "What the catalog knows of fal's FLUX models: what they take, what they cost, and where that",
    "was read. It is checked before money is spent: a field that a model would refuse is answered",
    "400 `invalid_input` with its name. `GET /models` is the same as data, for the models that an",
    "endpoint's owner allows; `POST /estimate` tells the price of one request.",
    "",
    "A price is **published** where fal itself states it, **third party** where only others do,",
    "and **unverified** where it was taken from a similar model. Prices change, and fal's bill",
    "counts: see [Prices and limits](prices.md). A megapixel is 1,048,576 pixels; each picture",
    "counts in whole ones, rounded up.",
    "",
    "Below each model stands a body for `POST /generate`, sent like this:",
    "",
    "```sh",
    'curl "$URL/generate" -H "Authorization: Bearer $KEY" -H \'Content-Type: application/json\' \\',
    '  -d \'{"model": "fal-ai/flux/schnell", "prompt": "a calico cat at sunset", "seed": 7}\'',
    "```",
    "",
    "Beside a model's fields a body may have ours:",
    f"{_OURS}.",
    "The tables say what fal takes; the owner's [limits](prices.md#limits-on-one-request) may be",
    "narrower.",
)

_UNKNOWN = (
    "## Sizes",
    "",
    'An `image_size` is an object such as `{"width": 1024, "height": 576}`, or one of',
    ", ".join(f"`{name}` ({width}×{height})" for name, (width, height) in PRESETS.items()) + ".",
    "Where a model makes pictures of a text alone and takes an `image_size`, the endpoint sends",
    "`landscape_16_9` if you name none, whatever the table says of fal.",
    "",
    "## Models and fields that are not here",
    "",
    "fal has more models than a catalog can follow. Any model that `FAL_IMAGE_MODELS` allows is",
    "served: without a row it needs a `prompt`, and its other fields pass as they are. fal checks",
    "them, and what it refuses comes back in its words. A field that a known model's table lacks",
    "passes too. `POST /estimate` asks fal's own list for the price of such a model; what a budget",
    "makes of a price that nobody knows, `FAL_IMAGE_UNKNOWN_PRICE` says. Outputs that are not",
    "pictures come back whole, in `output`.",
    "",
    "A misspelt id is a model that fal does not have; the error names the nearest one.",
    "To add a model, see [Contributing](../CONTRIBUTING.md#add-a-model).",
)

"""Every schema of the document: of what is taken, from the types that validate it, of what a model
takes from the catalog, and of what is answered.

Refuses to know routes. Nothing here is made before the document is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from ..batches.rows import MAX_ID_CHARS, BatchBody
from ..fal import catalog
from ..inputs import LinksBody, OurFields, UploadOrder
from ..tickets import TicketWish
from ..uploads import EXTENSIONS
from . import answers, foreign

Schema = dict[str, Any]

PLACE = "#/components/schemas/{name}"

ANSWERS = (
    answers.Batch,
    answers.Estimate,
    answers.Health,
    answers.Heard,
    answers.Job,
    answers.Links,
    answers.Models,
    answers.Refusal,
    answers.Ticket,
    answers.Upload,
)
FOREIGN = (
    foreign.FalInput,
    foreign.FalWebhook,
    foreign.Images,
    foreign.ImagesEditForm,
    foreign.ImagesEditRequest,
    foreign.ImagesGenerateRequest,
    foreign.OpenAIError,
    foreign.OpenAIModels,
    foreign.ProxyProblem,
)
TAKEN = (BatchBody, LinksBody, OurFields, TicketWish, UploadOrder)

# A name of ours says what a body is for; these are the names that readers of the document see.
_CALLED = {
    "BatchBody": "BatchRequest",
    "LinksBody": "LinksRequest",
    "OurFields": "GenerateFields",
    "TicketWish": "TicketRequest",
    "UploadOrder": "UploadRequest",
    "Field": "ModelField",
    "Price": "ModelPrice",
}

_OURS = {
    "model": "A model id of fal, or an alias of the owner's. GET /models tells which are allowed.",
    "maxAge": "How long the links in the answer live, in seconds; the owner sets the most.",
    "transforms": "What is done to the picture before it is stored.",
    "aiLabel": "What the picture says of being made by a machine; adds to what the owner wants.",
    "webhookUrl": "Where to tell of the end. Its host must be one that the owner allows.",
    "reuse": "With a seed: an equal request gets the picture that is there, at no cost.",
}

_JSON_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}


def ref(name: str) -> Schema:
    return {"$ref": PLACE.format(name=name)}


def schemas() -> dict[str, Schema]:
    """The schemas by their names."""
    _, made = msgspec.json.schema_components((*ANSWERS, *FOREIGN, *TAKEN), ref_template=PLACE)
    found = {_CALLED.get(name, name): _tidied(schema) for name, schema in made.items()}
    _complete_generate(found)
    _complete_batch(found)
    for name in ("Model", "Problem"):
        found[name]["additionalProperties"] = False
    found["LinksRequest"]["anyOf"] = [{"required": ["fileIDs"]}, {"required": ["fileID"]}]
    found["UploadRequest"]["properties"]["contentType"]["enum"] = [*EXTENSIONS]
    return dict(sorted(found.items()))


def _tidied(value: Any) -> Any:
    """msgspec's schema with our names, and with descriptions as prose."""
    if isinstance(value, list):
        return [_tidied(one) for one in value]
    if not isinstance(value, dict):
        return value
    tidy = {name: _tidied(one) for name, one in value.items()}
    if isinstance(tidy.get("title"), str):
        tidy["title"] = _CALLED.get(tidy["title"], tidy["title"])
    if isinstance(tidy.get("description"), str):
        tidy["description"] = inspect.cleandoc(tidy["description"])
    if isinstance(tidy.get("$ref"), str):
        start, _, name = tidy["$ref"].rpartition("/")
        tidy["$ref"] = f"{start}/{_CALLED.get(name, name)}"
    return tidy


def _complete_generate(found: dict[str, Schema]) -> None:
    """Beside our fields, those of the models that are known; others pass on as they are."""
    fields = found["GenerateFields"]
    for name, text in _OURS.items():
        fields["properties"][name] = {"description": text} | fields["properties"][name]
    fields["description"] = (
        "Our own fields, and those of the models that are known. Which of them a model takes, in "
        "which range and with which default, GET /models tells; any other field goes on to the "
        "model as it is."
    )
    fields["properties"] = {**model_fields(), **fields["properties"]}
    fields["additionalProperties"] = True
    found["GenerateRequest"] = {
        "title": "GenerateRequest",
        "allOf": [ref("GenerateFields")],
        "anyOf": [{"required": ["prompt"]}, {"required": ["model"]}],
        "examples": [{"prompt": "a calico cat at sunset", "image_size": "square"}],
    }


def _complete_batch(found: dict[str, Schema]) -> None:
    found["BatchRow"] = {
        "title": "BatchRow",
        "description": "The body of a generate request, and the caller's own name for the row.",
        "allOf": [ref("GenerateFields")],
        "properties": {
            "rowId": {
                "anyOf": [
                    {"type": "string", "maxLength": MAX_ID_CHARS},
                    {"type": "integer"},
                    {"type": "null"},
                ]
            },
            "webhookUrl": False,
        },
    }
    batch = found["BatchRequest"]
    listed = next(one for one in batch["properties"]["rows"]["anyOf"] if one["type"] == "array")
    listed["items"] = ref("BatchRow")
    listed["description"] = "A row that is not right fails alone, and says so in the results."
    batch["properties"]["defaults"]["description"] = "What all rows have in common."
    batch["oneOf"] = [{"required": ["rows"]}, {"required": ["file"]}]


def model_fields() -> dict[str, Schema]:
    """What the catalog's models take: each field as wide as the widest of them has it."""
    models = catalog.models().values()
    by_name: dict[str, list[catalog.Field]] = {}
    for model in models:
        for name, field in model.fields.items():
            by_name.setdefault(name, []).append(field)
    by_name.pop("sync_mode", None)  # never forwarded
    known = {name: _described(fields, len(models)) for name, fields in sorted(by_name.items())}
    return {"prompt": known.pop("prompt"), **known}


def _described(fields: list[catalog.Field], of: int) -> Schema:
    schema = _widest(fields)
    if not all(field.required for field in fields):
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {"description": f"Taken by {len(fields)} of {of} known models.", **schema}


def _widest(fields: Iterable[catalog.Field]) -> Schema:
    fields = list(fields)
    kind = fields[0].type
    if kind == "image_size":
        return _image_size(fields)
    if kind in ("url_list", "object_list"):
        items: Schema = {"type": "string"} if kind == "url_list" else _objects(fields)
        return {"type": "array", "items": items} | _bounds(fields, "max_items", maxItems=max)
    schema: Schema = {"type": _JSON_TYPES.get(kind, "string")}
    if all(field.choices and not field.open_choices for field in fields):
        return schema | {"enum": _choices(fields)}
    return schema | _bounds(fields, "min", minimum=min) | _bounds(fields, "max", maximum=max)


def _bounds(fields: list[catalog.Field], name: str, **keyword: Any) -> Schema:
    """The widest bound, if all have one; one that ignores what is too much has none."""
    ((word, widest),) = keyword.items()
    bounds = [None if one.ignores_rest else getattr(one, name) for one in fields]
    return {} if None in bounds else {word: widest(bounds)}


def _image_size(fields: list[catalog.Field]) -> Schema:
    side = {
        "type": "integer",
        "minimum": min(field.min_px for field in fields),
        "maximum": max(field.max_px for field in fields),
        "default": catalog.SIDE_PX,
    }
    sides = {"type": "object", "properties": {"width": side, "height": side}}
    return {"anyOf": [{"enum": [*catalog.PRESETS, *_choices(fields)]}, sides]}


def _choices(fields: Iterable[catalog.Field]) -> list[str]:
    return list(dict.fromkeys(word for field in fields for word in field.choices or ()))


def _objects(fields: list[catalog.Field]) -> Schema:
    names = dict.fromkeys(name for field in fields for name in field.items or ())
    inner = {name: [field.items[name] for field in fields if field.items] for name in names}
    needed = [name for name, them in inner.items() if all(one.required for one in them)]
    properties = {name: _widest(them) for name, them in inner.items()}
    return {"type": "object", "properties": properties, "required": needed}

"""OpenAI's request fields, turned into the body of a generate request.

What a model cannot keep is refused with the reason, before money. A field that OpenAI does not have
is the model's own, or ours, and stays as it is. Refuses to know HTTP, files and who asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import get_args

from msgspec import Struct

from ..errors import InvalidInput, ModelNotAllowed
from ..fal import catalog
from ..fal.catalog import Model
from ..inputs import field_error
from ..treatment import Format
from .sizes import field_of_size, sized

MAX_N = 10  # OpenAI's own limit; the owner's may be lower

_FORMATS: tuple[str, ...] = get_args(Format)

# Who the caller's own user is: for the caller's records, of which we keep none.
_PERSONS = ("user", "safety_identifier")

# Said of the answer, not to the model: always checked, never passed on. What is kept anyway.
_OF_ANSWERS: Mapping[str, tuple[object, ...]] = {"stream": (False,), "partial_images": (0,)}

# What OpenAI's models are told and FLUX has no word for: the values that change nothing. A model of
# which nothing is known gets any other.
_OF_MODELS: Mapping[str, tuple[object, ...]] = {
    "background": ("auto", "opaque"),
    "complexity": (),
    "frame_count": (),
    "frame_duration_ms": (),
    "input_fidelity": ("low",),
    "markup": (),
    "moderation": ("auto",),
    "output_compression": (100,),
    "quality": ("auto", "standard"),
    "style": ("vivid",),
    "svg": (),
}
_INSTEAD: Mapping[str, str] = {
    "moderation": "fal's safety checker stays as the owner has set it",
    "output_compression": "say transforms.quality",
    "quality": "choose another model, or its num_inference_steps",
    "background": "its pictures are opaque",
}
OPENAIS = (
    "n",
    "output_format",
    "prompt",
    "response_format",
    "size",
    *_PERSONS,
    *_OF_ANSWERS,
    *_OF_MODELS,
)


class Wanted(Struct, frozen=True):
    """The body of a generate request, whether its pictures are wanted inside the answer, and what
    the caller called each of its fields that has another name there."""

    body: dict[str, object]
    as_b64: bool
    names: Mapping[str, str]

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Errors from within name fields as the caller did."""
        try:
            yield
        except InvalidInput as error:
            raise _renamed(error, self.names) from error


def is_unnamed(name: object, aliases: Mapping[str, str]) -> bool:
    """Whether a model's name is none of fal's and no alias of the owner's: OpenAI's, mostly."""
    return isinstance(name, str) and "/" not in name and name not in aliases


def model_of(name: object, default: str, aliases: Mapping[str, str]) -> str:
    """The id behind a model's name. Raises ModelNotAllowed for a name that nobody has given."""
    if name is None:
        return default
    if is_unnamed(name, aliases):
        raise ModelNotAllowed(
            f"there is no model {str(name)[:100]} here",
            hint="Name a model that GET /v1/models lists, or let the owner give one that name with "
            "FAL_IMAGE_MODEL_ALIASES, for example gpt-image-1=fal-ai/flux/dev.",
        )
    if not isinstance(name, str):
        raise field_error("model", "must be a model id such as fal-ai/flux/schnell")
    return aliases.get(name, name)


def wanted(fields: Mapping[str, object], model_id: str) -> Wanted:
    """What a request of OpenAI's asks for; null means not given. Raises InvalidInput."""
    model = catalog.find(model_id)
    body = {name: value for name, value in fields.items() if name not in OPENAIS}
    given = {name: fields[name] for name in OPENAIS if fields.get(name) is not None}
    body |= {"model": model_id}
    if "prompt" in given:
        body["prompt"] = given["prompt"]
    for name in _PERSONS:
        if not isinstance(given.get(name, ""), str):
            raise field_error(name, "must be a string")
    for name, harmless in _OF_ANSWERS.items():
        if name in given and not _is_one_of(given[name], harmless):
            raise field_error(name, "is not possible here: a picture comes whole")
    body |= _of_model(model, given)
    for name, own in (("n", "num_images"), ("size", field_of_size(model) or "size")):
        if name != own and name in given and fields.get(own) is not None:
            raise field_error(name, f"says what {own} says too: leave one of them out")
    body |= _counted(model, given.get("n"))
    body |= sized(model, given.get("size", "auto"))
    body |= _formatted(model, given.get("output_format"), body)
    names = {"num_images": "n"} if "n" in given else {}
    if "size" in given:
        names |= {"image_size": "size", "aspect_ratio": "size", "resolution_mode": "size"}
    return Wanted(body, _is_b64(given.get("response_format", "url")), names)


def _of_model(model: Model | None, given: Mapping[str, object]) -> dict[str, object]:
    """The fields that go to the model as they are. Raises InvalidInput for those it lacks."""
    passed: dict[str, object] = {}
    for name, harmless in _OF_MODELS.items():
        if name not in given:
            continue
        if model is not None and name in model.fields:
            passed[name] = given[name]
        elif _is_one_of(given[name], harmless):
            continue
        elif model is None:
            passed[name] = given[name]
        else:
            why = _INSTEAD.get(name)
            raise field_error(
                name, f"is nothing that {model.id} can be told{': ' if why else ''}{why or ''}"
            )
    return passed


def _counted(model: Model | None, number: object) -> dict[str, object]:
    """The field that says how many pictures; none says one."""
    if number is None:
        return {}
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_N:
        raise field_error("n", f"must be a whole number, 1 to {MAX_N}")
    if number == 1:
        return {}
    if model is not None and "num_images" not in model.fields:
        raise field_error("n", f"must be 1: {model.id} makes one picture per request")
    return {"num_images": number}


def _formatted(model: Model | None, wish: object, body: Mapping[str, object]) -> dict[str, object]:
    """The model's own field where it has the format; else we make it of the best it has."""
    if wish is None:
        return {}
    if not isinstance(wish, str) or wish not in _FORMATS:
        raise field_error("output_format", f"must be one of {', '.join(_FORMATS)}")
    own = model.fields.get("output_format") if model else None
    if model is None or (own is not None and wish in (own.choices or ())):
        return {"output_format": wish}
    made = body.get("transforms")
    made = {} if made is None else made
    if not isinstance(made, Mapping):
        return {}  # and whoever reads the transforms refuses them
    if made.get("format") not in (None, wish):
        raise field_error("output_format", "is not what transforms.format says: leave one out")
    best = {"output_format": "png"} if own and "png" in (own.choices or ()) else {}
    return {**best, "transforms": {**made, "format": wish}}


def _is_b64(wish: object) -> bool:
    if wish not in ("url", "b64_json"):
        raise field_error("response_format", "must be url or b64_json")
    return wish == "b64_json"


def _is_one_of(value: object, harmless: tuple[object, ...]) -> bool:
    """Equal and of one type: 0 is not False."""
    return any(value == one and type(value) is type(one) for one in harmless)


def _renamed(error: InvalidInput, names: Mapping[str, str]) -> InvalidInput:
    fields = error.extensions.get("fields")
    if not isinstance(fields, list) or not fields:
        return error
    shown = [one | {"field": _name(str(one["field"]), names)} for one in fields]
    if shown == fields:
        return error
    first = shown[0]
    return InvalidInput(f"{first['field']}: {first['message']}", hint=error.hint, fields=shown)


def _name(place: str, names: Mapping[str, str]) -> str:
    """What the caller called it; of what has no parts there, the parts are left out."""
    return names.get(place.partition(".")[0], place)

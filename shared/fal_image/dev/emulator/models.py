"""What a model answers: its output, its refusal of bad input, and the units that fal would bill.

Knows fal's shapes of outputs and errors and reads the catalog. Refuses to know queues and HTTP
connections.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ...fal import catalog
from .exchange import Answer, json_answer
from .faults import Fault
from .originals import Original
from .pictures import CONTENT_TYPES, MOST_PX, Picture

NAMESPACES = ("workflows", "comfy")
MEGAPIXEL = 1024 * 1024  # fal counts 1024x1024 as one megapixel (model pages, price examples)
UNKNOWN_SIZE_PX = (1024, 1024)
LEAST_SHARE = 0.15  # of an edited picture is new, and at most the next more by its strength
SHARE_BY_STRENGTH = 0.5
SHARE_OF_EDIT = 0.35  # where a model has no strength
SEEDS = 2**32
MOST_OBLONG = 8
NOT_JSON: dict[str, object] = {
    "loc": ["body", 0],
    "msg": "JSON decode error",
    "type": "json_invalid",
}

Publish = Callable[[Picture], str]


@dataclass(frozen=True)
class Outcome:
    """How a job ended: the result's status, headers and payload, and what fal would bill.

    `error` and `error_type` are what the queue says beside COMPLETED. A Picture in `payload`
    stands for its data URI, which is made when somebody reads it. `has_json` is false for a
    model that answered something that is not JSON.
    """

    status: int
    payload: object
    billable_units: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    error_type: str | None = None
    has_json: bool = True

    def body(self, data_uri: Callable[[Picture], str]) -> str:
        return json.dumps(self.payload, default=data_uri)

    def all_headers(self) -> dict[str, str]:
        kind = {"x-fal-error-type": self.error_type} if self.error_type else {}
        return {"x-fal-billable-units": str(self.billable_units), **kind, **self.headers}


@dataclass(frozen=True)
class Endpoint:
    """`app` is owner/alias (with its namespace), `path` the rest of the id."""

    app: str
    path: str

    @property
    def id(self) -> str:
        return f"{self.app}/{self.path}" if self.path else self.app


def endpoint(segments: list[str]) -> Endpoint | None:
    """Split an id as both clients do: two segments, one more behind a namespace."""
    size = 3 if segments and segments[0] in NAMESPACES else 2
    if len(segments) < size or not all(segments):
        return None
    return Endpoint("/".join(segments[:size]), "/".join(segments[size:]))


def unknown(target: Endpoint) -> Answer:
    """fal's 404 for an application that does not exist, or for a path that it does not have."""
    known = catalog.models()
    if any(name == target.app or name.startswith(f"{target.app}/") for name in known):
        detail = f"Path /{target.path} not found"
        return json_answer(404, {"detail": detail}, {"x-fal-billable-units": "0"})
    alias = target.app.split("/")[-1]
    return json_answer(404, {"detail": f'Application "{alias}" not found'})


@dataclass(frozen=True)
class Wanted:
    """A picture that an input names; `loc` leads to it from the arguments on."""

    loc: tuple[str | int, ...]
    url: str


@dataclass(frozen=True)
class Order:
    """One request to a known model: its seed is drawn and its errors are found already.

    `originals` belong to `wanted`, one each; they are missing until somebody has fetched them.
    """

    model: catalog.Model
    input: object
    seed: int
    errors: list[dict[str, object]]
    originals: tuple[Original, ...] = ()

    @classmethod
    def of(cls, model: catalog.Model, body: bytes) -> Order:
        """Read and check an input as the model would. Never raises: bad input becomes `errors`."""
        try:
            arguments = json.loads(body, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            return cls(model, None, 0, [NOT_JSON])
        return cls.of_input(model, arguments)

    @classmethod
    def of_input(cls, model: catalog.Model, arguments: object) -> Order:
        """As `of`, for an input that is JSON already."""
        errors = [problem.to_fal() for problem in catalog.check(model, arguments)]
        seed = arguments.get("seed") if isinstance(arguments, dict) else None
        order = cls(model, arguments, secrets.randbelow(SEEDS) if seed is None else seed, errors)
        return order if errors else order._within_limits()

    def _within_limits(self) -> Order:
        width, height = self.size_px
        if width * height <= MOST_PX:
            return self
        side = math.isqrt(MOST_PX)
        problem: dict[str, object] = {
            "loc": ["body", "image_size"],
            "msg": f"The emulator draws at most {MOST_PX} pixels",
            "type": "image_too_large",
            "url": "https://docs.fal.ai/errors/#image_too_large",
            "ctx": {"max_width": side, "max_height": side},
        }
        return replace(self, errors=[problem])

    @property
    def wanted(self) -> list[Wanted]:
        """The pictures that the model takes and this input names; none in a bad input."""
        wanted = []
        for name, known in self.model.fields.items():
            value = None if self.errors else self.arguments.get(name)
            if known.type == "url" and isinstance(value, str):
                wanted.append(Wanted((name,), value))
            elif known.type == "url_list" and isinstance(value, list):
                used = value[: known.max_items]  # a longer list is either refused or cut
                wanted += [Wanted((name, index), url) for index, url in enumerate(used)]
        return wanted

    def supplied(self, originals: list[Original]) -> Order:
        """With its pictures, whose sizes may make it a bad one."""
        return replace(self, originals=tuple(originals))._within_limits()

    @property
    def arguments(self) -> dict[str, object]:
        return self.input if isinstance(self.input, dict) else {}

    @property
    def size_px(self) -> tuple[int, int]:
        """Of each picture: as asked for, else as the first input has it, if that is known."""
        given = catalog.size_px(self.model, self.arguments)
        ratio = self._value("aspect_ratio") or self._value("resolution_mode")
        if given := given or _size_of(str(ratio)):
            return given
        if not self._inputs:
            return UNKNOWN_SIZE_PX
        first = self._inputs[0]
        if {"aspect_ratio", "resolution_mode"} & set(self.model.fields):
            return _megapixel_like(first.width, first.height)
        bounds = self.model.fields.get("image_size")
        return _fitted(first, bounds.min_px, bounds.max_px) if bounds else _fitted(first)

    @property
    def images(self) -> int:
        count = self._value("num_images")
        return count if isinstance(count, int) else 1

    @property
    def is_inline(self) -> bool:
        return self.arguments.get("sync_mode") is True

    def pictures(self, *, is_black: bool = False, ripeness: float = 1.0) -> list[Picture]:
        width, height = self.size_px
        wanted = self._value("output_format")
        format = wanted if isinstance(wanted, str) and wanted in CONTENT_TYPES else "jpeg"
        masks = self._of_field("mask_url")
        first = Picture(
            self.model.id,
            str(self.arguments.get("prompt") or ""),
            self.seed,
            width,
            height,
            format,
            is_black,
            ripeness,
            originals=tuple(original.file for original in self._inputs),
            mask=masks[0].file if masks else None,
            share=self._share,
        )
        return [replace(first, seed=self.seed + n) for n in range(self.images)]

    def billable_units(self) -> int:
        """Megapixels or pictures, as the model's price counts them; an estimate of fal's count."""
        price = self.model.price
        if price is None or price.per == "image":
            return self.images
        units = _megapixels(*self.size_px) * self.images
        if not price.counts_input:
            return units
        most = price.unsized_megapixels or math.inf
        return units + sum(int(min(_megapixels(o.width, o.height), most)) for o in self._inputs)

    @property
    def _inputs(self) -> list[Original]:
        """What is worked on; a mask only says where."""
        return [*self._of_field("image_url"), *self._of_field("image_urls")]

    def _of_field(self, name: str) -> list[Original]:
        if not self.originals:
            return []
        known = zip(self.wanted, self.originals, strict=True)
        return [original for wanted, original in known if wanted.loc[0] == name]

    @property
    def _share(self) -> float:
        """How much of an edited picture is new."""
        strength = self._value("strength")
        if isinstance(strength, (int, float)):
            return LEAST_SHARE + SHARE_BY_STRENGTH * strength
        return SHARE_OF_EDIT

    def _value(self, name: str) -> object:
        """An argument, or the model's default; None if the model has no such field."""
        known = self.model.fields.get(name)
        return self.arguments.get(name, known.default) if known else None


def rejected(order: Order) -> Outcome:
    """What bad input gives: 422 with a list, nothing billed."""
    return Outcome(422, {"detail": order.errors}, error="Invalid status code: 422")


def fulfilled(
    order: Order, publish: Publish, inference_s: float, fault: Fault | None = None
) -> Outcome:
    """What a job ends with; `fault` is one that strikes at completion. Pictures are published."""
    units = order.billable_units()
    kind = fault.kind if fault else None
    if fault and kind == "error":
        return _broken(fault)
    if kind == "null-payload":
        return Outcome(200, None, units, has_json=False)
    pictures = [] if kind == "no-images" else order.pictures(is_black=kind == "black")
    return Outcome(200, output(order, pictures, publish, inference_s), units)


def output(
    order: Order, pictures: list[Picture], publish: Publish, inference_s: float
) -> dict[str, object]:
    """A model's output; both published shapes (model pages, output schema)."""
    images = [_image(order, picture, publish) for picture in pictures]
    if order.model.output == "short":
        return {"images": images, "seed": order.seed}
    return {
        "images": images,
        "timings": {"inference": round(inference_s, 3)},
        "seed": order.seed,
        "has_nsfw_concepts": [picture.is_black for picture in pictures],
        "prompt": str(order.arguments.get("prompt") or ""),
    }


def platform_error(
    status: int, error_type: str, detail: str, headers: Mapping[str, str] | None = None
) -> Outcome:
    """An error of fal's platform, not of the model (fal docs, request errors); never billed."""
    payload = {"detail": detail, "error_type": error_type}
    return Outcome(status, payload, headers=headers or {}, error=detail, error_type=error_type)


def _finite(text: str) -> float:
    """Numbers that JSON does not have are not echoed into JSON."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a JSON number")
    return number


def _megapixels(width: int, height: int) -> int:
    return max(1, math.ceil(width * height / MEGAPIXEL))


def _size_of(ratio: str) -> tuple[int, int] | None:
    """About a megapixel in the form of "16:9"; None if it is not a ratio that can be drawn."""
    match = re.fullmatch(r"(\d{1,3}):(\d{1,3})", ratio)
    across, down = (int(match[1]), int(match[2])) if match else (0, 0)
    if not across or not down or not 1 / MOST_OBLONG <= across / down <= MOST_OBLONG:
        return None
    return _megapixel_like(across, down)


def _megapixel_like(across: int, down: int) -> tuple[int, int]:
    """About a megapixel of that form, in blocks of 16 pixels, and not too oblong."""
    form = min(max(across / down, 1 / MOST_OBLONG), MOST_OBLONG)
    width = math.sqrt(MEGAPIXEL * form)
    return round(width / 16) * 16, round(width / form / 16) * 16


def _fitted(original: Original, min_px: int = 1, max_px: int = MOST_PX) -> tuple[int, int]:
    """The size of an input, scaled if it is too small, or too large for the model or to draw."""
    width, height = original.width, original.height
    scale = max(1.0, min_px / min(width, height))
    scale = min(scale, max_px / max(width, height), math.sqrt(MOST_PX / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))


def _broken(fault: Fault) -> Outcome:
    status, detail = fault.options["status"], fault.options["detail"]
    if error_type := fault.options["error_type"]:
        return platform_error(status, error_type, detail)
    return Outcome(status, {"detail": detail}, error=detail)


def _image(order: Order, picture: Picture, publish: Publish) -> dict[str, object]:
    url: object = picture if order.is_inline else publish(picture)
    image = {
        "url": url,
        "width": picture.width,
        "height": picture.height,
        "content_type": picture.content_type,
    }
    if order.model.output == "short" and isinstance(url, str):
        image["file_name"] = url.rsplit("/", 1)[-1]
    return image

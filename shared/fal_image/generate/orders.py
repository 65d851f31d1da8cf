"""What may be asked for and what it costs: everything that can be refused before money is spent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache

from ..errors import FalAuthFailed, InvalidInput, MissingPrompt, ModelNotAllowed
from ..fal import catalog
from ..inputs import Order

DEFAULT_IMAGE_SIZE = "landscape_16_9"  # the recipe's


@dataclass(frozen=True)
class Orders:
    """`key` is the owner's fal key, only looked at to see that there is one."""

    allowed_models: tuple[str, ...]
    key: str | None = field(repr=False)

    def checked(self, order: Order) -> Order:
        """The order as it will be sent, but for its input pictures. Raises before any money."""
        model = catalog.find(order.model)
        if not is_allowed(order.model, self.allowed_models):
            raise ModelNotAllowed(f"the model {order.model} is not allowed here")
        needs_prompt = model is None or _requires(model, "prompt")
        if needs_prompt and order.prompt is None:
            raise MissingPrompt('"prompt" is absent, blank or not a string')
        if not self.key:
            raise FalAuthFailed("FAL_KEY is not set")
        if model is None:
            return order
        if model.kind == "text-to-image" and "image_size" in model.fields:
            sized = {"image_size": DEFAULT_IMAGE_SIZE, **order.arguments}
            if sized["image_size"] is None:
                sized["image_size"] = DEFAULT_IMAGE_SIZE
            order = replace(order, arguments=sized)
        problems = catalog.check(model, order.arguments)
        if problems:
            fields = [
                {"field": ".".join(str(part) for part in problem.loc), "message": problem.msg}
                for problem in problems
            ]
            first = fields[0]
            raise InvalidInput(f"{first['field']}: {first['message']}", fields=fields)
        return order


def is_allowed(model: str, globs: tuple[str, ...]) -> bool:
    """Whether a model id matches one of the globs: `*` stops at a slash, `**` does not."""
    return any(_pattern(glob).fullmatch(model) for glob in globs)


def estimate_usd_micro(order: Order) -> int | None:
    """The most that the order can cost by the catalog, None if its price is not known."""
    model = catalog.find(order.model)
    return None if model is None else catalog.estimate_micro_usd(model, order.arguments)


def actual_usd_micro(model_id: str, units: float | None) -> int | None:
    """Units times the unit price, where one price covers every unit."""
    if units == 0:
        return 0
    model = catalog.find(model_id)
    if units is None or model is None or model.price is None:
        return None
    if model.price.per == "first_megapixel":
        return None
    return round(float(model.price.usd) * units * 1_000_000)


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", glob)
    wild = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts))


def _requires(model: catalog.Model, field: str) -> bool:
    return field in model.fields and model.fields[field].required

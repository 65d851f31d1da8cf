"""What may be asked for and what it costs: everything that can be refused before money is spent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from msgspec.structs import replace

from ..errors import FalAuthFailed, FalRejected, InvalidInput, MissingPrompt, ModelNotAllowed
from ..fal import catalog
from ..inputs import Order
from .limits import Limits, whole_number

DEFAULT_IMAGE_SIZE = "landscape_16_9"  # the recipe's


@dataclass(frozen=True)
class Orders:
    """`key` is the owner's fal key, only looked at to see that there is one; `watermark_font` the
    file that texts on pictures are written with."""

    allowed_models: tuple[str, ...]
    limits: Limits
    key: str | None = field(repr=False)
    watermark_font: str | None = None

    def refuse_model(self, model_id: str) -> None:
        """Raises ModelNotAllowed for a model outside the owner's globs."""
        if not is_allowed(model_id, self.allowed_models):
            raise ModelNotAllowed(f"the model {model_id} is not allowed here")

    def checked(self, order: Order) -> Order:
        """The order as it will be sent, but for its input pictures. Raises before any money."""
        order = self.completed(order)
        self._require_key()
        return order

    def completed(self, order: Order) -> Order:
        """`checked` for who does not send it: no key is needed. Raises MissingPrompt,
        ModelNotAllowed, InvalidInput."""
        model = catalog.find(order.model)
        self.refuse_model(order.model)
        needs_prompt = model is None or _requires(model, "prompt")
        if needs_prompt and order.prompt is None:
            raise MissingPrompt('"prompt" is absent, blank or not a string')
        if model and model.kind == "text-to-image" and "image_size" in model.fields:
            sized = {"image_size": DEFAULT_IMAGE_SIZE, **order.arguments}
            if sized["image_size"] is None:
                sized["image_size"] = DEFAULT_IMAGE_SIZE
            order = replace(order, arguments=sized)
        problems = self._problems(model, order)
        if problems:
            fields = [
                {"field": ".".join(str(part) for part in problem.loc), "message": problem.msg}
                for problem in problems
            ]
            first = fields[0]
            raise InvalidInput(f"{first['field']}: {first['message']}", fields=fields)
        if order.transforms is not None:
            from ..processing import transforms  # which most orders do without

            transforms.check(order.transforms, self.watermark_font, images=images_asked(order))
        return order

    def checked_as_it_is(self, order: Order) -> Order:
        """The order itself, for callers who speak fal's own language: nothing is added to it, and
        what is wrong with its input is told as fal does.

        Raises FalRejected, ModelNotAllowed, FalAuthFailed, all before any money.
        """
        self.refuse_model(order.model)
        self._require_key()
        problems = self._problems(catalog.find(order.model), order)
        if problems:
            place = ".".join(str(part) for part in problems[0].loc)
            raise FalRejected(
                f"the input is refused before fal sees it: {place}: {problems[0].msg}",
                retryable=True,
                falErrors=[problem.to_fal() for problem in problems],
            )
        return order

    def _problems(self, model: catalog.Model | None, order: Order) -> list[catalog.Problem]:
        """What fal would refuse; if nothing, what the owner does."""
        problems = catalog.check(model, order.arguments) if model else []
        return problems or self.limits.problems(model, order.arguments)

    def _require_key(self) -> None:
        if not self.key:
            raise FalAuthFailed("FAL_KEY is not set")


def is_allowed(model: str, globs: tuple[str, ...]) -> bool:
    """Whether a model id matches one of the globs: `*` stops at a slash, `**` does not."""
    return any(_pattern(glob).fullmatch(model) for glob in globs)


def is_some_allowed(app: str, globs: tuple[str, ...]) -> bool:
    """Whether there may be a model of this app (owner and name) that matches one of the globs."""
    depth = app.count("/") + 1
    starts = ("/".join(glob.split("/")[:depth]) for glob in globs)
    return is_allowed(app, tuple(starts)) or is_allowed(app, globs)


def is_all_allowed(app: str, globs: tuple[str, ...]) -> bool:
    """Whether every model that an app may have matches one of the globs, however long its id is."""
    deepest = max((glob.count("/") for glob in globs), default=0)
    return all(is_allowed(app + "/~" * below, globs) for below in range(deepest + 2))


def estimate_usd_micro(order: Order) -> int | None:
    """The most that the order can cost by the catalog, None if its price is not known."""
    model = catalog.find(order.model)
    return None if model is None else catalog.estimate_micro_usd(model, order.arguments)


def images_asked(order: Order) -> int:
    """How many pictures the order is for, as far as it says."""
    return max(1, whole_number(order.arguments.get("num_images")) or 1)


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

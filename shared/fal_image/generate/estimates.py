"""What an order would cost, told before anybody pays: by the catalog, else by fal's price list.

What is not known stays unknown, and says why. Budgets put aside what the catalog says; refuses to
know them.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Literal

from msgspec import Struct

from ..fal import catalog
from ..fal.prices import Listed, NoPrice, Prices
from ..inputs import Order
from ..jobs import JobWarning
from .limits import said_size_px
from .orders import Orders, images_asked

UNSIZED = "it is priced by the megapixel, and how large the pictures are is not known before"
INPUTS = "it is priced by the megapixel, and fal may count the input pictures too"


class Estimate(Struct, frozen=True):
    """`usd_micro` is the most that the order should cost, None for a `reason`: `units` of what
    `unit` says at `unit_usd` each, all but the first at `further_unit_usd` where that is set."""

    model: str
    images: int
    usd_micro: int | None = None
    basis: Literal["catalog", "fal"] | None = None
    unit: str | None = None
    units: int | None = None
    unit_usd: Decimal | None = None
    further_unit_usd: Decimal | None = None
    reason: str | None = None
    warnings: tuple[JobWarning, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "estimateUsd": None if self.usd_micro is None else self.usd_micro / 1_000_000,
            "basis": self.basis,
            "images": self.images,
            "unit": self.unit,
            "units": self.units,
            "unitUsd": _number(self.unit_usd),
            "furtherUnitUsd": _number(self.further_unit_usd),
            "currency": "USD",
            "reason": self.reason,
            "warnings": [{"code": one.code, "message": one.message} for one in self.warnings],
        }


class Estimates(Struct, frozen=True):
    orders: Orders
    prices: Prices

    def of(self, order: Order, *, ends_at: float) -> Estimate:
        """What the order would cost now. Nothing is submitted, and no key is needed.

        Raises what sending it would: ModelNotAllowed, MissingPrompt, InvalidInput.
        """
        order = self.orders.completed(order)
        model = catalog.find(order.model)
        if model is None or model.price is None:
            return self._by_fal(order, model, ends_at)
        return self._by_catalog(order, model, model.price, ends_at)

    def _by_catalog(
        self, order: Order, model: catalog.Model, price: catalog.Price, ends_at: float
    ) -> Estimate:
        usd_micro = catalog.estimate_micro_usd(model, order.arguments)
        has_further = price.per == "first_megapixel"
        return Estimate(
            model.id,
            images_asked(order) if "num_images" in model.fields else 1,
            usd_micro,
            basis=None if usd_micro is None else "catalog",
            unit="image" if price.per == "image" else "megapixel",
            units=catalog.units(model, order.arguments),
            unit_usd=price.usd,
            further_unit_usd=price.further_megapixel if has_further else None,
            reason=UNSIZED if usd_micro is None else None,
            warnings=self._news(model, price, ends_at),
        )

    def _news(
        self, model: catalog.Model, price: catalog.Price, ends_at: float
    ) -> tuple[JobWarning, ...]:
        """What fal lists now, if it is another price for the same unit."""
        try:
            listed = self.prices.find(model.id, ends_at=ends_at)
        except NoPrice:
            return ()
        if _unit(listed) != price.per or listed.usd == price.usd:
            return ()
        text = (
            f"fal now lists {listed.usd:f} USD per {price.per}; the catalog, which budgets go by, "
            f"has {price.usd:f}."
        )
        return (JobWarning("price_differs", text),)

    def _by_fal(self, order: Order, model: catalog.Model | None, ends_at: float) -> Estimate:
        images = images_asked(order)
        try:
            listed = self.prices.find(order.model, ends_at=ends_at)
        except NoPrice as why:
            return Estimate(order.model, images, reason=str(why))
        unit, usd = _unit(listed), listed.usd
        units, reason = _counted(order, model, unit, images)
        if units is None:
            return Estimate(order.model, images, unit=unit, unit_usd=usd, reason=reason)
        cost = int((usd * units * 1_000_000).to_integral_value(ROUND_CEILING))
        return Estimate(order.model, images, cost, "fal", unit, units, usd)


def _counted(
    order: Order, model: catalog.Model | None, unit: str, images: int
) -> tuple[int | None, str | None]:
    """How many units an order is, or why nobody knows."""
    if unit == "image":
        return images, None
    if unit != "megapixel":
        return None, f"fal bills it per {unit}, and how many this takes is not known before"
    size = said_size_px(model, order.arguments)
    if size is None:
        return None, UNSIZED
    if any(name.startswith("image_url") for name in order.arguments):
        return None, INPUTS
    return catalog.megapixels(*size) * images, None


def _unit(listed: Listed) -> str:
    """fal's word for a unit as ours: "megapixels" and "image(s)" are spelled in its answers."""
    return listed.unit.strip().lower().replace("(s)", "").removesuffix("s")


def _number(usd: Decimal | None) -> float | None:
    return None if usd is None else float(usd)

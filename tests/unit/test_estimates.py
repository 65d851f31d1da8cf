"""From a listed price to the price of an order."""

from decimal import Decimal
from typing import Any

import pytest

from fal_image.fal import catalog
from fal_image.fal.prices import Listed, NoPrice, Prices
from fal_image.generate import Estimates, Limits, Orders
from fal_image.inputs import Order
from fal_image.wire import Wire

SCHNELL, NEW = "fal-ai/flux/schnell", "fal-ai/flux-new"


class Listing(Prices):
    """fal's list with one price in it for everything, or none."""

    def __init__(self, listed: Listed | None) -> None:
        super().__init__(Wire(), None, lambda: 0.0)
        self.listed = listed

    def find(self, model: str, *, ends_at: float) -> Listed:
        if self.listed is None:
            raise NoPrice("nobody knows")
        return self.listed


def told(model: str, listed: tuple[str, str] | None, **arguments: Any) -> dict[str, Any]:
    found = Listed(Decimal(listed[0]), listed[1]) if listed else None
    estimates = Estimates(Orders(("**",), Limits(max_images=100), None), Listing(found))
    order = Order(model, {"prompt": "cat", **arguments})
    return dict(estimates.of(order, ends_at=1.0).to_json())


@pytest.mark.parametrize("unit", ["image", "images", "Images", "image(s)", " images "])
def test_a_price_by_the_picture_is_multiplied_by_the_pictures(unit: str):
    answer = told(NEW, ("0.04", unit), num_images="3")
    assert (answer["estimateUsd"], answer["unit"], answer["units"]) == (0.12, "image", 3)


@pytest.mark.parametrize("unit", ["megapixel", "megapixels", "Megapixel(s)"])
def test_a_price_by_the_megapixel_needs_a_size(unit: str):
    size = {"width": 1920, "height": 1080}
    assert told(NEW, ("0.01", unit), image_size=size)["estimateUsd"] == 0.02
    assert told(NEW, ("0.01", unit))["estimateUsd"] is None


@pytest.mark.parametrize("unit", ["seconds", "compute seconds", "units"])
def test_a_price_by_anything_else_is_shown_and_not_multiplied(unit: str):
    answer = told(NEW, ("0.001", unit))
    assert (answer["estimateUsd"], answer["basis"]) == (None, None)
    assert (answer["unit"], answer["unitUsd"]) == (unit.removesuffix("s"), 0.001)
    assert f"per {unit.removesuffix('s')}" in answer["reason"]


def test_a_price_below_a_micro_dollar_is_rounded_up():
    assert told(NEW, ("0.0000001", "images"))["estimateUsd"] == 0.000001


def test_a_price_that_fal_has_changed_is_told_beside_the_catalogs():
    answer = told(SCHNELL, ("0.004", "megapixels"))
    assert (answer["estimateUsd"], answer["basis"]) == (0.003, "catalog")
    [warning] = answer["warnings"]
    assert warning["code"] == "price_differs"
    assert "0.004" in warning["message"]
    assert "0.003" in warning["message"]


@pytest.mark.parametrize("listed", [None, ("0.003", "megapixels"), ("9", "seconds")])
def test_the_same_price_and_one_that_cannot_be_compared_are_no_news(listed: Any):
    assert told(SCHNELL, listed)["warnings"] == []


def test_every_known_model_is_estimated_or_says_why():
    for model in catalog.models().values():
        inputs = {
            name: ["https://example.com/a.png"] if name.endswith("s") else "https://example.com/a"
            for name in ("image_url", "image_urls", "mask_url")
            if name in model.fields
        }
        answer = told(model.id, None, **inputs)
        assert (answer["estimateUsd"] is None) == (answer["reason"] is not None)
        assert (answer["basis"] is None) == (answer["estimateUsd"] is None)

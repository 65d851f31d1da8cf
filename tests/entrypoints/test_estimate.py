"""`POST /estimate`: what a request would cost, and where the number is from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.entrypoints import THROUGH, request
from support.instances import CAT, Answer, instance, read

Configure = Callable[..., None]

UNHEARD_OF = "fal-ai/flux-unheard-of"  # the emulator lists 0.02 USD a megapixel for it
EDIT = {"model": "fal-ai/flux/dev/image-to-image", "image_url": "https://example.com/a.png"}


def estimate(fal: Emulator, directory: Path, body: object, **settings: Any) -> Answer:
    return instance(fal, directory, **settings).ask("POST", "/estimate", body)


@pytest.mark.parametrize("cloud", sorted(THROUGH))
def test_it_is_what_the_picture_then_costs(configured: Configure, fal: Emulator, cloud: str):
    order = {**CAT, "num_images": 2, "image_size": {"width": 1025, "height": 1024}}
    told = read(THROUGH[cloud](request("POST", "/estimate", order))).json
    assert told == {
        "model": "fal-ai/flux/schnell",
        "estimateUsd": 0.012,
        "basis": "catalog",
        "images": 2,
        "unit": "megapixel",
        "units": 4,
        "unitUsd": 0.003,
        "furtherUnitUsd": None,
        "currency": "USD",
        "reason": None,
        "warnings": [],
    }
    assert fal.ledger == []
    cost = read(THROUGH[cloud](request(body=order))).json["cost"]
    assert (cost["estimate"], cost["actual"]) == (told["estimateUsd"], told["estimateUsd"])


@pytest.mark.parametrize(
    ("order", "usd", "units", "unit"),
    [
        ({}, 0.003, 1, "megapixel"),
        ({"model": "fal-ai/flux-pro/v1.1-ultra", "num_images": 3}, 0.18, 3, "image"),
        (
            {"model": "fal-ai/flux-2-pro", "image_size": {"width": 1920, "height": 1080}},
            0.045,
            2,
            "megapixel",
        ),
    ],
)
def test_a_known_model_goes_by_the_catalog(
    fal: Emulator, tmp_path: Path, order: dict[str, Any], usd: float, units: int, unit: str
):
    told = estimate(fal, tmp_path, {**CAT, **order}).json
    assert (told["estimateUsd"], told["basis"]) == (usd, "catalog")
    assert (told["units"], told["unit"]) == (units, unit)


def test_an_unknown_model_goes_by_fals_list_which_is_asked_once(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    order = {**CAT, "model": UNHEARD_OF, "image_size": "square_hd", "num_images": 2}
    for _ in range(2):
        told = one.ask("POST", "/estimate", order).json
        assert (told["estimateUsd"], told["basis"], told["reason"]) == (0.04, "fal", None)
    assert fal.calls == {"prices": 1}


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "unsized": ({"model": UNHEARD_OF}, "how large"),
    "inputs": (
        {"model": UNHEARD_OF, "image_size": "square", "image_urls": ["https://example.com/a.png"]},
        "input pictures",
    ),
    "unlisted": ({"model": "fal-ai/flux-nobody-knows"}, "lists no price"),
    "follows its input": (EDIT, "how large"),
}


@pytest.mark.parametrize("order", sorted(UNKNOWN))
def test_what_is_not_known_stays_unknown_and_says_why(fal: Emulator, tmp_path: Path, order: str):
    arguments, why = UNKNOWN[order]
    answer = estimate(fal, tmp_path, {**CAT, **arguments})
    assert (answer.status, answer.json["estimateUsd"], answer.json["basis"]) == (200, None, None)
    assert why in answer.json["reason"]


@pytest.mark.parametrize("kind", ["500", "429", "502-nginx", "reset"])
def test_a_price_list_that_is_down_costs_nobody_a_known_price(
    fal: Emulator, tmp_path: Path, kind: str
):
    fal.fault(kind, on="prices", times=2)
    one = instance(fal, tmp_path)
    assert one.ask("POST", "/estimate", CAT).json["estimateUsd"] == 0.003
    told = one.ask("POST", "/estimate", {**CAT, "model": UNHEARD_OF}).json
    assert (told["estimateUsd"], told["reason"]) == (None, "fal's price list does not answer")
    assert fal.calls == {"prices": 1}


def test_without_a_key_of_fal_known_prices_are_told_all_the_same(fal: Emulator, tmp_path: Path):
    settings: Any = {"FAL_KEY": None}
    assert estimate(fal, tmp_path, CAT, **settings).json["estimateUsd"] == 0.003
    told = estimate(fal, tmp_path, {**CAT, "model": UNHEARD_OF}, **settings).json
    assert "FAL_KEY" in told["reason"]
    assert fal.calls.total() == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "fal-ai/recraft-v3", "prompt": "cat"}, 403, "model_not_allowed"),
        ({"model": "fal-ai/flux/schnell"}, 400, "missing_prompt"),
        ({**CAT, "num_images": 5}, 400, "invalid_input"),
        ({**CAT, "enable_safety_checker": False}, 400, "invalid_input"),
        ({**CAT, "transforms": {}}, 400, "invalid_input"),
        ([], 400, "invalid_json"),
    ],
)
def test_what_would_be_refused_is_refused_here_too(
    fal: Emulator, tmp_path: Path, body: Any, status: int, code: str
):
    answer = estimate(fal, tmp_path, body)
    assert (answer.status, answer.json["error"]) == (status, code)
    assert fal.calls.total() == 0


def test_strangers_are_told_no_price(fal: Emulator, tmp_path: Path):
    assert instance(fal, tmp_path).ask("POST", "/estimate", CAT, key="nobody's").status == 401
    assert fal.calls.total() == 0


def test_asking_for_a_price_does_not_count_against_the_rate(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_RATE_LIMIT="1/h")
    assert "ratelimit" not in one.ask("POST", "/estimate", CAT).headers
    assert "ratelimit" in one.generate().headers

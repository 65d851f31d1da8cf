"""What one request may ask for, however it is spelled."""

from typing import Any

import pytest

from fal_image.fal import catalog
from fal_image.generate import Limits
from fal_image.generate.limits import said_size_px, whole_number

SCHNELL, PRO, FLUX2 = "fal-ai/flux/schnell", "fal-ai/flux-pro/v1.1", "fal-ai/flux-2-pro"
UNKNOWN = "fal-ai/flux-unheard-of"


def refused(model: str, arguments: dict[str, Any], **bent: Any) -> list[str]:
    """The fields that are refused."""
    problems = Limits(**bent).problems(catalog.find(model), {"prompt": "cat", **arguments})
    return [str(problem.loc[0]) for problem in problems]


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        (SCHNELL, {"num_images": 4, "num_inference_steps": 12}),
        (UNKNOWN, {"num_images": 4, "num_inference_steps": 50}),
        (UNKNOWN, {"num_images": "four", "image_size": "vast", "num_inference_steps": []}),
        (UNKNOWN, {"image_size": {"width": 2048, "height": 2048}}),
        (SCHNELL, {"width": 99999, "height": 99999}),
        (SCHNELL, {"image_size": {"width": 2048, "height": 2048}}),
        (UNKNOWN, {"prompt": "x" * 4000}),
        (PRO, {"safety_tolerance": "5"}),
        (FLUX2, {"safety_tolerance": "4"}),
        (UNKNOWN, {"safety_tolerance": 5, "enable_safety_checker": "True"}),
        (SCHNELL, {"enable_safety_checker": True}),
    ],
)
def test_what_is_within_the_limits_passes(model: str, arguments: dict[str, Any]):
    assert refused(model, arguments) == []


SPELLED = [5, 5.0, "5", " 5 ", "5.0", 10**400, "9" * 500, "1e999", "inf"]


@pytest.mark.parametrize("spelled", SPELLED, ids=range(len(SPELLED)))
@pytest.mark.parametrize("field", ["num_images", "num_inference_steps"])
def test_a_number_is_too_large_in_any_spelling(field: str, spelled: object):
    assert refused(UNKNOWN, {field: spelled}, max_images=4, max_steps=4) == [field]


@pytest.mark.parametrize(
    ("model", "arguments", "field"),
    [
        (SCHNELL, {"image_size": {"width": 2049, "height": 2048}}, "image_size"),
        (UNKNOWN, {"image_size": {"width": 2049, "height": 2048}}, "image_size"),
        (UNKNOWN, {"image_size": {"width": "4096", "height": 2048.0}}, "image_size"),
        (UNKNOWN, {"image_size": {"width": 14142}}, "image_size"),
        (UNKNOWN, {"width": 4096, "height": 4096}, "width"),
        (UNKNOWN, {"image_size": "square_hd", "width": 9000, "height": 9000}, "image_size"),
        (UNKNOWN, {"image_size": None, "width": 4096, "height": 4096}, "width"),
    ],
)
def test_a_picture_that_is_too_large_is_refused(model: str, arguments: Any, field: str):
    assert refused(model, arguments) == [field]


@pytest.mark.parametrize("model", [SCHNELL, UNKNOWN])
@pytest.mark.parametrize("size", ["square_hd", {"width": 1025, "height": 1024}])
def test_megapixels_are_counted_as_the_estimate_counts_them(model: str, size: Any):
    is_two = size != "square_hd"
    assert bool(refused(model, {"image_size": size}, max_megapixels=1)) is is_two
    known = catalog.models()[SCHNELL]
    assert catalog.estimate_micro_usd(known, {"image_size": size}) == (6000 if is_two else 3000)


def test_an_unknown_model_has_a_size_only_where_it_is_said():
    assert said_size_px(None, {"image_size": "portrait_16_9"}) == (576, 1024)
    assert said_size_px(None, {"image_size": {"height": 768}}) == (catalog.SIDE_PX, 768)
    assert said_size_px(None, {"image_size": {"width": -5, "height": -5}}) == (0, 0)
    assert said_size_px(None, {}) is None
    sizes: list[object] = ["auto", [1, 2], {}]
    assert [said_size_px(None, {"image_size": size}) for size in sizes] == [None] * 3


def test_a_prompt_that_is_too_long_is_not_repeated():
    [problem] = Limits(max_prompt_chars=3).problems(None, {"prompt": "猫と犬と"})
    assert (problem.loc, problem.type, problem.input) == (("prompt",), "string_too_long", None)
    assert "at most 3 characters, not 4" in problem.msg


NOES: list[Any] = [False, 0, 0.0, "false", "OFF", "n", None, [], {}]


@pytest.mark.parametrize(
    ("model", "arguments", "field"),
    [
        (SCHNELL, {"enable_safety_checker": False}, "enable_safety_checker"),
        (PRO, {"enable_safety_checker": False}, "enable_safety_checker"),
        (PRO, {"safety_tolerance": "6"}, "safety_tolerance"),
        (FLUX2, {"safety_tolerance": "5"}, "safety_tolerance"),
        *(
            (UNKNOWN, {name: value}, name)
            for name in ("enable_safety_checker", "enable_output_safety_checker")
            for value in NOES
        ),
        *((UNKNOWN, {"safety_tolerance": value}, "safety_tolerance") for value in ("6", 6, "06")),
        (SCHNELL, {"safety_tolerance": "6"}, "safety_tolerance"),
    ],
)
def test_the_safety_checker_stays_on_unless_the_owner_says_so(
    model: str, arguments: Any, field: str
):
    assert refused(model, arguments) == [field]
    assert refused(model, arguments, allows_unsafe=True) == []


def test_every_breach_is_named_at_once():
    asked = {"num_images": 9, "prompt": "x" * 5000, "safety_tolerance": "6"}
    assert refused(UNKNOWN, asked) == ["num_images", "prompt", "safety_tolerance"]


@pytest.mark.parametrize("value", [None, "four", [4], {"a": 4}, float("nan")])
def test_what_is_no_number_is_none(value: object):
    assert whole_number(value) is None


def test_no_known_model_passes_a_highest_tolerance():
    for model in catalog.models().values():
        field = model.fields.get("safety_tolerance")
        if field is not None and field.choices is not None:
            highest = max(field.choices)
            assert refused(model.id, {"safety_tolerance": highest}) == ["safety_tolerance"]
            assert refused(model.id, {"safety_tolerance": field.default}) == []

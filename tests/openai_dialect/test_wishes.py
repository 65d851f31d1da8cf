"""OpenAI's fields as the body of a generate request, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from fal_image.errors import InvalidInput
from fal_image.openai.wishes import wanted

TOMORROW = "fal-ai/flux-of-tomorrow"  # no row of the catalog


def body(model: str = TOMORROW, **fields: object) -> dict[str, Any]:
    made = wanted({"prompt": "a calico cat", **fields}, model).body
    assert made.pop("model") == model
    assert made.pop("prompt") == "a calico cat"
    return made


def refusal(model: str = TOMORROW, **fields: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        body(model, **fields)
    return caught.value.detail


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"size": "64x32"}, {"image_size": {"width": 64, "height": 32}}),
        ({"size": "auto", "n": 1, "quality": "auto"}, {}),
        ({"size": None, "n": None, "quality": None}, {}),
        ({"n": 3, "quality": "high"}, {"num_images": 3, "quality": "high"}),
        ({"background": "transparent"}, {"background": "transparent"}),
        ({"output_format": "webp"}, {"output_format": "webp"}),
        ({"user": "u", "safety_identifier": "s"}, {}),
        ({"seed": 7, "loras": [], "maxAge": 60}, {"seed": 7, "loras": [], "maxAge": 60}),
    ],
)
def test_a_model_of_which_nothing_is_known_is_told_everything(
    fields: dict[str, Any], expected: dict[str, Any]
):
    assert body(**fields) == expected


def test_a_format_that_the_model_lacks_is_made_of_the_best_it_has():
    made = body("fal-ai/flux/schnell", output_format="webp")
    assert made == {"output_format": "png", "transforms": {"format": "webp"}}
    made = body("fal-ai/flux-pro", output_format="avif", transforms={"resize": {"width": 9}})
    assert made == {"transforms": {"resize": {"width": 9}, "format": "avif"}}
    assert body("fal-ai/flux-2", output_format="webp") == {"output_format": "webp"}


def test_two_formats_are_refused_and_transforms_that_are_none_are_left_to_others():
    transforms = {"format": "png"}
    assert "leave one out" in refusal(
        "fal-ai/flux/schnell", output_format="webp", transforms=transforms
    )
    made = body("fal-ai/flux/schnell", output_format="webp", transforms=[1])
    assert made == {"transforms": [1]}


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 0},
        {"n": 1.0},
        {"n": "2"},
        {"size": 1024},
        {"size": ["64x64"]},
        {"size": "64X64"},
        {"size": "64x64 "},
        {"size": "100000x1"},
        {"stream": 0},
        {"partial_images": False},
        {"response_format": ["url"]},
        {"output_format": {}},
        {"user": []},
    ],
)
def test_what_has_the_wrong_type_is_refused_with_its_name(fields: dict[str, Any]):
    (name,) = fields
    assert refusal(**fields).startswith(name)


def test_errors_speak_of_the_fields_that_the_caller_named():
    made = wanted({"prompt": "p", "n": 2, "size": "64x64"}, TOMORROW)
    fields = [{"field": "image_size.width", "message": "is too much"}]
    with pytest.raises(InvalidInput) as caught, made.speaking():
        raise InvalidInput("image_size.width: is too much", fields=fields)
    assert caught.value.detail == "size: is too much"
    other = [{"field": "seed", "message": "is none"}]
    with pytest.raises(InvalidInput) as caught, made.speaking():
        raise InvalidInput("seed: is none", fields=other)
    assert caught.value.detail == "seed: is none"

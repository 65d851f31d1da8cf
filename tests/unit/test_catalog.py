"""What the catalog knows of FLUX models, what it refuses, and what it says they cost."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fal_image.fal import catalog

SCHNELL = "flux/schnell"
PICTURE = "https://example.com/cat.png"

TEXT_TO_IMAGE = """
    flux/schnell flux/dev flux/krea flux/srpo flux-lora flux-pro flux-pro/new flux-pro/v1.1
    flux-pro/v1.1-ultra flux-pro/kontext/text-to-image flux-pro/kontext/max/text-to-image
    flux-2 flux-2/lora flux-2/turbo flux-2/flash
    flux-2/klein/4b flux-2/klein/9b flux-2/klein/4b/base flux-2/klein/9b/base
    flux-2-pro flux-2-max flux-2-flex
"""
IMAGE_TO_IMAGE = """
    flux/dev/image-to-image flux/krea/image-to-image flux/schnell/redux flux/dev/redux
    flux/krea/redux flux-pro/v1.1/redux flux-pro/v1.1-ultra/redux
    flux-lora/image-to-image flux-lora/inpainting
    flux-pro/kontext flux-pro/kontext/max flux-pro/kontext/multi flux-pro/kontext/max/multi
    flux-kontext/dev flux-2/edit flux-2/turbo/edit flux-2/flash/edit
    flux-2/klein/4b/edit flux-2/klein/9b/edit flux-2-pro/edit flux-2-max/edit flux-2-flex/edit
"""

every_model = pytest.mark.parametrize("model", catalog.models().values(), ids=lambda m: m.id)


def model(model_id: str) -> catalog.Model:
    found = catalog.find(f"fal-ai/{model_id}")
    assert found is not None
    return found


def valid(model: catalog.Model, **overrides: object) -> dict[str, object]:
    """Arguments that hold only what the model requires, and the overrides."""
    samples = {"prompt": "a calico cat", "image_urls": [PICTURE]}
    required = {name: samples.get(name, PICTURE) for name, f in model.fields.items() if f.required}
    return required | overrides


def problems(model_id: str, **arguments: object) -> list[tuple[Any, ...]]:
    found = catalog.check(model(model_id), valid(model(model_id), **arguments))
    return [(p.type, *p.loc) for p in found]


# The table itself


def test_every_known_flux_endpoint_has_a_row_of_the_right_kind() -> None:
    kinds = {known.id: known.kind for known in catalog.models().values()}
    expected = {f"fal-ai/{name}": "text-to-image" for name in TEXT_TO_IMAGE.split()}
    expected |= {f"fal-ai/{name}": "image-to-image" for name in IMAGE_TO_IMAGE.split()}
    assert kinds == expected
    assert list(catalog.models()) == [known.id for known in catalog.models().values()]


def test_every_shared_definition_is_used_and_no_model_takes_two_for_one_field() -> None:
    file = json.loads(Path(catalog.__file__).with_name("catalog.json").read_text("utf-8"))
    used = [name for row in file["models"].values() for name in row["fields"]]
    assert set(used) == set(file["fields"])
    for row in file["models"].values():
        names = [name.split()[0] for name in row["fields"]]
        assert len(names) == len(set(names)), row


@every_model
def test_a_row_accepts_its_own_defaults_and_says_where_it_was_read(model: catalog.Model) -> None:
    defaults = {n: f.default for n, f in model.fields.items() if f.default is not None}
    assert catalog.check(model, valid(model, **defaults)) == []
    assert model.source
    assert model.price is None or model.price.usd > 0


@every_model
def test_an_image_to_image_model_needs_a_picture_and_a_text_to_image_model_does_not(
    model: catalog.Model,
) -> None:
    needs_picture = any(f.required and "image_url" in name for name, f in model.fields.items())
    assert needs_picture == (model.kind == "image-to-image")


@pytest.mark.parametrize(
    ("model_id", "name", "expected"),
    [
        ("flux/schnell", "num_inference_steps", (4, 1, 12)),
        ("flux/dev", "num_inference_steps", (28, 1, 50)),
        ("flux/dev/image-to-image", "num_inference_steps", (40, 10, 50)),
        ("flux/dev/image-to-image", "strength", (0.95, 0.01, 1)),
        ("flux-lora/inpainting", "strength", (0.85, 0.01, 1)),
        ("flux/krea", "guidance_scale", (4.5, 1, 20)),
        ("flux-lora", "guidance_scale", (3.5, 0, 35)),
        ("flux-2-flex", "guidance_scale", (3.5, 1.5, 10)),
        ("flux-2-flex/edit", "num_inference_steps", (28, 2, 50)),
        ("flux-2/klein/9b", "num_inference_steps", (4, 4, 8)),
        ("flux-2/klein/4b/base", "guidance_scale", (5, 0, 20)),
        ("flux-pro/v1.1-ultra", "image_prompt_strength", (0.1, 0, 1)),
        ("flux-pro", "num_inference_steps", (28, None, None)),
        ("flux-2", "num_images", (1, 1, 4)),
    ],
)
def test_defaults_and_ranges_are_those_fal_publishes(
    model_id: str, name: str, expected: tuple[float | None, ...]
) -> None:
    field = model(model_id).fields[name]
    assert (field.default, field.min, field.max) == expected


@pytest.mark.parametrize(
    ("model_id", "names"),
    [
        ("flux-pro/v1.1", "num_inference_steps guidance_scale"),
        ("flux-pro/v1.1-ultra", "image_size"),
        ("flux/dev/image-to-image", "image_size"),
        ("flux/dev/redux", "prompt"),
        ("flux/schnell/redux", "prompt guidance_scale"),
        ("flux-2/turbo", "num_inference_steps acceleration"),
        ("flux-2/klein/4b", "guidance_scale"),
        ("flux-2-pro", "num_images num_inference_steps guidance_scale"),
        ("flux-pro/kontext/multi", "image_url"),
    ],
)
def test_a_model_does_not_list_fields_that_it_lacks(model_id: str, names: str) -> None:
    assert not set(names.split()) & set(model(model_id).fields)


def test_only_pro_max_and_flex_answer_in_the_short_form() -> None:
    short = {known.id for known in catalog.models().values() if known.output == "short"}
    ids = {f"fal-ai/flux-2-{tier}" for tier in ("pro", "max", "flex")}
    assert short == ids | {f"{name}/edit" for name in ids}


def test_a_third_party_price_is_marked_as_such() -> None:
    price = model("flux-pro").price
    assert price is not None
    assert (price.usd, price.evidence) == (Decimal("0.05"), "third party")
    assert model("flux-pro/v1.1/redux").price is None


def test_an_unknown_model_is_not_found_and_is_no_error() -> None:
    assert catalog.find("fal-ai/recraft/v3/text-to-image") is None
    assert catalog.find("") is None


# Misspelt ids


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("fal-ai/flux-schnell", "fal-ai/flux/schnell"),
        ("fal-ai/flux-2/pro", "fal-ai/flux-2-pro"),
        ("flux/schnell", "fal-ai/flux/schnell"),
        ("Fal-AI/FLUX_Dev", "fal-ai/flux/dev"),
        ("fal-ai/flx/schnel", "fal-ai/flux/schnell"),
        ("fal-ai/flux-kontext-pro", "fal-ai/flux-pro/kontext"),
        ("fal-ai/flux-pro/1.1-ultra", "fal-ai/flux-pro/v1.1-ultra"),
        ("schnell", "fal-ai/flux/schnell"),
    ],
)
def test_a_misspelt_id_leads_to_the_one_that_was_meant(misspelt: str, meant: str) -> None:
    assert catalog.nearest(misspelt) == meant


@pytest.mark.parametrize(
    "foreign",
    ["", "/", "fal-ai/veo3", "fal-ai/fast-sdxl", "fal-ai/recraft/v3/text-to-image", "flux" * 999],
)
def test_an_id_that_resembles_nothing_gets_no_suggestion(foreign: str) -> None:
    assert catalog.nearest(foreign) is None


@every_model
def test_a_known_id_is_nearest_to_itself(model: catalog.Model) -> None:
    assert catalog.nearest(model.id) == model.id


# Checking arguments


@every_model
def test_required_fields_alone_are_enough_and_each_is_missed(model: catalog.Model) -> None:
    assert catalog.check(model, valid(model)) == []
    missing = [p.loc for p in catalog.check(model, {}) if p.type == "missing"]
    assert missing == [(name,) for name, field in model.fields.items() if field.required]


@every_model
def test_unknown_fields_pass_and_null_means_not_given(model: catalog.Model) -> None:
    nulls = {name: None for name, field in model.fields.items() if not field.required}
    assert catalog.check(model, valid(model, **nulls, image_shape={"a": [1]}, x=None)) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"prompt": None}, ("string_type", "prompt")),
        ({"prompt": 7}, ("string_type", "prompt")),
        ({"num_images": 9}, ("less_than_equal", "num_images")),
        ({"num_images": 0}, ("greater_than_equal", "num_images")),
        ({"num_images": True}, ("int_type", "num_images")),
        ({"num_images": "2"}, ("int_type", "num_images")),
        ({"num_images": 2.0}, ("int_type", "num_images")),
        ({"num_inference_steps": 13}, ("less_than_equal", "num_inference_steps")),
        ({"seed": []}, ("int_type", "seed")),
        ({"guidance_scale": False}, ("float_type", "guidance_scale")),
        ({"guidance_scale": "3.5"}, ("float_type", "guidance_scale")),
        ({"guidance_scale": float("nan")}, ("finite_number", "guidance_scale")),
        ({"guidance_scale": float("inf")}, ("finite_number", "guidance_scale")),
        ({"guidance_scale": 10**400}, ("less_than_equal", "guidance_scale")),
        ({"guidance_scale": 0.5}, ("greater_than_equal", "guidance_scale")),
        ({"sync_mode": 1}, ("bool_type", "sync_mode")),
        ({"output_format": "webp"}, ("literal_error", "output_format")),
        ({"output_format": ["png"]}, ("literal_error", "output_format")),
        ({"image_size": "huge"}, ("literal_error", "image_size")),
        ({"image_size": "auto"}, ("literal_error", "image_size")),
        ({"image_size": [512, 512]}, ("model_type", "image_size")),
        ({"image_size": 512}, ("model_type", "image_size")),
        ({"image_size": {"width": 0}}, ("greater_than", "image_size", "width")),
        ({"image_size": {"height": 14143}}, ("less_than_equal", "image_size", "height")),
        ({"image_size": {"width": 64.5}}, ("int_type", "image_size", "width")),
        ({"image_size": {"width": True}}, ("int_type", "image_size", "width")),
        ({"image_size": {"height": None}}, ("int_type", "image_size", "height")),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_type(
    arguments: dict[str, object], expected: tuple[str, ...]
) -> None:
    assert problems(SCHNELL, **arguments) == [expected]


@pytest.mark.parametrize(
    ("model_id", "arguments", "expected"),
    [
        ("flux-2", {"image_size": {"width": 511}}, ("greater_than_equal", "image_size", "width")),
        ("flux-2", {"image_size": {"height": 2049}}, ("less_than_equal", "image_size", "height")),
        ("flux-2-pro", {"safety_tolerance": "6"}, ("literal_error", "safety_tolerance")),
        ("flux-2-pro", {"safety_tolerance": 2}, ("literal_error", "safety_tolerance")),
        ("flux-lora", {"acceleration": "high"}, ("literal_error", "acceleration")),
        ("flux-lora", {"loras": {"path": "a/b"}}, ("list_type", "loras")),
        ("flux-lora", {"loras": [{}]}, ("missing", "loras", 0, "path")),
        ("flux-lora", {"loras": ["a/b"]}, ("dict_type", "loras", 0)),
        ("flux-lora", {"loras": [{"path": "a", "scale": ""}]}, ("float_type", "loras", 0, "scale")),
        ("flux-2/lora", {"loras": [{"path": "a/b"}] * 4}, ("too_long", "loras")),
        ("flux-2-pro/edit", {"image_urls": PICTURE}, ("list_type", "image_urls")),
        ("flux-2-pro/edit", {"image_urls": [PICTURE, 7]}, ("string_type", "image_urls", 1)),
        ("flux-2/klein/4b/edit", {"image_urls": [PICTURE] * 5}, ("too_long", "image_urls")),
        ("flux-pro/v1.1-ultra", {"aspect_ratio": 1.5}, ("string_type", "aspect_ratio")),
        ("flux-pro/kontext", {"aspect_ratio": "5:1"}, ("literal_error", "aspect_ratio")),
    ],
)
def test_limits_differ_from_model_to_model(
    model_id: str, arguments: dict[str, object], expected: tuple[object, ...]
) -> None:
    assert problems(model_id, **arguments) == [expected]


@pytest.mark.parametrize(
    ("model_id", "arguments"),
    [
        ("flux/schnell", {"guidance_scale": 3, "image_size": {"width": 14142, "height": 1}}),
        ("flux/schnell", {"image_size": {}, "seed": 2**70, "prompt": ""}),
        ("flux/dev/image-to-image", {"image_size": "whatever"}),
        ("flux-2-pro", {"num_images": 99}),
        ("flux-2-pro/edit", {"image_size": "auto"}),
        ("flux-2/edit", {"image_urls": [PICTURE] * 9}),
        ("flux-2/lora", {"loras": [{"path": "a/b", "scale": None}] * 3}),
        ("flux-pro/v1.1-ultra", {"aspect_ratio": "5:1"}),
    ],
)
def test_what_fal_takes_or_ignores_is_no_problem(
    model_id: str, arguments: dict[str, object]
) -> None:
    assert problems(model_id, **arguments) == []


def test_problems_are_worded_and_carry_context_as_fal_does() -> None:
    arguments = {"num_images": 9, "output_format": "gif", "image_size": "big"}
    found = {str(p.loc[0]): p for p in catalog.check(model(SCHNELL), arguments)}
    assert (found["prompt"].msg, found["prompt"].input) == ("Field required", arguments)
    count = found["num_images"]
    assert count.msg == "Input should be less than or equal to 4"
    assert (count.ctx, count.input) == ({"le": 4}, 9)
    assert found["output_format"].msg == "Input should be 'jpeg' or 'png'"
    assert found["output_format"].ctx == {"expected": "'jpeg' or 'png'"}
    assert found["image_size"].msg.endswith(" or an object with width and height")
    strength = valid(model("flux/dev/image-to-image"), strength=0)
    [low] = catalog.check(model("flux/dev/image-to-image"), strength)
    assert low.msg == "Input should be greater than or equal to 0.01"


@pytest.mark.parametrize("arguments", [None, [], "prompt", 3, True])
def test_arguments_that_are_no_object_are_one_problem(arguments: object) -> None:
    [problem] = catalog.check(model(SCHNELL), arguments)
    assert (problem.type, problem.loc) == ("dict_type", ())


# Size and price


@pytest.mark.parametrize(
    ("model_id", "image_size", "expected"),
    [
        ("flux/schnell", None, (1024, 768)),
        ("flux/schnell", "portrait_16_9", (576, 1024)),
        ("flux/schnell", {"width": 800}, (800, 512)),
        ("flux/schnell", {"width": -800}, None),
        ("flux/schnell", "huge", None),
        ("flux-2/turbo/edit", None, (1024, 1024)),
        ("flux-2-pro/edit", None, None),
        ("flux-2/klein/9b/edit", None, None),
        ("flux-2/klein/9b/edit", "square", (512, 512)),
        ("flux/dev/image-to-image", "square", None),
        ("flux-pro/v1.1-ultra", "square", None),
    ],
)
def test_the_size_of_the_answer_is_told_only_when_the_request_settles_it(
    model_id: str, image_size: object, expected: tuple[int, int] | None
) -> None:
    assert catalog.size_px(model(model_id), {"image_size": image_size}) == expected


FULL_HD = {"width": 1920, "height": 1080}


@pytest.mark.parametrize(
    ("model_id", "arguments", "usd"),
    [
        # as fal's model pages and its pricing page give them
        ("flux/dev", {}, "0.025"),
        ("flux/schnell", {}, "0.003"),
        ("flux-pro/v1.1", {}, "0.04"),
        ("flux-2-pro", {"image_size": FULL_HD}, "0.045"),
        ("flux-2-flex", {"image_size": "square_hd"}, "0.05"),
        ("flux-2-flex", {"image_size": FULL_HD}, "0.1"),
        ("flux/dev", {"image_size": "square"}, "0.025"),
        # and as they follow from them
        ("flux/schnell", {"num_images": 4, "image_size": FULL_HD}, "0.024"),
        ("flux/schnell", {"image_size": {"width": 1025, "height": 1024}}, "0.006"),
        ("flux-pro/v1.1-ultra", {"num_images": 3}, "0.18"),
        ("flux-pro/kontext/max", {}, "0.08"),
        ("flux-2-pro", {"num_images": 4}, "0.03"),
        ("flux-2/turbo/edit", {"image_urls": [PICTURE], "num_images": 2}, "0.024"),
        ("flux-2/flash/edit", {"image_urls": [PICTURE] * 9}, "0.025"),
        ("flux-2/klein/9b/edit", {"image_urls": [PICTURE] * 2}, "0.033"),
        ("flux-2-max/edit", {"image_urls": [PICTURE], "image_size": "square"}, "0.19"),
        ("flux-2-pro/edit", {"image_urls": [PICTURE]}, "0.135"),
        # unknown: the output follows its input, no price, or a value that fal refuses
        ("flux/dev/image-to-image", {"image_url": PICTURE}, None),
        ("flux-pro/v1.1/redux", {"image_url": PICTURE}, None),
        ("flux-2-pro/edit", {}, None),
        ("flux/schnell", {"num_images": "4"}, None),
        ("flux/schnell", {"num_images": -4}, None),
        ("flux/schnell", {"image_size": "huge"}, None),
    ],
)
def test_estimates_count_whole_megapixels_at_the_listed_price(
    model_id: str, arguments: dict[str, object], usd: str | None
) -> None:
    expected = None if usd is None else int(Decimal(usd) * 1_000_000)
    assert catalog.estimate_micro_usd(model(model_id), arguments) == expected


def test_a_fraction_of_a_micro_dollar_is_rounded_up() -> None:
    row = model(SCHNELL)
    price = catalog.Price(per="megapixel", usd=Decimal("0.0000011"), evidence="unverified")
    assert catalog.estimate_micro_usd(msgspec.structs.replace(row, price=price), {}) == 2


# Whatever JSON may hold

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
sizes = st.fixed_dictionaries({}, optional={"width": json_values, "height": json_values})
lora_lists = st.lists(st.fixed_dictionaries({}, optional={"path": json_values}), max_size=5)
words = st.sampled_from([*catalog.PRESETS, "auto", "jpeg", "1:1", "2"])


@st.composite
def calls(draw: st.DrawFn) -> tuple[catalog.Model, dict[str, Any]]:
    known = draw(st.sampled_from(list(catalog.models().values())))
    value = json_values | words | sizes | lora_lists | st.integers(0, 50)
    names = st.sampled_from(list(known.fields)) | st.text()
    return known, draw(st.dictionaries(names, value, max_size=6))


@settings(max_examples=300, deadline=None)
@given(calls())
def test_no_json_object_makes_the_catalog_raise(call: tuple[catalog.Model, dict[str, Any]]) -> None:
    known, arguments = call
    found = catalog.check(known, arguments)
    assert {p.loc[0] for p in found} <= set(known.fields)
    assert all(p.msg and p.type for p in found)
    size = catalog.size_px(known, arguments)
    assert size is None or min(size) > 0
    estimate = catalog.estimate_micro_usd(known, arguments)
    assert estimate is None or estimate > 0


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(list(catalog.models().values())), json_values)
def test_no_json_value_makes_check_raise(known: catalog.Model, arguments: object) -> None:
    catalog.check(known, arguments)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_no_text_makes_nearest_raise(text: str) -> None:
    assert catalog.nearest(text) in {None, *catalog.models()}


def test_importing_the_catalog_loads_no_http_client_and_no_pillow() -> None:
    probe = "import sys, fal_image.fal.catalog; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, encoding="utf-8", check=True
    )
    assert not {"requests", "httpx", "fal_client", "PIL"} & set(run.stdout.split())

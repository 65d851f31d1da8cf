import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fal_image.errors import InvalidInput, InvalidJson
from fal_image.inputs import Order, parse_links, parse_object, parse_order
from fal_image.treatment import Label, LabelWish, Level, Resize, Transforms


def order(**body: object) -> Order:
    return parse_order(
        body, default_model="fal-ai/flux/schnell", aliases={"fast": "fal-ai/flux/schnell"}
    )


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'"text"',
        b"[]",
        b"null",
        b"1",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_a_body_that_is_no_json_object_is_invalid_json(body: bytes):
    with pytest.raises(InvalidJson):
        parse_object(body)


@given(st.binary(max_size=200))
def test_random_bodies_are_objects_or_invalid_json(body: bytes):
    with contextlib.suppress(InvalidJson):
        assert isinstance(parse_object(body), dict)


def test_an_empty_body_is_an_empty_object():
    assert parse_object(b" \n") == {}


def test_fields_of_the_model_pass_and_ours_do_not():
    parsed = order(prompt="cat", seed=1, novel_field={"x": [1]}, maxAge=60, sync_mode=True)
    assert parsed.arguments == {"prompt": "cat", "seed": 1, "novel_field": {"x": [1]}}
    assert parsed.max_age_s == 60
    assert parsed.model == "fal-ai/flux/schnell"


def test_an_alias_stands_for_its_model():
    assert order(model="fast").model == "fal-ai/flux/schnell"


@pytest.mark.parametrize(
    "model",
    [
        "schnell",
        "fal-ai/../admin",
        "fal-ai//flux",
        "/fal-ai/flux",
        "fal-ai/flux/",
        "fal-ai/flux?x=1",
        "fal-ai/flux#x",
        "fal-ai/flux/requests/r-1/cancel",
        "fal-ai/flux\n",
        "https://evil.example/x",
        "fal-ai/%2e%2e/x",
        "a/" + "b" * 300,
        7,
        ["fal-ai/flux/schnell"],
    ],
)
def test_a_model_that_is_no_model_id_is_invalid_input(model: object):
    with pytest.raises(InvalidInput) as refused:
        order(prompt="cat", model=model)
    assert "'field': 'model'" in str(refused.value.extensions["fields"])


@pytest.mark.parametrize("prompt", [None, "", " \n", 7, ["a"]])
def test_a_prompt_that_says_nothing_is_no_prompt(prompt: object):
    assert order(prompt=prompt).prompt is None


@pytest.mark.parametrize("max_age", [0, -1, 1.5, "60", True])
def test_max_age_is_whole_seconds(max_age: object):
    with pytest.raises(InvalidInput):
        order(prompt="cat", maxAge=max_age)


def test_what_is_ours_never_goes_to_the_model():
    ours = {
        "transforms": {"resize": {"width": 64}},
        "aiLabel": "visible",
        "reuse": True,
        "webhookUrl": "https://example.com/told",
        "maxAge": 60,
    }
    wanted = order(prompt="cat", **ours)
    assert wanted.arguments == {"prompt": "cat"}
    assert wanted.transforms == Transforms(resize=Resize(width=64))
    assert wanted.label == LabelWish("visible")
    assert (wanted.reuse, wanted.webhook_url, wanted.max_age_s) == (True, ours["webhookUrl"], 60)


@pytest.mark.parametrize("name", ["transforms", "aiLabel", "reuse", "webhookUrl", "maxAge"])
def test_null_is_the_same_as_leaving_it_out(name: str):
    assert order(prompt="cat", **{name: None}) == order(prompt="cat")


def test_a_label_may_be_asked_for_piece_by_piece():
    wish = order(aiLabel={"level": "visible", "prompt": True, "seed": True}).label
    assert wish == LabelWish("visible", prompt=True, seed=True)
    assert order(aiLabel={"seed": True}).label == LabelWish("metadata", seed=True)


@pytest.mark.parametrize(
    ("ours", "field"),
    [
        ({"transforms": {}}, "transforms"),
        ({"transforms": []}, "transforms"),
        ({"transforms": {"rotate": 90}}, "transforms.rotate"),
        ({"transforms": {"crop": {"x": 0, "y": 0, "width": 8}}}, "transforms.crop.height"),
        ({"transforms": {"crop": {"x": -1, "y": 0, "width": 8, "height": 8}}}, "transforms.crop.x"),
        ({"transforms": {"resize": {}}}, "transforms.resize"),
        ({"transforms": {"resize": {"width": 8193}}}, "transforms.resize.width"),
        ({"transforms": {"format": "gif"}}, "transforms.format"),
        ({"transforms": {"quality": 0}}, "transforms.quality"),
        ({"transforms": {"format": "png", "quality": 80}}, "transforms.quality"),
        ({"transforms": {"watermark": {}}}, "transforms.watermark"),
        ({"transforms": {"watermark": {"text": "a", "image": "b"}}}, "transforms.watermark"),
        ({"transforms": {"watermark": {"text": " "}}}, "transforms.watermark.text"),
        ({"transforms": {"watermark": {"text": "a" * 201}}}, "transforms.watermark.text"),
        (
            {"transforms": {"watermark": {"text": "a", "opacity": 0}}},
            "transforms.watermark.opacity",
        ),
        ({"transforms": {"thumbnail": {"width": 9}}}, "transforms.thumbnail.height"),
        ({"aiLabel": "off"}, "aiLabel"),
        ({"aiLabel": {"level": "off"}}, "aiLabel.level"),
        ({"reuse": "yes"}, "reuse"),
    ],
)
def test_what_is_wrong_with_our_fields_is_told_by_their_names(ours: dict[str, object], field: str):
    with pytest.raises(InvalidInput) as refused:
        order(prompt="cat", **ours)
    told: Any = refused.value.extensions["fields"]
    assert [one["field"] for one in told] == [field]
    assert told[0]["message"]


@pytest.mark.parametrize("required", ["off", "metadata", "visible"])
@pytest.mark.parametrize("wish", [None, LabelWish("metadata"), LabelWish("visible")])
def test_a_wish_adds_to_the_owners_label_and_never_removes(required: Level, wish: LabelWish | None):
    order_of: list[Level] = ["off", "metadata", "visible"]
    label = Label.of(required, wish)
    wished = wish.level if wish else "off"
    assert label.required == required
    assert order_of.index(label.level) == max(order_of.index(required), order_of.index(wished))


def test_links_are_asked_for_by_one_id_or_by_several():
    assert parse_links({"fileID": "s3://b/k"}).is_single
    assert parse_links({"fileIDs": ["a", "b"], "maxAge": 5}).file_ids == ("a", "b")


@pytest.mark.parametrize(
    "body", [{}, {"fileIDs": []}, {"fileIDs": ["a"] * 51}, {"fileIDs": [1]}, {"fileID": 1}]
)
def test_links_without_usable_ids_are_invalid_input(body: dict[str, object]):
    with pytest.raises(InvalidInput):
        parse_links(body)

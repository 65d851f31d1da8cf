import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fal_image.errors import AppError, InvalidInput, InvalidJson
from fal_image.inputs import Order, parse_links, parse_object, parse_order


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


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("transforms", {}, InvalidInput),
        ("aiLabel", "visible", InvalidInput),
        ("reuse", True, InvalidInput),
    ],
)
def test_what_this_version_cannot_do_is_refused_and_not_ignored(
    field: str, value: object, error: type[AppError]
):
    with pytest.raises(error):
        order(prompt="cat", **{field: value})


def test_links_are_asked_for_by_one_id_or_by_several():
    assert parse_links({"fileID": "s3://b/k"}).is_single
    assert parse_links({"fileIDs": ["a", "b"], "maxAge": 5}).file_ids == ("a", "b")


@pytest.mark.parametrize(
    "body", [{}, {"fileIDs": []}, {"fileIDs": ["a"] * 51}, {"fileIDs": [1]}, {"fileID": 1}]
)
def test_links_without_usable_ids_are_invalid_input(body: dict[str, object]):
    with pytest.raises(InvalidInput):
        parse_links(body)

"""Errors of fields say what would be right."""

from typing import Any

import pytest

from fal_image.errors import InvalidInput
from fal_image.inputs import OurFields, parse_links, parse_upload, read_fields
from fal_image.tickets import TicketWish


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"maxAge": 0}, "maxAge", "must be a whole number of seconds, 1 or more"),
        ({"maxAge": "60"}, "maxAge", "must be a whole number of seconds, 1 or more"),
        ({"model": 7}, "model", "must be a string"),
        ({"reuse": 1}, "reuse", "must be true or false"),
        ({"aiLabel": "loud"}, "aiLabel", "must be one of metadata, visible or an object"),
        ({"aiLabel": {"level": "off"}}, "aiLabel.level", "must be one of metadata, visible"),
        ({"transforms": []}, "transforms", "must be an object"),
        (
            {"transforms": {"format": "gif"}},
            "transforms.format",
            "must be one of avif, jpeg, png, webp",
        ),
        (
            {"transforms": {"quality": 101}},
            "transforms.quality",
            "must be a whole number, 1 to 100",
        ),
        (
            {"transforms": {"crop": {"x": 1}}},
            "transforms.crop.y",
            "is missing: it must be a whole number, 0 to 100000",
        ),
        (
            {"transforms": {"crop": {"z": 1}}},
            "transforms.crop.z",
            "is none of x, y, width, height",
        ),
        (
            {"transforms": {"watermark": {"opacity": 0}}},
            "transforms.watermark.opacity",
            "must be a number, more than 0 and at most 1",
        ),
        (
            {"transforms": {"watermark": {"text": ""}}},
            "transforms.watermark.text",
            "must be a string of 1 to 200 characters",
        ),
    ],
)
def test_a_field_of_a_request_says_what_it_takes(body: dict[str, object], field: str, message: str):
    with pytest.raises(InvalidInput) as refused:
        read_fields(body, OurFields)
    assert refused.value.extensions["fields"] == [{"field": field, "message": message}]


def test_a_list_is_named_as_a_whole():
    with pytest.raises(InvalidInput, match="^fileIDs must be a list of 1 to 50, each a file id$"):
        parse_links({"fileIDs": ["a", 1]})
    with pytest.raises(InvalidInput, match="^models must be a list of 1 to 20, each a model id, "):
        read_fields({"models": ["a/b", "a b"]}, TicketWish)


def test_a_length_says_its_limit():
    sizes = {"image/png": 9}
    with pytest.raises(InvalidInput, match="^contentType must be one of image/png$"):
        parse_upload({"contentType": "text/html", "bytes": 1}, max_bytes=sizes)
    with pytest.raises(InvalidInput, match="^bytes must be the file's length: .* 1 to 9$"):
        parse_upload({"contentType": "image/png", "bytes": 10}, max_bytes=sizes)


@pytest.mark.parametrize("name", ["x` - at `$.transforms", "a\nb", "x" * 5000, "`"])
def test_a_strange_name_is_no_place(name: str):
    with pytest.raises(InvalidInput) as refused:
        read_fields({"transforms": {name: 1}}, OurFields)
    told: Any = refused.value.extensions["fields"]
    assert [len(one["field"]) <= 100 for one in told] == [True]


@pytest.mark.parametrize("user", ["ann\n", "", "a b", "x" * 65])
def test_a_holders_name_is_taken_whole(user: str):
    with pytest.raises(InvalidInput, match="^user must be 1 to 64 letters"):
        read_fields({"user": user}, TicketWish)

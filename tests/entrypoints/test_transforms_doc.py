"""The requests and answers of docs/transforms.md, sent to the real functions."""

import json
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.instances import instance
from support.snippets import blocks

BLOCKS: list[dict[str, Any]] = [json.loads(one.text) for one in blocks("docs/transforms.md")]
REQUESTS = [one for one in BLOCKS if "transforms" in one]


@pytest.mark.parametrize("body", REQUESTS, ids=[str(place) for place in range(len(REQUESTS))])
def test_each_request_makes_what_it_asks_for(fal: Emulator, tmp_path: Path, body: dict[str, Any]):
    one = instance(fal, tmp_path)
    watermark = body["transforms"].get("watermark", {})
    if "image" in watermark:
        logo = one.generate({"prompt": "a logo"}).json["fileID"]
        body = {**body, "transforms": {"watermark": {**watermark, "image": logo}}}
    answer = one.generate(body)
    assert (answer.status, answer.json["warnings"]) == (200, [])
    [image] = answer.json["images"]
    wanted = body["transforms"]
    if "format" in wanted:
        assert image["contentType"] == f"image/{wanted['format']}"
    if "resize" in wanted:
        assert image["width"] == wanted["resize"]["width"]
    assert (image["thumbnail"] is not None) == ("thumbnail" in wanted)
    assert (image["original"] is not None) == (set(wanted) != {"thumbnail"})


def test_letters_that_the_font_lacks_are_named_as_shown(fal: Emulator, tmp_path: Path):
    [shown] = [one for one in BLOCKS if "fields" in one]
    body = {"prompt": "a cat", "transforms": {"watermark": {"text": "AI生成"}}}
    answer = instance(fal, tmp_path).generate(body)
    assert {name: answer.json[name] for name in shown} == shown


def test_what_could_not_be_done_is_told_as_shown(fal: Emulator, tmp_path: Path):
    [shown] = [one for one in BLOCKS if "code" in one]
    crop = {"x": 600, "y": 0, "width": 8, "height": 8}
    body = {"prompt": "a cat", "image_size": "square", "transforms": {"crop": crop}}
    assert instance(fal, tmp_path).generate(body).json["warnings"] == [shown]

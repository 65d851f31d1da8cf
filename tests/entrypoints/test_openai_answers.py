"""Pictures inside OpenAI's answers: as far as the platform's answer has room for them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support.doors import DOORS, behind
from support.entrypoints import request as a_request
from support.instances import instance

Configure = Callable[..., None]
GENERATIONS = "/v1/images/generations"
LIMITS = {"alb": 1_000_000, "function-url": 6_000_000, "cloudbase": 6_000_000}
WISH: dict[str, object] = {"prompt": "a calico cat", "response_format": "b64_json"}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_picture_comes_whole_through_every_entrance(
    configured: Configure, fal: Emulator, door: str
):
    configured()
    answer = behind(door)(a_request("POST", GENERATIONS, WISH))
    assert answer.status == 200, answer.body
    (picture,) = answer.json["data"]
    assert set(picture) == {"b64_json"}
    content = base64.b64decode(picture["b64_json"], validate=True)
    assert hashlib.sha256(content).hexdigest() == answer.json["job"]["images"][0]["sha256"]


@pytest.mark.parametrize("limited", LIMITS)
def test_what_has_no_room_is_told_by_its_link(configured: Configure, fal: Emulator, limited: str):
    configured()
    send, limit = behind(limited), LIMITS[limited]
    fal.fault("padded", on="file", bytes=round(limit * 0.73))
    fits = send(a_request("POST", GENERATIONS, WISH))
    assert [set(picture) for picture in fits.json["data"]] == [{"b64_json"}]
    assert len(json.dumps(fits.body.decode())) < limit  # as the platform's reply has it
    fal.fault("padded", on="file", bytes=round(limit * 0.76))
    answer = send(a_request("POST", GENERATIONS, WISH))
    assert answer.status == 200, answer.body
    (picture,) = answer.json["data"]
    assert set(picture) == {"url"}
    assert picture["url"]
    (warning,) = answer.json["job"]["warnings"]
    assert warning["code"] == "b64_too_large"
    assert "by url" in warning["message"]


@pytest.mark.parametrize("door", [one for one in DOORS if one != "wsgi"])
def test_what_can_hardly_have_room_is_refused_before_money(
    configured: Configure, fal: Emulator, door: str
):
    configured()
    huge = WISH | {"n": 4, "size": "2048x2048", "output_format": "png"}
    answer = behind(door)(a_request("POST", GENERATIONS, huge))
    assert answer.status == 400
    error = answer.json["error"]
    assert error["param"] == "response_format"
    assert "must be url here" in error["message"]
    assert fal.calls.total() == 0


def test_a_picture_that_cannot_be_read_is_told_by_its_link(fal: Emulator, tmp_path: Path):
    made = instance(fal, tmp_path)
    first = made.ask("POST", GENERATIONS, WISH, idempotency_key="one").json
    (kept,) = (path for path in (tmp_path / "pictures").rglob("*.jpg") if path.is_file())
    kept.unlink()
    again = made.ask("POST", GENERATIONS, WISH, idempotency_key="one")
    assert again.status == 200
    assert again.json["data"][0]["url"]
    assert again.json["job"]["warnings"][0]["code"] == "b64_unreadable"
    assert again.json["job"]["jobId"] == first["job"]["jobId"]
    assert fal.calls["submit"] == 1


def test_what_the_owner_withholds_is_in_no_form(fal: Emulator, tmp_path: Path):
    made = instance(fal, tmp_path, FAL_IMAGE_FLAGGED="refuse")
    for wish, expected in ((WISH, {"b64_json": None}), ({"prompt": "p"}, {"url": None})):
        fal.fault("black", on="result")
        answer = made.ask("POST", GENERATIONS, wish)
        assert answer.status == 200
        assert answer.json["data"] == [expected]
        assert "withheld" in [one["code"] for one in answer.json["job"]["warnings"]]

"""What every answer tells a browser and the caches on its way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.dev.emulator.exchange import json_answer
from fal_image.web import Request
from support.canned_fal import CannedFal
from support.doors import DOORS, behind, in_header
from support.entrypoints import request as a_request
from support.instances import CAT, instance, read

Configure = Callable[..., None]
NOTHING = "default-src 'none'; frame-ancestors 'none'"


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


ASKED: dict[str, tuple[Request, int]] = {
    "a picture's job": (a_request("POST", "/generate", CAT), 200),
    "models": (a_request("GET", "/models"), 200),
    "health": (a_request("GET", "/health", key=None), 200),
    "bad input": (a_request("POST", "/", {"prompt": ""}), 400),
    "a stranger": (a_request("POST", "/", CAT, key=None), 401),
    "no route": (a_request("GET", "/nowhere", key=None), 404),
    "no method": (a_request("PATCH", "/models", key=None), 405),
    "too long": (a_request("POST", "/", raw=b" " * (6 * 2**20 + 1)), 413),
    "the proxy": (in_header("https://elsewhere.example/"), 412),
    "no file": (a_request("GET", "/files/a.png", query=(("exp", "1"), ("sig", "x"))), 404),
    "no webhook": (a_request("POST", "/webhooks/fal/j/t", {}, key=None), 401),
}


@pytest.mark.parametrize("name", ASKED)
def test_no_answer_can_be_framed_guessed_at_or_kept(configured: Configure, door: str, name: str):
    configured()
    request, status = ASKED[name]
    answer = behind(door)(request)
    assert answer.status == status, answer.body[:200]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == NOTHING
    assert answer.headers["cache-control"] == "no-store"
    assert "cross-origin-resource-policy" not in answer.headers


def test_a_picture_may_be_shown_by_pages_of_any_origin(configured: Configure, door: str):
    configured()
    send = behind(door)
    (image,) = json.loads(send(ASKED["a picture's job"][0]).body)["images"]
    link = urlsplit(image["tempFileURL"])
    shown = a_request("GET", link.path, query=tuple(parse_qsl(link.query)), key=None)
    answer = send(shown)
    assert answer.status == 200
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" not in answer.headers
    assert "immutable" in answer.headers["cache-control"]  # what its route says


def test_what_fal_says_to_browsers_is_not_said_by_us(tmp_path: Path):
    theirs = {
        "content-type": "text/html",
        "content-security-policy": "script-src *",
        "referrer-policy": "unsafe-url",
        "cross-origin-resource-policy": "cross-origin",
        "access-control-allow-origin": "*",
        "access-control-allow-credentials": "true",
        "cache-control": "public, max-age=86400",
        "set-cookie": "a=b",
        "vary": "accept",
    }
    url = "https://rest.fal.ai/storage/upload/initiate"
    given = json_answer(200, {"upload_url": "https://v3.fal.media/a"}, headers=theirs)
    with CannedFal({("POST", url): given}) as fal:
        one = instance(fal, tmp_path, FAL_IMAGE_CORS_ORIGINS="https://shop.example")
        file = {"content_type": "image/png", "file_name": "a.png"}
        asked = in_header(f"{url}?storage_type=fal-cdn-v3", body=file)
        answer = read(one.app(asked))
    assert answer.status == 200, answer.body
    assert answer.headers["content-security-policy"] == NOTHING
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Origin"
    assert {name for name in answer.headers if name.startswith(("access-", "cross-", "set-"))} == (
        set()
    )


def test_events_are_guarded_like_every_answer(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    answer = one.ask("GET", f"/jobs/{one.submitted()['jobId']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["content-security-policy"] == NOTHING
    assert answer.headers["cache-control"] == "no-store"

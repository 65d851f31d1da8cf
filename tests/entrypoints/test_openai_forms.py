"""OpenAI's forms through every entrance: to the byte, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fal_image.dev.emulator import Emulator
from support import pictures
from support.connects import watched
from support.doors import DOORS, behind
from support.entrypoints import request as a_request
from support.forms import FORM, HOSTILE, form, part
from support.instances import Answer

Configure = Callable[..., None]
EDITS = "/v1/images/edits"

NAMES = ("image", "image[]", "mask", "prompt", "n", "size", "model", "seed", "transforms", "a[b]")
CONTENTS = (
    *(pictures.png(), pictures.png()[:40], pictures.gif(), b"", b"2", b"-1", b"1e999", b"null"),
    *(b"{", b"[[[[", b'{"crop":{}}', b"64x64", b"\xff", b"NaN", b"9" * 400, b"fal-ai/flux-2/edit"),
)


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def error(answer: Answer) -> dict[str, object]:
    found: dict[str, object] = json.loads(answer.body)["error"]
    assert {"message", "type", "param", "code"} <= set(found)
    return found


def test_a_form_arrives_to_the_byte(configured: Configure, fal: Emulator, door: str):
    configured()
    file = part(pictures.png(), "image", '; filename="a.png"')
    body = form(part("ein Hütchen".encode()), file, part(b"7", "seed"))
    sent = a_request(path=EDITS, raw=body, headers={"content-type": FORM})
    answer = behind(door)(sent)
    assert answer.status == 200, answer.body
    assert answer.json["data"][0]["url"]
    given: Any = fal.ledger[-1].input
    assert (given["prompt"], given["seed"]) == ("ein Hütchen", 7)


def test_a_broken_form_is_the_callers_mistake_and_reaches_nobody(
    configured: Configure, fal: Emulator, door: str
):
    configured()
    send = behind(door)
    with watched(but=urlsplit(fal.url).port or 0) as reached:
        for name, (body, content_type) in HOSTILE.items():
            headers = {"content-type": content_type}
            answer = send(a_request(path=EDITS, raw=body, headers=headers))
            assert answer.status in (400, 415), (name, answer.body)
            assert error(answer)["code"] in ("invalid_input", "unsupported_media_type"), name
    assert reached == []
    assert fal.calls.total() == 0


@pytest.mark.timeout(60)
def test_no_field_of_a_form_makes_the_function_fail(configured: Configure, fal: Emulator):
    configured(FAL_IMAGE_RATE_LIMIT="off")
    send = behind("function-url")
    whole = part(pictures.png(), "image", '; filename="a"'), part(b"a hat", "prompt")

    @settings(max_examples=60)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(CONTENTS) | st.binary(max_size=40),
                st.sampled_from(NAMES),
                st.sampled_from(["", '; filename="a"']),
            ),
            max_size=6,
        )
    )
    def bent(drawn: list[tuple[bytes, str, str]]) -> None:
        body = form(*whole, *(part(*each) for each in drawn))
        answer = send(a_request(path=EDITS, raw=body, headers={"content-type": FORM}))
        assert answer.status == 200 or error(answer)["message"]
        assert answer.status < 500, answer.body

    bent()

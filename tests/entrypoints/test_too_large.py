"""What is too large is refused before it is read, at every entrance and in the app's own words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.errors import AppError, BodyTooLarge, HeadersTooLarge, UriTooLong
from fal_image.events.wsgi import MAX_BODY_BYTES
from fal_image.front import MAX_ADDRESS_BYTES, MAX_HEADER_BYTES, MAX_HEADER_FIELDS
from fal_image.web import Request
from support.doors import DOORS, behind, fault, in_header, silence
from support.entrypoints import request as a_request

Configure = Callable[..., None]
PADDED = b'{"prompt":"a calico cat"}'.ljust(MAX_BODY_BYTES)
FEW = 40  # of the header fields that a gateway adds by itself


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_fields(count: int, value: str = "v", path: str = "/models") -> Request:
    return a_request("GET", path, headers={f"x-{number}": value for number in range(count)})


TOO_LARGE: dict[str, tuple[Request, type[AppError]]] = {
    "fields": (with_fields(MAX_HEADER_FIELDS + 1), HeadersTooLarge),
    "one long field": (with_fields(1, "v" * MAX_HEADER_BYTES), HeadersTooLarge),
    "long fields": (with_fields(33, "v" * 1024), HeadersTooLarge),
    "fields of what is not there": (with_fields(101, path="/nowhere"), HeadersTooLarge),
    "fields of a preflight": (
        a_request("OPTIONS", "/", headers={"origin": "o" * MAX_HEADER_BYTES}),
        HeadersTooLarge,
    ),
    "fields for the proxy": (in_header("x" * MAX_HEADER_BYTES), HeadersTooLarge),
    "path": (a_request("GET", "/" + "p" * MAX_ADDRESS_BYTES), UriTooLong),
    "path of many parts": (a_request("GET", "/p" * (MAX_ADDRESS_BYTES // 2 + 1)), UriTooLong),
    "query": (a_request("GET", "/models", query=(("q", "v" * MAX_ADDRESS_BYTES),)), UriTooLong),
    "text body": (a_request(raw=PADDED + b" "), BodyTooLarge),
    "bytes": (a_request(raw=b"\xff" * (MAX_BODY_BYTES + 1)), BodyTooLarge),
    "body of no route": (a_request("PATCH", "/nowhere", raw=PADDED + b" "), BodyTooLarge),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_before_anything_is_done(
    configured: Configure, fal: Emulator, door: str, name: str, capfd: pytest.CaptureFixture[str]
):
    configured(FAL_IMAGE_ALLOW_ANONYMOUS="1")
    request, error = TOO_LARGE[name]
    send = behind(door)
    with silence(fal, capfd):
        answer = send(request)
    assert fault(answer, error) is None
    assert answer.headers["x-request-id"]


def test_what_is_just_within_the_sizes_is_answered(configured: Configure, door: str):
    configured()
    send = behind(door)
    assert send(with_fields(MAX_HEADER_FIELDS - FEW)).status == 200
    assert send(with_fields(1, "v" * (MAX_HEADER_BYTES - 4096))).status == 200
    long_query = (("q", "v" * (MAX_ADDRESS_BYTES - 100)),)
    assert send(a_request("GET", "/models", query=long_query)).status == 200
    assert send(a_request(raw=PADDED)).status == 200

"""Nobody follows fal anywhere else: not we, and not the caller with the key that it shows us."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.dev.emulator.exchange import Answer as Said
from fal_image.wire import FetchError, Wire
from support.canned_fal import CannedFal
from support.entrypoints import KEY_SHA256
from support.instances import instance, read
from support.peer import Peer, answer
from support.proxied_calls import CALLS, FORMS, PLACES

CODES = (301, 302, 303, 307, 308)
PAID = {"submit", "run", "run by GET", "stream"}  # fal may have taken what it answers so
LOCATIONS = (
    b"https://\xff\xfe/",
    b"http://[",
    b"https://\xed\xa0\x80/",
    b"//",
    b"",
    b"javascript:alert(1)",
    b"https://user@queue.fal.run:99999/",
    b"\xc3(",
)


@pytest.fixture
def elsewhere() -> Iterator[Peer]:
    with Peer([answer(200, {"request_id": "r-9"})]) as peer:
        yield peer


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_a_redirect_of_fals_is_not_followed(elsewhere: Peer, tmp_path: Path, form: str, name: str):
    for code in CODES:
        moved = Said(code, b"moved", {"location": f"{elsewhere.url}/x", "content-type": "text/x"})
        with CannedFal(dict.fromkeys(PLACES.values(), moved)) as fal:
            app = instance(
                fal,
                tmp_path,
                FAL_IMAGE_DATABASE_URL=None,
                FAL_IMAGE_API_KEYS=f"web={KEY_SHA256}",
            ).app
            told = read(app(FORMS[form](name)))
        assert len(fal.heard) == 1
        assert "location" not in told.headers
        assert elsewhere.url.encode() not in told.body
        if name in PAID:
            assert (told.status, told.json["error"]) == (500, "submit_unknown")
        else:
            assert (told.status, told.body) == (code, b"moved")
    assert elsewhere.connections == 0


def moving(location: bytes, *, length: int = 5) -> bytes:
    head = b"HTTP/1.1 302 Found\r\nlocation: %b\r\ncontent-length: %d\r\n\r\nmoved"
    return head % (location, length)


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_redirect_to_no_address_is_an_answer_like_any_other(location: bytes):
    with Peer([moving(location)]) as peer:
        wire = Wire(emulator_url=peer.url)
        found = wire.call("GET", "https://queue.fal.run/a/b", key="id:secret", timeout_s=5)
    assert (found.status, found.body) == (302, b"moved")


@pytest.mark.parametrize("location", set(LOCATIONS) - {b"//", b""})
def test_a_picture_that_moved_to_no_address_is_not_fetched(location: bytes):
    with Peer([moving(location)]) as peer, pytest.raises(FetchError):
        fetched(peer)
    assert len(peer.requests) == 1


def test_the_body_of_a_redirect_is_not_read():
    endless = moving(b"/b.png", length=10**12)
    with Peer([endless, answer(200, b"picture")]) as peer:
        assert fetched(peer) == b"picture"


def fetched(peer: Peer) -> bytes:
    file = io.BytesIO()
    wire = Wire(emulator_url=peer.url)
    wire.fetch("https://v3.fal.media/a.png", file, max_bytes=1000, ends_at=time.monotonic() + 5)
    return file.getvalue()

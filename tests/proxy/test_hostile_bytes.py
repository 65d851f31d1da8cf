"""Hostile bytes at the real server: nobody is reached, and every answer is a refusal.

Some never come to the app: what waitress cannot read as HTTP it refuses by itself.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fal_image.dev.emulator import Emulator
from support.doors import CAT, PROXY, silence
from support.entrypoints import KEY
from support.hostile_targets import AS_SENT, HEADERS, SCHNELL
from support.instances import Server, serving

GOOD = f"https://{SCHNELL}".encode()
BELOW = PROXY.encode() + b"/"


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def server(fal: Emulator, tmp_path: Path) -> Iterator[Server]:
    with serving(fal, tmp_path) as served:
        yield served


@pytest.fixture
def quiet(
    fal: Emulator, server: Server, capfd: pytest.CaptureFixture[str]
) -> AbstractContextManager[None]:
    return silence(fal, capfd, but=urlsplit(server.url).port or 0)


def spoken(server: Server, message: bytes) -> tuple[int, bytes, bytes]:
    """What the server says to these bytes: a status, the head of its answer, the body; 0 if it
    hangs up before it has read them all."""
    parts = urlsplit(server.url)
    said = b""
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as sock:
        with suppress(ConnectionError):
            sock.sendall(message)
        with suppress(ConnectionError):
            while block := sock.recv(65536):
                said += block
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head[9:12] or 0), head.lower(), body


def message(target: bytes, *headers: bytes, method: bytes = b"POST") -> bytes:
    body = json.dumps(CAT).encode()
    lines = [
        b"%b %b HTTP/1.1" % (method, target),
        b"host: pictures.example",
        b"connection: close",
        b"authorization: Bearer " + KEY.encode(),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def naming(value: bytes) -> bytes:
    return message(PROXY.encode(), b"x-fal-target-url: " + value)


def is_refusal(status: int, head: bytes, body: bytes) -> bool:
    """Ours are JSON; waitress's own are plain text."""
    if b"json" in head:
        return 400 <= status < 500 and bool(json.loads(body)["detail"])
    return status in (0, 400, 431)


def allowed(server: Server, messages: dict[str, bytes]) -> dict[str, object]:
    """The messages that were not refused, with what was said to them."""
    said = {name: spoken(server, text) for name, text in messages.items()}
    return {name: answer for name, answer in said.items() if not is_refusal(*answer)}


def test_an_address_of_fal_gets_past_the_door(server: Server, fal: Emulator):
    assert spoken(server, naming(GOOD))[0] == 200
    assert spoken(server, message(BELOW + SCHNELL.encode()))[0] == 200
    assert len(fal.ledger) == 2


def test_no_bytes_in_the_header_lead_anywhere(server: Server, quiet: AbstractContextManager[None]):
    # white space around a value is no part of it (RFC 9110, 5.5)
    texts = {name: text for name, text in HEADERS.items() if text.strip(" \t") == text}
    values = {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()}
    values |= {"high bytes": b"\xff\xfe" + GOOD, "half a letter": GOOD + b"\xc3"}
    with quiet:
        assert allowed(server, {name: naming(value) for name, value in values.items()}) == {}


def test_no_path_leads_anywhere(server: Server, quiet: AbstractContextManager[None]):
    targets = [
        *(BELOW + path.encode("utf-8", "surrogatepass") for path in AS_SENT.values()),
        GOOD,
        b"https://fal.run" + BELOW + b"evil.com/x",
        b"//evil.com" + BELOW + b"evil.com/x",
        BELOW + b"queue.fal.run/fal-ai/\xff\xfe",
        BELOW + b"queue.fal.run\\@evil.com/fal-ai/flux",
        b"*",
        b"",
    ]
    messages = {repr(target): message(target) for target in targets}
    messages["tunnel"] = message(b"queue.fal.run:443", method=b"CONNECT")
    with quiet:
        assert allowed(server, messages) == {}


def test_a_header_that_came_twice_leads_nowhere(
    server: Server, quiet: AbstractContextManager[None]
):
    named = b"x-fal-target-url: " + GOOD
    spellings = {
        "twice": (named, named),
        "twice, in two cases": (named, named.replace(b"x-fal", b"X-FAL")),
        "with underscores": (named.replace(b"-", b"_"),),
        "on two lines": (named + b"\r\n\t, x",),
        "with a space before the colon": (named.replace(b"url:", b"url :"),),
    }
    with quiet:
        messages = {name: message(PROXY.encode(), *lines) for name, lines in spellings.items()}
        assert allowed(server, messages) == {}

"""The realtime WebSocket: both clients of fal, and a plain one that may misbehave."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import fal_client
import msgspec
import pytest
from PIL import Image
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    InvalidHandshake,
    InvalidStatus,
)
from websockets.sync.client import ClientConnection, connect

from fal_image.dev.emulator import Emulator
from support import node
from support.clients import point_fal_client
from support.clocks import Time
from support.emulator import REST, RUN, SCHNELL, ask

CAT: dict[str, Any] = {"prompt": "a calico cat", "seed": 7, "image_size": "square"}
KEY = {"authorization": "Key id:secret"}
IDLE_S = 60.0


def address(emulator: Emulator, model: str = SCHNELL, query: str = "") -> str:
    return f"ws://{urlsplit(emulator.url).netloc}/fal.run/{model}/realtime{query}"


@contextmanager
def opened(
    emulator: Emulator,
    model: str = SCHNELL,
    *,
    query: str = "",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Iterator[ClientConnection]:
    """A plain socket, signed in with a key unless `headers` say otherwise."""
    shown = KEY if headers is None else headers
    url = address(emulator, model, query)
    with connect(url, additional_headers=shown, proxy=None, max_size=None, **options) as line:
        yield line


def send(line: ClientConnection, arguments: object) -> None:
    line.send(msgspec.msgpack.encode(arguments))


def heard(line: ClientConnection) -> Any:
    """The next thing that is said: an output, or what a control frame holds."""
    said = line.recv(timeout=10)
    return msgspec.msgpack.decode(said) if isinstance(said, bytes) else json.loads(said)


def settle(line: ClientConnection) -> None:
    """What was sent is worked on: the second ping is not read before that."""
    for _ in range(2):
        assert line.ping().wait(10)


def last_words(line: ClientConnection) -> tuple[list[Any], int | None]:
    """What is still said, and the code with which the socket is closed."""
    said = []
    try:
        while True:
            said.append(heard(line))
    except ConnectionClosed as closed:
        return said, closed.rcvd.code if closed.rcvd else None


def token_for(emulator: Emulator, *apps: str) -> str:
    body = {"allowed_apps": apps, "token_expiration": 60}
    token: str = ask(emulator, "POST", f"{REST}/tokens/", body).json
    return token


# The clients


@pytest.mark.parametrize("signed_in_by", ["token", "key"])
@pytest.mark.parametrize("model", [SCHNELL, "fal-ai/flux/dev"])
def test_fal_client_gets_pictures(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, model: str, signed_in_by: str
) -> None:
    point_fal_client(monkeypatch, emulator.url)
    client = fal_client.SyncClient(key="id:secret")
    with client.realtime(model, use_jwt=signed_in_by == "token", max_buffering=4) as line:
        outputs = []
        for seed in (7, 8):
            line.send(CAT | {"seed": seed})
            outputs.append(line.recv())
    client._client.close()

    assert [output["seed"] for output in outputs if output] == [7, 8]
    assert [(entry.via, entry.model, entry.billable_units) for entry in emulator.ledger] == [
        ("realtime", model, 1)
    ] * 2
    assert emulator.ledger[0].input == CAT
    assert outputs[0]
    assert list(outputs[0]) == ["images", "timings", "seed", "has_nsfw_concepts", "prompt"]
    drawn = ask(emulator, "GET", outputs[0]["images"][0]["url"], key=None).body
    with Image.open(io.BytesIO(drawn)) as picture:
        assert picture.size == (512, 512)


def test_the_asynchronous_fal_client_gets_pictures(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_fal_client(monkeypatch, emulator.url)

    async def story() -> dict[str, Any] | None:
        client = fal_client.AsyncClient(key="id:secret")
        async with client.realtime(SCHNELL) as line:
            await line.send(CAT)
            output = await line.recv()
        await (await client._client).aclose()
        return output

    output = asyncio.run(story())
    assert output
    assert output["seed"] == 7


@pytest.mark.needs("node >= 20")
def test_the_javascript_client_gets_pictures_and_errors(emulator: Emulator) -> None:
    seen = json.loads(node.run(["--experimental-websocket", "realtime.mjs", emulator.url]))

    assert [result["seed"] for result in seen["results"]] == [7, 8]
    first = seen["results"][0]["images"][0]
    assert ask(emulator, "GET", first["url"], key=None).body.startswith(b"\xff\xd8")
    [error] = seen["errors"]
    assert error["body"]["error"] == "INTERNAL_ERROR"
    assert "num_images" in error["body"]["reason"]
    assert seen["asked"] == [f"{SCHNELL}/realtime"] * 2
    assert seen["signedInAgain"]["seed"] == 7
    assert [entry.via for entry in emulator.ledger] == ["realtime"] * 4


# Answers


def test_a_picture_of_a_socket_is_the_picture_of_a_run(emulator: Emulator) -> None:
    with opened(emulator) as line:
        send(line, CAT | {"sync_mode": True})
        output = heard(line)
        timings = heard(line)
    run = ask(emulator, "POST", f"{RUN}/{SCHNELL}", CAT).json

    inline = base64.b64decode(output["images"][0]["url"].removeprefix("data:image/jpeg;base64,"))
    assert inline == ask(emulator, "GET", run["images"][0]["url"]).body
    assert timings == {"type": "x-fal-message", "action": "timings", "timing": 0.0}


def test_a_message_in_fragments_is_one_message(emulator: Emulator) -> None:
    packed = msgspec.msgpack.encode(CAT)
    with opened(emulator) as line:
        line.send([packed[:5], packed[5:9], packed[9:]])
        assert heard(line)["seed"] == 7
    assert len(emulator.ledger) == 1


def test_messages_wait_for_their_turn_and_the_oldest_give_way() -> None:
    time = Time()
    with Emulator(run_s=1.0, clock=time) as emulator:
        with opened(emulator, query="?max_buffering=2") as line:
            send(line, CAT | {"seed": 0})
            settle(line)
            for seed in range(1, 6):
                send(line, CAT | {"seed": seed})
            settle(line)
            seeds = []
            for _ in range(3):
                time.sleep(1.0)
                seeds.append(heard(line)["seed"])
                assert heard(line)["timing"] == 1.0
                settle(line)
        taken = [entry.input for entry in emulator.ledger]

    assert seeds == [0, 4, 5]
    assert taken == [CAT | {"seed": seed} for seed in seeds]


def test_who_leaves_cancels_what_is_worked_on(working: Emulator) -> None:
    before = set(threading.enumerate())
    with opened(working) as line:
        settle(line)
        threads = set(threading.enumerate()) - before
        send(line, CAT)
        settle(line)
        [entry] = working.ledger
        assert entry.billable_units is None
    for thread in threads:
        thread.join(10)
    [entry] = working.ledger
    assert entry.is_cancelled
    assert entry.billable_units == 0


# Who may open a socket


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({}, 401, 'Cannot access application "fal-ai/flux"'),
        ({"authorization": "Key revoked:secret"}, 401, "No user found for Key ID and Secret"),
        ({"authorization": "Key locked:secret"}, 403, "Exhausted balance"),
    ],
)
def test_a_bad_key_is_refused_before_the_socket_opens(
    emulator: Emulator, headers: dict[str, str], status: int, said: str
) -> None:
    with pytest.raises(InvalidStatus) as error, opened(emulator, headers=headers):
        pass

    assert error.value.response.status_code == status
    assert said in json.loads(error.value.response.body)["detail"]


@pytest.mark.parametrize("apps", [["flux-2"], []])
def test_a_token_that_does_not_open_the_app_is_told_so_on_the_socket(
    emulator: Emulator, apps: list[str]
) -> None:
    query = f"?fal_jwt_token={token_for(emulator, *apps)}"
    with opened(emulator, query=query, headers={}) as line:
        assert last_words(line) == ([{"status": "error", "error": "Unauthorized"}], 1008)
    assert emulator.ledger == []


def test_a_token_opens_a_socket_until_it_expires() -> None:
    time = Time()
    with Emulator(clock=time) as emulator:
        query = f"?fal_jwt_token={token_for(emulator, 'flux')}"
        with opened(emulator, query=query, headers={}) as line:
            send(line, CAT)
            assert heard(line)["seed"] == 7
        time.sleep(60)
        with opened(emulator, query=query, headers={}) as line:
            assert heard(line) == {"status": "error", "error": "Unauthorized"}


@pytest.mark.parametrize(
    ("model", "query", "status", "said"),
    [
        ("fal-ai/flux-2-pro", "", 404, "Path /realtime not found"),
        ("fal-ai/no-such-model", "", 404, 'Application "no-such-model" not found'),
        ("fal-ai", "", 404, 'Application "realtime" not found'),
        (f"{SCHNELL}/realtime", "", 404, "Path /schnell/realtime/realtime not found"),
        (SCHNELL, "?max_buffering=0", 422, "max_buffering"),
        (SCHNELL, "?max_buffering=61", 422, "max_buffering"),
        (SCHNELL, "?max_buffering=many", 422, "max_buffering"),
    ],
)
def test_a_socket_that_cannot_be_is_refused(
    emulator: Emulator, model: str, query: str, status: int, said: str
) -> None:
    with pytest.raises(InvalidStatus) as error, opened(emulator, model, query=query):
        pass

    assert error.value.response.status_code == status
    assert said in json.loads(error.value.response.body)["detail"]


def test_a_socket_on_a_path_that_runs_the_model_runs_nothing(emulator: Emulator) -> None:
    url = address(emulator).removesuffix("/realtime")
    with pytest.raises(InvalidStatus), connect(url, additional_headers=KEY, proxy=None):
        pass
    assert emulator.ledger == []


@pytest.mark.parametrize(
    ("missing", "status"),
    [("connection", 426), ("sec-websocket-key", 400), ("sec-websocket-version", 400)],
)
def test_half_a_handshake_is_refused(emulator: Emulator, missing: str, status: int) -> None:
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": base64.b64encode(bytes(16)).decode(),
        "sec-websocket-version": "13",
    }
    headers[missing] = "x"
    refused = ask(emulator, "GET", f"{RUN}/{SCHNELL}/realtime", headers=headers)

    assert refused.status == status
    assert "Failed to open a WebSocket connection" in refused.json["detail"]


# Bad input


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (msgspec.msgpack.encode({"prompt": "cat", "num_images": 9}), "num_images: Input should"),
        (msgspec.msgpack.encode({}), "prompt: Field required"),
        (msgspec.msgpack.encode([1]), "Input should be a valid dictionary"),
        (msgspec.msgpack.encode("cat"), "Input should be a valid dictionary"),
        (b"", "truncated"),
        (b"\xc1", "malformed"),
        (b"\x81\xa6prompt\xa3cat\x00", "trailing characters"),
        (b"\xa1\xff", "utf-8"),
        (b"\x81\xa6prompt\xc7\x01\x05a", "unsupported"),
        (b"\x81\x91\x01\x01", "keys"),
        (b"\x91" * 100_000 + b"\x01", "recursion"),
        ('{"prompt": "cat"}', "text, not MessagePack"),
    ],
)
def test_bad_input_ends_the_conversation_with_the_reason(
    emulator: Emulator, message: bytes | str, reason: str
) -> None:
    with opened(emulator) as line:
        line.send(message)
        [error], code = last_words(line)

    assert (error["type"], error["error"], code) == ("x-fal-error", "INTERNAL_ERROR", 1000)
    assert reason in error["reason"]
    assert sum(entry.billable_units or 0 for entry in emulator.ledger) == 0
    assert json.dumps(ask(emulator, "GET", "/_emulator/ledger").json)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("error", "Runner disconnected"), ("null-payload", "got <class 'NoneType'>")],
)
def test_a_model_that_fails_ends_the_conversation(
    emulator: Emulator, fault: str, reason: str
) -> None:
    emulator.fault(fault, on="result")
    with opened(emulator) as line:
        send(line, CAT)
        [error], code = last_words(line)

    assert (error["error"], code) == ("INTERNAL_ERROR", 1000)
    assert reason in error["reason"]


def test_silence_ends_the_conversation_but_not_a_message_that_is_worked_on() -> None:
    time = Time()
    with Emulator(run_s=2 * IDLE_S, clock=time) as emulator, opened(emulator) as line:
        send(line, CAT)
        settle(line)
        time.sleep(IDLE_S)
        settle(line)
        time.sleep(IDLE_S)
        said, code = last_words(line)

    assert [message.get("seed", message.get("error")) for message in said] == [7, None, "TIMEOUT"]
    assert code == 1000


def test_a_message_ends_the_silence() -> None:
    time = Time()
    with Emulator(clock=time) as emulator, opened(emulator) as line:
        for _ in range(3):
            time.sleep(IDLE_S - 1)
            send(line, CAT)
            assert heard(line)["seed"] == 7
            assert heard(line)["type"] == "x-fal-message"
        time.sleep(IDLE_S)
        assert heard(line)["error"] == "TIMEOUT"


# Broken lines


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x82\x01x", 1002),  # not masked
        (b"\xf2\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x80\x80\x00\x00\x00\x00", 1002),  # a continuation of nothing
        (b"\x82\xff\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1009),  # a terabyte
        (b"\x88\x80\x00\x00\x00\x00", None),  # a close without a code
    ],
)
def test_a_frame_that_breaks_the_protocol_closes_the_socket(
    emulator: Emulator, frame: bytes, code: int | None
) -> None:
    with raw_socket(emulator, frame) as line:
        answer = line.makefile("rb").read()

    close = answer.partition(b"\r\n\r\n")[2]
    assert close[:1] == b"\x88"
    assert (int.from_bytes(close[2:4], "big") or None) == code


def test_what_comes_with_the_handshake_is_heard(emulator: Emulator) -> None:
    with raw_socket(emulator, frame(BINARY, msgspec.msgpack.encode(CAT))) as line:
        read_greeting(line)
        assert line.recv(1) == BINARY
    assert len(emulator.ledger) == 1


BINARY, PING, PONG = b"\x82", b"\x89", b"\x8a"


def frame(kind: bytes, content: bytes = b"") -> bytes:
    """A whole frame of a client, whose mask is zero; up to 125 bytes."""
    return kind + bytes([0x80 | len(content)]) + bytes(4) + content


@contextmanager
def raw_socket(emulator: Emulator, after: bytes = b"") -> Iterator[socket.socket]:
    """A handshake and `after` it, in one piece."""
    parts = urlsplit(emulator.url)
    request = (
        f"GET /fal.run/{SCHNELL}/realtime HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Authorization: Key id:secret\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=10) as line:
        line.sendall(request.encode() + after)
        yield line


def read_greeting(line: socket.socket) -> None:
    greeting = b""
    while not greeting.endswith(b"\r\n\r\n"):
        greeting += line.recv(1)
    assert greeting.startswith(b"HTTP/1.1 101 ")


def read_to_the_end(line: socket.socket) -> None:
    """Until the other side is gone, in order or not."""
    with suppress(ConnectionResetError):
        while line.recv(1_000):
            pass


@pytest.mark.parametrize("how", ["503", "reset", "lost", "502-nginx"])
def test_a_fault_strikes_the_handshake(emulator: Emulator, how: str) -> None:
    emulator.fault(how, on="realtime")
    with pytest.raises((InvalidHandshake, ConnectionError)), opened(emulator):
        pass
    with opened(emulator) as line:
        send(line, CAT)
        assert heard(line)["seed"] == 7
    assert emulator.calls["realtime"] == 2


def test_a_cut_socket_ends_without_a_word(emulator: Emulator) -> None:
    emulator.fault("cut", on="realtime")
    with opened(emulator) as line, pytest.raises(ConnectionClosedError) as error:
        line.recv(timeout=10)
    assert error.value.rcvd is None


# The end of the emulator


def test_a_reset_of_the_emulator_says_goodbye(working: Emulator) -> None:
    with opened(working) as idle, opened(working) as busy:
        send(busy, CAT)
        settle(busy)
        working.reset()
        assert last_words(idle) == ([], 1001)
        assert last_words(busy) == ([], 1001)


def test_no_socket_outlives_the_emulator() -> None:
    before = set(threading.enumerate())
    emulator = Emulator(run_s=3600).start()
    message = frame(BINARY, msgspec.msgpack.encode(CAT))
    with raw_socket(emulator, message + frame(PING)) as busy, raw_socket(emulator) as idle:
        read_greeting(busy)
        assert busy.recv(1) == PONG
        read_greeting(idle)
        emulator.stop()

        assert set(threading.enumerate()) <= before
        read_to_the_end(busy)
        read_to_the_end(idle)
    assert emulator.ledger == [] or emulator.ledger[0].is_cancelled


def test_a_client_that_stops_reading_does_not_keep_the_emulator_from_stopping() -> None:
    before = set(threading.enumerate())
    emulator = Emulator().start()
    large = {"num_images": 4, "image_size": "square_hd", "output_format": "png", "sync_mode": True}
    message = frame(BINARY, msgspec.msgpack.encode({"prompt": "a cat", "seed": 7, **large}))
    with raw_socket(emulator, message * 60) as line:
        for _ in range(20):
            assert line.recv(1_000)
        emulator.stop()

        assert set(threading.enumerate()) <= before
        assert 0 < len(emulator.ledger) < 60

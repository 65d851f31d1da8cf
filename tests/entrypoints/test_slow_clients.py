"""Clients that hold connections by being slow, over real sockets and on a clock that a test moves.

The server looks at its connections once a second at least; nothing here waits for longer.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from fal_image import server
from fal_image.server import Patience
from fal_image.web import Request, Response, json_response
from support.clocks import Time

HEAD = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n"
GET = b"GET %s HTTP/1.1\r\nhost: here\r\n\r\n"
LONG_S = 3600.0
MIB = 2**20


@dataclass
class House:
    """An app behind the server. `/stream` says one thing for each that is in `spoken`, and `/flood`
    much more than a client that reads nothing can be sent."""

    time: Time = field(default_factory=Time)
    goes_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    let_go: threading.Event = field(default_factory=threading.Event)
    address: tuple[str, int] = ("", 0)

    def __call__(self, request: Request) -> Response:
        if request.path == "/flood":
            return Response(200, self._flood())
        if request.path == "/stream":
            return Response(200, self._stream(), (("content-type", "text/event-stream"),))
        return json_response(200, {"bytes": len(request.body)})

    def _flood(self) -> Iterator[bytes]:
        try:
            for _ in range(64):
                yield bytes(MIB)
        finally:
            self.let_go.set()

    def _stream(self) -> Iterator[bytes]:
        for number in range(3):
            assert self.goes_on.acquire(timeout=10)
            yield b"data: %d\n\n" % number

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=5)

    def pass_s(self, seconds: float) -> None:
        """Let time go by for whatever was sent so far: the server has seen it when it answers what
        came after that."""
        for _ in range(2):
            with self.connect() as connection:
                connection.sendall(GET % b"/")
                answered(connection)
            self.time.now_s, seconds = self.time.now_s + seconds, 0.0


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    with server.bind("127.0.0.1", 0) as listener:
        house.address = listener.getsockname()
        with server.running(house, listener, patience=Patience(clock=house.time)):
            yield house


def is_closed(connection: socket.socket) -> bool:
    """Whether the server hangs up without a word, soon."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def answered(connection: socket.socket, until: bytes = b"}") -> bytes:
    got = b""
    while until not in got:
        chunk = connection.recv(65536)
        assert chunk, got
        got += chunk
    return got


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"P", HEAD, HEAD + b"\r\n", HEAD + b"\r\nab"])
def test_a_request_that_does_not_come_to_its_end_is_cut_off(house: House, sent: bytes):
    with house.connect() as connection:
        connection.sendall(sent)
        house.pass_s(21)
        assert is_closed(connection)


@pytest.mark.parametrize("rest", [b"x-a: b\r\n" * 9, b"\r\n\r\n" * 9])
def test_a_byte_now_and_then_keeps_no_connection(house: House, rest: bytes):
    with house.connect() as connection:
        for byte in rest:
            house.pass_s(1)
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                return
        assert is_closed(connection)


def test_a_byte_of_the_body_now_and_then_keeps_no_connection_either(house: House):
    head = HEAD.replace(b"4", b"400") + b"\r\n"
    with house.connect() as connection:
        connection.sendall(head)
        for _ in range(30):
            house.pass_s(1)
            try:
                connection.sendall(b"x")
            except OSError:
                return
        assert is_closed(connection)


def test_a_slow_request_that_comes_on_is_answered(house: House):
    size, steps = 512 * 1024, 8
    with house.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(steps):
            connection.sendall(bytes(size // steps))
            for _ in range(8):  # 64 KiB at 8 KiB/s, of which the server reads 8 at a time
                house.pass_s(1)
        assert json.loads(answered(connection).partition(b"\r\n\r\n")[2]) == {"bytes": size}


def test_an_answer_may_take_its_time_and_so_may_every_word_of_it(house: House):
    with house.connect() as connection:
        connection.sendall(GET % b"/stream")
        for number in range(3):
            house.pass_s(LONG_S)
            house.goes_on.release()
            answered(connection, until=b"data: %d\n\n" % number)


def test_a_connection_is_used_again_after_a_long_answer(house: House):
    with house.connect() as connection:
        for _ in range(3):
            connection.sendall(HEAD + b"\r\nabcd")
            assert b'{"bytes":4}' in answered(connection)
            house.pass_s(LONG_S)  # of the clock that waits for requests under way


def test_a_client_that_does_not_read_its_answer_is_cut_off_and_its_thread_is_free(house: House):
    with house.connect() as connection:
        connection.sendall(GET % b"/flood")
        assert connection.recv(1) == b"H"
        tries = 40
        while not house.let_go.wait(0.1) and tries:
            house.pass_s(LONG_S)
            tries -= 1
        assert tries


def test_what_the_server_itself_refuses_is_a_problem_as_well(house: House):
    refused = {
        b"GET / HTTP/1.1\r\nx-a: " + b"a" * 70_000 + b"\r\n\r\n": (431, "headers_too_large"),
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n": (413, "body_too_large"),
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n": (400, "invalid_input"),
        b"POST / HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd": (
            400,
            "invalid_input",
        ),
        b"POST / HTTP/1.1\r\ncontent-length: +4\r\n\r\nabcd": (400, "invalid_input"),
        b"POST / HTTP/1.1\r\ncontent-length : 4\r\n\r\nabcd": (400, "invalid_input"),
        b"GET / HTTP/1.1\r\nx-a: b\nx-c: d\r\n\r\n": (400, "invalid_input"),
    }
    for sent, (status, code) in refused.items():
        with house.connect() as connection:
            connection.sendall(sent)
            head, _, body = answered(connection).partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == str(status).encode()
        assert b"Content-Type: application/problem+json" in head
        assert b"X-Content-Type-Options: nosniff" in head
        problem = json.loads(body)
        assert (problem["status"], problem["error"]) == (status, code)

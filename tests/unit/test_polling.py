"""The loop under the server: whom it asks, and when."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from fal_image import server
from fal_image.web import Request, Response

IDLE = 50
_REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


class Served:
    """A server with an app that answers when it is let, and how often its connections were asked
    whether they want to read."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.go_on = threading.Event()
        self.body = b"here"
        self.address = ("", 0)

    def app(self, request: Request) -> Response:
        assert request.path != "/held" or self.go_on.wait(10)
        return Response(200, self.body, (("content-type", "text/plain"),))

    def client(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)


@contextmanager
def serving() -> Iterator[Served]:
    served = Served()

    class Counted(server._Channel):
        def readable(self) -> bool:
            served.asked[self._fileno] += 1
            return super().readable()

    listener = server.bind("127.0.0.1", 0)
    served.address = listener.getsockname()[:2]

    def create(*arguments: Any) -> Any:
        made = server._create(*arguments)
        made.channel_class = lambda *about, **named: Counted(
            *about, patience=server.PATIENCE, **named
        )
        return made

    made = create(served.app, listener, 4, 0, server.PATIENCE)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.go_on.set()
        made.task_dispatcher.shutdown()
        server._close_from_within(made)
        thread.join(10)


def answer(client: socket.socket) -> bytes:
    client.sendall(_REQUEST)
    received = b""
    while not received.endswith(b"here"):
        received += client.recv(65536)
    return received


def test_who_is_idle_is_not_asked_while_others_are_served():
    with serving() as served:
        idle = [served.client() for _ in range(IDLE)]
        for client in idle:
            answer(client)
        began, before = time.monotonic(), served.asked.total()
        with closing(served.client()) as busy:
            for _ in range(200):
                answer(busy)
        took_s = time.monotonic() - began
        asked = served.asked.total() - before
        for client in idle:
            client.close()
    each_second = (took_s + 2) * (IDLE + 1)  # everybody is asked once a second, whatever happens
    assert asked < 200 * 6 + each_second


def test_a_connection_carries_one_request_after_the_other():
    with serving() as served, closing(served.client()) as client:
        assert [answer(client).partition(b"\r\n")[0] for _ in range(3)] == [b"HTTP/1.1 200 OK"] * 3


def test_requests_that_come_together_are_answered_one_by_one():
    with serving() as served, closing(served.client()) as client:
        client.sendall(_REQUEST * 3)
        received = b""
        while received.count(b"here") < 3:
            received += client.recv(65536)
    assert received.count(b"HTTP/1.1 200 OK") == 3


def test_a_caller_who_hangs_up_while_being_served_does_not_make_the_loop_spin():
    with serving() as served, closing(served.client()) as other:
        answer(other)
        with closing(served.client()) as gone:
            gone.sendall(_REQUEST.replace(b"/", b"/held", 1))
        before = served.asked.total()
        for _ in range(200):
            answer(other)
        assert served.asked.total() - before < 200 * 6 + 100


def test_a_byte_out_of_band_does_not_make_the_loop_spin():
    with serving() as served, closing(served.client()) as other, closing(served.client()) as odd:
        answer(odd)
        odd.send(b"!", socket.MSG_OOB)
        answer(other)
        before = served.asked.total()
        for _ in range(200):
            answer(other)
        assert served.asked.total() - before < 200 * 6 + 100


def test_an_answer_longer_than_a_socket_takes_comes_whole():
    with serving() as served:
        served.body = b"x" * 5_000_000 + b"here"
        with closing(served.client()) as client:
            assert len(answer(client)) > 5_000_000

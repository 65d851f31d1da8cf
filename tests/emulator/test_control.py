"""Starting, stopping, and the pages under /_emulator/."""

from __future__ import annotations

import socket
import threading

import pytest

from fal_image.dev.emulator import TABLE, Emulator, serve
from support.emulator import QUEUE, SCHNELL, ask, begin, finish, picture_url, submit


@pytest.mark.parametrize("path", ["/", "/_emulator", "/_emulator/"])
def test_the_page_says_what_is_imitated_and_what_is_not(emulator: Emulator, path: str) -> None:
    reply = ask(emulator, "GET", path, key=None)
    page = reply.body.decode()

    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert "It does not imitate:" in page
    assert all(row.kind in page for row in TABLE)


def test_the_ledger_can_be_read_over_http(emulator: Emulator) -> None:
    taken = submit(emulator, query="?fal_webhook=ftp://me.example")
    finish(emulator, taken)

    reply = ask(emulator, "GET", "/_emulator/ledger", key=None).json

    [entry] = reply["ledger"]
    assert entry["request_id"] == taken["request_id"]
    assert entry["model"] == SCHNELL
    assert entry["input"]["prompt"] == "a calico cat"
    assert entry["webhook_url"] == "ftp://me.example"
    assert (entry["via"], entry["is_cancelled"], entry["billable_units"]) == ("queue", False, 1)
    assert reply["calls"] == {"submit": 1, "stream": 1, "result": 1}


def test_units_are_unknown_until_a_job_has_ended(working: Emulator) -> None:
    submit(working)

    assert working.ledger[0].billable_units is None


def test_faults_can_be_armed_over_http(emulator: Emulator) -> None:
    wanted = {"kind": "error", "on": "result", "status": 500, "error_type": "internal_error"}

    armed = ask(emulator, "POST", "/_emulator/faults", wanted, key=None)

    assert (armed.status, armed.json) == (200, {"armed": "error", "on": "result", "times": 1})
    assert finish(emulator, submit(emulator)).status == 500


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"null", b'"429"'])
def test_a_fault_that_is_not_a_json_object_is_400(emulator: Emulator, body: bytes) -> None:
    reply = ask(emulator, "POST", "/_emulator/faults", body, key=None)

    assert reply.status == 400


def test_reset_forgets_everything_and_lets_waiting_callers_go(working: Emulator) -> None:
    taken = submit(working)
    working.fault("429")
    with begin(working, "GET", f"{taken['status_url']}/stream") as stream:
        stream.readline()
        assert ask(working, "POST", "/_emulator/reset", key=None).status == 200
        assert stream.read() == b"\n"

    assert working.ledger == []
    assert not working.calls
    assert ask(working, "GET", taken["status_url"]).status == 404
    assert submit(working)


def test_a_picture_is_gone_after_reset(emulator: Emulator) -> None:
    url = picture_url(finish(emulator, submit(emulator, image_size="square")))
    emulator.reset()

    assert ask(emulator, "GET", url).status == 404


def test_nothing_runs_after_stop() -> None:
    before = set(threading.enumerate())
    emulator = Emulator(run_s=3600).start()
    taken = submit(emulator, query="?fal_webhook=http://127.0.0.1:1/")
    address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    with (
        begin(emulator, "GET", f"{taken['status_url']}/stream") as stream,
        socket.create_connection(address) as idle,
    ):
        stream.readline()

        emulator.stop()
        emulator.stop()

        assert set(threading.enumerate()) <= before
        assert is_over(idle)
        with pytest.raises(ConnectionRefusedError):
            ask(emulator, "GET", "/")
        assert len(emulator.ledger) == 1


def is_over(connection: socket.socket) -> bool:
    """Whether the other side is gone; it resets a connection that it had not taken yet."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_it_can_be_started_again_on_the_same_port_with_an_empty_ledger() -> None:
    emulator = Emulator()
    with emulator:
        submit(emulator)
        url = emulator.url
    with emulator:
        assert emulator.url == url
        assert emulator.ledger == []
        assert finish(emulator, submit(emulator)).status == 200


def test_faults_can_be_armed_before_it_starts() -> None:
    emulator = Emulator()
    emulator.fault("429")
    with emulator:
        assert ask(emulator, "POST", f"{QUEUE}/{SCHNELL}", {}).status == 429


def test_a_taken_port_is_an_error(emulator: Emulator) -> None:
    port = int(emulator.url.rpartition(":")[2])

    with pytest.raises(OSError, match="in use"):
        Emulator(port=port).start()


def test_serve_runs_until_it_is_interrupted() -> None:
    seen = []

    def ready(emulator: Emulator) -> None:
        seen.append(ask(emulator, "GET", "/").status)
        raise KeyboardInterrupt

    serve(port=0, ready=ready)

    assert seen == [200]


@pytest.mark.parametrize(
    "request_text",
    [
        b"POST /queue.fal.run/fal-ai/flux HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /queue.fal.run/fal-ai/flux/schnell HTTP/1.1\r\nAuthorization: Key a:b\r\n"
        b"Content-Length: 99999999999\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"\x00\xff\r\n\r\n",
    ],
)
def test_a_request_that_cannot_be_served_is_refused_and_harms_nobody(
    emulator: Emulator, request_text: bytes
) -> None:
    address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(request_text)
        answer = connection.makefile("rb").read()

    assert b" 4" in answer.split(b"\r\n")[0] or b"400" in answer
    assert finish(emulator, submit(emulator)).status == 200


def test_one_connection_serves_many_calls_even_after_a_refused_body(emulator: Emulator) -> None:
    address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    call = (
        b"POST /queue.fal.run/fal-ai/flux/schnell HTTP/1.1\r\nContent-Length: 70000\r\n\r\n"
        + b"x" * 70000
    )
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(call + call)
        connection.shutdown(socket.SHUT_WR)
        answers = connection.makefile("rb").read()

    assert answers.count(b"HTTP/1.1 401") == 2

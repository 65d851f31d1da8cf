"""What is read without http.client is read as http.client would, and the rest is left to it."""

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import urllib3

from fal_image.connections import MAX_IDLE_S, Pools, PublicTls, cause, pool_classes
from fal_image.connections.plain import parsed, written
from fal_image.connections.pools import MAX_POOLS
from fal_image.connections.sockets import PlainHttp
from fal_image.wire import Wire
from support.connects import watched
from support.peer import Peer, answer

URL = "https://queue.fal.run/fal-ai/flux/requests/1/status"
TIMEOUT = urllib3.Timeout(connect=5.0, read=5.0)


def call(wire: Wire):
    return wire.call("GET", URL, key="id:secret", timeout_s=5.0)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (answer(200, b"{}"), b"{}"),
        (answer(200, b"{}", connection="Keep-Alive"), b"{}"),
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}", b"{}"),
        (answer(200, b""), b""),
        (answer(200, b"x" * 1_000_000), b"x" * 1_000_000),
        (answer(200, b"{}", connection="close"), b"{}"),
        (answer(200, gzip.compress(b"{}"), content_encoding="gzip"), b"{}"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(200, b"{}"), b"{}"),
        (b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\nx-folded: a\r\n b\r\ncontent-length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}", b"{}"),
    ],
    ids=lambda value: value[:60].decode("latin-1"),
)
def test_an_answer_is_whole_however_it_is_written(script: bytes, body: bytes):
    with Peer([script]) as peer:
        got = call(Wire(emulator_url=peer.url))
    assert (got.status, got.body) == (200, body)


def test_headers_come_as_they_were_sent():
    script = b"HTTP/1.1 200 OK\r\nA:  b \r\nX-Two: 1\r\nx-two: \xe9\r\ncontent-length: 0\r\n\r\n"
    with Peer([script]) as peer:
        headers = call(Wire(emulator_url=peer.url)).headers
    assert [*headers] == [("a", "b"), ("x-two", "1"), ("x-two", "é"), ("content-length", "0")]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100 + b"content-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
        b"ICY 200 OK\r\ncontent-length: 2\r\n\r\n",
    ],
    ids=lambda head: head[:70].decode(),
)
def test_what_is_not_plain_is_left_to_http_client(head: bytes):
    assert parsed("GET", head) is None


def test_an_answer_to_head_is_left_to_http_client():
    assert parsed("HEAD", answer(200, b"", declared=7)) is None


def test_a_connection_that_says_more_than_was_asked_is_not_used_again():
    with Peer([answer(200, b"{}") + answer(200, b"[]")]) as peer:
        wire = Wire(emulator_url=peer.url)
        assert [call(wire).body, call(wire).body] == [b"{}", b"{}"]
    assert peer.connections == 2


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a\r\nx: y", {}), ("/", {"x": "a\r\nb: c"}), ("/", {"x\ny": "a"}), ("/", {"x": "a\rb"})],
)
def test_no_line_of_a_request_can_hold_another(target: str, headers: dict[str, str]):
    with pytest.raises(ValueError, match="another"):
        written("GET", target, "fal.run", headers, None)


def test_a_server_that_configuration_names_lends_its_name_to_no_other_address():
    """The same host and port, of which only what is below /named may be a private one."""
    origin = f"https://127.0.0.1:{closed_port()}"
    pools = Pools(PublicTls, [f"{origin}/named"], time.monotonic)
    for path, words in (("/named/a", "refused"), ("/open", "private address")):
        with pytest.raises(urllib3.exceptions.NewConnectionError, match=words):
            pools.send("GET", f"{origin}{path}", headers={}, body=None, timeout=TIMEOUT)


def test_however_many_hosts_are_asked_only_some_are_kept():
    with Peer([answer(200, b"{}")]) as peer:
        gone = [f"http://127.0.0.1:{closed_port()}" for _ in range(MAX_POOLS)]
        pools = Pools(PublicTls, [peer.url, *gone], time.monotonic)

        def ask(url: str) -> bytes:
            got = pools.send("GET", f"{url}/", headers={}, body=None, timeout=TIMEOUT)
            return got.read()

        assert ask(peer.url) == b"{}"
        for url in gone:
            with pytest.raises(urllib3.exceptions.NewConnectionError):
                ask(url)
        assert ask(peer.url) == b"{}"
    assert peer.connections == 2


@pytest.mark.parametrize("fill", [b" ", b"\t", b":", b"a: ", b"a:b\r\n"])
def test_a_hostile_head_is_read_in_no_time(fill: bytes):
    head = b"HTTP/1.1 200 OK\r\na:" + fill * (60_000 // len(fill)) + b"x\r\n\r\n"
    began = time.process_time()
    parsed("GET", head)
    parsed("GET", head[:-4])
    assert time.process_time() - began < 1.0


def test_a_head_that_comes_byte_by_byte_is_whole_at_its_end():
    script = answer(200, b"{}", x_one="1")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in script:
                    connection.sendall(bytes([byte]))

        thread = threading.Thread(target=serve)
        thread.start()
        host, port = listener.getsockname()
        got = call(Wire(emulator_url=f"http://{host}:{port}"))
        thread.join()
    assert (got.body, got.headers.get("x-one")) == (b"{}", "1")


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("[::1]", ("::1", 80)),
        ("[::1]:9", ("::1", 9)),
        ("[::ffff:127.0.0.1]:9", ("::ffff:127.0.0.1", 9)),
        ("127.0.0.1", ("127.0.0.1", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(host: str, place: tuple[str, int]):
    pools = Pools(PublicTls, [f"http://{host}"], time.monotonic)
    with watched() as seen, suppress(urllib3.exceptions.HTTPError):
        pools.connect(f"http://{host}/", timeout_s=5.0)
    assert seen[0] == ("socket.getaddrinfo", place)


def test_what_is_no_host_is_an_error_of_the_address():
    pools = Pools(PublicTls, [], time.monotonic)
    with pytest.raises(urllib3.exceptions.LocationValueError):
        pools.send("GET", "https://a b/", headers={}, body=None, timeout=TIMEOUT)
    with pytest.raises(urllib3.exceptions.LocationValueError):
        pools.connect("https://a b/", timeout_s=5.0)


def test_what_http_client_takes_for_no_host_is_an_error_of_the_address():
    classes = pool_classes(PublicTls, time.monotonic, MAX_IDLE_S)
    pool: Any = classes["https"]("[::ffff:127.0.0.1]")  # without a port it looks for one in there
    with pytest.raises(urllib3.exceptions.LocationValueError, match="no possible host"):
        pool.taken()


def test_a_kept_connection_sends_with_the_time_there_is_to_connect():
    with Peer([answer(200, b"{}")]) as peer:
        host, _, port = peer.url.removeprefix("http://").rpartition(":")
        connection = PlainHttp(host, int(port))
        connection.connect()
        with closing(connection):
            connection.sock.settimeout(0.05)  # of the end of an answer
            connection.timeout = 5.0
            connection.ask("POST", "/", {}, b"{}")
            assert connection.sock.gettimeout() == 5.0


@pytest.mark.parametrize(
    ("url", "body", "words"),
    [
        ("http://elsewhere.invalid/", None, "neither https nor a server that was named"),
        ("http://127.0.0.1:9/", iter([b"x"]), "a body in pieces needs its length"),
        ("https://a:b/?signature=canary", None, "the address cannot be read"),
    ],
)
def test_what_cannot_be_sent_is_called_what_it_is(url: str, body: Iterator[bytes], words: str):
    pools = Pools(PublicTls, ["http://127.0.0.1:9"], time.monotonic)
    with pytest.raises(urllib3.exceptions.HTTPError) as failed:
        pools.send("PUT", url, headers={}, body=body, timeout=TIMEOUT)
    assert words in cause(failed.value)
    assert "canary" not in cause(failed.value)
    assert isinstance(failed.value, ValueError)

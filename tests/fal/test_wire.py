import hashlib
import io
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fal_image.connections import MAX_IDLE_S
from fal_image.wire import FetchError, Wire, WireError, host_matches, parse_target
from support.peer import RESET, Peer, answer

SUBMIT = "https://queue.fal.run/fal-ai/flux/schnell"
PICTURE = "https://v3.fal.media/files/a/b.png"
HOST = "env-1.api.tcloudbasegateway.com"
GATEWAY = f"https://{HOST}/v1/call"


class Clock:
    """Real time plus what a test adds."""

    def __init__(self) -> None:
        self.added_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added_s


def call(wire: Wire, url: str = SUBMIT, timeout_s: float = 5.0, body: bytes = b"{}"):
    return wire.call("POST", url, key="id:secret", timeout_s=timeout_s, body=body)


def fetch(wire: Wire, url: str = PICTURE, max_bytes: int = 1000) -> tuple[bytes, str]:
    file = io.BytesIO()
    fetched = wire.fetch(url, file, max_bytes=max_bytes, ends_at=time.monotonic() + 5)
    return file.getvalue(), fetched.sha256


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_call_carries_the_key_and_brings_the_whole_answer_whatever_its_status():
    with Peer([answer(503, {"detail": "busy"}, x_fal_request_id="r")]) as peer:
        got = call(Wire(emulator_url=peer.url))
    assert (got.status, got.body) == (503, b'{"detail": "busy"}')
    assert got.headers.get("X-Fal-Request-Id") == "r"
    assert b"authorization: Key id:secret" in peer.requests[0]
    assert peer.paths == ["/queue.fal.run/fal-ai/flux/schnell"]


def test_a_refused_connection_is_certainly_not_sent():
    with pytest.raises(WireError) as failed:
        call(Wire(emulator_url=f"http://127.0.0.1:{closed_port()}"))
    assert not failed.value.sent


@pytest.mark.parametrize("script", [RESET, answer(200, b"{}", declared=99), b"HTTP/1.1 2"])
def test_a_lost_answer_may_have_been_sent(script: bytes):
    with Peer([script]) as peer, pytest.raises(WireError) as failed:
        call(Wire(emulator_url=peer.url), timeout_s=0.5)
    assert failed.value.sent
    assert len(peer.requests) == 1


def test_no_answer_in_time_may_have_been_sent():
    with Peer([b""]) as peer, pytest.raises(WireError) as failed:
        call(Wire(emulator_url=peer.url), timeout_s=0.2)
    assert failed.value.sent


def test_a_call_without_time_left_is_not_sent():
    with Peer([answer()]) as peer, pytest.raises(WireError) as failed:
        call(Wire(emulator_url=peer.url), timeout_s=0.0)
    assert not failed.value.sent
    assert peer.requests == []


def test_a_redirect_of_a_call_is_an_answer_and_is_not_followed():
    with Peer([answer(307, location="https://queue.fal.run/other")]) as peer:
        assert call(Wire(emulator_url=peer.url)).status == 307
    assert len(peer.requests) == 1


def test_cookies_are_not_kept():
    with Peer([answer(200, b"{}", set_cookie="a=canary; Path=/")]) as peer:
        wire = Wire(emulator_url=peer.url)
        call(wire)
        call(wire)
    assert b"canary" not in peer.requests[1]


@pytest.mark.parametrize(
    "url",
    [
        "http://queue.fal.run/x",
        "https://queue.fal.run.evil.com/x",
        "https://evil.com/x",
        "https://v3.fal.media/x",
        "https://user@queue.fal.run/x",
        "https://queue.fal.run:443/x",
        "https://QUEUE.fal.run/x",
        "https://queue.fal.run\\@evil.com/x",
    ],
)
def test_the_key_goes_to_fals_own_hosts_only(url: str):
    with Peer([answer()]) as peer, pytest.raises(ValueError, match="must|only"):
        call(Wire(emulator_url=peer.url), url)
    assert peer.requests == []


def test_a_fresh_connection_is_used_again():
    with Peer([answer(200, b"{}")]) as peer:
        wire = Wire(emulator_url=peer.url)
        call(wire)
        call(wire)
    assert peer.connections == 1


def test_an_idle_connection_is_not_trusted_with_another_request():
    clock = Clock()
    with Peer([answer(200, b"{}")]) as peer:
        wire = Wire(emulator_url=peer.url, clock=clock)
        call(wire)
        clock.added_s += MAX_IDLE_S + 0.1
        call(wire)
    assert peer.connections == 2


def test_loopback_ignores_proxy_settings(monkeypatch: pytest.MonkeyPatch):
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:1")
    with Peer([answer(200, b"{}")]) as peer:
        assert call(Wire(emulator_url=peer.url)).status == 200


def test_a_proxy_that_cannot_be_used_means_not_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(WireError) as failed:
        call(Wire())
    assert not failed.value.sent


def test_a_netrc_entry_does_not_replace_the_key(tmp_path, monkeypatch: pytest.MonkeyPatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login canary password canary", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    with Peer([answer(200, b"{}")]) as peer:
        call(Wire(emulator_url=peer.url))
    assert b"authorization: Key id:secret" in peer.requests[0]


def test_a_picture_is_copied_without_any_credential():
    with Peer([answer(200, b"bytes")]) as peer:
        assert fetch(Wire(emulator_url=peer.url)) == (
            b"bytes",
            hashlib.sha256(b"bytes").hexdigest(),
        )
    assert b"authorization" not in peer.requests[0].lower()
    assert peer.paths == ["/v3.fal.media/files/a/b.png"]


@pytest.mark.parametrize(
    "url",
    [
        "http://v3.fal.media/a",
        "https://fal.media.evil.com/a",
        "https://evilfal.media/a",
        "https://v3.fal.media@evil.com/a",
        "https://127.0.0.1/a",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/a",
        "https://2130706433/a",
        "https://v3.fal.media./a",
        "https://v3.fal.media:8443/a",
        "https://v3.fal.media/a\r\nhost: evil",
        "https://queue.fal.run/a",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_picture_from_anywhere_else_is_refused_before_a_socket_is_opened(url: str):
    with Peer([answer(200, b"bytes")]) as peer, pytest.raises(FetchError) as failed:
        fetch(Wire(emulator_url=peer.url), url)
    assert not failed.value.may_pass
    assert peer.requests == []


def test_a_host_the_owner_allows_may_be_fetched_from():
    wire = Wire(fetch_hosts=("cdn.example.com", "*.example.org"))
    assert wire.check_media_url("https://cdn.example.com/a")
    assert wire.check_media_url("https://a.b.example.org/a")
    with pytest.raises(FetchError):
        wire.check_media_url("https://example.org/a")


def test_a_name_that_resolves_to_a_private_address_is_refused_at_connect():
    # "localhost" style names resolve without a network; the check is on what they resolve to.
    wire = Wire(fetch_hosts=("localhost.localdomain", "*.localhost"))
    with pytest.raises(FetchError) as failed:
        fetch(wire, "https://pictures.localhost/a")
    assert "private" in failed.value.reason or "resolve" in failed.value.reason


def test_redirects_are_followed_to_allowed_hosts_only():
    moved = answer(302, location="/files/moved.png")
    with Peer([moved, answer(200, b"bytes")]) as peer:
        assert fetch(Wire(emulator_url=peer.url))[0] == b"bytes"
    assert peer.paths[1] == "/v3.fal.media/files/moved.png"
    with Peer([answer(302, location="https://evil.com/x")]) as peer:
        with pytest.raises(FetchError):
            fetch(Wire(emulator_url=peer.url))
        assert len(peer.requests) == 1


def test_redirects_in_a_circle_end():
    with Peer([answer(302, location=PICTURE)]) as peer, pytest.raises(FetchError):
        fetch(Wire(emulator_url=peer.url))
    assert len(peer.requests) == 4


def test_a_declared_length_over_the_limit_is_refused_unread():
    with Peer([answer(200, b"x" * 50, declared=2000)]) as peer, pytest.raises(FetchError) as failed:
        fetch(Wire(emulator_url=peer.url), max_bytes=1000)
    assert "2000" in failed.value.reason


def test_an_undeclared_length_over_the_limit_is_cut_off():
    chunked = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n" + b"5\r\nbytes\r\n" * 3
    with Peer([chunked]) as peer, pytest.raises(FetchError) as failed:
        fetch(Wire(emulator_url=peer.url), max_bytes=10)
    assert "10" in failed.value.reason


def test_fewer_bytes_than_declared_may_pass_next_time():
    with Peer([answer(200, b"by", declared=9)]) as peer, pytest.raises(FetchError) as failed:
        fetch(Wire(emulator_url=peer.url))
    assert failed.value.may_pass


@pytest.mark.parametrize(
    ("status", "may_pass"), [(404, False), (410, False), (429, True), (503, True)]
)
def test_a_status_says_whether_fetching_again_could_work(status: int, may_pass: bool):
    with Peer([answer(status, b"")]) as peer, pytest.raises(FetchError) as failed:
        fetch(Wire(emulator_url=peer.url))
    assert (failed.value.status, failed.value.may_pass) == (status, may_pass)


@pytest.mark.parametrize("url", ["https://fal.run", "https://queue.fal.run/a?b=c%20d&e"])
def test_plain_targets_are_parsed(url: str):
    assert parse_target(url).scheme == "https"


def test_patterns_stand_for_whole_labels():
    assert host_matches("v3.fal.media", "*.fal.media")
    assert not host_matches("fal.media", "*.fal.media")
    assert not host_matches("evilfal.media", "*.fal.media")


def reach(wire: Wire, url: str = GATEWAY, **given: Any) -> tuple[int, bytes]:
    options: dict[str, Any] = {"host": HOST, "timeout_s": 5.0, "silence_s": 5.0, "headers": {}}
    options |= given
    with wire.reach(options.pop("method", "POST"), url, **options) as reply:
        return reply.status, b"".join(reply.chunks)


def test_another_host_gets_the_headers_it_is_given_and_no_key_of_fals():
    with Peer([answer(503, b"busy")]) as peer:
        got = reach(Wire(detours={HOST: peer.url}), headers={"x-own": "yes"}, body=b"{}")
    assert got == (503, b"busy")
    assert peer.paths == ["/env-1.api.tcloudbasegateway.com/v1/call"]
    assert b"x-own: yes" in peer.requests[0]
    assert b"authorization" not in peer.requests[0].lower()


@pytest.mark.parametrize(
    "url",
    [
        "http://env-1.api.tcloudbasegateway.com/x",
        "https://env-2.api.tcloudbasegateway.com/x",
        "https://env-1.api.tcloudbasegateway.com.evil.com/x",
        "https://user@env-1.api.tcloudbasegateway.com/x",
        "https://env-1.api.tcloudbasegateway.com:8443/x",
        "https://evil.com\\@env-1.api.tcloudbasegateway.com/x",
    ],
)
def test_another_host_is_reached_under_exactly_its_name(url: str):
    with Peer([answer()]) as peer, pytest.raises(ValueError, match="must|not on the host"):
        reach(Wire(detours={HOST: peer.url, "evil.com": peer.url}), url)
    assert peer.requests == []


def test_a_redirect_of_another_host_is_an_answer_and_is_not_followed():
    with Peer([answer(302, location=f"https://{HOST}/other")]) as peer:
        assert reach(Wire(detours={HOST: peer.url}))[0] == 302
    assert len(peer.requests) == 1


def test_a_file_is_sent_whole_with_its_length():
    content = bytes(range(256)) * 1000
    file = io.BytesIO(content)
    file.seek(99)
    with Peer([answer()]) as peer:
        reach(Wire(detours={HOST: peer.url}), method="PUT", body=file)
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert body == content
    assert b"content-length: 256000" in head.lower()
    assert b"transfer-encoding" not in head.lower()


def test_an_empty_file_has_a_length_too():
    with Peer([answer()]) as peer:
        reach(Wire(detours={HOST: peer.url}), method="PUT", body=io.BytesIO())
    assert b"content-length: 0" in peer.requests[0].lower()
    assert b"transfer-encoding" not in peer.requests[0].lower()


def test_another_hosts_answer_is_cut_off_at_its_limit():
    with Peer([answer(200, b"x" * 50)]) as peer, pytest.raises(WireError) as failed:
        reach(Wire(detours={HOST: peer.url}), max_bytes=49)
    assert failed.value.sent


def test_a_refused_connection_to_another_host_is_certainly_not_sent():
    with pytest.raises(WireError) as failed:
        reach(Wire(detours={HOST: f"http://127.0.0.1:{closed_port()}"}), body=b"{}")
    assert not failed.value.sent


@pytest.mark.parametrize("script", [RESET, answer(200, b"{}", declared=99), b"HTTP/1.1 2", b""])
def test_a_lost_answer_of_another_host_may_have_been_sent(script: bytes):
    with Peer([script]) as peer, pytest.raises(WireError) as failed:
        reach(Wire(detours={HOST: peer.url}), silence_s=0.3)
    assert failed.value.sent


def test_another_host_may_not_fall_silent_inside_its_answer():
    half = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    with Peer([half]) as peer, pytest.raises(WireError) as failed:
        reach(Wire(detours={HOST: peer.url}), timeout_s=math.inf, silence_s=0.3)
    assert failed.value.sent


def test_another_host_may_have_a_private_address():
    # Inside Tencent's network the name of a bucket has one.
    with pytest.raises(WireError) as failed:
        reach(Wire(), "https://bucket.localhost/a", host="bucket.localhost")
    assert "private" not in failed.value.reason


def test_a_header_that_cannot_be_sent_is_not_repeated_in_the_error():
    with Peer([answer()]) as peer, pytest.raises(WireError) as failed:
        reach(Wire(detours={HOST: peer.url}), headers={"authorization": "Bearer canary\n"})
    assert not failed.value.sent
    assert "canary" not in failed.value.reason


def test_fals_own_hosts_never_take_a_detour_from_the_emulator():
    with Peer([answer(200, b"{}")]) as peer:
        wire = Wire(emulator_url=peer.url, detours={"queue.fal.run": "http://127.0.0.1:1"})
        assert call(wire).status == 200


def read(wire: Wire, url: str = "https://rest.fal.ai/.well-known/jwks.json"):
    return wire.read(url, timeout_s=5, max_bytes=100)


def test_what_fal_publishes_is_read_without_the_key():
    with Peer([answer(404, b"{}")]) as peer:
        got = read(Wire(emulator_url=peer.url))
    assert (got.status, got.body) == (404, b"{}")
    assert peer.paths == ["/rest.fal.ai/.well-known/jwks.json"]
    assert b"authorization" not in peer.requests[0].lower()


@pytest.mark.parametrize(
    "url", ["https://rest.fal.ai.evil.com/", "http://rest.fal.ai/", "https://v3.fal.media/a"]
)
def test_only_fals_own_hosts_are_read_from(url: str):
    with Peer([answer()]) as peer, pytest.raises(ValueError, match="must|only"):
        read(Wire(emulator_url=peer.url, detours={"rest.fal.ai.evil.com": peer.url}), url)
    assert peer.requests == []


def test_what_fal_publishes_is_cut_off_at_its_limit():
    with Peer([answer(200, b"x" * 101)]) as peer, pytest.raises(WireError):
        read(Wire(emulator_url=peer.url))


RECEIVER = "hooks.example.com"


def tell(wire: Wire, url: str = f"https://{RECEIVER}/in?a=b", **given: Any) -> int:
    options: dict[str, Any] = {"hosts": (RECEIVER,), "headers": {}, "timeout_s": 5.0}
    return wire.tell(url, b"{}", **(options | given))


def test_a_receiver_gets_the_headers_it_is_given_and_no_key():
    with Peer([answer(202, b"thanks")]) as peer:
        assert tell(Wire(detours={RECEIVER: peer.url}), headers={"webhook-id": "j"}) == 202
    head, _, body = peer.requests[0].lower().partition(b"\r\n\r\n")
    assert peer.paths == [f"/{RECEIVER}/in?a=b"]
    assert b"webhook-id: j" in head
    assert b"authorization" not in head
    assert body == b"{}"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("http://hooks.example.com/", (RECEIVER,)),
        ("https://hooks.example.com:8443/", (RECEIVER,)),
        ("https://me@hooks.example.com/", (RECEIVER,)),
        ("https://hooks.example.com.evil.com/", (RECEIVER,)),
        ("https://evil.com/", (RECEIVER,)),
        ("https://example.com/", ("*.example.com",)),
        ("https://hooks.example.com/", ()),
        (f"https://{'a' * 64}.example.com/", ("*.example.com",)),
    ],
)
def test_only_a_receiver_on_an_allowed_host_is_told(url: str, hosts: tuple[str, ...]):
    with Peer([answer()]) as peer, pytest.raises(ValueError, match="must|may be told"):
        tell(Wire(detours={RECEIVER: peer.url, "evil.com": peer.url}), url, hosts=hosts)
    assert peer.requests == []


def test_a_redirect_of_a_receiver_is_an_answer_and_is_not_followed():
    with Peer([answer(307, location=f"https://{RECEIVER}/other")]) as peer:
        assert tell(Wire(detours={RECEIVER: peer.url})) == 307
    assert len(peer.requests) == 1


def test_a_receiver_on_a_private_address_is_refused_at_connect():
    with pytest.raises(WireError) as failed:
        tell(Wire(), "https://hooks.localhost/", hosts=("*.localhost",))
    assert "private" in failed.value.reason or "resolve" in failed.value.reason
    assert not failed.value.sent


def test_what_a_receiver_answers_is_not_read_to_its_end():
    with Peer([answer(200, b"x" * 100_000, declared=10**12)]) as peer:
        assert tell(Wire(detours={RECEIVER: peer.url})) == 200


@contextmanager
def dripping(start: bytes = b"HTTP/1.1 200 X\r\nendless: ") -> Iterator[str]:
    """A server that answers with a start and then with one byte every 20 ms; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        connection.settimeout(0.02)
        with connection:
            connection.sendall(start)
            while True:
                try:
                    if not connection.recv(65536):
                        return
                except TimeoutError:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_an_answer_that_drips_does_not_outlast_the_time_out():
    with dripping() as url, pytest.raises(WireError) as failed:
        tell(Wire(detours={RECEIVER: url}), timeout_s=0.3)
    assert failed.value.sent
    with dripping() as url, pytest.raises(WireError):
        call(Wire(emulator_url=url), timeout_s=0.3)


def test_a_body_may_take_longer_than_its_head():
    head = b"HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: 20\r\n\r\n"
    with dripping(head) as url:
        wire = Wire(detours={HOST: url})
        assert reach(wire, timeout_s=math.inf, silence_s=0.2) == (200, b"x" * 20)

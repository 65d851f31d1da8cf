"""One way to speak to an endpoint: deployed, or in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.endpoint import (
    OWN_CALLER,
    Answer,
    Deployed,
    EndpointFailed,
    InProcess,
    deployed,
)
from fal_image.web import Headers
from support import pictures
from support.entrypoints import KEY
from support.instances import instance, serving
from support.peer import RESET, Peer, answer

SMALL = {"prompt": "a calico cat", "image_size": {"width": 64, "height": 64}}


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def test_both_kinds_answer_alike(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path) as server:
        for endpoint in (Deployed(server.url, KEY), InProcess(server.app)):
            made = endpoint.ask("POST", "/generate", SMALL)
            assert (made.status, made.body["state"]) == (200, "done")
            job = endpoint.ask("GET", f"/jobs/{made.body['jobId']}").body
            assert job["images"][0]["fileID"] == made.body["fileID"]
            nothing = endpoint.ask("GET", "/jobs/00000000000000000000000000")
            assert nothing.is_error
            assert nothing.body["error"] == "not_found"


def test_headers_and_queries_arrive(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path) as server:
        for endpoint in (Deployed(server.url, KEY), InProcess(server.app)):
            open_job = endpoint.ask("POST", "/generate?x=1", SMALL, {"prefer": "respond-async"})
            assert (open_job.status, open_job.retry_after_s) == (202, 1)


def test_without_a_caller_the_process_wants_a_key_too(fal: Emulator, tmp_path: Path):
    app = instance(fal, tmp_path).app
    assert InProcess(app, caller=None).ask("GET", "/models").status == 401
    key = {"authorization": f"Bearer {KEY}"}
    assert InProcess(app, caller=None).ask("GET", "/models", None, key).status == 200
    assert ":" in OWN_CALLER, "no API key may be of this caller"


def test_a_link_of_another_endpoint_to_a_file_is_not_read_here(tmp_path: Path):
    path = tmp_path / "cat.png"
    path.write_bytes(pictures.png())
    with pytest.raises(EndpointFailed):
        Deployed("https://pictures.example.com").fetch(path.as_uri(), max_bytes=10_000)


def test_files_of_this_process_are_read_up_to_a_length(fal: Emulator, tmp_path: Path):
    endpoint = InProcess(instance(fal, tmp_path).app)
    path = tmp_path / "a cat.png"
    path.write_bytes(pictures.png())
    assert endpoint.fetch(path.as_uri(), max_bytes=10_000) == pictures.png()
    with pytest.raises(EndpointFailed, match="longer than 10 bytes"):
        endpoint.fetch(path.as_uri(), max_bytes=10)
    with pytest.raises(EndpointFailed, match="cannot be read"):
        endpoint.fetch((tmp_path / "gone.png").as_uri(), max_bytes=10)


def test_plain_http_leads_to_the_endpoint_itself_and_nowhere_else():
    with Peer([answer(200, b"x" * 100)]) as peer, Peer([answer(200, b"no")]) as other:
        endpoint = Deployed(peer.url, KEY)
        assert endpoint.fetch(f"{peer.url}/files/a", max_bytes=100) == b"x" * 100
        with pytest.raises(EndpointFailed, match="longer than 99 bytes"):
            endpoint.fetch(f"{peer.url}/files/a", max_bytes=99)
        with pytest.raises(EndpointFailed):
            endpoint.fetch(f"{other.url}/files/a", max_bytes=100)
    assert other.requests == []
    assert all(b"authorization" not in request.lower() for request in peer.requests)


def test_the_token_follows_no_redirect():
    with Peer([answer(200, {})]) as other:
        location = f"{other.url}/stolen"
        with Peer([answer(302, b"", location=location)]) as peer:
            assert Deployed(peer.url, KEY).ask("GET", "/models").status == 302
    assert other.requests == []


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (answer(502, "<html>Bad Gateway</html>", content_type="text/html"), 502),
        (answer(200, "[1, 2]"), 200),
        (answer(200, "{" * 100_000), 200),
        (answer(204), 204),
    ],
)
def test_what_is_no_object_is_an_answer_without_a_body(script: bytes, status: int):
    with Peer([script]) as peer:
        answered = Deployed(peer.url).ask("GET", "/models")
    assert (answered.status, answered.body, answered.is_error) == (status, {}, True)


@pytest.mark.parametrize("script", [RESET, answer(200, b"{}", declared=100) + RESET])
def test_no_whole_answer_is_a_failure_after_sending(script: bytes):
    with Peer([script]) as peer, pytest.raises(EndpointFailed) as failed:
        Deployed(peer.url).ask("POST", "/generate", SMALL)
    assert failed.value.sent
    assert len(peer.requests) == 1


def test_nobody_listening_is_a_failure_before_sending():
    with pytest.raises(EndpointFailed) as failed:
        Deployed("http://127.0.0.1:9").ask("POST", "/generate", SMALL)
    assert not failed.value.sent


def test_time_ends_inside_an_answer():
    times = iter([0.0, *[1.0] * 20, *[100.0] * 50])
    with (
        Peer([answer(200, b"{}", declared=100)]) as peer,
        pytest.raises(EndpointFailed) as failed,
    ):
        Deployed(peer.url, clock=lambda: next(times)).ask("GET", "/models", patience_s=0.5)
    assert failed.value.sent


@pytest.mark.parametrize("text", ["7", "120"])
def test_the_time_to_wait_is_read(text: str):
    with Peer([answer(429, {"error": "rate_limited"}, retry_after=text)]) as peer:
        assert Deployed(peer.url).ask("GET", "/models").retry_after_s == int(text)


@pytest.mark.parametrize("text", ["", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "9" * 40])
def test_another_time_to_wait_is_none(text: str):
    with Peer([answer(429, {"error": "rate_limited"}, retry_after=text)]) as peer:
        assert Deployed(peer.url).ask("GET", "/models").retry_after_s is None


def test_the_environment_names_an_endpoint_or_says_what_is_wrong():
    named = deployed(
        {"FAL_IMAGE_URL": "https://pictures.example.com/prod/", "FAL_IMAGE_TOKEN": KEY}
    )
    assert named is not None
    assert (named.url, named.token) == ("https://pictures.example.com/prod", KEY)
    assert KEY not in repr(named)
    assert deployed({"FAL_IMAGE_URL": " "}) is None
    with pytest.raises(ValueError, match="FAL_IMAGE_URL: must start with https://"):
        deployed({"FAL_IMAGE_URL": "http://pictures.example.com"})


@pytest.mark.parametrize("token", ["ключ", "a key", "k\n1", "schlüssel", "k\x7f"])
def test_a_token_that_no_header_can_carry_is_named_and_not_shown(token: str):
    with pytest.raises(ValueError, match="FAL_IMAGE_TOKEN: must be ASCII") as refused:
        deployed({"FAL_IMAGE_URL": "https://pictures.example.com", "FAL_IMAGE_TOKEN": token})
    assert token not in str(refused.value)


@pytest.mark.parametrize("value", ["ключ", "k\n1", " ", "k\r"])
def test_a_header_that_cannot_be_sent_is_a_failure_before_sending(value: str):
    with Peer([answer(200, {})]) as peer, pytest.raises(EndpointFailed) as failed:
        Deployed(peer.url).ask("POST", "/generate", SMALL, {"idempotency-key": value})
    assert not failed.value.sent
    assert peer.requests == []


def test_a_problem_is_the_endpoints_own_and_no_gateways(fal: Emulator, tmp_path: Path):
    own = InProcess(instance(fal, tmp_path).app).ask("GET", "/jobs/nobody")
    assert own.is_problem
    for said in ({}, {"message": "x"}, {"status": 504, "error": "Gateway Timeout"}):
        assert not Answer(504, Headers(), said).is_problem

"""What becomes of a call when answers are lost, gateways give up or nobody answers: one bill, in
time, and told as what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.endpoint import PATIENCE_S, Answer, EndpointFailed, InProcess
from fal_image.mcp_server.asking import GRACE_S
from fal_image.web import Headers
from support.agents import (
    CAT,
    Remembering,
    Silent,
    Unhurried,
    called,
    links_of,
    previews_of,
    seen,
    text_of,
    tools_for,
)
from support.instances import instance

GONE = EndpointFailed("ConnectionResetError: reset by peer", sent=True)
UNREACHED = EndpointFailed("ConnectionRefusedError: refused", sent=False)
GATEWAY = Answer(504, Headers(), {})

# What gateways say in front of a function (API Gateway guide, REST and HTTP APIs).
TIMED_OUT = Answer(504, Headers(), {"message": "Endpoint request timed out"})
UNAVAILABLE = Answer(503, Headers(), {"message": "Service Unavailable"})

SOURCES = ["https://v3.fal.media/files/a/cat.png", "https://v3.fal.media/files/a/dog.png"]


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def endpoint(fal: Emulator, tmp_path: Path) -> Remembering:
    """In this process, on a disk that no server serves."""
    return Remembering(InProcess(instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=None).app))


def without_database(fal: Emulator, tmp_path: Path) -> Remembering:
    bent = {"FAL_IMAGE_DATABASE_URL": None, "FAL_IMAGE_PUBLIC_URL": None}
    return Remembering(InProcess(instance(fal, tmp_path, **bent).app))


def test_a_lost_answer_is_asked_for_again_with_the_same_key(fal: Emulator, endpoint: Remembering):
    endpoint.failures = [GONE, GATEWAY]
    result = called(tools_for(endpoint), "generate_image", CAT)
    assert result.structured_content["state"] == "done"
    keys = [headers.get("idempotency-key") for _, path, _, headers in endpoint.asked[:3]]
    assert keys == ["made-key"] * 3
    assert len(fal.ledger) == 1


def test_an_endpoint_that_stays_silent_tells_the_key_to_come_back_with(endpoint: Remembering):
    endpoint.failures = [GONE, GONE, GONE]
    result = called(tools_for(endpoint), "generate_image", CAT)
    error = result.structured_content["error"]
    assert result.is_error
    assert (error["code"], error["idempotencyKey"]) == ("no_answer", "made-key")
    assert 'idempotency_key: "made-key"' in text_of(result)
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize("gateway", [GATEWAY, TIMED_OUT, UNAVAILABLE])
def test_a_gateway_that_gives_up_is_passed_by_with_the_same_key(
    fal: Emulator, endpoint: Remembering, gateway: Answer
):
    endpoint.failures = [gateway, gateway]
    result = called(tools_for(endpoint), "generate_image", CAT)
    assert result.structured_content["state"] == "done"
    assert len(fal.ledger) == 1


def test_a_wish_to_reuse_needs_no_key_to_be_asked_for_again(fal: Emulator, endpoint: Remembering):
    reused = {**CAT, "reuse": True}
    endpoint.failures = [GONE, TIMED_OUT]
    result = called(tools_for(endpoint), "generate_image", reused)
    assert result.structured_content["state"] == "done"
    assert not any("idempotency-key" in headers for *_, headers in endpoint.asked)
    assert len(fal.ledger) == 1
    endpoint.failures = [GONE] * 3
    error = called(tools_for(endpoint), "generate_image", reused).structured_content["error"]
    assert (error["retryable"], error["idempotencyKey"]) == (True, None)


def test_what_may_have_arrived_once_is_not_told_as_never_sent(endpoint: Remembering):
    for first in (GONE, TIMED_OUT):
        endpoint.failures = [first, UNREACHED, UNREACHED]
        result = called(tools_for(endpoint), "generate_image", CAT)
        assert result.structured_content["error"]["idempotencyKey"] == "made-key"
    endpoint.failures = [UNREACHED] * 3
    error = called(tools_for(endpoint), "generate_image", CAT).structured_content["error"]
    assert (error["retryable"], error["idempotencyKey"]) == (True, None)


@pytest.mark.parametrize("answers", [0, 1])
@pytest.mark.parametrize("wait_s", [0, 45])
def test_a_call_ends_in_time_however_silent_the_endpoint_is(wait_s: float, answers: int):
    time = Unhurried()
    endpoint = Silent(time, *[seen("submitted")] * answers)
    tools = tools_for(endpoint, wait_s=wait_s, time=time)
    made = called(tools, "generate_image", CAT)
    assert time.now_s <= wait_s + GRACE_S
    if answers:
        assert made.structured_content["jobId"] == "0" * 26
        assert not made.is_error
    else:
        error = made.structured_content["error"]
        assert (error["code"], error["idempotencyKey"]) == ("no_answer", "made-key")
        assert error["retryable"] is True
    for name, arguments in (
        ("get_job", {"job_id": "0" * 26}),
        ("estimate_cost", {"prompt": "x"}),
        ("renew_link", {"file_ids": ["s3://a/b"]}),
    ):
        begun_at = time.now_s
        assert called(tools, name, arguments).structured_content["error"]["code"] == "no_answer"
        assert time.now_s - begun_at <= wait_s + GRACE_S


def test_a_quick_failure_late_in_a_call_is_not_tried_beyond_its_end():
    time = Unhurried()
    endpoint = Silent(time, TIMED_OUT, TIMED_OUT, TIMED_OUT)
    called(tools_for(endpoint, wait_s=1, time=time), "generate_image", CAT)
    assert (len(endpoint.asked), time.now_s) == (2, 0.5)


def test_silent_links_take_no_longer_than_the_call():
    time = Unhurried()
    image = {"index": 0, "fileID": "s3://b/a.png", "tempFileURL": "https://b.example/a.png"}
    endpoint = Silent(time, seen("done", images=[image] * 4))
    result = called(tools_for(endpoint, wait_s=30, time=time), "generate_image", CAT)
    assert (len(links_of(result)), previews_of(result)) == (4, [])
    assert endpoint.fetched == 2
    assert time.now_s <= 30 + GRACE_S


@pytest.mark.parametrize("code", ["upload_failed", "fetch_image_failed", "deadline_exceeded"])
def test_pictures_that_are_paid_and_still_at_fal_are_told(endpoint: Remembering, code: str):
    problem = {
        "error": code,
        "message": "not stored",
        "retryable": False,
        "falRequestId": "fal-1",
        "sourceUrls": [*SOURCES, "data:image/png;base64,AAAA", "javascript:1", 7],
    }
    failed = seen("failed", images=[], error=problem, falRequestId="fal-1")
    for answer in (Answer(502, Headers(), {**problem, "jobId": "0" * 26}), failed):
        endpoint.failures = [answer]
        result = called(tools_for(endpoint), "generate_image", CAT)
        error = result.structured_content["error"]
        assert result.is_error
        assert (error["code"], error["falRequestId"]) == (code, "fal-1")
        assert error["sourceUrls"] == SOURCES
        assert all(url in text_of(result) for url in SOURCES)
        assert "falRequestId: fal-1" in text_of(result)
        assert "base64" not in text_of(result)


def test_a_picture_that_could_not_be_stored_is_told_where_it_is(fal: Emulator, tmp_path: Path):
    endpoint = without_database(fal, tmp_path)
    (tmp_path / "pictures").write_text("no folder", encoding="utf-8")
    error = called(tools_for(endpoint), "generate_image", CAT).structured_content["error"]
    assert (error["code"], error["retryable"]) == ("upload_failed", False)
    assert error["falRequestId"] == fal.ledger[0].request_id
    (url,) = error["sourceUrls"]
    assert url.startswith("https://v3.fal.media/")


def test_reading_a_job_survives_answers_that_are_lost(endpoint: Remembering):
    job_id = called(tools_for(endpoint), "generate_image", CAT).structured_content["jobId"]
    endpoint.failures = [GONE, GATEWAY]
    assert (
        called(tools_for(endpoint), "get_job", {"job_id": job_id}).structured_content["state"]
        == "done"
    )
    endpoint.failures = [UNREACHED] * 3
    lost = called(tools_for(endpoint), "get_job", {"job_id": job_id})
    assert lost.is_error
    assert lost.structured_content["error"]["retryable"] is True


def test_an_endpoint_without_a_database_makes_pictures_in_one_request(
    fal: Emulator, tmp_path: Path
):
    endpoint = without_database(fal, tmp_path)
    tools = tools_for(endpoint)
    result = called(tools, "generate_image", CAT)
    assert result.structured_content["state"] == "done"
    called(tools, "generate_image", CAT)
    named = ["idempotency-key" in headers for *_, headers in endpoint.asked]
    assert named == [True, False, False], "asked once whether it keeps jobs"


def test_without_a_database_a_lost_answer_is_not_asked_for_again(fal: Emulator, tmp_path: Path):
    endpoint = without_database(fal, tmp_path)
    tools = tools_for(endpoint)
    called(tools, "generate_image", CAT)
    endpoint.failures = [GONE]
    result = called(tools, "generate_image", CAT)
    error = result.structured_content["error"]
    assert (error["retryable"], error["idempotencyKey"]) == (False, None)
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize("gateway", [GATEWAY, TIMED_OUT, UNAVAILABLE, Answer(200, Headers(), {})])
def test_without_a_database_a_gateway_that_gave_up_may_have_been_paid(
    fal: Emulator, tmp_path: Path, gateway: Answer
):
    endpoint = without_database(fal, tmp_path)
    tools = tools_for(endpoint)
    called(tools, "generate_image", CAT)
    endpoint.failures = [gateway]
    result = called(tools, "generate_image", CAT)
    error = result.structured_content["error"]
    assert result.is_error
    assert (error["code"], error["retryable"]) == ("no_answer", False)
    assert error["idempotencyKey"] is None
    assert "may have been paid" in error["hint"]
    assert "made-key" not in text_of(result)
    assert len(endpoint.asked) == 3


def test_without_a_database_the_one_request_is_waited_for_beyond_the_call():
    time = Unhurried()
    needs = {"error": "database_required", "message": "no database", "retryable": True}
    endpoint = Silent(time, Answer(501, Headers(), needs))
    result = called(tools_for(endpoint, wait_s=45, time=time), "generate_image", CAT)
    assert result.structured_content["error"]["retryable"] is False
    assert time.now_s == PATIENCE_S


def test_without_a_database_a_key_of_the_agents_is_not_silently_dropped(
    fal: Emulator, tmp_path: Path
):
    tools = tools_for(without_database(fal, tmp_path))
    result = called(tools, "generate_image", {**CAT, "idempotency_key": "mine"})
    assert result.structured_content["error"]["code"] == "database_required"
    assert fal.ledger == []


@pytest.mark.parametrize(
    "answer", [Answer(200, Headers(), {}), Answer(200, Headers(), {"hello": 1}), GATEWAY]
)
@pytest.mark.parametrize(
    ("name", "arguments"), [("generate_image", CAT), ("get_job", {"job_id": "0" * 26})]
)
def test_what_is_no_endpoint_is_an_error(
    endpoint: Remembering, answer: Answer, name: str, arguments: dict[str, Any]
):
    endpoint.failures = [answer] * 3
    result = called(tools_for(endpoint), name, arguments)
    assert result.is_error
    assert "something else than the endpoint answered" in text_of(result)

"""OpenAI's package repeats what fails, twice, by itself: never so that a picture is paid again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from fal_image.dev.emulator import Emulator
from support import pictures
from support.clocks import Time
from support.instances import NOWHERE, Server

Serve = Callable[..., tuple[Server, openai.OpenAI]]
Ask = Callable[[openai.OpenAI], object]

TOMORROW = "fal-ai/flux-of-tomorrow"  # which fal does not have

# What befalls a request that fal may have taken, on the way or in the end.
AFTER_MONEY: dict[str, dict[str, Any]] = {
    "lost submit": {"kind": "lost", "on": "submit"},
    "cut submit": {"kind": "cut", "on": "submit"},
    "a submit behind nginx": {"kind": "504-nginx", "on": "submit"},
    "a submit behind another nginx": {"kind": "502-nginx", "on": "submit"},
    "an answer without a request id": {"kind": "no-request-id", "on": "submit"},
    "fal fails": {"kind": "error", "on": "result"},
    "fal refuses late": {
        "kind": "error",
        "on": "result",
        "status": 422,
        "error_type": "content_policy_violation",
        "detail": "no",
    },
    "fal forgets": {"kind": "expired", "on": "result"},
    "no payload": {"kind": "null-payload", "on": "result"},
    "no pictures": {"kind": "no-images", "on": "result"},
}


@pytest.fixture
def hand() -> Time:
    return Time()


@pytest.fixture
def slow(hand: Time) -> Iterator[Emulator]:
    """fal with jobs of 30 s of a clock that nobody moves."""
    with Emulator(run_s=30, clock=hand) as emulator:
        yield emulator


def generate(client: openai.OpenAI) -> object:
    return client.images.generate(prompt="a calico cat")


def edit(client: openai.OpenAI) -> object:
    return client.images.edit(image=pictures.png(), prompt="a calico cat")


def failed(client: openai.OpenAI, ask: Ask = generate) -> Any:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client)
    return caught.value


@pytest.mark.parametrize("ask", [generate, edit])
@pytest.mark.parametrize("database", ["kept", "not kept"])
@pytest.mark.parametrize("name", AFTER_MONEY)
def test_what_may_have_been_paid_is_asked_for_once(
    serve: Serve, fal: Emulator, name: str, database: str, ask: Ask
):
    bent: dict[str, str | None] = {"FAL_IMAGE_PUBLIC_URL": NOWHERE}  # no webhook brings it back
    if database == "not kept":
        bent["FAL_IMAGE_DATABASE_URL"] = None
    _, client = serve(**bent)
    fal.fault(times=5, **AFTER_MONEY[name])
    error = failed(client, ask)
    assert fal.calls["submit"] == 1
    assert error.status_code in (424, 422)
    assert error.response.headers["x-should-retry"] == "false"


def test_a_job_that_goes_on_is_named_and_can_be_asked_after(
    serve: Serve, slow: Emulator, hand: Time
):
    server, client = serve(fal=slow, FAL_IMAGE_MAX_WAIT_S="1", FAL_IMAGE_PUBLIC_URL=NOWHERE)
    error = failed(client)
    assert slow.calls["submit"] == 1
    assert (error.status_code, error.code) == (424, "deadline_exceeded")
    assert (error.type, error.param) == ("server_error", None)
    place = f"/jobs/{error.body['jobId']}"
    assert place in error.message
    assert error.response.headers["location"].endswith(place)
    hand.sleep(31)
    asked = (server.http("GET", place).json["state"] for _ in range(10))
    assert "done" in asked  # a busy machine may need more than one second to copy


def test_without_a_database_a_job_that_is_too_slow_is_given_up(serve: Serve, slow: Emulator):
    _, client = serve(fal=slow, FAL_IMAGE_MAX_WAIT_S="2", FAL_IMAGE_DATABASE_URL=None)
    error = failed(client)
    assert (error.status_code, error.code) == (424, "deadline_exceeded")
    assert (slow.calls["submit"], slow.calls["cancel"]) == (1, 1)
    assert error.body["falRequestId"] == slow.ledger[0].request_id


def test_a_cancelled_job_is_no_picture(serve: Serve, slow: Emulator):
    server, client = serve(fal=slow, FAL_IMAGE_MAX_WAIT_S="1")
    named = {"Idempotency-Key": "one"}
    with pytest.raises(openai.APIStatusError) as caught:
        client.images.generate(prompt="a calico cat", extra_headers=named)
    body: Any = caught.value.body
    server.http("DELETE", f"/jobs/{body['jobId']}")
    with pytest.raises(openai.APIStatusError) as again:
        client.images.generate(prompt="a calico cat", extra_headers=named)
    assert (again.value.status_code, again.value.code) == (424, "fal_failed")
    assert "cancelled" in again.value.message
    assert slow.calls["submit"] == 1


@pytest.mark.parametrize("name", ["lost submit", "fal fails", None])
def test_a_key_makes_a_request_one_picture_however_often_it_comes(
    serve: Serve, fal: Emulator, name: str | None
):
    _, client = serve()
    if name is not None:
        fal.fault(times=5, **AFTER_MONEY[name])
    named = {"Idempotency-Key": "one"}
    told = set()
    for _ in range(3):
        try:
            answer = client.images.edit(
                image=pictures.png(), prompt="a calico cat", extra_headers=named
            )
            told.add(str(answer.data))
        except openai.APIStatusError as error:
            told.add(str(error.code))
    assert fal.calls["submit"] == 1
    if name is None:
        assert all("url=" in each for each in told)


def test_a_key_is_for_one_request(serve: Serve, fal: Emulator):
    _, client = serve()
    named = {"Idempotency-Key": "one"}
    client.images.edit(image=pictures.png(), prompt="a calico cat", extra_headers=named)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.images.edit(image=pictures.jpeg(), prompt="a calico cat", extra_headers=named)
    assert caught.value.code == "idempotency_conflict"
    client.images.generate(prompt="a calico cat", extra_headers=named)  # it is another route
    assert fal.calls["submit"] == 2


def test_a_key_needs_a_database_and_is_not_tried_again(serve: Serve, fal: Emulator):
    _, client = serve(FAL_IMAGE_DATABASE_URL=None)
    named = {"Idempotency-Key": "one"}
    error = failed(client, lambda one: one.images.generate(prompt="p", extra_headers=named))
    assert (error.status_code, error.code) == (501, "database_required")
    assert error.response.headers["x-should-retry"] == "false"
    assert fal.calls.total() == 0


def test_what_was_certainly_not_paid_is_tried_again_and_paid_once(serve: Serve, fal: Emulator):
    _, client = serve(FAL_IMAGE_MAX_WAIT_S="1")
    fal.fault("429", on="submit", times=1)
    assert generate(client)
    assert len(fal.ledger) == 1


def test_what_will_not_pass_by_itself_is_not_tried_again(serve: Serve, fal: Emulator):
    _, client = serve()
    error = failed(client, lambda one: one.images.generate(prompt="p", model=TOMORROW))
    assert (error.status_code, error.code) == (502, "fal_failed")
    assert fal.calls["submit"] == 1

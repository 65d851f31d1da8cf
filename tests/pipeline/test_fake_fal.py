"""The fake at the wire: what fal would refuse, it refuses too."""

import pytest

from fal_image.wire import WireError
from support import world
from support.fake_fal import KEY, MODEL, NEVER_S, Fate
from support.values import replace
from support.world import World

SUBMIT = f"https://queue.fal.run/{MODEL}?fal_webhook=https://pictures.example.com/webhooks/fal/a/b"


def call(shared: World, method: str, url: str, *, key: str = KEY) -> int:
    wire = shared.fal.wire()()
    body = b"{}" if method == "POST" else None
    return wire.call(method, url, key=key, timeout_s=1.0, body=body).status


def test_it_takes_a_submit_only_with_the_key():
    shared = World()
    assert call(shared, "POST", SUBMIT, key=KEY[:-1] + "x") == 401
    assert shared.fal.taken == []
    assert call(shared, "POST", SUBMIT) == 200
    assert [one.job_id for one in shared.fal.taken] == ["a"]


@pytest.mark.parametrize("name", ["body", "X-Fal-Webhook-Signature", "X-Fal-Webhook-Timestamp"])
def test_a_flipped_byte_of_its_webhook_is_refused(name: str):
    shared = World()
    made = shared.instance().ask(world.order(prefer="respond-async"))
    sent = shared.fal.delivery(shared.fal.taken[0])
    if name == "body":
        flipped = replace(sent, body=sent.body[:-1] + b" ")
    else:
        text = sent.headers[name]
        digit = "1" if text[-1] == "0" else "0"
        flipped = replace(sent, headers={**sent.headers, name: text[:-1] + digit})
    assert shared.instance().ask(world.webhook(flipped)).status == 401
    assert shared.instance().job(made.job_id).state == "submitted"
    assert shared.instance().ask(world.webhook(sent)).status == 200


def test_a_result_is_there_when_the_job_has_ended():
    shared = World()
    shared.fal.fates = [Fate(runs_s=9.0)]
    assert call(shared, "POST", SUBMIT) == 200
    request = f"https://queue.fal.run/fal-ai/flux/requests/{shared.fal.taken[0].request_id}"
    assert call(shared, "GET", f"{request}/status") == 202
    assert call(shared, "GET", request) == 400
    shared.pass_s(9)
    assert call(shared, "GET", f"{request}/status") == 200
    assert call(shared, "GET", request) == 200
    assert call(shared, "PUT", f"{request}/cancel") == 400
    assert call(shared, "GET", f"{request}/cancel") == 405
    assert call(shared, "GET", f"{request}0") == 404


@pytest.mark.parametrize(("is_stubborn", "then"), [(False, 499), (True, 400)])
def test_it_cancels_what_runs_unless_the_job_is_stubborn(is_stubborn: bool, then: int):
    shared = World()
    shared.fal.fates = [Fate(runs_s=NEVER_S, is_stubborn=is_stubborn)]
    assert call(shared, "POST", SUBMIT) == 200
    request = f"https://queue.fal.run/fal-ai/flux/requests/{shared.fal.taken[0].request_id}"
    assert call(shared, "PUT", f"{request}/cancel") == 202
    assert call(shared, "GET", request) == then


@pytest.mark.parametrize(("answer", "is_taken"), [("lost", True), ("dropped", False)])
def test_no_answer_says_nothing_of_what_was_taken(answer: str, is_taken: bool):
    shared = World()
    shared.fal.fates = [Fate(answer)]  # type: ignore[arg-type]
    with pytest.raises(WireError) as failed:
        call(shared, "POST", SUBMIT)
    assert failed.value.sent
    assert len(shared.fal.taken) == is_taken

"""Results that fal has forgotten, after an hour or after 6 minutes, come from what was kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support.clocks import Time
from support.emulator import ask as ask_fal
from support.fake_fal import Fate
from support.instances import CAT, Calendar, instance
from support.streams import (
    APP,
    FALS,
    QUEUE,
    SLOW,
    ProxyWorld,
    output,
    reason,
    result,
    run,
    submit,
    told_to_come_back,
    urls,
    withholding,
)


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def here() -> ProxyWorld:
    return ProxyWorld()


def forgotten(here: ProxyWorld, **by: float) -> str:
    """A request that was read once and that fal knows no more after a while."""
    request_id = submit(here.app())
    result(here.app(), request_id)
    here.later(**by)
    here.fal.forgets = True
    return request_id


def test_a_result_comes_from_its_job_once_fal_has_forgotten_it(here: ProxyWorld):
    answer = result(here.app(), forgotten(here, hours=2))
    assert (answer.status, answer.headers["x-fal-request-id"]) == (200, "00000000")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "images": [{"url": f"{FALS}00000000/0.png"}],
        "has_nsfw_concepts": [False],
        "seed": 7,
        "prompt": CAT["prompt"],
    }


def test_an_output_that_is_not_of_pictures_is_recalled_as_it_was(here: ProxyWorld):
    made = {"text": "a cat", "seed": 8}
    here.fal.output = lambda one: made
    assert result(here.app(), forgotten(here, hours=2)).json == made


UNKEPT: dict[str, dict[str, Any]] = {
    "pictures inside the result": output("data:image/png;base64,AAAA"),
    "an output that was too large to keep": {"text": "cat " * 30_000},
}


@pytest.mark.parametrize("made", sorted(UNKEPT))
def test_what_nobody_has_kept_is_not_found(here: ProxyWorld, made: str):
    here.fal.output = lambda one: UNKEPT[made]
    answer = result(here.app(), forgotten(here, hours=2))
    assert (answer.status, answer.json) == (404, {"status": "NOT_FOUND"})


def test_a_failure_is_recalled_in_fals_words(here: ProxyWorld):
    here.fal.fates.append(Fate(ending="error"))
    answer = result(here.app(), forgotten(here, hours=2))
    assert (answer.status, answer.json["detail"]) == (500, "Runner disconnected")
    assert answer.json["error_type"] == "runner_disconnected"


def test_a_cancelled_request_is_not_found(here: ProxyWorld):
    here.fal.fates.append(SLOW)
    request_id = submit(here.app())
    here.fal.taken[0].cancelled_at = here.time()
    assert result(here.app(), request_id).status == 499
    here.later(hours=2)
    here.fal.forgets = True
    assert result(here.app(), request_id).status == 404
    assert (here.job.state, here.spent()) == ("cancelled", 0)


def test_a_request_that_fal_does_not_know_yet_is_not_given_up(here: ProxyWorld):
    here.fal.fates.append(SLOW)
    request_id = submit(here.app())
    here.fal.forgets = True
    answer = result(here.app(), request_id)
    assert (answer.status, answer.json) == (404, {"status": "NOT_FOUND"})
    assert here.job.state == "submitted"
    here.fal.forgets = False
    here.later(minutes=1)
    assert result(here.app(), request_id).status == 200


def test_nobody_finds_a_request_after_its_retention(here: ProxyWorld):
    answer = result(here.app(), forgotten(here, days=31))
    assert (answer.status, answer.json["error"]) == (404, "not_found")


@pytest.mark.parametrize("is_swept", [True, False])
def test_a_joined_run_outlives_what_fal_remembers(here: ProxyWorld, is_swept: bool):
    """Without a sweep or a webhook the picture is lost: that is said, and not that it is coming."""
    here.fal.fates.append(SLOW)
    told_to_come_back(run(here.app()))
    here.later(minutes=1)
    if is_swept:
        here.app().tick()
    here.later(minutes=6)
    here.fal.forgets = True
    answer = run(here.app())
    assert len(here.fal.taken) == 1
    if not is_swept:
        assert (answer.status, answer.json["error"]) == (502, "fal_failed")
        assert "does not know" in answer.json["message"]
        return
    assert (answer.status, answer.headers["x-fal-request-id"]) == (200, "00000000")
    assert answer.json["images"] == [{"url": "https://v3.fal.media/files/00000000/0.png"}]
    assert (answer.json["seed"], answer.json["prompt"]) == (7, CAT["prompt"])


def test_a_large_result_is_forgotten_and_its_run_still_joined(tmp_path: Path):
    """fal keeps a result of 10 KB or more for 6 minutes (fal docs, queue)."""
    calendar, hand, given = Calendar(), Time(), {"prompt": "cat " * 2500, "num_images": 4}
    with Emulator(run_s=30, clock=hand) as fal:
        bent = {"FAL_IMAGE_MAX_WAIT_S": "1", "FAL_IMAGE_MAX_PROMPT_CHARS": "10000"}
        app = instance(fal, tmp_path, seams=Seams(now=calendar), **bent)
        told_to_come_back(run(app, given))
        hand.now_s += 60
        calendar.forward(minutes=1)
        assert app.tick()["jobs"] == 1
        hand.now_s += 400
        calendar.forward(seconds=400)
        [entry] = fal.ledger
        address = f"{QUEUE}/{APP}/requests/{entry.request_id}"
        assert ask_fal(fal, "GET", address).status == 404
        answer = run(app, given)
        assert answer.status == 200
        assert answer.json["prompt"] == given["prompt"]
        assert len(answer.json["images"]) == 4
        picture = answer.json["images"][0]["url"]
        assert ask_fal(fal, "GET", picture, key=None).body[:3] == b"\xff\xd8\xff"
        assert len(fal.ledger) == 1


def test_pictures_inside_a_forgotten_result_are_gone(here: ProxyWorld):
    here.fal.output = lambda one: {"images": [{"url": "data:image/png;base64,AAAA"}]}
    here.fal.fates.append(SLOW)
    told_to_come_back(run(here.app()))
    here.later(minutes=1)
    here.app().tick()
    here.later(minutes=6)
    here.fal.forgets = True
    answer = run(here.app())
    assert answer.status == 404
    assert b"data:" not in answer.body


def test_a_run_whose_result_is_lost_at_fal_is_not_paid_again_by_repeating_it(
    fal: Emulator, tmp_path: Path
):
    fal.fault("expired", on="result")
    app = instance(fal, tmp_path)
    for _ in range(3):
        answer = run(app)
        assert (answer.status, answer.json["error"]) == (502, "fal_failed")
    assert len(fal.ledger) == 1


@pytest.mark.parametrize("is_withheld", [True, False])
def test_a_result_that_fal_has_forgotten_comes_from_the_bucket(here: ProxyWorld, is_withheld: bool):
    here.bent = {**here.bent, "proxy_store_images": True}
    here.hooks = withholding(1) if is_withheld else withholding()
    request_id = submit(here.app(), {**CAT, "num_images": 2})
    first = result(here.app(), request_id).json
    here.later(hours=2)
    here.fal.forgets = True
    answer = result(here.app(), request_id)
    assert (answer.status, answer.headers["x-fal-request-id"]) == (200, request_id)
    assert urls(first) == urls(answer.json)
    assert len(urls(first)) == (1 if is_withheld else 2)
    assert (f"{FALS}00000000/1.png" in answer.body.decode()) is not is_withheld
    assert reason(answer.json) is None
    assert len(here.storage.pictures) == 2

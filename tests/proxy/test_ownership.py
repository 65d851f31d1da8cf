"""A request at fal belongs to the caller who submitted it; for everybody else there is none."""

from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support.emulator import SCHNELL, submit
from support.entrypoints import FAL_KEY, KEY
from support.instances import OTHER_KEY, Answer, Calendar, instance
from support.proxy_calls import AFTERWARDS, FLUX, FORMS, Door, Form, job_id_of

NOBODYS = "00000000-0000-4000-8000-000000000000"


def said(answer: Answer) -> tuple[int, Any, bytes]:
    """All that a stranger could tell two answers apart by."""
    return answer.status, dict(answer.headers), answer.body


@pytest.mark.parametrize("what", AFTERWARDS)
def test_somebody_elses_request_looks_like_one_that_never_was(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    door = Door(instance(fal, tmp_path), form)
    mine = door.submitted()
    before = fal.calls
    theirs = door.afterwards(what, mine, key=OTHER_KEY)
    missing = door.afterwards(what, NOBODYS, key=OTHER_KEY)
    assert (theirs.status, theirs.json["error"]) == (404, "not_found")
    assert said(theirs) == said(missing)
    assert mine not in theirs.body.decode()
    assert fal.calls == before
    assert not fal.ledger[0].is_cancelled


@pytest.mark.parametrize("what", AFTERWARDS)
def test_the_right_id_below_another_app_is_missing_too(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    door = Door(instance(fal, tmp_path), form)
    mine = door.submitted()
    before = fal.calls
    answers = [
        door.afterwards(what, request_id, app=app)
        for request_id, app in [
            (mine, "fal-ai/flux-2"),
            (mine, "fal-ai/fluxx"),
            (mine, "workflows/fal-ai/flux"),
            (NOBODYS, FLUX),
        ]
    ]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.body for answer in answers}) == 1
    assert fal.calls == before


@pytest.mark.parametrize("what", AFTERWARDS)
def test_what_the_owner_submitted_past_us_is_nobodys(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    request_id = submit(fal)["request_id"]
    before = fal.calls
    assert Door(instance(fal, tmp_path), form).afterwards(what, request_id).status == 404
    assert fal.calls == before


@pytest.mark.parametrize("what", AFTERWARDS)
def test_who_shows_no_key_is_no_caller_at_all(fal: Emulator, tmp_path: Path, form: Form, what: str):
    door = Door(instance(fal, tmp_path), form)
    mine = door.submitted()
    before = fal.calls
    for key in (None, "k-nobodys", FAL_KEY):
        assert door.afterwards(what, mine, key=key).status == 401
    assert fal.calls == before


def test_callers_are_told_apart_from_the_anonymous_one(fal: Emulator, tmp_path: Path):
    door = Door(instance(fal, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1"))
    mine, nobodys = door.submitted(), door.submitted(key=None)
    seen = {
        (request_id == mine, key): door.afterwards("status", request_id, key=key).status
        for request_id in (mine, nobodys)
        for key in (KEY, OTHER_KEY, None)
    }
    assert [pair for pair, status in seen.items() if status < 300] == [(True, KEY), (False, None)]
    assert sorted(seen.values()) == [200, 200, 404, 404, 404, 404]


@pytest.mark.parametrize("other", FORMS)
def test_a_request_is_its_callers_in_both_forms_and_at_every_instance(
    fal: Emulator, tmp_path: Path, form: Form, other: Form
):
    mine = Door(instance(fal, tmp_path), form).submitted()
    there = Door(instance(fal, tmp_path), other)
    answers = {what: there.afterwards(what, mine) for what in AFTERWARDS}
    assert {what: answer.status for what, answer in answers.items()} == {
        "status": 200,
        "status with logs": 200,
        "follow": 200,
        "result": 200,
        "response": 200,
        "cancel": 400,
    }
    assert answers["result"].json["seed"] == 7
    assert answers["cancel"].json == {"status": "ALREADY_COMPLETED"}


def test_its_job_is_the_callers_alone(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    Door(one).submitted()
    job_id = job_id_of(fal)
    theirs = one.ask("GET", f"/jobs/{job_id}", key=OTHER_KEY)
    assert theirs.status == 404
    assert one.ask("DELETE", f"/jobs/{job_id}", key=OTHER_KEY).status == 404
    assert one.job(job_id)["model"] == SCHNELL


def test_a_request_is_forgotten_with_its_job(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    settings: Any = {"seams": Seams(now=calendar), "FAL_IMAGE_JOB_RETENTION_DAYS": "2"}
    door = Door(instance(fal, tmp_path, **settings))
    mine = door.submitted()
    assert door.afterwards("result", mine).status == 200
    calendar.forward(days=1, hours=23)
    assert door.afterwards("status", mine).status == 200
    calendar.forward(hours=2)
    before = fal.calls
    assert {door.afterwards(what, mine).status for what in AFTERWARDS} == {404}
    assert fal.calls == before


def test_a_callers_own_cancel_reaches_fal_and_its_job(tmp_path: Path, form: Form):
    with Emulator(queue_s=60) as fal:
        one = instance(fal, tmp_path)
        door = Door(one, form)
        mine = door.submitted()
        cancelled = door.afterwards("cancel", mine)
        assert (cancelled.status, cancelled.json) == (202, {"status": "CANCELLATION_REQUESTED"})
        assert fal.ledger[0].is_cancelled
        assert door.afterwards("result", mine).status == 499
        assert one.job(job_id_of(fal))["state"] == "cancelled"


def test_a_cancel_that_fal_did_not_hear_is_not_forgotten(tmp_path: Path, form: Form):
    with Emulator(queue_s=60) as fal:
        one = instance(fal, tmp_path)
        door = Door(one, form)
        mine = door.submitted()
        fal.fault("reset", on="cancel")
        assert door.afterwards("cancel", mine).status == 502
        assert not fal.ledger[0].is_cancelled
        assert one.job(job_id_of(fal))["state"] == "cancelled"
        assert fal.ledger[0].is_cancelled

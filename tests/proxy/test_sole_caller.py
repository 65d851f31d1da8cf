"""The proxy without a database: a queue for a sole caller, and nothing that must be remembered."""

from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import QUEUE
from support.entrypoints import KEY_SHA256
from support.instances import OTHER_KEY, OTHER_SHA256, instance, read
from support.proxy_calls import AFTERWARDS, FLUX, PAID, Door, Form
from support.values import replace

HOST = "hooks.example.com"
KEYED = {"idempotency_key": "order-4711"}

ALONE: Any = {"FAL_IMAGE_DATABASE_URL": None, "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}"}
NOT_ALONE: dict[str, Any] = {
    "two callers": ALONE | {"FAL_IMAGE_API_KEYS": f"web={KEY_SHA256},other={OTHER_SHA256}"},
    "one and everybody": ALONE | {"FAL_IMAGE_ALLOW_ANONYMOUS": "1"},
}


def test_without_a_database_a_sole_caller_has_all_of_it(fal: Emulator, tmp_path: Path, form: Form):
    door = Door(instance(fal, tmp_path, **ALONE), form)
    mine = door.submitted()
    assert fal.ledger[0].webhook_url is None
    assert door.afterwards("status with logs", mine).json["status"] == "COMPLETED"
    assert b'"COMPLETED"' in door.afterwards("follow", mine).body
    for what in ("result", "response"):
        assert door.afterwards(what, mine).json["seed"] == 7
    assert door.afterwards("cancel", mine).json == {"status": "ALREADY_COMPLETED"}
    assert door.pay("run").json["seed"] == 7
    assert door.pay("run by GET").json["seed"] == 7
    assert door.pay("stream").body.count(b"data: ") == 4
    assert len(fal.ledger) == 4


def test_without_a_database_the_anonymous_caller_may_be_the_sole_one(
    fal: Emulator, tmp_path: Path, form: Form
):
    settings: Any = ALONE | {"FAL_IMAGE_API_KEYS": None, "FAL_IMAGE_ALLOW_ANONYMOUS": "1"}
    door = Door(instance(fal, tmp_path, **settings), form)
    mine = door.submitted(key=None)
    assert door.afterwards("result", mine, key=None).status == 200


def test_without_a_database_two_keys_of_one_caller_are_one_caller(fal: Emulator, tmp_path: Path):
    settings: Any = ALONE | {"FAL_IMAGE_API_KEYS": f"web={KEY_SHA256},web={OTHER_SHA256}"}
    door = Door(instance(fal, tmp_path, **settings))
    mine = door.submitted()
    assert door.afterwards("result", mine, key=OTHER_KEY).status == 200


@pytest.mark.parametrize("callers", NOT_ALONE)
def test_without_a_database_several_callers_have_no_queue(
    fal: Emulator, tmp_path: Path, form: Form, callers: str
):
    door = Door(instance(fal, tmp_path, **NOT_ALONE[callers]), form)
    answers = [door.submit(), *(door.afterwards(what, "r-1") for what in AFTERWARDS)]
    for answer in answers:
        assert (answer.status, answer.json["error"]) == (501, "database_required")
        assert "FAL_IMAGE_DATABASE_URL" in answer.json["hint"]
    assert fal.calls.total() == 0
    assert [door.pay(what).status for what in ("run", "run by GET", "stream")] == [200] * 3


def test_without_a_database_a_caller_of_the_platforms_is_another_one(
    fal: Emulator, tmp_path: Path, form: Form
):
    door = Door(instance(fal, tmp_path, **ALONE), form)
    mine = door.submitted()
    before = fal.calls
    places = [AFTERWARDS[what] for what in AFTERWARDS]
    asked = [
        door.request(method, f"{QUEUE}/{FLUX}/requests/{mine}{ending}") for method, ending in places
    ]
    for request in (*asked, door.request(*PAID["submit"])):
        platform = replace(request.platform, caller="iam")
        answer = read(door.one.app(replace(request, platform=platform)))
        assert (answer.status, answer.json["error"]) == (501, "database_required")
    assert fal.calls == before


@pytest.mark.parametrize("what", PAID)
def test_without_a_database_no_key_can_be_kept(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    answer = Door(instance(fal, tmp_path, **ALONE), form).pay(what, **KEYED)
    assert (answer.status, answer.json["error"]) == (501, "database_required")
    assert fal.calls.total() == 0


def test_without_a_database_nobody_can_be_told(fal: Emulator, tmp_path: Path, form: Form):
    door = Door(instance(fal, tmp_path, **ALONE, FAL_IMAGE_WEBHOOK_HOSTS=HOST), form)
    answer = door.submit(query=f"?fal_webhook=https://{HOST}/")
    assert (answer.status, answer.json["error"]) == (501, "database_required")
    assert fal.calls.total() == 0


def test_without_a_database_a_lost_submit_is_told_too(fal: Emulator, tmp_path: Path, form: Form):
    fal.fault("lost", on="submit")
    answer = Door(instance(fal, tmp_path, **ALONE), form).submit()
    assert (answer.status, answer.json["error"]) == (500, "submit_unknown")
    assert fal.calls["submit"] == 1

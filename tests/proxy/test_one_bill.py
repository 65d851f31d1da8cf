"""No client pays twice through the proxy: not under its key, and not because our database fails."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support.breakable import Breakable, breakable_database
from support.instances import CAT, OTHER_KEY, Answer, Postbox, instance, serving
from support.proxy_calls import AFTERWARDS, PAID, PROXY, Door, Form, spent_usd

PRICE = 0.003  # of a CAT
KEYED = {"idempotency_key": "order-4711"}
TIGHT: Any = {"FAL_IMAGE_DAILY_BUDGET_USD": "0.004"}  # one CAT and no other


def impatient(**seams: Any) -> Any:
    """Seams of an instance that never pauses before it tries again."""
    return {"seams": Seams(sleep=lambda seconds: None, **seams)}


@pytest.mark.parametrize("what", ["submit", "run", "run by GET"])
def test_an_idempotency_key_is_paid_once(fal: Emulator, tmp_path: Path, what: str):
    one = instance(fal, tmp_path, **TIGHT)
    answers = [Door(one, "header" if n % 2 else "path").pay(what, **KEYED) for n in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert {answer.headers["x-fal-request-id"] for answer in answers} == {fal.ledger[0].request_id}
    assert len(fal.ledger) == 1
    assert spent_usd(tmp_path) == PRICE


@pytest.mark.parametrize("what", ["submit", "run"])
def test_another_input_under_the_key_is_a_conflict(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    door = Door(instance(fal, tmp_path), form)
    method, url, _ = PAID[what]
    assert door.pay(what, **KEYED).status == 200
    for other in (
        door.ask(method, url, {**CAT, "seed": 8}, **KEYED),
        door.ask(method, url.replace("schnell", "dev"), CAT, **KEYED),
    ):
        assert (other.status, other.json["error"]) == (422, "idempotency_conflict")
        assert isinstance(other.json["detail"], str)
    assert len(fal.ledger) == 1


@pytest.mark.parametrize("what", ["submit", "run"])
def test_a_key_is_its_callers_and_of_one_kind_of_call(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    one = instance(fal, tmp_path)
    door = Door(one, form)
    assert door.pay(what, **KEYED).status == 200
    assert door.pay(what, key=OTHER_KEY, **KEYED).status == 200
    assert door.pay("run" if what == "submit" else "submit", **KEYED).status == 200
    assert one.generate(**KEYED).status == 200
    assert len(fal.ledger) == 4


def test_a_lost_submit_is_not_sent_again_under_its_key(fal: Emulator, tmp_path: Path, form: Form):
    fal.fault("lost", on="submit")
    door = Door(instance(fal, tmp_path), form)
    answers = [door.submit(**KEYED) for _ in range(3)]
    assert [answer.json["error"] for answer in answers] == ["submit_unknown"] * 3
    assert len({answer.json["jobId"] for answer in answers}) == 1
    assert fal.calls["submit"] == 1


@pytest.mark.parametrize("what", ["submit", "run"])
def test_eight_at_once_under_a_key_are_one_submit(tmp_path: Path, what: str):
    method, url, body = PAID[what]
    target = {"x_fal_target_url": url}
    with (
        Emulator(run_s=0.2) as fal,
        serving(fal, tmp_path) as server,
        ThreadPoolExecutor(8) as pool,
    ):
        asked = [pool.submit(server.http, method, PROXY, body, **target, **KEYED) for _ in range(8)]
        answers = [one.result() for one in asked]
        assert [answer.status for answer in answers] == [200] * 8
        [entry] = fal.ledger
    assert {answer.headers["x-fal-request-id"] for answer in answers} == {entry.request_id}


def test_a_stream_cannot_be_repeated_so_it_takes_no_key(fal: Emulator, tmp_path: Path, form: Form):
    answer = Door(instance(fal, tmp_path), form).pay("stream", **KEYED)
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert fal.calls.total() == 0


# The database fails.


def breakable_writes() -> Breakable:
    """Of a submit these are, in order: its price is put aside, its job is made; then fal is asked;
    fal's request id is kept, and where that leads."""
    return breakable_database("take", "create", "replace_if", "settle")


def assert_not_repeated(answer: Answer) -> None:
    """fal may have the job: a status after which none of fal's clients sends again by itself, and
    where the job is."""
    assert (answer.status, answer.json["error"]) == (500, "internal")
    assert answer.json["retryable"] is False
    assert answer.json["jobId"]
    assert "job" in answer.json["hint"]


@pytest.mark.parametrize("writes", [0, 1])
def test_a_database_that_fails_before_fal_is_asked_costs_nothing(
    fal: Emulator, tmp_path: Path, form: Form, writes: int
):
    broken = breakable_writes()
    settings: Any = TIGHT | impatient(database=broken.around)
    door = Door(instance(fal, tmp_path, **settings), form)
    broken.break_after(writes)
    answer = door.submit(**KEYED)
    assert (answer.status, answer.json["error"]) == (503, "database_unavailable")
    assert answer.json["retryable"] is True
    assert fal.calls.total() == 0
    broken.mend()
    assert door.submit(**KEYED).status == 200
    assert spent_usd(tmp_path) == PRICE


@pytest.mark.parametrize("writes", [2, 3])
def test_a_database_that_fails_after_fal_took_it_never_makes_a_client_pay_again(
    fal: Emulator, tmp_path: Path, form: Form, writes: int
):
    broken = breakable_writes()
    with Postbox(fal) as box:
        settings: Any = TIGHT | impatient(database=broken.around)
        settings["FAL_IMAGE_PUBLIC_URL"] = box.url
        one = instance(fal, tmp_path, **settings)
        door = Door(one, form)
        broken.break_after(writes)
        answer = door.submit(**KEYED)
        assert_not_repeated(answer)
        [entry] = fal.ledger
        assert answer.json["falRequestId"] == entry.request_id

        webhook = box.next()
        assert one.deliver(webhook).status == 503
        broken.mend()
        assert one.deliver(webhook).status == 200
    job = one.job(answer.json["jobId"])
    assert (job["state"], job["falRequestId"]) == ("done", entry.request_id)
    again = door.submit(**KEYED)
    assert (again.status, again.json["request_id"]) == (200, entry.request_id)
    assert door.afterwards("result", entry.request_id).status == 200
    assert len(fal.ledger) == 1
    assert spent_usd(tmp_path) == PRICE


@pytest.mark.parametrize("writes", range(8))
@pytest.mark.parametrize("what", ["run", "stream"])
def test_a_database_that_fails_while_fal_works_never_hides_a_picture_behind_a_repeated_status(
    fal: Emulator, tmp_path: Path, form: Form, what: str, writes: int
):
    broken = breakable_writes()
    door = Door(instance(fal, tmp_path, **TIGHT, **impatient(database=broken.around)), form)
    broken.break_after(writes)
    answer = door.pay(what)
    is_paid = bool(fal.ledger)
    assert is_paid == (writes >= 2)
    if not is_paid:
        assert (answer.status, answer.json["error"]) == (503, "database_unavailable")
    elif answer.status == 200:
        assert b"https://v3.fal.media/files/" in answer.body
    else:
        assert_not_repeated(answer)
        assert what == "run"  # a stream's pictures are there before anything is written down
    broken.mend()


@pytest.mark.parametrize("writes", [2, 3])
def test_a_database_that_comes_back_at_once_is_not_noticed(
    fal: Emulator, tmp_path: Path, form: Form, writes: int
):
    broken = breakable_writes()
    seams = Seams(sleep=lambda seconds: broken.mend(), database=broken.around)
    door = Door(instance(fal, tmp_path, seams=seams, **TIGHT), form)
    broken.break_after(writes)
    mine = door.submitted()
    assert door.afterwards("result", mine).json["seed"] == 7
    assert len(fal.ledger) == 1


def test_a_lost_submit_that_cannot_be_written_down_is_not_repeated_either(
    fal: Emulator, tmp_path: Path, form: Form
):
    broken = breakable_writes()
    door = Door(instance(fal, tmp_path, **TIGHT, **impatient(database=broken.around)), form)
    fal.fault("lost", on="submit")
    broken.break_after(2)
    assert_not_repeated(door.submit())
    assert fal.calls["submit"] == 1
    broken.mend()
    assert spent_usd(tmp_path) == PRICE


@pytest.mark.parametrize("what", AFTERWARDS)
def test_a_request_that_cannot_be_looked_up_is_503_and_can_be_asked_again(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    broken = breakable_database()
    door = Door(instance(fal, tmp_path, **impatient(database=broken.around)), form)
    mine = door.submitted()
    before = fal.calls
    broken.is_broken = True
    answer = door.afterwards(what, mine)
    assert (answer.status, answer.json["error"]) == (503, "database_unavailable")
    assert fal.calls == before
    broken.mend()
    assert door.afterwards(what, mine).status in {200, 400}

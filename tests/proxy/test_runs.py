"""fal.run through the proxy: a job of fal's queue, waited for, and never paid twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support import world
from support.breakable import breakable_database
from support.emulator import SCHNELL
from support.emulator import ask as ask_fal
from support.entrypoints import request
from support.fake_fal import NEVER_S, REFUSED, Fate
from support.instances import CAT, OTHER_KEY, Answer, instance, read
from support.streams import APP, PATH, QUEUE, RUN, SLOW, ProxyWorld, run, told_to_come_back

NEVER = Fate(runs_s=NEVER_S)
NO_DATABASE = {"database_url": None, "daily_budget_usd_micro": None}


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def here() -> ProxyWorld:
    return ProxyWorld()


def told_of_a_lost_submit(answer: Answer) -> Any:
    assert answer.status == 500, answer.body
    assert answer.headers["x-fal-error-type"] == answer.json["error"] == "submit_unknown"
    assert answer.json["retryable"] is False
    return answer.json


def hear_of_all(here: ProxyWorld) -> None:
    """fal's webhooks of everything that it took and that has ended."""
    for one in here.fal.taken:
        assert here.instance().ask(world.webhook(here.fal.delivery(one))).status < 300


def test_a_run_is_a_job_of_the_queue(fal: Emulator, tmp_path: Path):
    answer = run(instance(fal, tmp_path))
    [entry] = fal.ledger
    assert answer.status == 200
    assert answer.headers["x-fal-request-id"] == entry.request_id
    assert answer.headers["x-fal-billable-units"] == "1"
    assert answer.json["seed"] == 7
    assert (entry.via, entry.model, entry.input) == ("queue", SCHNELL, CAT)
    assert fal.calls["run"] == 0


@pytest.mark.parametrize("form", ["header", "path"])
def test_a_run_by_get_has_its_input_in_the_query(fal: Emulator, tmp_path: Path, form: str):
    app = instance(fal, tmp_path)
    if form == "header":
        url = f"{RUN}/{SCHNELL}?prompt=a+cat&seed=7&enable_safety_checker=true"
        answer = app.ask("GET", PATH, x_fal_target_url=url)
    else:
        query = (("prompt", "a cat"), ("seed", "7"), ("enable_safety_checker", "true"))
        answer = read(app.app(request("GET", f"{PATH}/fal.run/{SCHNELL}", query=query)))
    [entry] = fal.ledger
    assert answer.json["seed"] == 7
    assert entry.via == "queue"
    assert entry.input == {"prompt": "a cat", "seed": 7, "enable_safety_checker": True}


def test_looking_at_a_run_with_head_pays_for_nothing(fal: Emulator, tmp_path: Path):
    app = instance(fal, tmp_path)
    answer = app.ask("HEAD", PATH, x_fal_target_url=f"{RUN}/{SCHNELL}?prompt=a+cat")
    assert (answer.status, answer.headers["allow"]) == (405, "POST, GET")
    assert fal.ledger == []


def test_what_a_run_spends_is_counted(here: ProxyWorld):
    assert run(here.app(), {"prompt": "two cats", "num_images": 2}).status == 200
    assert here.spent() == 6000
    assert (here.job.state, here.job.settled) == ("done", True)
    assert [warning.code for warning in here.job.warnings] == ["not_kept"]
    assert here.storage.pictures == []


def test_a_run_that_fal_is_not_done_with_goes_on(here: ProxyWorld):
    here.fal.fates.append(SLOW)
    told = told_to_come_back(run(here.app()))
    assert told["jobId"] == here.job.job_id
    assert told["falRequestId"] == here.fal.taken[0].request_id
    assert here.job.state == "submitted"
    here.later(minutes=1)
    assert here.app().tick()["jobs"] == 1
    assert (here.job.state, here.fal.cancels) == ("done", 0)


@pytest.mark.parametrize("meanwhile", ["nothing", "webhook", "sweep"])
def test_an_equal_run_joins_the_one_that_was_told_to_come_back(here: ProxyWorld, meanwhile: str):
    here.fal.fates.append(SLOW)
    told_to_come_back(run(here.app()))
    here.later(minutes=9)
    if meanwhile == "webhook":
        hear_of_all(here)
    elif meanwhile == "sweep":
        here.app().tick()
    answer = run(here.app(), {"seed": 7, "prompt": CAT["prompt"]})
    assert answer.status == 200
    assert answer.json["images"][0]["url"].startswith("https://v3.fal.media/files/00000000/")
    assert (len(here.fal.taken), here.spent()) == (1, 3000)
    assert here.job.state == "done"


def test_a_run_joins_while_fal_is_at_work(here: ProxyWorld):
    here.fal.fates.append(SLOW)
    for _ in range(2):
        told_to_come_back(run(here.app()))
    assert run(here.app()).status == 200
    assert len(here.fal.taken) == 1


def test_a_joined_run_that_failed_for_nothing_is_a_new_job(here: ProxyWorld):
    here.fal.fates.append(Fate(runs_s=50, ending="error"))
    told_to_come_back(run(here.app()))
    here.later(minutes=1)
    here.app().tick()
    assert (here.job.state, here.spent()) == ("failed", 0)
    assert run(here.app()).status == 200
    assert (len(here.fal.taken), here.spent()) == (2, 3000)


OTHERS: dict[str, tuple[dict[str, Any], dict[str, str], float]] = {
    "another caller": (dict(CAT), {"key": OTHER_KEY}, 0),
    "another seed": ({**CAT, "seed": 8}, {}, 0),
    "another field": ({**CAT, "num_images": 1}, {}, 0),
    "ten minutes later": (dict(CAT), {}, 600),
}


@pytest.mark.parametrize("other", sorted(OTHERS))
def test_nothing_else_joins(here: ProxyWorld, other: str):
    body, headers, later_s = OTHERS[other]
    here.fal.fates.append(SLOW)
    told_to_come_back(run(here.app()))
    here.pass_s(later_s)
    assert run(here.app(), body, **headers).status == 200
    assert len(here.fal.taken) == 2


def test_another_time_out_lets_join_anew(here: ProxyWorld):
    here.fal.fates.append(NEVER)
    for _ in range(4):
        told_to_come_back(run(here.app()))
        here.later(minutes=9)
    assert len(here.fal.taken) == 1


def test_a_run_that_is_joined_for_an_hour_comes_to_its_end(here: ProxyWorld):
    here.fal.fates.append(NEVER)
    for _ in range(7):
        told_to_come_back(run(here.app()))
        here.later(minutes=9)
        here.app().tick()
    answer = run(here.app())
    assert answer.status == 499
    assert answer.json["error_type"] == "client_cancelled"
    assert (here.job.state, len(here.fal.taken)) == ("failed", 1)


def test_equal_runs_that_were_answered_are_as_many_jobs(here: ProxyWorld):
    assert [run(here.app()).status for _ in range(3)] == [200] * 3
    assert len(here.fal.taken) == 3


def test_equal_runs_at_the_same_time_are_as_many_jobs(tmp_path: Path):
    with Emulator(run_s=0.3) as fal, ThreadPoolExecutor(3) as pool:
        app = instance(fal, tmp_path)
        answers = list(pool.map(lambda _: run(app), range(3)))
        assert [answer.status for answer in answers] == [200] * 3
        assert len({answer.headers["x-fal-request-id"] for answer in answers}) == 3
        assert len(fal.ledger) == 3


def test_a_key_makes_equal_runs_one_job(here: ProxyWorld):
    first, second = (run(here.app(), idempotency_key="one intent") for _ in range(2))
    assert first.json == second.json
    assert len(here.fal.taken) == 1
    other = run(here.app(), {**CAT, "seed": 8}, idempotency_key="one intent")
    assert (other.status, other.json["error"]) == (422, "idempotency_conflict")


@pytest.mark.parametrize("answer", ["lost", "dropped"])
def test_a_lost_submit_is_not_sent_again_for_ten_minutes(here: ProxyWorld, answer: Any):
    here.fal.fates.append(Fate(answer, runs_s=30))
    job_id = told_of_a_lost_submit(run(here.app()))["jobId"]
    assert (here.job.job_id, here.job.state) == (job_id, "unknown")
    here.later(minutes=5)
    assert told_of_a_lost_submit(run(here.app()))["jobId"] == job_id
    assert (here.fal.submits, here.spent()) == (1, 3000)
    here.later(minutes=5)
    assert run(here.app()).status == 200
    assert here.fal.submits == 2


def test_a_lost_submit_gives_its_picture_once_fal_has_told_of_it(here: ProxyWorld):
    here.fal.fates.append(Fate("lost", runs_s=30))
    told_of_a_lost_submit(run(here.app()))
    here.later(seconds=40)
    hear_of_all(here)
    answer = run(here.app())
    assert (answer.status, answer.headers["x-fal-request-id"]) == (200, "00000000")
    assert (here.fal.submits, here.job.state, here.spent()) == (1, "done", 3000)


def test_a_submit_that_fal_refuses_is_free_and_may_be_sent_again(here: ProxyWorld):
    here.fal.fates.append(Fate("refused"))
    refused = run(here.app())
    assert (refused.status, refused.json["detail"]) == (422, REFUSED["detail"])
    assert (here.job.state, here.spent()) == ("failed", 0)
    assert run(here.app()).status == 200


def test_a_refusal_that_is_too_long_to_keep_is_recalled_in_words(here: ProxyWorld):
    here.fal.refusal = [{"loc": ["body", "prompt"], "msg": "no " * 5000, "type": "value_error"}]
    first, again = (run(here.app(), idempotency_key="one intent") for _ in range(2))
    assert (first.status, first.json["detail"]) == (422, here.fal.refusal)
    assert (again.status, again.json["error"]) == (422, "fal_rejected")
    assert again.json["detail"].startswith("fal refused the input: no no")


def test_a_run_beyond_the_budget_is_not_sent():
    here = ProxyWorld(budget_usd_micro=4000)
    assert run(here.app()).status == 200
    refused = run(here.app())
    assert (refused.status, refused.json["error"]) == (402, "budget_exceeded")
    assert (len(here.fal.taken), here.spent()) == (1, 3000)


def test_a_busy_fal_is_asked_again_by_us(here: ProxyWorld):
    here.fal.fates += [Fate("busy"), Fate("unsent")]
    assert run(here.app()).status == 200
    assert (here.fal.submits, len(here.fal.taken)) == (3, 1)


def test_a_fal_that_stays_busy_is_told_with_its_own_status(here: ProxyWorld):
    here.fal.fates += [Fate("busy")] * 9
    answer = run(here.app())
    assert (answer.status, answer.json["detail"]) == (429, "Too many requests")
    assert (here.fal.taken, here.spent(), here.job.state) == ([], 0, "failed")


FAILURES: dict[str, dict[str, Any]] = {
    "a runner is lost": {"status": 503},
    "the model breaks": {"status": 500, "error_type": "", "detail": "Internal Server Error"},
    "the model takes too long": {"status": 504, "error_type": "generation_timeout"},
    "the model speaks of bad input": {"status": 400, "error_type": "", "detail": "no such LoRA"},
}


@pytest.mark.parametrize("failure", sorted(FAILURES))
@pytest.mark.parametrize("store", [None, "1"])
def test_a_failure_of_the_model_is_told_in_fals_words(
    fal: Emulator, tmp_path: Path, failure: str, store: str | None
):
    fal.fault("error", on="result", **FAILURES[failure])
    answer = run(instance(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES=store))
    [entry] = fal.ledger
    direct = ask_fal(fal, "GET", f"{QUEUE}/{APP}/requests/{entry.request_id}")
    assert (answer.status, answer.body) == (direct.status, direct.body)
    assert answer.status == FAILURES[failure]["status"]
    assert answer.headers["x-fal-request-id"] == entry.request_id
    assert "x-fal-request-timeout-type" not in answer.headers


def test_bad_input_that_only_the_model_finds_is_a_list_of_errors(fal: Emulator, tmp_path: Path):
    given = {"prompt": "a cat", "image_url": "https://v3.fal.media/files/b/none/none.png"}
    model = "fal-ai/flux/dev/image-to-image"
    answer = run(instance(fal, tmp_path), given, model=model)
    [entry] = fal.ledger
    assert (answer.status, entry.model) == (422, model)
    assert answer.json["detail"][0]["loc"] == ["body", "image_url"]
    assert answer.headers["x-fal-request-id"] == entry.request_id


@pytest.mark.parametrize("fault", ["502-nginx", "504-nginx", "429", "reset", "lost", "cut"])
def test_a_result_that_is_not_fals_own_word_is_asked_for_again(
    fal: Emulator, tmp_path: Path, fault: str
):
    """Clients of fal repeat a run on such answers, and would pay again."""
    fal.fault(fault, on="result", times=2)
    answer = run(instance(fal, tmp_path, seams=Seams(sleep=lambda seconds: None)))
    assert (answer.status, answer.json["seed"]) == (200, 7)
    assert (len(fal.ledger), fal.calls["result"]) == (1, 3)


def test_a_gateway_that_stays_in_fals_place_leaves_an_ordinary_time_out(here: ProxyWorld):
    here.fal.answer = 502, {"content-type": "text/html"}, b"<h1>502 Bad Gateway</h1> nginx"
    told_to_come_back(run(here.app()))
    here.fal.answer = None
    assert run(here.app()).status == 200
    assert len(here.fal.taken) == 1


def test_without_a_database_a_run_that_is_late_is_cancelled():
    here = ProxyWorld(bent=NO_DATABASE)
    here.fal.fates.append(SLOW)
    answer = run(here.app())
    assert (answer.status, answer.json["error"]) == (500, "deadline_exceeded")
    assert answer.json["retryable"] is False
    assert answer.json["falRequestId"] == here.fal.taken[0].request_id
    assert "x-fal-request-timeout-type" not in answer.headers
    assert here.fal.state(here.fal.taken[0]) == "cancelled"


def test_without_a_database_a_picture_that_came_too_late_to_cancel_is_named():
    here = ProxyWorld(bent=NO_DATABASE)
    here.fal.fates.append(Fate(runs_s=20))
    answer = run(here.app())
    assert answer.json["error"] == "deadline_exceeded"
    assert answer.json["sourceUrls"] == ["https://v3.fal.media/files/00000000/0.png"]


def test_without_a_database_a_run_works_and_a_lost_submit_is_said():
    here = ProxyWorld(bent=NO_DATABASE)
    here.fal.fates += [Fate(), Fate("lost")]
    assert run(here.app()).status == 200
    told_of_a_lost_submit(run(here.app()))
    assert here.fal.submits == 2
    assert here.kept.ids == []


def test_a_database_that_fails_at_any_step_costs_no_second_bill():
    """It works for so many calls and then no more, until the next minute."""
    outcomes = set()
    for calls in range(30):
        here, database = ProxyWorld(), breakable_database()
        here.database = database.around(here.kept)
        here.fal.fates.append(Fate(runs_s=5))
        database.break_after(calls)
        answer = run(here.app())
        outcomes.add(answer.status)
        if answer.status == 503:
            assert (here.fal.submits, answer.json["error"]) == (0, "database_unavailable")
            continue
        assert len(here.fal.taken) == 1
        if answer.status == 500:
            assert answer.json["error"] == "internal"
            assert answer.json["retryable"] is False
            assert answer.json["jobId"] == here.job.job_id
        database.mend()
        here.later(minutes=10)
        hear_of_all(here)
        here.app().tick()
        assert (here.job.state, here.spent()) == ("done", 3000), calls
    assert outcomes == {503, 500, 200}


def test_a_database_that_fails_while_fal_works_leaves_a_time_out_that_warns(here: ProxyWorld):
    """Nobody can join what could not be written down: sending it again would pay again."""
    database = breakable_database("create", "replace_if")
    here.database = database.around(here.kept)
    here.fal.fates.append(SLOW)
    database.break_after(2)
    answer = run(here.app())
    assert (answer.status, answer.headers["x-fal-request-timeout-type"]) == (504, "user")
    assert (answer.json["retryable"], answer.json["jobId"]) == (False, here.job.job_id)
    assert "GET /jobs/ID" in answer.json["hint"]
    database.mend()
    here.later(minutes=1)
    assert here.app().job(here.job.job_id)["state"] == "done"

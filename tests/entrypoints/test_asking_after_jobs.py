"""Asking after jobs and cancelling them: who may, and what is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support.breakable import breakable_storage
from support.clocks import Time
from support.instances import CAT, OTHER_KEY, Calendar, Postbox, ask, instance, serving

Configure = Callable[..., None]


def test_a_failed_job_names_fals_own_error(with_database: Configure, fal: Emulator, cloud: str):
    fal.fault("error", on="result")
    answer = ask(cloud, body=CAT)
    assert (answer.status, answer.json["falErrorType"]) == (502, "runner_disconnected")
    job = ask(cloud, "GET", f"/jobs/{answer.json['jobId']}").json
    assert job["state"] == "failed"
    assert job["error"]["falErrorType"] == "runner_disconnected"
    assert job["finishedAt"]


def test_an_open_job_shows_its_place_in_the_queue_and_then_what_fal_says(
    tmp_path: Path, hand: Time
):
    with Emulator(queue_s=10, run_s=10, clock=hand) as fal:
        one = instance(fal, tmp_path)
        one.submitted()
        job_id = one.submitted()["jobId"]
        waiting = one.job(job_id)
        assert waiting["queuePosition"] == 1
        assert waiting["logs"] == []
        hand.now_s += 15.5
        running = one.job(job_id)
        assert running["queuePosition"] is None
        assert [log["message"] for log in running["logs"]] == ["25%", "50%"]
        assert set(running["logs"][0]) == {"message", "timestamp", "level"}
        hand.now_s += 10
        assert one.job(job_id)["logs"] == []


def test_the_older_a_job_the_longer_it_is_left_alone(slow: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(slow, tmp_path, seams=Seams(now=calendar))
    place = f"/jobs/{one.submitted()['jobId']}"
    assert one.ask("GET", place).headers["retry-after"] == "1"
    calendar.forward(seconds=10)
    assert one.ask("GET", place).headers["retry-after"] == "5"


def test_a_file_id_is_of_use_to_the_caller_of_its_job_alone(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path) as server:
        file_id = server.generate().json["fileID"]
        assert server.ask("POST", "/links", {"fileID": file_id}).status == 200
        stranger = server.ask("POST", "/links", {"fileID": file_id}, key=OTHER_KEY)
        assert (stranger.status, stranger.json["error"]) == (404, "not_found")
        edit = {"prompt": "at night", "model": "fal-ai/flux/dev/image-to-image"}
        submits = len(fal.ledger)
        taken = server.generate({**edit, "image_url": file_id}, key=OTHER_KEY)
        assert taken.status in (400, 404), taken.body
        assert len(fal.ledger) == submits
        assert server.generate({**edit, "image_url": file_id}).status == 200


def test_links_of_a_kept_job_are_made_when_it_is_asked_for(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path) as server:
        job_id = server.generate({**CAT, "maxAge": 60}).json["jobId"]
        for _ in range(2):
            link = server.job(job_id)["images"][0]["tempFileURL"]
            assert server.http("GET", link.removeprefix(server.url)).status == 200


def test_other_callers_and_other_ids_find_nothing(
    with_database: Configure, fal: Emulator, cloud: str
):
    job_id = ask(cloud, body=CAT, headers={"prefer": "respond-async"}).json["jobId"]
    strangers = [(f"/jobs/{job_id}", OTHER_KEY)]
    own = [job_id.upper(), job_id[:-1], job_id + "0", "0" * 26, "meta:sweep", "%2e%2e", "ü"]
    for path, key in [*strangers, *((f"/jobs/{id}", None) for id in own)]:
        for method, end in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
            answer = ask(cloud, method, path + end, **({"key": key} if key else {}))
            assert (answer.status, answer.json["error"]) == (404, "not_found"), (path, method)
    assert fal.calls["cancel"] == 0


def test_two_callers_do_not_see_each_other(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    for key, stranger in ((None, OTHER_KEY), (OTHER_KEY, None)):
        own = {"key": key} if key else {}
        others = {"key": stranger} if stranger else {}
        job_id = one.submitted(**own)["jobId"]
        assert one.job(job_id, **own)["state"] == "done"
        assert one.ask("GET", f"/jobs/{job_id}", **others).status == 404


def test_a_cancelled_job_is_what_fal_says_it_is(slow: Emulator, tmp_path: Path, hand: Time):
    one = instance(slow, tmp_path)
    job = one.submitted()
    answer = one.ask("DELETE", f"/jobs/{job['jobId']}")
    assert answer.status in (200, 202)
    assert slow.ledger[0].is_cancelled
    assert one.job(job["jobId"])["state"] == "cancelled"
    again = one.ask("DELETE", f"/jobs/{job['jobId']}")
    assert (again.status, again.json["error"]) == (409, "job_finished")


def test_a_cancel_that_comes_too_late_is_a_done_job(slow: Emulator, tmp_path: Path, hand: Time):
    slow.fault("cancel-race", on="cancel")
    one = instance(slow, tmp_path)
    job_id = one.submitted()["jobId"]
    hand.now_s += 15
    answer = one.ask("DELETE", f"/jobs/{job_id}")
    assert (answer.status, answer.json["state"]) == (202, "submitted")
    assert answer.headers["retry-after"]
    assert slow.calls["cancel"] == 1
    hand.now_s += 15
    assert one.job(job_id)["state"] == "done"
    assert one.ask("DELETE", f"/jobs/{job_id}").status == 409


def test_pictures_that_are_on_their_way_are_not_cancelled(fal: Emulator, tmp_path: Path):
    storage = breakable_storage("put")
    one = instance(fal, tmp_path, seams=Seams(storage=storage.around))
    storage.is_broken = True
    job_id = one.submitted()["jobId"]
    assert one.job(job_id)["state"] == "storing"
    answer = one.ask("DELETE", f"/jobs/{job_id}")
    assert (answer.status, answer.json["error"]) == (409, "job_finished")
    assert fal.calls["cancel"] == 0


def test_cancelling_an_unknown_job_waits_for_its_request_id(slow: Emulator, tmp_path: Path):
    slow.fault("lost", on="submit")
    with Postbox(slow) as box:
        one = instance(slow, tmp_path, FAL_IMAGE_PUBLIC_URL=box.url)
        job = one.generate().json
        answer = one.ask("DELETE", f"/jobs/{job['jobId']}")
        assert (answer.status, answer.json["state"]) == (202, "unknown")
        assert slow.calls["cancel"] == 0


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_page_may_ask_after_its_jobs_and_cancel_them(
    with_database: Configure, cloud: str, method: str
):
    with_database(FAL_IMAGE_CORS_ORIGINS="https://a.example")
    page = {
        "origin": "https://a.example",
        "access-control-request-method": method,
        "access-control-request-headers": "authorization, idempotency-key, prefer",
    }
    path = "/jobs/00000000000000000000000000"
    preflight = ask(cloud, "OPTIONS", path, key=None, headers=page)
    assert preflight.status == 204
    assert method in preflight.headers["access-control-allow-methods"].split(", ")
    allowed = preflight.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "idempotency-key", "prefer"} <= set(allowed)
    answer = ask(cloud, body=CAT, headers={"origin": "https://a.example", "prefer": "wait=9"})
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"location", "retry-after", "preference-applied"} <= set(exposed)

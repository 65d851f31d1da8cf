"""The timer: jobs that nobody asks after any more, and what the sweep says of itself."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from support.breakable import breakable_database
from support.clocks import Time, utc_now
from support.databases import SqliteRig
from support.entrypoints import THROUGH, load, request
from support.events import published
from support.instances import CAT, NOWHERE, Calendar, instance, kept, read

Configure = Callable[..., None]

TIMERS = {
    "aws": ("aws_schedule", lambda: platforms.LambdaContext("l-1", clock=time.monotonic)),
    "aws, with an input of its own": (
        "aws_schedule_input",
        lambda: platforms.LambdaContext("l-1", clock=time.monotonic),
    ),
    "cloudbase": ("cloudbase_timer", lambda: platforms.cloudbase_context("scf-1")),
}


@pytest.mark.parametrize("timer", sorted(TIMERS))
def test_a_timer_sweeps_and_health_tells_when_that_was(
    configured: Configure, tmp_path: Path, timer: str
):
    configured(FAL_IMAGE_DATABASE_URL=f"sqlite://{tmp_path}/jobs.db", FAL_IMAGE_PUBLIC_URL=NOWHERE)
    cloud = timer.partition(",")[0]

    def health() -> Any:
        return read(THROUGH[cloud](request("GET", "/health", key=None))).json

    assert health()["lastSweep"] is None
    event, context = TIMERS[timer]
    for _ in range(2):
        swept = load(cloud)(published(event), context())
        assert swept == {
            "swept": 0,
            "jobs": 0,
            "batches": 0,
            "failed": 0,
            "purged": 0,
            "isComplete": True,
        }
    last = health()["lastSweep"]
    assert 0 <= last.pop("ageS") < 10
    assert last["beganAt"] <= last["endedAt"]
    assert {"jobs": 0, "batches": 0, "failed": 0, "purged": 0, "isComplete": True}.items() <= (
        last.items()
    )


def test_health_tells_how_long_ago_the_last_sweep_was(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar))
    one.tick()
    calendar.forward(seconds=90)
    health = one.ask("GET", "/health")
    assert health.json["lastSweep"]["ageS"] in (90, 91)
    assert health.headers["cache-control"] == "no-store"
    one.tick()
    assert one.ask("GET", "/health").json["lastSweep"]["ageS"] < 10


def test_health_answers_without_its_database(fal: Emulator, tmp_path: Path):
    database = breakable_database()
    one = instance(fal, tmp_path, seams=Seams(database=database.around))
    database.is_broken = True
    health = one.ask("GET", "/health")
    assert health.status == 200
    assert health.json["status"] == "database_unavailable"
    assert health.json["lastSweep"] is None
    database.mend()
    assert one.ask("GET", "/health").json["status"] == "ok"


def test_a_sweep_finishes_what_is_due_and_leaves_the_young_alone(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar))
    old = [one.submitted({**CAT, "seed": seed})["jobId"] for seed in range(20)]
    calendar.forward(minutes=1)
    young = one.submitted()["jobId"]
    swept = one.tick()
    assert (swept["jobs"], swept["failed"], swept["isComplete"]) == (20, 0, True)
    assert {kept(tmp_path, job_id).body["state"] for job_id in old} == {"done"}
    assert kept(tmp_path, young).body["state"] == "submitted"
    assert one.tick()["jobs"] == 0
    assert len(fal.ledger) == 21


def test_a_sweep_asks_often_enough_for_results_that_die_fast(tmp_path: Path):
    calendar, hand = Calendar(), Time()
    with Emulator(run_s=200, clock=hand) as fal:
        one = instance(fal, tmp_path, seams=Seams(now=calendar))
        job_id = one.submitted()["jobId"]
        for _ in range(4):
            hand.now_s += 60
            calendar.forward(minutes=1)
            assert one.tick()["jobs"] == 1
        assert kept(tmp_path, job_id).body["state"] == "done"


class Hurried:
    """A clock on which time flies: every look at it costs 50 ms."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.05
        return self.now_s


def test_a_sweep_stops_before_its_time_and_the_next_one_goes_on(fal: Emulator, tmp_path: Path):
    calendar, clock = Calendar(), Hurried()
    patient = instance(fal, tmp_path, seams=Seams(now=calendar))
    jobs = [patient.submitted({**CAT, "seed": seed})["jobId"] for seed in range(60)]
    calendar.forward(minutes=1)
    hurried = instance(fal, tmp_path, seams=Seams(now=calendar, clock=clock))
    swept = hurried.tick(ends_at=clock() + 20)
    assert swept["isComplete"] is False
    assert clock.now_s < 60
    states = [kept(tmp_path, job_id).body["state"] for job_id in jobs]
    assert 0 < states.count("done") < len(jobs)
    assert patient.ask("GET", "/health").json["lastSweep"]["isComplete"] is False
    calendar.forward(minutes=2)
    assert patient.tick()["isComplete"] is True
    assert {kept(tmp_path, job_id).body["state"] for job_id in jobs} == {"done"}
    assert len(fal.ledger) == len(jobs)


def test_one_broken_document_stops_no_other(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar))
    job_id = one.submitted()["jobId"]
    broken = SqliteRig(tmp_path / "jobs.db").open()
    assert broken.create(f"job:{'0' * 26}", {"state": "no such state"}, due_at=utc_now())
    calendar.forward(minutes=1)
    swept = one.tick()
    assert (swept["jobs"], swept["failed"]) == (2, 1)
    assert kept(tmp_path, job_id).body["state"] == "done"


def test_a_sweep_without_its_database_fails_and_says_so(fal: Emulator, tmp_path: Path):
    database = breakable_database()
    one = instance(fal, tmp_path, seams=Seams(database=database.around))
    database.is_broken = True
    with pytest.raises(AssertionError, match="database_unavailable"):
        one.tick()


def test_fal_gets_an_hour_and_then_the_job_is_over(tmp_path: Path):
    calendar = Calendar()
    with Emulator(run_s=9000) as fal:
        one = instance(fal, tmp_path, seams=Seams(now=calendar))
        job_id = one.submitted()["jobId"]
        calendar.forward(minutes=59)
        one.tick()
        assert kept(tmp_path, job_id).body["state"] == "submitted"
        calendar.forward(minutes=2)
        one.tick()
        assert fal.ledger[0].is_cancelled
        job = one.job(job_id)
        assert (job["state"], job["error"]["error"]) == ("failed", "job_timeout")
        assert job["error"]["falRequestId"] == fal.ledger[0].request_id
        calendar.forward(minutes=1)
        assert one.tick()["jobs"] == 0


def test_a_result_that_fal_has_forgotten_ends_the_job(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar))
    job_id = one.submitted()["jobId"]
    fal.fault("expired", on="result")
    calendar.forward(minutes=1)
    one.tick()
    job = one.job(job_id)
    assert job["state"] == "failed"
    assert job["error"]["hint"]
    calendar.forward(minutes=1)
    assert one.tick()["jobs"] == 0


def test_what_is_over_is_deleted_when_its_retention_is(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar), FAL_IMAGE_JOB_RETENTION_DAYS="2")
    job_id = one.generate().json["jobId"]
    calendar.forward(days=1, hours=23)
    assert one.tick()["purged"] == 0
    assert one.job(job_id)["images"][0]["tempFileURL"]
    calendar.forward(hours=2)
    assert one.ask("GET", f"/jobs/{job_id}").status == 404
    assert one.tick()["purged"] == 1


def test_a_timer_may_ask_for_nothing_else(configured: Configure, fal: Emulator, tmp_path: Path):
    """Whoever may call a CloudBase function can send an event that looks like a timer's."""
    configured(FAL_IMAGE_DATABASE_URL=f"sqlite://{tmp_path}/jobs.db")
    order = {**published("cloudbase_timer"), "Message": '{"prompt": "a cat"}', **CAT}
    answer = load("cloudbase")(order, platforms.cloudbase_context("scf-1"))
    assert answer["swept"] == 0
    assert fal.calls.total() == 0

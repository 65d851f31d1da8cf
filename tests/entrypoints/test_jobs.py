"""Jobs that outlive their request: how they are asked for, and what a deadline makes of them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from support import databases
from support.breakable import breakable_database
from support.clocks import Time, utc_now
from support.entrypoints import load
from support.events import published, sqs_message
from support.instances import CAT, NOWHERE, Postbox, ask, instance, kept, through

Configure = Callable[..., None]


def invoke(cloud: str, event: object) -> Any:
    context = {
        "aws": platforms.LambdaContext("l-1", clock=time.monotonic),
        "cloudbase": platforms.cloudbase_context("scf-1"),
    }
    return load(cloud)(event, context[cloud])


def test_respond_async_answers_at_once_and_the_job_is_found_under_its_location(
    with_database: Configure, slow: Emulator, hand: Time, cloud: str
):
    with_database(FAL_IMAGE_EMULATOR_URL=slow.url)
    answer = ask(cloud, body=CAT, headers={"prefer": "respond-async"})
    job = answer.json
    assert answer.status == 202
    assert job["state"] == "submitted"
    assert job["falRequestId"] == slow.ledger[0].request_id
    assert answer.headers["location"] == f"{NOWHERE}/jobs/{job['jobId']}"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["cache-control"] == "no-store"

    place = f"/jobs/{job['jobId']}"
    assert ask(cloud, "GET", place).json["state"] == "submitted"
    hand.now_s += 30
    done = ask(cloud, "GET", place)
    assert (done.status, done.json["state"]) == (200, "done")
    assert done.json["images"][0]["tempFileURL"]
    assert "retry-after" not in done.headers
    assert len(slow.ledger) == 1


@pytest.mark.parametrize(
    ("prefer", "status", "applied"),
    [
        ("respond-async", 202, "respond-async"),
        ("respond-async, wait=0", 202, "respond-async, wait=0"),
        ("wait=5", 200, "wait=5"),
        ("wait=5, respond-async", 200, "wait=5, respond-async"),
        ("Respond-Async; foo=1", 202, "respond-async"),
        ("wait=soon", 200, None),
        ("wait=-1", 200, None),
        ("return=minimal, handling=lenient", 200, None),
        (",;=,", 200, None),
    ],
)
def test_preferences(fal: Emulator, tmp_path: Path, prefer: str, status: int, applied: str | None):
    answer = instance(fal, tmp_path).generate(prefer=prefer)
    assert answer.status == status
    assert answer.headers.get("preference-applied") == applied
    assert len(fal.ledger) == 1


def test_wait_cuts_the_waiting_and_not_the_job(slow: Emulator, hand: Time, tmp_path: Path):
    one = instance(slow, tmp_path)
    for prefer in ("wait=1", "respond-async, wait=1"):
        answer = one.generate(prefer=prefer)
        assert (answer.status, answer.json["state"]) == (202, "submitted")
        assert answer.headers["preference-applied"] == prefer
        assert not slow.ledger[-1].is_cancelled
    hand.now_s += 30
    assert one.job(answer.json["jobId"])["state"] == "done"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/generate", CAT, {"prefer": "respond-async"}),
        ("POST", "/", CAT, {"prefer": "wait=1, respond-async"}),
        ("POST", "/generate", CAT, {"idempotency-key": "k"}),
        ("POST", "/generate", {**CAT, "webhookUrl": "https://hooks.example.com/"}, {}),
        ("GET", "/jobs/00000000000000000000000000", None, {}),
        ("GET", "/jobs/00000000000000000000000000/events", None, {}),
        ("DELETE", "/jobs/00000000000000000000000000", None, {}),
        ("POST", "/batches", {"rows": [CAT]}, {}),
        ("GET", "/batches/00000000000000000000000000", None, {}),
        ("DELETE", "/batches/00000000000000000000000000", None, {}),
        ("POST", "/batches/00000000000000000000000000/continue", None, {}),
    ],
)
def test_without_a_database_nothing_that_needs_one_is_half_done(
    configured: Configure,
    fal: Emulator,
    cloud: str,
    method: str,
    path: str,
    body: object,
    headers: dict[str, str],
):
    configured(FAL_IMAGE_WEBHOOK_HOSTS="hooks.example.com")
    answer = ask(cloud, method, path, body, headers=headers)
    assert (answer.status, answer.json["error"]) == (501, "database_required")
    assert "FAL_IMAGE_DATABASE_URL" in answer.json["hint"]
    assert fal.calls.total() == 0


def test_without_a_database_wait_cuts_the_request_itself(slow: Emulator, tmp_path: Path):
    one = instance(slow, tmp_path, FAL_IMAGE_DATABASE_URL=None)
    answer = one.generate(prefer="wait=2")
    assert (answer.status, answer.json["error"]) == (500, "deadline_exceeded")
    assert slow.ledger[0].is_cancelled


def test_a_deadline_becomes_a_job_that_each_driver_alone_finishes(
    with_database: Configure, slow: Emulator, hand: Time, cloud: str, tmp_path: Path
):
    drivers: dict[str, Callable[[str, Postbox], object]] = {
        "poll": lambda id, box: ask(cloud, "GET", f"/jobs/{id}"),
        "webhook": lambda id, box: through(cloud, box.next()),
        "timer": lambda id, box: tick(cloud, id, tmp_path),
    }
    if cloud == "aws":
        drivers["queue"] = lambda id, box: invoke(
            cloud, {"Records": [sqs_message("m-1", json.dumps({"jobId": id}))]}
        )
    for name, drive in drivers.items():
        with Postbox(slow) as box:
            with_database(
                FAL_IMAGE_EMULATOR_URL=slow.url,
                FAL_IMAGE_MAX_WAIT_S="1",
                FAL_IMAGE_PUBLIC_URL=box.url,
            )
            answer = ask(cloud, body=CAT)
            assert answer.status == 202, name
            assert answer.json["state"] == "submitted"
            assert "preference-applied" not in answer.headers
            hand.now_s += 30
            job_id = answer.json["jobId"]
            drive(job_id, box)
        assert kept(tmp_path, job_id).body["state"] == "done", name
        assert not slow.ledger[-1].is_cancelled
    assert len(slow.ledger) == len(drivers)


def tick(cloud: str, job_id: str, directory: Path) -> object:
    """A timer's event at a time when the job has become due."""
    found = kept(directory, job_id)
    database = databases.SqliteRig(directory / "jobs.db").open()
    assert database.replace_if(found.id, found.version, found.body, due_at=utc_now())
    event = {"aws": "aws_schedule", "cloudbase": "cloudbase_timer"}[cloud]
    return invoke(cloud, published(event))


def test_a_lost_submit_is_unknown_at_once_and_done_when_fal_calls(
    with_database: Configure, fal: Emulator, cloud: str, tmp_path: Path
):
    fal.fault("lost", on="submit")
    with Postbox(fal) as box:
        with_database(FAL_IMAGE_PUBLIC_URL=box.url)
        answer = ask(cloud, body=CAT)
        assert (answer.status, answer.json["state"]) == (202, "unknown")
        assert answer.headers["retry-after"] == "1"
        assert answer.json["falRequestId"] is None
        assert answer.json["error"]["error"] == "submit_unknown"
        assert answer.json["error"]["retryable"] is False
        assert answer.json["error"]["hint"]

        place = f"/jobs/{answer.json['jobId']}"
        asked = ask(cloud, "GET", place)
        assert (asked.status, asked.json["state"]) == (200, "unknown")
        assert asked.json["error"]["hint"]

        assert through(cloud, box.next()).status == 200
    done = ask(cloud, "GET", place).json
    assert (done["state"], done["error"]) == ("done", None)
    assert done["falRequestId"] == fal.ledger[0].request_id
    assert len(fal.ledger) == 1


@pytest.mark.parametrize("kind", ["cut", "no-request-id", "504-nginx", "502-nginx", "reset"])
def test_whatever_may_have_reached_fal_is_never_answered_with_a_try_again(
    fal: Emulator, tmp_path: Path, kind: str
):
    fal.fault(kind, on="submit")
    one = instance(fal, tmp_path)
    answer = one.generate()
    assert (answer.status, answer.json["state"]) == (202, "unknown")
    assert fal.calls["submit"] == 1


@pytest.mark.parametrize("calls_that_work", [1, 2])
def test_a_database_that_fails_after_the_submit_is_no_reason_to_send_it_again(
    tmp_path: Path, calls_that_work: int
):
    """The first write after the submit is fal's request id, the second what came of it."""
    database = breakable_database("replace_if")
    seams = Seams(database=database.around, sleep=lambda seconds: None)
    with Emulator() as fal, Postbox(fal) as box:
        one = instance(fal, tmp_path, seams=seams, FAL_IMAGE_PUBLIC_URL=box.url)
        database.break_after(calls_that_work - 1)
        answer = one.generate()
        if calls_that_work == 1:
            assert (answer.status, answer.json["error"]) == (500, "internal")
            assert answer.json["retryable"] is False
        else:
            assert (answer.status, answer.json["state"]) == (202, "submitted")
        assert answer.json["falRequestId"] == fal.ledger[0].request_id
        database.mend()
        assert one.deliver(box.next()).status == 200
        assert one.job(answer.json["jobId"])["state"] == "done"
        assert len(fal.ledger) == 1


@pytest.mark.parametrize(("kind", "status"), [("500", 502), ("503", 502)])
def test_a_refused_submit_is_the_recipes_error_and_names_the_job(
    with_database: Configure, fal: Emulator, cloud: str, kind: str, status: int
):
    fal.fault(kind, on="submit")
    answer = ask(cloud, body=CAT)
    assert (answer.status, answer.json["error"]) == (status, "fal_failed")
    job = ask(cloud, "GET", f"/jobs/{answer.json['jobId']}").json
    assert (job["state"], job["error"]["error"]) == ("failed", "fal_failed")
    assert fal.ledger == []


def test_the_answer_of_a_job_that_waits_and_is_done_is_the_same_as_without_a_database(
    with_database: Configure, configured: Configure, cloud: str
):
    durable = ask(cloud, body=CAT)
    configured()
    fleeting = ask(cloud, body=CAT)
    assert (durable.status, fleeting.status) == (200, 200)
    assert durable.json.keys() == fleeting.json.keys()
    assert durable.json["images"][0]["sha256"] == fleeting.json["images"][0]["sha256"]
    assert durable.json["cost"] == fleeting.json["cost"]

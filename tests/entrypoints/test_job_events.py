"""A job as it goes on: a stream where answers stream, one look where they are buffered."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.web import Event, decode_events
from support.breakable import breakable_database
from support.clocks import Time
from support.entrypoints import THROUGH, request
from support.instances import CAT, NOWHERE, OTHER_KEY, Calendar, Instance, instance, read, serving

Configure = Callable[..., None]


@pytest.fixture
def hand() -> Time:
    """The clock by which `slow` works; only a test moves it."""
    return Time()


@pytest.fixture
def slow(hand: Time) -> Iterator[Emulator]:
    """fal with jobs that wait for 10 s and run for 20."""
    with Emulator(queue_s=10, run_s=20, clock=hand) as emulator:
        yield emulator


def facts(event: Event) -> Any:
    return json.loads(event.data)


def listen(one: Instance, job_id: str) -> Iterator[bytes]:
    """The stream of a job's events, not read yet."""
    response = one.app(request("GET", f"/jobs/{job_id}/events"))
    assert response.status == 200
    assert dict(response.headers)["content-type"] == "text/event-stream"
    assert dict(response.headers)["cache-control"] == "no-store"
    assert not isinstance(response.body, bytes)
    return response.body


def test_a_server_streams_a_job_from_the_queue_to_its_end(tmp_path: Path):
    with Emulator(queue_s=0.4, run_s=1.2) as fal, serving(fal, tmp_path) as server:
        job_id = server.submitted({**CAT, "num_images": 2})["jobId"]
        with server.opened("GET", f"/jobs/{job_id}/events") as answer:
            assert answer.getheader("content-type") == "text/event-stream"
            events = list(decode_events(iter(lambda: answer.read1(), b"")))
        job = server.job(job_id)
    names = [event.name for event in events]
    assert names[0] == "queued"
    assert "progress" in names
    assert names[-3:] == ["image", "image", "done"]
    assert set(facts(events[0])) == {"position", "ageMs"}
    progress = [facts(event) for event in events if event.name == "progress"]
    assert all(set(one) == {"message", "timestamp"} for one in progress)
    assert len({one["message"] for one in progress}) == len(progress)
    assert [facts(event)["index"] for event in events[-3:-1]] == [0, 1]
    done = facts(events[-1])
    assert (done["jobId"], done["state"]) == (job_id, "done")
    assert done.keys() == job.keys()


def test_every_event_has_the_version_of_the_document_as_its_id(
    slow: Emulator, hand: Time, tmp_path: Path
):
    one = instance(slow, tmp_path)
    stream = listen(one, one.submitted()["jobId"])
    (first,) = decode_events([next(stream)])
    hand.now_s += 30
    last = list(decode_events([next(stream)]))[-1]
    assert first.id
    assert last.id
    assert 0 < int(first.id) < int(last.id)


def test_a_silent_stream_sends_comments_and_ends_before_the_servers_turn_does(
    slow: Emulator, tmp_path: Path
):
    time = Time()
    one = instance(slow, tmp_path, seams=Seams(clock=time, sleep=time.sleep))
    began = time.now_s
    first, *comments, last = listen(one, one.submitted()["jobId"])
    assert [event.name for event in decode_events([first])] == ["queued"]
    assert set(comments) == {b": still here\n\n"}
    assert len(comments) == 7
    assert last == b"retry: 2000\n\n"
    assert 100 < time.now_s - began < 120


def test_nothing_is_told_twice_and_what_is_new_is_told_at_once(
    slow: Emulator, hand: Time, tmp_path: Path
):
    one = instance(slow, tmp_path)
    stream = listen(one, one.submitted()["jobId"])
    told: list[list[str]] = []
    for step_s in (0.0, 15.5, 5.0, 10.0):
        hand.now_s += step_s
        events = decode_events([next(stream)])
        told.append([facts(event).get("message", event.name) for event in events])
    assert told == [["queued"], ["25%"], ["50%"], ["image", "done"]]
    assert list(stream) == [b"retry: 2000\n\n"]


def test_the_age_of_a_waiting_job_is_its_own(slow: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(slow, tmp_path, seams=Seams(now=calendar))
    job_id = one.submitted()["jobId"]
    calendar.forward(seconds=20)
    (event,) = decode_events([next(listen(one, job_id))])
    assert 20_000 <= facts(event)["ageMs"] < 30_000


def test_a_failed_job_ends_with_its_problem(fal: Emulator, tmp_path: Path):
    fal.fault("error", on="result")
    one = instance(fal, tmp_path)
    job_id = one.submitted()["jobId"]
    *_, last = decode_events(listen(one, job_id))
    assert last.name == "error"
    assert facts(last)["error"] == "fal_failed"
    assert facts(last)["falErrorType"] == "runner_disconnected"
    assert facts(last)["jobId"] == job_id


def test_an_unknown_job_is_told_and_not_waited_for(fal: Emulator, tmp_path: Path):
    fal.fault("lost", on="submit")
    one = instance(fal, tmp_path)
    job_id = one.generate().json["jobId"]
    (event,) = decode_events(listen(one, job_id))
    assert (event.name, facts(event)["error"]) == ("error", "submit_unknown")
    assert facts(event)["hint"]


def test_a_cancelled_job_is_told_as_done_with(slow: Emulator, tmp_path: Path):
    one = instance(slow, tmp_path)
    job_id = one.submitted()["jobId"]
    one.ask("DELETE", f"/jobs/{job_id}")
    (event,) = decode_events(listen(one, job_id))
    assert (event.name, facts(event)["state"]) == ("done", "cancelled")


@pytest.mark.parametrize("cloud", sorted(THROUGH))
def test_a_platform_that_buffers_gives_one_look_and_when_to_come_again(
    configured: Configure, slow: Emulator, hand: Time, tmp_path: Path, cloud: str
):
    configured(
        FAL_IMAGE_EMULATOR_URL=slow.url,
        FAL_IMAGE_DATABASE_URL=f"sqlite://{tmp_path}/jobs.db",
        FAL_IMAGE_PUBLIC_URL=NOWHERE,
    )
    through = THROUGH[cloud]
    job = read(through(request(body=CAT, headers={"prefer": "respond-async"}))).json
    events = request("GET", f"/jobs/{job['jobId']}/events")
    looks = []
    for step_s in (0.0, 15.5, 15.0):
        hand.now_s += step_s
        answer = read(through(events))
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.body.endswith(b"retry: 2000\n\n")
        looks.append([event.name for event in decode_events([answer.body])])
    assert looks == [["queued"], ["progress"], ["image", "done"]]


def test_a_stream_whose_database_fails_ends_in_order(slow: Emulator, tmp_path: Path):
    database = breakable_database()
    one = instance(slow, tmp_path, seams=Seams(database=database.around))
    stream = listen(one, one.submitted()["jobId"])
    next(stream)
    database.is_broken = True
    assert list(stream) == [b"retry: 2000\n\n"]


def test_a_stranger_hears_nothing(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    job_id = one.submitted()["jobId"]
    answer = one.ask("GET", f"/jobs/{job_id}/events", key=OTHER_KEY)
    assert (answer.status, answer.json["error"]) == (404, "not_found")

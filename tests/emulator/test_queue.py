from __future__ import annotations

import time

import pytest

from fal_image.dev.emulator import Emulator
from support.clocks import Time
from support.emulator import QUEUE, SCHNELL, ask, begin, finish, submit


def test_a_submit_answers_200_with_links_on_the_emulator_that_leave_the_path_out(
    emulator: Emulator,
) -> None:
    reply = ask(emulator, "POST", f"{QUEUE}/{SCHNELL}", {"prompt": "cat"})
    taken = reply.json
    here = f"{emulator.url}/queue.fal.run/fal-ai/flux/requests/{taken['request_id']}"

    assert reply.status == 200
    assert reply.headers["x-fal-request-id"] == taken["request_id"]
    assert taken == {
        "status": "IN_QUEUE",
        "request_id": taken["request_id"],
        "response_url": here,
        "status_url": f"{here}/status",
        "cancel_url": f"{here}/cancel",
        "queue_position": 0,
    }


def test_a_waiting_job_says_how_many_are_before_it(busy: Emulator) -> None:
    submit(busy)
    taken = submit(busy)
    submit(busy, "fal-ai/flux-pro/v1.1")

    reply = ask(busy, "GET", f"{taken['status_url']}?logs=1")

    assert reply.status == 202
    assert reply.json["status"] == "IN_QUEUE"
    assert reply.json["queue_position"] == 1
    assert reply.json["response_url"] == taken["response_url"]


@pytest.mark.parametrize(
    ("query", "logs"), [("", None), ("?logs=0", None), ("?logs=false", None), ("?logs=1", [])]
)
def test_a_running_job_has_logs_only_if_asked(working: Emulator, query: str, logs: object) -> None:
    reply = ask(working, "GET", submit(working)["status_url"] + query)

    assert reply.status == 202
    assert reply.json["status"] == "IN_PROGRESS"
    assert reply.json["logs"] == logs


@pytest.mark.parametrize("logs", ["1", "true"])
def test_a_finished_job_answers_200_with_metrics_and_its_whole_log(
    emulator: Emulator, logs: str
) -> None:
    reply = ask(emulator, "GET", f"{submit(emulator)['status_url']}?logs={logs}")

    assert reply.status == 200
    assert reply.json["status"] == "COMPLETED"
    assert reply.json["metrics"] == {"inference_time": 0.0}
    assert [entry["message"] for entry in reply.json["logs"]] == ["25%", "50%", "75%", "100%"]
    assert {"message", "timestamp", "level", "source"} == set(reply.json["logs"][0])
    assert "error" not in reply.json


@pytest.mark.parametrize("path", ["", "/", "/response"])
@pytest.mark.parametrize("app", ["fal-ai/flux", "fal-ai/flux/schnell"])
def test_a_result_is_found_under_every_path_that_is_in_use(
    emulator: Emulator, app: str, path: str
) -> None:
    taken = submit(emulator)

    reply = ask(emulator, "GET", f"{QUEUE}/{app}/requests/{taken['request_id']}{path}")

    assert reply.status == 200
    assert reply.headers["x-fal-request-id"] == taken["request_id"]
    assert reply.headers["x-fal-billable-units"] == "1"
    assert reply.json["prompt"] == "a calico cat"


def test_a_result_that_is_asked_for_too_early_is_400(working: Emulator) -> None:
    reply = ask(working, "GET", submit(working)["response_url"])

    assert reply.status == 400
    assert reply.json == {"detail": "Request is still in progress"}


@pytest.mark.parametrize(
    ("method", "tail"), [("GET", ""), ("GET", "/status"), ("GET", "/status/stream")]
)
def test_an_unknown_job_is_404(emulator: Emulator, method: str, tail: str) -> None:
    known = submit(emulator)["request_id"]

    for path in (f"fal-ai/flux/requests/no-such-job{tail}", f"fal-ai/other/requests/{known}{tail}"):
        reply = ask(emulator, method, f"{QUEUE}/{path}")
        assert (reply.status, reply.json) == (404, {"status": "NOT_FOUND"})


def test_a_cancelled_job_is_over_and_its_result_is_499(working: Emulator) -> None:
    taken = submit(working)

    cancelled = ask(working, "PUT", taken["cancel_url"], b"")
    status = ask(working, "GET", taken["status_url"])
    result = ask(working, "GET", taken["response_url"])

    assert (cancelled.status, cancelled.json) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert status.json["status"] == "COMPLETED"
    assert status.json["error_type"] == "client_cancelled"
    assert result.status == 499
    assert result.headers["x-fal-error-type"] == "client_cancelled"
    assert result.json["error_type"] == "client_cancelled"
    assert [(e.is_cancelled, e.billable_units) for e in working.ledger] == [(True, 0)]


def test_cancelling_a_finished_or_unknown_job_is_refused(emulator: Emulator) -> None:
    done = ask(emulator, "PUT", submit(emulator)["cancel_url"], b"")
    unknown = ask(emulator, "PUT", f"{QUEUE}/fal-ai/flux/requests/nothing/cancel", b"")

    assert (done.status, done.json) == (400, {"status": "ALREADY_COMPLETED"})
    assert (unknown.status, unknown.json) == (404, {"status": "NOT_FOUND"})


@pytest.mark.parametrize(
    "headers",
    [
        {"x-fal-request-timeout": "0.0"},
        {"x-fal-request-start-timeout": "0.0", "x-fal-request-timeout": "600"},
    ],
)
def test_a_job_that_did_not_start_in_time_is_504_of_its_user(
    busy: Emulator, headers: dict[str, str]
) -> None:
    result = finish(busy, submit(busy, headers=headers))

    assert result.status == 504
    assert result.headers["x-fal-request-timeout-type"] == "user"
    assert result.headers["x-fal-error-type"] == "request_timeout"
    assert busy.ledger[0].billable_units == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"x-fal-request-start-timeout": "5"},
        {"x-fal-request-timeout": "5.0"},
        {"x-fal-request-start-timeout": "5", "x-fal-request-timeout": "1"},
        {"x-fal-request-start-timeout": "soon", "x-fal-request-timeout": "5"},
    ],
)
def test_a_start_timeout_counts_from_the_submit_and_its_newer_name_wins(
    headers: dict[str, str],
) -> None:
    time = Time()
    with Emulator(queue_s=3600, clock=time) as emulator:
        taken = submit(emulator, headers=headers)
        time.sleep(4.9)
        before = ask(emulator, "GET", taken["status_url"]).json
        time.sleep(0.1)
        after = ask(emulator, "GET", taken["status_url"])
        result = ask(emulator, "GET", taken["response_url"])
        cancelled = ask(emulator, "PUT", taken["cancel_url"])

    assert before["status"] == "IN_QUEUE"
    assert (after.status, after.json["status"]) == (200, "COMPLETED")
    assert after.json["error_type"] == result.json["error_type"] == "request_timeout"
    assert isinstance(result.json["detail"], str)
    assert (result.status, result.headers["x-fal-request-timeout-type"]) == (504, "user")
    assert cancelled.status == 400


def test_a_start_timeout_also_ends_a_job_that_went_back_to_the_queue() -> None:
    time = Time()
    with Emulator(run_s=3600, clock=time) as emulator:
        emulator.fault("back-to-queue", on="status", seconds=60.0)
        taken = submit(emulator, headers={"x-fal-request-start-timeout": "5"})
        time.sleep(3)
        again = ask(emulator, "GET", taken["status_url"]).json
        time.sleep(2)

        assert again["status"] == "IN_QUEUE"
        assert ask(emulator, "GET", taken["response_url"]).status == 504


@pytest.mark.parametrize(("is_large", "kept_s"), [(False, 3600.0), (True, 360.0)])
def test_a_result_is_kept_for_an_hour_or_six_minutes_if_it_is_large(
    is_large: bool, kept_s: float
) -> None:
    time = Time()
    with Emulator(queue_s=5, run_s=5, clock=time) as emulator:
        taken = submit(emulator, sync_mode=is_large)
        time.sleep(10 + kept_s)
        kept = ask(emulator, "GET", taken["response_url"])
        time.sleep(0.001)
        gone = ask(emulator, "GET", taken["response_url"])
        status = ask(emulator, "GET", taken["status_url"])

    assert (kept.status, len(kept.body) >= 10_000) == (200, is_large)
    assert (gone.status, gone.json) == (404, {"status": "NOT_FOUND"})
    assert (status.status, status.json["status"]) == (200, "COMPLETED")
    assert emulator.ledger[0].billable_units == 1


def test_a_start_timeout_does_not_cut_a_running_job(working: Emulator) -> None:
    taken = submit(working, headers={"x-fal-request-timeout": "0.0"})

    assert ask(working, "GET", taken["status_url"]).json["status"] == "IN_PROGRESS"


def test_a_queue_that_is_longer_than_the_caller_wants_refuses(busy: Emulator) -> None:
    for _ in range(2):
        submit(busy, query="?fal_max_queue_length=1")

    reply = ask(busy, "POST", f"{QUEUE}/{SCHNELL}?fal_max_queue_length=1", {"prompt": "cat"})

    assert reply.status == 429
    assert len(busy.ledger) == 2


@pytest.mark.parametrize(
    ("arguments", "loc", "kind"),
    [
        ({}, ["body", "prompt"], "missing"),
        ({"prompt": "cat", "num_images": 9}, ["body", "num_images"], "less_than_equal"),
        ([], ["body"], "dict_type"),
        (b"{", ["body", 0], "json_invalid"),
        (b"[" * 100_000, ["body", 0], "json_invalid"),
        (b'{"prompt": "cat", "seed": NaN}', ["body", 0], "json_invalid"),
        (b'{"prompt": "cat", "seed": 1e999}', ["body", 0], "json_invalid"),
        (
            {"prompt": "cat", "image_size": {"width": 14142, "height": 14142}},
            ["body", "image_size"],
            "image_too_large",
        ),
    ],
)
def test_bad_input_is_taken_and_fails_as_a_finished_job_that_costs_nothing(
    emulator: Emulator, arguments: object, loc: list[object], kind: str
) -> None:
    taken = ask(emulator, "POST", f"{QUEUE}/{SCHNELL}", arguments)
    status = ask(emulator, "GET", taken.json["status_url"])
    result = ask(emulator, "GET", taken.json["response_url"])
    [problem] = result.json["detail"]

    assert status.json["status"] == "COMPLETED"
    assert status.json["error"]
    assert result.status == 422
    assert result.headers["x-fal-billable-units"] == "0"
    assert (problem["loc"], problem["type"]) == (loc, kind)
    assert emulator.ledger[0].billable_units == 0


@pytest.mark.parametrize(
    ("model", "detail"),
    [
        ("fal-ai/fluks/schnell", 'Application "fluks" not found'),
        ("workflows/me/pipeline", 'Application "pipeline" not found'),
        ("fal-ai/flux-2/pro", "Path /pro not found"),
    ],
)
def test_an_unknown_model_is_404_at_the_submit(emulator: Emulator, model: str, detail: str) -> None:
    reply = ask(emulator, "POST", f"{QUEUE}/{model}", {"prompt": "cat"})

    assert (reply.status, reply.json) == (404, {"detail": detail})
    assert emulator.ledger == []


def test_the_stream_tells_each_state_and_only_new_log_entries() -> None:
    with Emulator(queue_s=0.1, run_s=0.1) as emulator:
        taken = submit(emulator)
        reply = ask(emulator, "GET", f"{taken['status_url']}/stream?logs=1")

    states = list(dict.fromkeys(event["status"] for event in reply.events))
    messages = [entry["message"] for e in reply.events for entry in e.get("logs") or []]
    assert states == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"][-len(states) :]
    assert messages == ["25%", "50%", "75%", "100%"]
    assert reply.headers["x-fal-request-id"] == taken["request_id"]


def test_the_stream_tells_when_the_queue_moves(busy: Emulator) -> None:
    first, second = submit(busy), submit(busy)
    with begin(busy, "GET", f"{second['status_url']}/stream") as response:
        before, _ = response.readline(), response.readline()
        ask(busy, "PUT", first["cancel_url"])
        after = response.readline()

    assert b'"queue_position":1' in before
    assert b'"queue_position":0' in after


def test_a_silent_stream_is_kept_open_by_comments() -> None:
    with Emulator(queue_s=3600, comment_s=0.01) as emulator:
        url = f"{submit(emulator)['status_url']}/stream"
        with begin(emulator, "GET", url) as response:
            lines = [response.readline() for _ in range(4)]

    assert lines[0].startswith(b"data: ")
    assert lines[2].startswith(b":")


def test_the_stream_of_a_cancelled_job_ends_at_once(working: Emulator) -> None:
    taken = submit(working)
    with begin(working, "GET", f"{taken['status_url']}/stream") as response:
        assert b"IN_PROGRESS" in response.readline()
        ask(working, "PUT", taken["cancel_url"])
        assert b"client_cancelled" in response.read()


def test_completion_is_not_told_before_it_happens() -> None:
    run_s = 0.1
    with Emulator(run_s=run_s) as emulator:
        began_at = time.monotonic()
        finish(emulator, submit(emulator, image_size="square"))

    assert time.monotonic() - began_at >= run_s

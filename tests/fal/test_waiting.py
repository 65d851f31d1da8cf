"""Waiting for a job and reading its result, against answers written byte by byte."""

import json
from collections.abc import Mapping

import pytest

from fal_image.errors import AppError, FalAuthFailed, FalFailed, FalRejected
from fal_image.fal.client import Fal, OutOfTime, Status
from fal_image.wire import Wire
from support.clocks import Time
from support.peer import RESET, Peer, answer

MODEL = "fal-ai/flux/schnell"
NGINX = "<html>nginx</html>"
DONE = {"status": "COMPLETED", "metrics": {"inference_time": 1.5}, "logs": None}
QUEUED = {"status": "IN_QUEUE", "queue_position": 2}


def running(*messages: str) -> Mapping[str, object]:
    logs = [{"message": message, "timestamp": "t"} for message in messages]
    return {"status": "IN_PROGRESS", "logs": logs}


def stream(*statuses: Mapping[str, object]) -> bytes:
    body = "".join(f"data: {json.dumps(status)}\n\n" for status in statuses)
    return answer(200, body, content_type="text/event-stream")


def status(payload: Mapping[str, object], code: int = 202) -> bytes:
    return answer(code, payload)


def wait(peer: Peer, time: Time | None = None, left_s: float = 60.0) -> list[Status]:
    time = time or Time()
    heard: list[Status] = []
    fal = Fal(Wire(emulator_url=peer.url, clock=time), "id:secret", time, time.sleep)
    fal.wait(MODEL, "r-1", ends_at=time() + left_s, on_status=heard.append)
    return heard


def result(peer: Peer, time: Time | None = None, left_s: float = 60.0):
    time = time or Time()
    fal = Fal(Wire(emulator_url=peer.url, clock=time), "id:secret", time, time.sleep)
    return fal.result(MODEL, "r-1", ends_at=time() + left_s)


def test_the_status_stream_is_followed_to_its_end():
    with Peer([stream(QUEUED, running("50%"), DONE)]) as peer:
        heard = wait(peer)
    assert [one.state for one in heard] == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert heard[0].position == 2
    assert heard[1].logs[0]["message"] == "50%"
    assert heard[2].inference_s == 1.5
    assert peer.paths == ["/queue.fal.run/fal-ai/flux/requests/r-1/status/stream?logs=1"]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(stream(QUEUED), id="ends early"),
        pytest.param(RESET, id="is reset"),
        pytest.param(answer(404, {"detail": "no stream"}), id="is not there"),
        pytest.param(answer(502, NGINX), id="is a gateway's page"),
        pytest.param(answer(200, "data: not json\n\n"), id="speaks nonsense"),
    ],
)
def test_a_stream_that_fails_is_replaced_by_polling(first: bytes):
    with Peer([first, status(running("a")), status(DONE, 200)]) as peer:
        assert wait(peer)[-1].is_completed
    assert peer.paths[1] == "/queue.fal.run/fal-ai/flux/requests/r-1/status?logs=1"


def test_a_silent_stream_is_replaced_by_polling():
    silent = (
        b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    time = Time()
    with Peer([silent, status(DONE, 200)]) as peer:
        wire = Wire(emulator_url=peer.url, clock=time)
        fal = Fal(wire, "id:secret", time, time.sleep, silence_s=0.2)
        assert fal.wait(MODEL, "r-1", ends_at=time() + 60).is_completed
    assert len(peer.requests) == 2


def test_polling_slows_down_to_two_seconds():
    time = Time()
    polls = [status(QUEUED)] * 8
    with Peer([answer(404, {}), *polls, status(DONE, 200)]) as peer:
        wait(peer, time)
    assert time.slept[0] == 0.25
    assert time.slept == sorted(time.slept)
    assert time.slept[-1] == 2.0


def test_polling_survives_errors_of_every_kind():
    trouble = [RESET, answer(502, NGINX), answer(429, {}), answer(500, {"detail": "x"})]
    with Peer([answer(404, {}), *trouble, status(DONE, 200)]) as peer:
        assert wait(peer)[-1].is_completed


def test_a_log_entry_is_heard_once_although_polls_repeat_it():
    scripts = [
        stream(running("a")),
        status(running("a", "b")),
        status(running("a", "b")),
        status(DONE, 200),
    ]
    with Peer(scripts) as peer:
        heard = wait(peer)
    assert [log["message"] for one in heard for log in one.logs] == ["a", "b"]


def test_back_to_the_queue_is_normal():
    with Peer([stream(running(), QUEUED, running(), DONE)]) as peer:
        assert [one.state for one in wait(peer)][-3:] == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


def test_an_unknown_state_is_waited_through():
    with Peer([stream({"status": "NAPPING"}, DONE)]) as peer:
        assert [one.state for one in wait(peer)] == ["NAPPING", "COMPLETED"]


def test_waiting_ends_at_the_deadline():
    time = Time()
    with Peer([stream(QUEUED), status(QUEUED)]) as peer, pytest.raises(OutOfTime):
        wait(peer, time, left_s=5.0)
    assert time() <= 1005.0


def test_a_key_revoked_meanwhile_ends_the_wait():
    locked = answer(403, {"detail": "User is locked. Reason: Exhausted balance."})
    with Peer([locked]) as peer, pytest.raises(FalAuthFailed) as failed:
        wait(peer)
    assert failed.value.extensions["falRequestId"] == "r-1"
    assert not failed.value.retryable


def test_a_result_comes_with_the_units_fal_bills():
    with Peer([answer(200, {"images": []}, x_fal_billable_units="1.5")]) as peer:
        outcome = result(peer)
    assert (outcome.payload, outcome.billable_units) == ({"images": []}, 1.5)
    assert peer.paths == ["/queue.fal.run/fal-ai/flux/requests/r-1"]


@pytest.mark.parametrize("units", ["many", "", "nan", "-1", "1e400"])
def test_units_that_are_no_number_are_unknown(units: str):
    with Peer([answer(200, {}, x_fal_billable_units=units)]) as peer:
        assert result(peer).billable_units is None


@pytest.mark.parametrize(
    "first",
    [
        RESET,
        answer(502, NGINX),
        answer(429, {"detail": "slow down"}),
        answer(400, {"detail": "Request is still in progress"}),
        answer(200, "{", declared=50),
    ],
)
def test_reading_a_result_is_repeated_because_it_costs_nothing(first: bytes):
    with Peer([first, answer(200, {"images": []})]) as peer:
        assert result(peer).payload == {"images": []}


@pytest.mark.parametrize(
    ("script", "error", "retryable"),
    [
        (answer(422, {"detail": [{"msg": "bad"}]}), FalRejected, False),
        (answer(422, {"detail": [{"msg": "bad"}]}, x_fal_billable_units="0"), FalRejected, True),
        (answer(503, {"detail": "x", "error_type": "runner_disconnected"}), FalFailed, True),
        (answer(504, {"detail": "x"}, x_fal_error_type="request_timeout"), FalFailed, True),
        (answer(404, {"detail": "Request not found"}), FalFailed, False),
        (answer(500, "oops", x_fal_request_id="r-1"), FalFailed, True),
    ],
)
def test_a_failed_job_is_read_once_and_named(script: bytes, error: type[AppError], retryable: bool):
    with Peer([script]) as peer, pytest.raises(error) as failed:
        result(peer)
    assert len(peer.requests) == 1
    assert failed.value.retryable is retryable
    assert failed.value.extensions["falRequestId"] == "r-1"


def test_fals_own_error_type_is_told():
    gone = answer(503, {"detail": "x", "error_type": "runner_disconnected"})
    with Peer([gone]) as peer, pytest.raises(FalFailed) as failed:
        result(peer)
    assert failed.value.extensions["falErrorType"] == "runner_disconnected"


def test_a_result_that_never_comes_ends_at_the_deadline():
    with Peer([answer(502, NGINX)]) as peer, pytest.raises(OutOfTime):
        result(peer, left_s=3.0)


@pytest.mark.parametrize(
    ("script", "finished"),
    [
        (answer(202, {"status": "CANCELLATION_REQUESTED"}), False),
        (answer(400, {"status": "ALREADY_COMPLETED"}), True),
        (answer(404, {"status": "NOT_FOUND"}), False),
        (answer(502, NGINX), False),
        (RESET, False),
    ],
)
def test_cancelling_asks_once_and_says_whether_fal_was_faster(script: bytes, finished: bool):
    time = Time()
    with Peer([script]) as peer:
        fal = Fal(Wire(emulator_url=peer.url, clock=time), "id:secret", time, time.sleep)
        assert fal.cancel(MODEL, "r-1", ends_at=time() + 1) is finished
    assert len(peer.requests) == 1
    assert peer.requests[0].startswith(b"PUT ")

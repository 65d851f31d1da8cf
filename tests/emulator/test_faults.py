"""Each fault of the table, as a plain caller sees it."""

from __future__ import annotations

import http.client
import io
import itertools
import tracemalloc
from typing import Any

import pytest
from PIL import Image

from fal_image.dev.emulator import TABLE, Emulator
from support.clocks import Time
from support.emulator import (
    CDN,
    QUEUE,
    REST,
    RUN,
    SCHNELL,
    ask,
    begin,
    finish,
    picture_url,
    submit,
)

SUBMIT = f"{QUEUE}/{SCHNELL}"
CAT: dict[str, Any] = {"prompt": "cat", "seed": 7, "image_size": "square", "output_format": "png"}


def made_url(emulator: Emulator) -> str:
    """The URL of a PNG that nobody has fetched yet."""
    return picture_url(finish(emulator, submit(emulator, **CAT)))


# On any call


@pytest.mark.parametrize("status", ["408", "409", "429", "500", "503"])
def test_a_json_refusal_of_a_submit_takes_nothing(emulator: Emulator, status: str) -> None:
    emulator.fault(status)

    refused = ask(emulator, "POST", SUBMIT, CAT)
    taken = ask(emulator, "POST", SUBMIT, CAT)

    assert refused.status == int(status)
    assert isinstance(refused.json["detail"], str)
    assert refused.headers["x-fal-request-id"]
    assert taken.status == 200
    assert len(emulator.ledger) == 1
    assert emulator.calls["submit"] == 2


@pytest.mark.parametrize("kind", ["502-nginx", "504-nginx"])
def test_a_page_of_nginx_has_no_request_id(emulator: Emulator, kind: str) -> None:
    emulator.fault(kind)

    reply = ask(emulator, "POST", SUBMIT, CAT)

    assert reply.status == int(kind[:3])
    assert reply.headers["content-type"] == "text/html"
    assert b"nginx" in reply.body
    assert "x-fal-request-id" not in reply.headers
    assert emulator.ledger == []


def test_a_lost_answer_belongs_to_a_job_that_was_taken(emulator: Emulator) -> None:
    emulator.fault("lost")

    with pytest.raises(http.client.RemoteDisconnected):
        ask(emulator, "POST", SUBMIT, CAT)
    assert [entry.billable_units for entry in emulator.ledger] == [1]


def test_a_reset_connection_took_nothing(emulator: Emulator) -> None:
    emulator.fault("reset")

    with pytest.raises(ConnectionError) as error:
        ask(emulator, "POST", SUBMIT, CAT)
    assert not isinstance(error.value, http.client.RemoteDisconnected)  # that is a FIN
    assert emulator.ledger == []
    assert emulator.calls["submit"] == 1


def test_an_answer_cut_in_its_body_belongs_to_a_job_that_was_taken(emulator: Emulator) -> None:
    emulator.fault("cut")

    with pytest.raises(http.client.IncompleteRead):
        ask(emulator, "POST", SUBMIT, CAT)
    assert len(emulator.ledger) == 1


def test_a_slow_submit_takes_its_job_at_once(emulator: Emulator) -> None:
    emulator.fault("slow", seconds=0.05)

    assert ask(emulator, "POST", SUBMIT, CAT).status == 200


def test_a_call_that_is_slow_forever_ends_with_the_emulator() -> None:
    with Emulator() as emulator:
        emulator.fault("slow", seconds=3600)
        connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=10)
        connection.request("POST", f"/queue.fal.run/{SCHNELL}", b"{}", {"authorization": "Key a:b"})
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize(
    ("on", "method", "url"),
    [
        ("run", "POST", f"{RUN}/{SCHNELL}"),
        ("run-stream", "POST", f"{RUN}/{SCHNELL}/stream"),
        ("token", "POST", f"{REST}/tokens/"),
        ("upload", "POST", f"{REST}/storage/upload/initiate?storage_type=fal-cdn-v3"),
        ("jwks", "GET", f"{REST}/.well-known/jwks.json"),
        ("prices", "GET", f"https://api.fal.ai/v1/models/pricing?endpoint_id={SCHNELL}"),
        ("file", "GET", f"{CDN}/files/b/x/y.png"),
    ],
)
def test_other_calls_fail_too_and_are_counted(
    emulator: Emulator, on: str, method: str, url: str
) -> None:
    emulator.fault("503", on=on)

    assert ask(emulator, method, url, CAT if method == "POST" else None).status == 503
    assert emulator.calls[on] == 1


@pytest.mark.parametrize(("kind", "status"), [("slow", 200), ("lost", None), ("cut", None)])
@pytest.mark.parametrize("on", ["submit", "status", "stream", "result", "cancel", "file", "run"])
def test_any_call_can_be_carried_out_and_answered_late_or_not_at_all(
    emulator: Emulator, on: str, kind: str, status: int | None
) -> None:
    taken = submit(emulator, **CAT)
    made = finish(emulator, taken)
    calls = {
        "submit": ("POST", SUBMIT),
        "status": ("GET", taken["status_url"]),
        "stream": ("GET", f"{taken['status_url']}/stream"),
        "result": ("GET", taken["response_url"]),
        "cancel": ("PUT", taken["cancel_url"]),
        "file": ("GET", picture_url(made)),
        "run": ("POST", f"{RUN}/{SCHNELL}"),
    }
    method, url = calls[on]
    body = CAT if method == "POST" else None
    options: dict[str, Any] = {"seconds": 0.01} if kind == "slow" else {}
    emulator.fault(kind, on=on, **options)

    if status is None:
        with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
            ask(emulator, method, url, body)
    else:
        assert ask(emulator, method, url, body).status == (400 if on == "cancel" else status)


@pytest.mark.parametrize(
    ("on", "method", "link", "tail"),
    [
        ("status", "GET", "status_url", ""),
        ("stream", "GET", "status_url", "/stream"),
        ("result", "GET", "response_url", ""),
        ("cancel", "PUT", "cancel_url", ""),
    ],
)
def test_calls_about_a_job_fail_once_and_the_job_lives_on(
    emulator: Emulator, on: str, method: str, link: str, tail: str
) -> None:
    taken = submit(emulator)
    emulator.fault("502-nginx", on=on)

    assert ask(emulator, method, taken[link] + tail).status == 502
    assert finish(emulator, taken).status == 200


def test_a_stream_can_be_cut_inside_an_event(emulator: Emulator) -> None:
    taken = submit(emulator)
    emulator.fault("cut", on="stream")

    with pytest.raises(http.client.IncompleteRead):
        ask(emulator, "GET", f"{taken['status_url']}/stream")


# On a submit, a status, a stream


def test_a_submit_can_be_answered_without_a_request_id(emulator: Emulator) -> None:
    emulator.fault("no-request-id")

    reply = ask(emulator, "POST", SUBMIT, CAT)

    assert reply.status == 200
    assert "request_id" not in reply.json
    assert "x-fal-request-id" not in reply.headers
    assert len(emulator.ledger) == 1


def test_a_running_job_goes_back_to_the_queue_on_the_stream() -> None:
    with Emulator(run_s=0.2) as emulator:
        emulator.fault("back-to-queue", on="stream", times=2)
        taken = submit(emulator)
        events = ask(emulator, "GET", f"{taken['status_url']}/stream").events
        result = ask(emulator, "GET", taken["response_url"])

    states = [state for state, _ in itertools.groupby(event["status"] for event in events)]
    assert states == [*(["IN_PROGRESS", "IN_QUEUE"] * 2), "IN_PROGRESS", "COMPLETED"]
    assert result.status == 200
    assert len(emulator.ledger) == 1


def test_a_running_job_goes_back_to_the_queue_on_a_poll(working: Emulator) -> None:
    working.fault("back-to-queue", on="status", seconds=3600.0)
    taken = submit(working)

    states = [ask(working, "GET", taken["status_url"]).json["status"] for _ in range(2)]

    assert states == ["IN_QUEUE", "IN_QUEUE"]


def test_a_finished_job_does_not_go_back(emulator: Emulator) -> None:
    emulator.fault("back-to-queue", on="status")

    assert ask(emulator, "GET", submit(emulator)["status_url"]).json["status"] == "COMPLETED"


@pytest.mark.parametrize("state", ["PAUSED", "FAILED"])
def test_a_state_that_nobody_knows_is_seen_once(emulator: Emulator, state: str) -> None:
    taken = submit(emulator)
    emulator.fault("unknown-state", on="status", state=state)
    emulator.fault("unknown-state", on="stream", state=state)

    polls = [ask(emulator, "GET", taken["status_url"]) for _ in range(2)]
    events = ask(emulator, "GET", f"{taken['status_url']}/stream").events

    assert [poll.json["status"] for poll in polls] == [state, "COMPLETED"]
    assert [poll.status for poll in polls] == [202, 200]
    assert [event["status"] for event in events] == [state, "COMPLETED"]


def test_a_stream_can_end_early_in_good_order(working: Emulator) -> None:
    working.fault("stream-ends-early", on="stream")

    events = ask(working, "GET", f"{submit(working)['status_url']}/stream").events

    assert [event["status"] for event in events] == ["IN_PROGRESS"]


def test_a_stream_that_ends_early_does_not_tell_of_the_end(emulator: Emulator) -> None:
    emulator.fault("stream-ends-early", on="stream")

    assert ask(emulator, "GET", f"{submit(emulator)['status_url']}/stream").events == []


def test_a_silent_stream_says_nothing_at_all(emulator: Emulator) -> None:
    emulator.fault("stream-silent", on="stream", seconds=0.02)

    assert ask(emulator, "GET", f"{submit(emulator)['status_url']}/stream").body == b""


# On a cancel


def test_a_running_job_can_finish_although_it_was_cancelled() -> None:
    time = Time()
    with Emulator(run_s=10, clock=time) as emulator:
        emulator.fault("cancel-race", on="cancel")
        taken, other = submit(emulator), submit(emulator)
        cancelled = [ask(emulator, "PUT", job["cancel_url"]) for job in (taken, other)]
        running = ask(emulator, "GET", taken["status_url"]).json
        time.sleep(10)
        results = [ask(emulator, "GET", job["response_url"]).status for job in (taken, other)]
        entry = emulator.ledger[0]

    assert [reply.status for reply in cancelled] == [202, 202]
    assert cancelled[0].json == {"status": "CANCELLATION_REQUESTED"}
    assert running["status"] == "IN_PROGRESS"
    assert results == [200, 499]
    assert (entry.is_cancelled, entry.billable_units) == (False, 1)


def test_a_cancel_race_waits_for_a_job_that_runs(busy: Emulator) -> None:
    busy.fault("cancel-race", on="cancel")
    taken = submit(busy)
    ask(busy, "PUT", taken["cancel_url"])

    assert finish(busy, taken).status == 499


# On a result


def test_a_result_can_expire_for_good(emulator: Emulator) -> None:
    taken, other = submit(emulator), submit(emulator)
    emulator.fault("expired", on="result")
    results = [ask(emulator, "GET", taken["response_url"]) for _ in range(2)]

    assert [reply.status for reply in results] == [404, 404]
    assert results[0].json == {"status": "NOT_FOUND"}
    assert ask(emulator, "GET", taken["status_url"]).json["status"] == "COMPLETED"
    assert ask(emulator, "GET", other["response_url"]).status == 200


def test_a_job_can_fail_on_its_runner(emulator: Emulator) -> None:
    emulator.fault("error", on="result")
    taken = submit(emulator)

    status = ask(emulator, "GET", taken["status_url"]).json
    result = ask(emulator, "GET", taken["response_url"])

    assert status["status"] == "COMPLETED"
    assert (status["error"], status["error_type"]) == ("Runner disconnected", "runner_disconnected")
    assert result.status == 503
    assert result.headers["x-fal-error-type"] == "runner_disconnected"
    assert result.json == {"detail": "Runner disconnected", "error_type": "runner_disconnected"}
    assert emulator.ledger[0].billable_units == 0
    assert finish(emulator, submit(emulator)).status == 200


def test_a_job_can_fail_with_an_error_of_the_model(emulator: Emulator) -> None:
    emulator.fault("error", on="result", status=500, error_type="", detail="Internal Server Error")

    result = finish(emulator, submit(emulator))

    assert (result.status, result.json) == (500, {"detail": "Internal Server Error"})
    assert "x-fal-error-type" not in result.headers


def test_a_fault_armed_after_a_job_has_ended_waits_for_the_next(emulator: Emulator) -> None:
    first = submit(emulator)
    emulator.fault("error", on="result")

    assert finish(emulator, first).status == 200
    assert finish(emulator, submit(emulator)).status == 503


def test_a_result_can_be_null(emulator: Emulator) -> None:
    emulator.fault("null-payload", on="result")

    result = finish(emulator, submit(emulator))

    assert (result.status, result.body) == (200, b"null")


def test_a_result_can_have_no_images(emulator: Emulator) -> None:
    emulator.fault("no-images", on="result")

    assert finish(emulator, submit(emulator)).json["images"] == []


def test_a_flagged_picture_is_black(emulator: Emulator) -> None:
    emulator.fault("black", on="result")

    result = finish(emulator, submit(emulator, **CAT))
    file = ask(emulator, "GET", picture_url(result)).body

    assert result.json["has_nsfw_concepts"] == [True]
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.crop((0, 0, 512, 256)).getextrema() == ((0, 0), (0, 0), (0, 0))


# On a file


def test_a_truncated_file_is_shorter_than_declared(emulator: Emulator) -> None:
    emulator.fault("truncated", on="file")

    with pytest.raises(http.client.IncompleteRead):
        ask(emulator, "GET", made_url(emulator))


@pytest.mark.parametrize(
    ("model", "format"),
    [(SCHNELL, "png"), (SCHNELL, "jpeg"), ("fal-ai/flux-2", "webp")],
)
def test_a_truncated_file_can_lack_only_its_trailer(
    emulator: Emulator, model: str, format: str
) -> None:
    taken = submit(emulator, model, image_size="square", output_format=format)
    url = picture_url(finish(emulator, taken))
    emulator.fault("truncated", on="file", declare="sent")

    cut, whole = ask(emulator, "GET", url).body, ask(emulator, "GET", url).body

    assert len(cut) < len(whole)
    assert whole.startswith(cut)


@pytest.mark.parametrize(
    ("body", "starts", "declared"),
    [("html", b"<!doctype html>", "image/png"), ("png", b"\x89PNG", "image/jpeg")],
)
def test_a_mistyped_file_is_not_what_it_says(
    emulator: Emulator, body: str, starts: bytes, declared: str
) -> None:
    emulator.fault("mistyped", on="file", body=body)

    reply = ask(emulator, "GET", made_url(emulator))

    assert reply.body.startswith(starts)
    assert reply.headers["content-type"] == declared


def test_a_file_can_vanish(emulator: Emulator) -> None:
    url = made_url(emulator)
    emulator.fault("vanished", on="file")

    assert [ask(emulator, "GET", url).status for _ in range(2)] == [404, 200]


def test_a_file_can_redirect(emulator: Emulator) -> None:
    emulator.fault("redirect", on="file", url="http://169.254.169.254/latest")

    reply = ask(emulator, "GET", made_url(emulator))

    assert (reply.status, reply.headers["location"]) == (302, "http://169.254.169.254/latest")


def test_an_oversized_file_has_the_size_it_declares(emulator: Emulator) -> None:
    emulator.fault("oversize", on="file", bytes=1_000_001)

    reply = ask(emulator, "GET", made_url(emulator))

    assert len(reply.body) == int(reply.headers["content-length"]) == 1_000_001
    assert reply.body.startswith(b"\x89PNG")


def test_an_endless_file_ends_when_the_caller_has_enough(emulator: Emulator) -> None:
    emulator.fault("oversize", on="file")

    with begin(emulator, "GET", made_url(emulator)) as response:
        assert "content-length" not in response.headers
        assert len(response.read(5_000_000)) == 5_000_000


@pytest.mark.parametrize("wanted_bytes", [0, 300, 700_000, 3_000_000])
def test_a_padded_file_is_a_valid_picture_of_about_that_size(
    emulator: Emulator, wanted_bytes: int
) -> None:
    url = made_url(emulator)
    plain = ask(emulator, "GET", url).body
    emulator.fault("padded", on="file", bytes=wanted_bytes)

    reply = ask(emulator, "GET", url)

    assert len(reply.body) == int(reply.headers["content-length"])
    assert abs(len(reply.body) - max(wanted_bytes, len(plain))) < 64
    with Image.open(io.BytesIO(reply.body)) as padded, Image.open(io.BytesIO(plain)) as picture:
        padded.load()
        assert padded.tobytes() == picture.tobytes()


@pytest.mark.parametrize("kind", ["padded", "oversize"])
def test_a_big_file_takes_no_memory(emulator: Emulator, kind: str) -> None:
    url = made_url(emulator)
    ask(emulator, "GET", url)
    emulator.fault(kind, on="file", bytes=60_000_000)

    with begin(emulator, "GET", url) as response:
        tracemalloc.start()
        while response.read(1 << 20):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak_bytes < 8_000_000


# The script


def test_faults_strike_in_the_order_in_which_they_were_armed(emulator: Emulator) -> None:
    emulator.fault("429", times=2)
    emulator.fault("lost")

    assert [ask(emulator, "POST", SUBMIT, CAT).status for _ in range(2)] == [429, 429]
    with pytest.raises(http.client.RemoteDisconnected):
        ask(emulator, "POST", SUBMIT, CAT)
    assert ask(emulator, "POST", SUBMIT, CAT).status == 200
    assert len(emulator.ledger) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "no-such"}, "unknown fault 'no-such'; there are:\n408"),
        ({"kind": "black", "on": "submit"}, "can be armed on result, not on 'submit'"),
        ({"kind": "429", "on": "lunch"}, "can be armed on submit, status"),
        ({"kind": "429", "times": 0}, "times must be a whole number from 1"),
        ({"kind": "429", "times": True}, "times must be a whole number from 1"),
        ({"kind": "slow", "minutes": 1}, "fault 'slow' has seconds, not 'minutes'"),
        ({"kind": "429", "seconds": 1}, "fault '429' has no options, not 'seconds'"),
        ({"kind": "slow", "seconds": "1"}, "seconds must be like 1.0, not '1'"),
        ({"kind": "slow", "seconds": 1e300}, "seconds must be a time that can be waited for"),
        ({"kind": "forged", "on": "webhook", "what": "all"}, "what must be signature or body or"),
        ({"kind": "lost", "on": "webhook"}, "can be armed on submit, status"),
        ({"kind": "padded", "on": "file", "bytes": 1.5}, "bytes must be like 50000000"),
        ({"kind": "mistyped", "on": "file", "body": "xml"}, "body must be html or png"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused_with_what_does(
    emulator: Emulator, arguments: dict[str, object], words: str
) -> None:
    over_http = ask(emulator, "POST", "/_emulator/faults", arguments)
    kind = str(arguments.pop("kind"))

    with pytest.raises(ValueError) as error:  # noqa: PT011 - the words are compared below
        emulator.fault(kind, **arguments)  # type: ignore[arg-type]
    assert words in str(error.value)
    assert (over_http.status, over_http.json) == (400, {"detail": str(error.value)})


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.kind)
def test_every_fault_of_the_table_can_be_armed_with_its_defaults(row: object) -> None:
    emulator = Emulator()
    kind, places, options = row.kind, row.on, row.options  # type: ignore[attr-defined]

    for place in places:
        defaults = {name: default for name, (default, _) in options.items()}
        emulator.fault(kind, on=place, **defaults)

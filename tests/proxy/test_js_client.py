"""The unmodified @fal-ai/client through our proxy, in Node and in a page of another origin.

Only its settings know of us: `proxyUrl` and, as `credentials`, a key of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from support.emulator import SCHNELL, ask
from support.instances import OTHER_KEY
from support.proxied import Client, Scene, Steps, proxied

STATES = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
LOGS = ["25%", "50%", "75%", "100%"]


@pytest.fixture
def scene(tmp_path: Path, script: bytes) -> Iterator[Scene]:
    """fal without any delay."""
    with proxied(tmp_path, script) as scene:
        yield scene


@pytest.fixture
def slow(tmp_path: Path, script: bytes) -> Iterator[Scene]:
    """fal that goes on only when the client has seen what there was to see."""
    with proxied(tmp_path, script, steps=Steps()) as scene:
        yield scene


def test_run(scene: Scene, client: Client) -> None:
    run = client.call(scene, "run")

    [taken] = scene.fal.ledger
    assert run.returned["data"]["seed"] == 7
    assert run.returned["requestId"] == taken.request_id
    assert scene.direct(run) == []


@pytest.mark.parametrize("mode", ["polling", "streaming"])
def test_subscribe_tells_every_state_as_it_comes(slow: Scene, client: Client, mode: str) -> None:
    seen = client.call(slow, "watch", mode=mode)

    [taken] = slow.fal.ledger
    assert seen.returned["states"] == STATES
    assert seen.returned["logs"] == LOGS
    assert seen.returned["result"]["data"]["seed"] == 7
    assert seen.returned["result"]["requestId"] == taken.request_id
    assert slow.direct(seen) == []


def test_every_call_of_the_queue(slow: Scene, client: Client) -> None:
    called = client.call(slow, "queue")
    seen = called.returned

    taken, other = slow.fal.ledger
    assert seen["submitted"]["request_id"] == seen["result"]["requestId"] == taken.request_id
    assert seen["early"] == 400
    assert list(dict.fromkeys(seen["events"])) == STATES
    assert [entry["message"] for entry in seen["status"]["logs"]] == LOGS
    assert seen["late"] == {"status": "ALREADY_COMPLETED"}
    assert seen["cancelled"] == 499
    assert other.is_cancelled
    assert slow.direct(called) == []


def test_stream_brings_each_picture_before_the_next_is_made(slow: Scene, client: Client) -> None:
    seen = client.call(slow, "stream")

    [taken] = slow.fal.ledger
    assert len(set(seen.returned["pictures"])) == 4
    assert seen.returned["done"]["images"][0]["url"] == seen.returned["pictures"][-1]
    assert seen.returned["requestId"] == taken.request_id
    assert slow.direct(seen) == []


def test_stream_in_client_mode_is_signed_in_by_a_token_of_our_proxy(
    slow: Scene, client: Client
) -> None:
    seen = client.call(slow, "stream", connectionMode="client")

    [direct] = slow.direct(seen)
    assert direct.startswith(f"POST https://fal.run/{SCHNELL}/stream?fal_jwt_token=")
    assert slow.fal.calls["token"] == 1
    assert len(set(seen.returned["pictures"])) == 4
    assert seen.returned["done"]["images"][0]["url"] == seen.returned["pictures"][-1]


@pytest.mark.parametrize("options", [{}, {"lifecycle": {"expiresIn": "1d"}}])
def test_upload(scene: Scene, client: Client, options: dict[str, Any]) -> None:
    upload = client.call(scene, "upload", **options)

    assert ask(scene.fal, "GET", upload.returned, key=None).body == b"small file"
    [put] = scene.direct(upload)
    assert put.startswith(f"PUT {scene.fal.url}/v3.fal.media/")


@pytest.mark.long
def test_upload_in_parts(scene: Scene, client: Client) -> None:
    upload = client.call(scene, "uploadInParts")

    stored = ask(scene.fal, "GET", upload.returned["url"], key=None).body
    assert (len(stored), stored[-8:]) == (upload.returned["bytes"], b"athe end")
    *parts, complete = scene.direct(upload)
    assert len(parts) == 10
    assert all(part.startswith(f"PUT {scene.fal.url}/v3.fal.media/") for part in parts)
    assert complete.startswith(f"POST {scene.fal.url}/v3.fal.media/")


def test_a_picture_in_the_input_is_uploaded_first(scene: Scene, client: Client) -> None:
    edited = client.call(scene, "edit")

    [taken] = scene.fal.ledger
    assert isinstance(taken.input, dict)
    assert ask(scene.fal, "GET", taken.input["image_url"], key=None).body.startswith(b"\x89PNG")
    assert len(edited.returned["data"]["images"]) == 1
    [put] = scene.direct(edited)
    assert put.startswith(f"PUT {scene.fal.url}/v3.fal.media/")


@pytest.mark.parametrize("call", ["run", "subscribe", "stream"])
def test_bad_input_is_a_validation_error_and_costs_nothing(
    scene: Scene, client: Client, call: str
) -> None:
    refused = client.call(scene, call, input={"prompt": "a cat", "num_images": 9}).threw

    assert refused["isValidation"]
    assert refused["status"] == 422
    [error] = refused["fieldErrors"]
    assert error["loc"] == ["body", "num_images"]
    assert error["msg"]
    assert scene.fal.ledger == []


@pytest.mark.parametrize("call", ["run", "subscribe"])
def test_what_a_model_refuses_is_a_validation_error_too(
    scene: Scene, client: Client, call: str
) -> None:
    scene.fal.fault("error", on="result", status=422, error_type="", detail="Nothing to draw")

    refused = client.call(scene, call).threw

    [taken] = scene.fal.ledger
    assert refused["isValidation"]
    assert refused["fieldErrors"][0]["msg"] == "Nothing to draw"
    assert refused["requestId"] == taken.request_id


@pytest.mark.parametrize("call", ["run", "subscribe", "stream", "upload"])
def test_a_wrong_key_is_an_api_error_that_says_so(scene: Scene, client: Client, call: str) -> None:
    refused = client.call(scene, call, credentials="k-nobodys").threw

    assert refused["isApiError"]
    assert refused["status"] == 401
    assert refused["body"]["error"] == "unauthorized"
    assert refused["message"] == refused["body"]["message"]
    assert "key" in refused["message"]
    assert not scene.fal.calls


def test_a_model_that_is_not_allowed_is_an_api_error_that_says_so(
    scene: Scene, client: Client
) -> None:
    refused = client.call(scene, "subscribe", model="fal-ai/veo3").threw

    assert refused["isApiError"]
    assert refused["status"] == 403
    assert refused["body"]["error"] == "model_not_allowed"
    assert "fal-ai/veo3" in refused["message"]
    assert not scene.fal.calls


@pytest.mark.long
@pytest.mark.parametrize(
    ("call", "on", "sends"),
    [("run", "submit", 4), ("stream", "run-stream", 1)],  # the settings count for streams only
)
def test_a_busy_fal_is_429_once_the_client_gives_up(
    tmp_path: Path, script: bytes, client: Client, call: str, on: str, sends: int
) -> None:
    hasty = Seams(sleep=lambda seconds: None)  # our own repetitions come at once
    with proxied(tmp_path, script, seams=hasty) as scene:
        scene.fal.fault("429", on=on, times=100)

        refused = client.call(scene, call, tries=1)

        assert refused.threw["isApiError"]
        assert refused.threw["status"] == 429
        assert refused.threw["body"]["detail"] == "Too Many Requests"
        assert len(refused.sent) == sends
        assert scene.fal.ledger == []


def test_a_busy_fal_is_not_noticed_if_it_recovers(scene: Scene, client: Client) -> None:
    scene.fal.fault("429", on="submit")

    run = client.call(scene, "run", tries=1)

    assert run.returned["data"]["seed"] == 7
    assert len(run.sent) == 1


def test_a_job_that_did_not_start_in_time_says_whose_limit_that_was(
    slow: Scene, client: Client
) -> None:
    late = client.call(slow, "watch", startTimeout=1.5).threw

    [taken] = slow.fal.ledger
    assert late["status"] == 504
    assert late["timeoutType"] == "user"
    assert late["isUserTimeout"]
    assert late["requestId"] == taken.request_id


def test_a_run_past_our_deadline_goes_on_and_its_repetition_joins_it(
    tmp_path: Path, script: bytes, client: Client
) -> None:
    steps = Steps()
    with proxied(tmp_path, script, steps=steps, FAL_IMAGE_MAX_WAIT_S="1") as slow:
        late = client.call(slow, "run")
        for _ in range(5):
            steps.step()
        again = client.call(slow, "run")

        [taken] = slow.fal.ledger
        assert late.threw["isUserTimeout"]
        assert len(late.sent) == 1
        assert again.returned["requestId"] == taken.request_id


@pytest.mark.parametrize("call", ["run", "subscribe"])
@pytest.mark.parametrize("fault", ["lost", "cut", "502-nginx"])
def test_a_submit_without_an_answer_is_not_repeated(
    slow: Scene, client: Client, call: str, fault: str
) -> None:
    """Nor is it cleared up by fal's webhook, for the job does not end."""
    slow.fal.fault(fault, on="submit", times=100)

    lost = client.call(slow, call)

    assert lost.threw["status"] == 500
    assert lost.threw["body"]["error"] == "submit_unknown"
    assert len(lost.sent) == 1
    assert slow.fal.calls["submit"] == 1


def test_a_stream_that_is_cut_inside_an_event_is_an_error(scene: Scene, client: Client) -> None:
    scene.fal.fault("cut", on="run-stream")

    cut = client.call(scene, "stream")

    assert cut.threw["name"] in {"SyntaxError", "ApiError"}
    assert scene.fal.calls["run-stream"] == 1


def test_a_stream_that_is_cut_between_events_is_an_error(scene: Scene, client: Client) -> None:
    """Node takes a connection that ends early for the end of the answer, and the client any JSON
    for a picture."""
    scene.fal.hangs_up_after = 2

    cut = client.call(scene, "stream")

    assert cut.threw["name"] in {"SyntaxError", "ApiError"}
    assert scene.fal.calls["run-stream"] == 1


def test_wishes_of_the_caller_reach_fal_and_those_of_the_owner_do_not(
    scene: Scene, client: Client
) -> None:
    client.call(scene, "wish")

    shown = dict(scene.fal.shown)
    assert shown["x-fal-runner-hint"] == "warm"
    assert shown["x-fal-request-timeout"] == "30"
    assert shown["x-fal-tags"] == "team=web"
    assert shown["x-fal-no-retry"] == "1"
    assert "x-fal-queue-priority" not in shown
    assert "x-fal-object-lifecycle-preference" not in shown


def test_somebody_elses_request_is_not_found(scene: Scene, client: Client) -> None:
    mine = client.call(scene, "subscribe").returned["requestId"]

    theirs = client.call(scene, "result", credentials=OTHER_KEY, requestId=mine)
    again = client.call(scene, "result", requestId=mine)

    assert theirs.threw["status"] == 404
    assert again.returned["requestId"] == mine


@pytest.mark.parametrize("call", ["run", "subscribe", "stream"])
def test_pictures_are_the_owners_when_the_client_sees_them(
    tmp_path: Path, script: bytes, client: Client, call: str
) -> None:
    with proxied(tmp_path, script, FAL_IMAGE_PROXY_STORE_IMAGES="1") as scene:
        seen = client.call(scene, call).returned

        data = seen["data"] if "data" in seen else seen["done"]
        [image], [kept] = data["images"], data["fal_image"]["images"]
        assert image["url"].startswith(f"{scene.server.url}/files/")
        assert kept["tempFileURL"] == image["url"]
        assert kept["originalUrl"].startswith("https://v3.fal.media/")
        assert data["fal_image"]["error"] is None

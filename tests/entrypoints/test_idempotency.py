"""One intent, one bill: the same Idempotency-Key is the same job, wherever and however often."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support.entrypoints import THROUGH, request
from support.instances import CAT, NOWHERE, OTHER_KEY, SECRET, instance, read, serving

Configure = Callable[..., None]
ORDER = {"idempotency_key": "order-4711"}


@pytest.mark.parametrize("cloud", sorted(THROUGH))
def test_the_same_key_and_input_is_the_same_job(
    configured: Configure, fal: Emulator, tmp_path: Path, cloud: str
):
    configured(FAL_IMAGE_DATABASE_URL=f"sqlite://{tmp_path}/jobs.db", FAL_IMAGE_PUBLIC_URL=NOWHERE)
    again = {
        "image_size": "landscape_16_9",
        **dict(sorted(CAT.items(), reverse=True)),
    }  # spelled otherwise
    key = {"idempotency-key": "order-4711"}
    answers = [
        read(THROUGH[cloud](request(path=path, body=body, headers=key)))
        for path, body in (("/", CAT), ("/generate", again), ("/generate/", CAT))
    ]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len({answer.json["jobId"] for answer in answers}) == 1
    assert all(answer.json["images"][0]["tempFileURL"] for answer in answers)
    assert len(fal.ledger) == 1


def test_the_routes_of_a_base_path_are_one_intent_too(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_BASE_PATH="/prod")
    answers = [one.ask("POST", path, CAT, **ORDER) for path in ("/prod", "/prod/generate")]
    assert len({answer.json["jobId"] for answer in answers}) == 1
    assert len(fal.ledger) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "a dog", "seed": 7},
        {**CAT, "seed": 8},
        {**CAT, "model": "fal-ai/flux/dev"},
        {**CAT, "novel": None},
    ],
)
def test_another_input_under_the_key_is_a_conflict(
    fal: Emulator, tmp_path: Path, other: dict[str, object]
):
    one = instance(fal, tmp_path)
    first = one.generate(**ORDER).json
    answer = one.generate(other, **ORDER)
    assert (answer.status, answer.json["error"]) == (422, "idempotency_conflict")
    assert one.generate(**ORDER).json["jobId"] == first["jobId"]
    assert len(fal.ledger) == 1


def test_the_same_key_of_another_caller_is_another_job(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    mine, theirs = one.generate(**ORDER).json, one.generate(key=OTHER_KEY, **ORDER).json
    assert mine["jobId"] != theirs["jobId"]
    assert len(fal.ledger) == 2
    assert one.ask("GET", f"/jobs/{mine['jobId']}", key=OTHER_KEY).status == 404


def test_eight_at_once_on_one_server_are_one_submit(tmp_path: Path):
    with Emulator(run_s=0.3) as fal, serving(fal, tmp_path) as server:
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(server.http, "POST", "/generate", CAT, **ORDER) for _ in range(8)]
            answers = [one.result() for one in asked]
        assert [answer.status for answer in answers] == [200] * 8
        assert len({answer.json["jobId"] for answer in answers}) == 1
        assert len({answer.json["fileID"] for answer in answers}) == 1
        assert len(fal.ledger) == 1


def test_two_instances_are_one_submit(fal: Emulator, tmp_path: Path):
    pair = [instance(fal, tmp_path), instance(fal, tmp_path)]
    with ThreadPoolExecutor(8) as pool:
        for number in range(5):
            key = {"idempotency_key": f"order-{number}"}
            asked = [pool.submit(pair[n % 2].generate, **key) for n in range(8)]
            answers = [one.result() for one in asked]
            assert {answer.json["state"] for answer in answers} == {"done"}
            assert len({answer.json["jobId"] for answer in answers}) == 1
    assert len(fal.ledger) == 5


def test_a_job_that_is_still_open_is_waited_for(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    open_job = one.submitted(**ORDER)
    answer = one.generate(**ORDER)
    assert (answer.status, answer.json["state"]) == (200, "done")
    assert answer.json["jobId"] == open_job["jobId"]
    assert len(fal.ledger) == 1


def test_a_failed_job_stays_the_answer(fal: Emulator, tmp_path: Path):
    fal.fault("error", on="result")
    one = instance(fal, tmp_path)
    answers = [one.generate(**ORDER) for _ in range(3)]
    assert [answer.status for answer in answers] == [502] * 3
    assert len({answer.json["jobId"] for answer in answers}) == 1
    assert {answer.json["falErrorType"] for answer in answers} == {"runner_disconnected"}
    assert len(fal.ledger) == 1


def test_a_lost_submit_is_not_sent_again(fal: Emulator, tmp_path: Path):
    fal.fault("lost", on="submit")
    one = instance(fal, tmp_path)
    answers = [one.generate(**ORDER) for _ in range(3)]
    assert [(answer.status, answer.json["state"]) for answer in answers] == [(202, "unknown")] * 3
    assert fal.calls["submit"] == 1


def test_what_was_refused_before_it_became_a_job_leaves_the_key_free(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    assert one.generate({**CAT, "num_inference_steps": 99}, **ORDER).status == 400
    assert one.generate(**ORDER).status == 200


def test_a_key_outlives_a_rotation_of_the_secret(fal: Emulator, tmp_path: Path):
    first = instance(fal, tmp_path).generate(**ORDER).json
    rotated = instance(fal, tmp_path, FAL_IMAGE_SECRET=f"{'n' * 40},{SECRET}")
    assert rotated.generate(**ORDER).json["jobId"] == first["jobId"]
    fresh = {"idempotency_key": "order-4712"}
    second = rotated.generate(**fresh).json
    over = instance(fal, tmp_path, FAL_IMAGE_SECRET="n" * 40)
    assert over.generate(**fresh).json["jobId"] == second["jobId"]
    assert len(fal.ledger) == 2


@pytest.mark.parametrize(("length", "status"), [(0, 400), (1, 200), (255, 200), (256, 400)])
def test_a_key_has_1_to_255_characters(fal: Emulator, tmp_path: Path, length: int, status: int):
    one = instance(fal, tmp_path)
    answer = one.generate(idempotency_key="k" * length)
    assert answer.status == status
    if status == 400:
        assert answer.json["fields"][0]["field"] == "Idempotency-Key"
        assert fal.ledger == []


def test_jobs_without_a_key_are_never_the_same(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    assert one.generate().json["jobId"] != one.generate().json["jobId"]
    assert len(fal.ledger) == 2

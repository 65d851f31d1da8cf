"""`reuse: true`: an equal request of a pinned seed gets the picture that is there."""

from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.instances import CAT, OTHER_KEY, instance

REUSE: dict[str, Any] = {**CAT, "reuse": True}


def test_an_equal_request_gets_the_stored_picture_and_pays_nothing(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    first = one.generate(REUSE).json
    second = one.generate(REUSE).json
    assert len(fal.ledger) == 1
    assert (first["cached"], second["cached"]) == (False, True)
    assert second["jobId"] == first["jobId"]
    assert second["fileID"] == first["fileID"]
    assert second["tempFileURL"]
    assert first["cost"]["actual"] > 0
    assert second["cost"] == {
        "estimate": 0.0,
        "actual": 0.0,
        "billableUnits": 0.0,
        "currency": "USD",
    }


def test_the_order_of_the_fields_and_the_models_default_size_make_no_difference(
    fal: Emulator, tmp_path: Path
):
    one = instance(fal, tmp_path)
    one.generate({"prompt": "a cat", "seed": 7, "reuse": True})
    again = {"reuse": True, "image_size": "landscape_16_9", "seed": 7, "prompt": "a cat"}
    assert one.generate({**again, "model": "fal-ai/flux/schnell"}).json["cached"]
    assert len(fal.ledger) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 8},
        {"prompt": "a dog"},
        {"model": "fal-ai/flux/dev"},
        {"num_images": 2},
        {"transforms": {"resize": {"width": 64}}},
        {"aiLabel": "metadata"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_request_that_differs_is_paid(fal: Emulator, tmp_path: Path, other: dict[str, object]):
    one = instance(fal, tmp_path)
    one.generate(REUSE)
    answer = one.generate({**REUSE, **other})
    assert answer.status == 200, answer.body
    assert not answer.json["cached"]
    assert len(fal.ledger) == 2


def test_a_picture_without_the_label_that_the_owner_now_wants_is_not_reused(
    fal: Emulator, tmp_path: Path
):
    instance(fal, tmp_path).generate(REUSE)
    labelled = instance(fal, tmp_path, FAL_IMAGE_AI_LABEL="metadata")
    assert not labelled.generate(REUSE).json["cached"]
    assert labelled.generate(REUSE).json["cached"]


def test_what_one_caller_paid_is_no_other_callers_to_reuse(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    one.generate(REUSE)
    assert not one.generate(REUSE, key=OTHER_KEY).json["cached"]
    assert len(fal.ledger) == 2


def test_only_who_asks_for_it_gets_a_picture_again(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    one.generate(REUSE)
    assert not one.generate(CAT).json["cached"]
    assert len(fal.ledger) == 2


def test_two_at_once_share_one_job(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    first = one.submitted(REUSE)
    second = one.submitted(REUSE)
    assert second["jobId"] == first["jobId"]
    assert (first["cached"], second["cached"]) == (False, True)
    assert len(fal.ledger) == 1


def test_a_failed_job_makes_room_for_another(fal: Emulator, tmp_path: Path):
    fal.fault("error", on="result")
    one = instance(fal, tmp_path)
    assert one.generate(REUSE).status >= 400
    done = one.generate(REUSE).json
    assert (done["state"], done["cached"]) == ("done", False)
    assert one.generate(REUSE).json["jobId"] == done["jobId"]
    assert len(fal.ledger) == 2


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        ({"prompt": "a cat"}, {}, "seed"),
        (CAT, {"idempotency_key": "k-1"}, "Idempotency-Key"),
    ],
)
def test_what_cannot_go_with_reuse_is_refused_before_money(
    fal: Emulator, tmp_path: Path, body: dict[str, object], headers: dict[str, str], said: str
):
    answer = instance(fal, tmp_path).generate({**body, "reuse": True}, **headers)
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert answer.json["fields"][0]["field"] == "reuse"
    assert said in answer.json["detail"]
    assert not fal.ledger


def test_without_a_database_there_is_nothing_to_reuse(fal: Emulator, tmp_path: Path):
    answer = instance(fal, tmp_path, FAL_IMAGE_DATABASE_URL=None).generate(REUSE)
    assert (answer.status, answer.json["error"]) == (501, "database_required")


def test_a_row_of_a_batch_cannot_reuse(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    made = one.ask("POST", "/batches", {"rows": [REUSE]}).json
    assert made["counts"]["failed"] == 1
    assert not fal.ledger


def test_a_picture_that_was_deleted_is_made_again(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    first = one.generate({**REUSE, "num_images": 2}).json
    path = first["images"][1]["fileID"].removeprefix("file:///")
    (tmp_path / "pictures" / path).unlink()
    second = one.generate({**REUSE, "num_images": 2}).json
    assert (second["cached"], second["jobId"] == first["jobId"]) == (False, False)
    assert one.generate({**REUSE, "num_images": 2}).json["jobId"] == second["jobId"]
    assert len(fal.ledger) == 2


def test_a_label_that_the_owner_adds_anyway_makes_no_other_picture(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_AI_LABEL="visible")
    one.generate(REUSE)
    assert one.generate({**REUSE, "aiLabel": "metadata"}).json["cached"]
    assert len(fal.ledger) == 1

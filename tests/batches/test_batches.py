"""Batches as a caller meets them, driven by fal's webhooks and the sweep."""

import io
import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fal_image.batches import Batches
from fal_image.database.sqlite import SqliteDatabase
from fal_image.dev.emulator import Emulator
from fal_image.errors import IdempotencyConflict, InvalidInput, NotFound
from fal_image.fal.webhooks import Delivery
from fal_image.inputs import UploadOrder
from fal_image.uploads import JSONL
from support.batch_house import CALLER, SMALL, House, house
from support.values import replace

KINDS = ("total", "pending", "running", "done", "failed", "unknown", "cancelled")


def counts(**known: int) -> dict[str, int]:
    return dict.fromkeys(KINDS, 0) | known


def test_every_row_becomes_a_stored_picture_and_a_line_of_the_results(fal: Emulator, home: House):
    begun = home.start(25, window=4)
    assert begun["state"] == "running"
    batch = home.until(begun["batchId"])
    assert batch["counts"] == counts(total=25, done=25)
    assert batch["errors"] == []
    results = home.results(batch)
    assert [(one["row"], one["rowId"], one["state"]) for one in results] == [
        (row, f"r{row}", "done") for row in range(25)
    ]
    assert set(results[0]) == {
        "row", "rowId", "jobId", "state", "images", "seed", "cost", "error"
    }  # fmt: skip
    assert len({one["images"][0]["fileID"] for one in results}) == 25
    assert [entry.input["prompt"] for entry in fal.ledger if isinstance(entry.input, dict)]
    assert len(fal.ledger) == 25
    job = home.services.generator.find(results[7]["jobId"], CALLER)
    assert (job.batch_id, job.row, job.prompt) == (begun["batchId"], 7, "cat 7")


def test_the_link_to_the_results_can_be_followed(home: House):
    batch = home.until(home.start(1)["batchId"])
    with urllib.request.urlopen(batch["resultsUrl"], timeout=10) as answer:
        assert json.loads(answer.read())["state"] == "done"


def test_no_more_rows_than_the_window_are_at_fal(tmp_path: Path):
    most, stopped = 0, threading.Event()
    with Emulator(run_s=0.05) as fal, house(fal, tmp_path) as home:

        def watch() -> None:
            nonlocal most
            while not stopped.wait(0.002):
                most = max(most, sum(entry.billable_units is None for entry in fal.ledger))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            home.until(home.start(40, window=3)["batchId"])
        finally:
            stopped.set()
            watcher.join()
    assert 1 <= most <= 3


def test_a_bad_row_fails_alone_and_keeps_its_number(fal: Emulator, home: House):
    rows = [
        {"prompt": "cat", "rowId": "good"},
        {"prompt": " ", "rowId": "blank"},
        "no object",
        {"prompt": "cat", "num_images": 99},
        {"prompt": "cat", "model": "other/model"},
        {"prompt": "cat", "image_url": "data:image/png;base64,AA", "rowId": 5},
        {"prompt": "dog"},
    ]
    batch = home.until(home.start(rows, window=1)["batchId"])
    assert batch["counts"] == counts(total=7, done=2, failed=5)
    assert [(one["row"], one["rowId"], one["error"]["error"]) for one in batch["errors"]] == [
        (1, "blank", "missing_prompt"),
        (2, None, "invalid_json"),
        (3, None, "invalid_input"),
        (4, None, "model_not_allowed"),
        (5, 5, "invalid_input"),
    ]
    assert {one["jobId"] for one in batch["errors"]} == {None}
    assert [one["state"] for one in home.results(batch)] == ["done", *["failed"] * 5, "done"]
    assert len(fal.ledger) == 2


def test_only_the_first_errors_are_shown(home: House):
    batch = home.until(home.start([{"prompt": ""}] * 130, window=200)["batchId"])
    assert batch["counts"] == counts(total=130, failed=130)
    assert [one["row"] for one in batch["errors"]] == list(range(20))


def test_a_row_that_fal_fails_is_an_error_with_its_job(fal: Emulator, home: House):
    fal.fault("error", on="result")
    batch = home.until(home.start(3, window=1)["batchId"])
    (error,) = batch["errors"]
    assert (error["row"], error["error"]["error"]) == (0, "fal_failed")
    assert home.services.generator.find(error["jobId"], CALLER).state == "failed"
    assert batch["counts"] == counts(total=3, done=2, failed=1)


def test_a_row_that_fal_refuses_at_once_lets_the_next_one_start(fal: Emulator, home: House):
    fal.fault("500", on="submit", times=2)
    batch = home.until(home.start(4, window=1)["batchId"])
    assert batch["counts"] == counts(total=4, done=2, failed=2)


def test_a_submit_without_an_answer_is_found_by_its_webhook(fal: Emulator, home: House):
    fal.fault("lost", on="submit")
    begun = home.start(5, window=2)
    home.wait_for(lambda: home.find(begun["batchId"])["counts"]["done"] == 5)
    home.until(begun["batchId"])
    assert len(fal.ledger) == 5


def test_a_lost_row_without_a_webhook_stays_unknown_and_stops_nobody(fal: Emulator, home: House):
    fal.fault("lost", on="submit")
    begun = home.start(3, window=1, public=False)
    batch = home.until(begun["batchId"], sweeps=True)
    assert batch["counts"] == counts(total=3, done=2, unknown=1)
    assert batch["errors"][0]["error"]["error"] == "submit_unknown"


def test_results_are_written_anew_when_a_row_changes_its_mind(fal: Emulator, home: House):
    """fal finds a job that was given up, after the batch was done."""
    fal.fault("lost", on="submit")
    begun = home.start(2, window=1, public=False)
    batch = home.until(begun["batchId"], sweeps=True)
    lost = home.results(batch)[0]
    delivery = Delivery(fal.ledger[0].request_id, is_ok=True)
    home.services.drivers.hear(lost["jobId"], delivery, home.turn())
    batch = home.find(begun["batchId"])
    assert batch["counts"] == counts(total=2, done=2)
    assert [one["state"] for one in home.results(batch)] == ["done", "done"]


def test_when_the_budget_is_spent_the_rows_that_are_left_fail(fal: Emulator, tmp_path: Path):
    with house(fal, tmp_path, daily_budget_usd_micro=9_500) as home:
        batch = home.until(home.start(8, window=2)["batchId"])
    assert batch["counts"] == counts(total=8, done=3, failed=5)
    assert {one["error"]["error"] for one in batch["errors"]} == {"budget_exceeded"}
    assert len(fal.ledger) == 3


def upload(home: House, content: bytes, caller: str = CALLER) -> str:
    """The file id of rows that a caller has uploaded."""
    offered = home.services.uploads.offer(UploadOrder(JSONL, len(content)), caller)
    request = urllib.request.Request(
        offered.put.url, data=content, headers=offered.put.headers, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    return offered.file_id


def test_an_uploaded_file_is_read_where_it_is(home: House):
    content = b'\xef\xbb\xbf{"prompt":"a"}\r\n\r\noops\r\n{"prompt":"b","rowId":"last"}'
    batch = home.until(home.start(file=upload(home, content))["batchId"])
    assert batch["counts"] == counts(total=3, done=2, failed=1)
    assert [one["rowId"] for one in home.results(batch)] == [None, None, "last"]


@pytest.mark.parametrize("file", ["bobs", "a picture", "nothing", "file:///etc/passwd", "no id"])
def test_a_file_that_is_not_the_callers_own_rows_is_not_found(home: House, file: str):
    uploads = home.services.uploads
    known = {
        "bobs": upload(home, b'{"prompt":"a"}', caller="bob"),
        "a picture": uploads.offer(UploadOrder("image/png", 9), CALLER).file_id,
        "nothing": uploads.offer(UploadOrder(JSONL, 9), CALLER).file_id,
    }
    with pytest.raises(NotFound, match="file"):
        home.start(file=known.get(file, file))


def test_rows_are_never_taken_for_an_input_picture(fal: Emulator, home: House):
    rows = [{"model": "fal-ai/flux/dev/image-to-image", "image_url": upload(home, b"{}")}]
    rows[0]["prompt"] = "at night"
    batch = home.until(home.start(rows)["batchId"])
    assert "not a picture" in batch["errors"][0]["error"]["message"]
    assert fal.ledger == []


@pytest.mark.parametrize("content", [b"\n\n", b" "])
def test_a_file_without_rows_is_refused(home: House, content: bytes):
    file_id = upload(home, content)
    with pytest.raises(InvalidInput, match="no rows"):
        home.start(file=file_id)


def test_a_file_with_too_many_rows_is_refused_before_any_is_started(fal: Emulator, home: House):
    file_id = upload(home, b'{"prompt":"cat"}\n' * 100_001)
    with pytest.raises(InvalidInput, match="100000 rows") as refused:
        home.start(file=file_id)
    batch = home.find(refused.value.extensions["batchId"])
    assert (batch["state"], batch["resultsUrl"]) == ("done", None)
    assert batch["errors"][0]["error"]["error"] == "invalid_input"
    assert fal.ledger == []


def test_batches_belong_to_the_caller_that_began_them(home: House):
    batch_id = home.start(1)["batchId"]
    for ask in (
        lambda: home.services.batches.find(batch_id, "bob"),
        lambda: home.services.batches.stop(batch_id, "bob"),
        lambda: home.services.batches.resume(batch_id, "bob", home.turn()),
        lambda: home.services.batches.find("nothing", CALLER),
    ):
        with pytest.raises(NotFound):
            ask()


def begin(home: House, services: Any = None, **body: Any) -> dict[str, Any]:
    batches = (services or home.services).batches
    batch_id = batches.intended_id(("n" * 32, "o" * 32), "batches", CALLER, "key")
    wanted = {"rows": [{"prompt": "cat"}] * 6, "defaults": SMALL} | body
    url = home.settings.public_url
    answer: dict[str, Any] = batches.start(
        wanted, CALLER, home.turn(), url, batch_id=batch_id
    ).to_json()
    return answer


def test_the_same_intent_is_the_same_batch_and_paid_once(fal: Emulator, home: House):
    again = [begin(home, services)["batchId"] for services in (None, home.another(), None)]
    assert len(set(again)) == 1
    batch = home.until(again[0])
    assert begin(home) == batch | {"resultsUrl": begin(home)["resultsUrl"]}
    assert len(fal.ledger) == 6


@pytest.mark.parametrize("other", [{"rows": [{"prompt": "dog"}]}, {"window": 3}])
def test_another_batch_under_the_same_key_is_refused(home: House, other: dict[str, Any]):
    begin(home)
    with pytest.raises(IdempotencyConflict):
        begin(home, **other)


def test_a_key_finds_its_batch_while_secrets_rotate(home: House):
    batches = home.services.batches
    before = batches.intended_id(("o" * 32,), "batches", CALLER, "key")
    home.services.batches.start(
        {"rows": [{"prompt": "cat"}]}, CALLER, home.turn(), None, batch_id=before
    )
    assert batches.intended_id(("n" * 32, "o" * 32), "batches", CALLER, "key") == before


def test_a_row_keeps_its_job_when_secrets_are_changed(fal: Emulator, home: House, tmp_path: Path):
    begun = home.start(6, window=3, public=False)
    settings = replace(home.settings, secrets=("n" * 32,))
    changed = House(fal, tmp_path, settings, home.database, home.now)
    changed.until(begun["batchId"], sweeps=True)
    assert len(fal.ledger) == 6


def test_a_row_keeps_its_job_when_the_default_model_is_changed(
    fal: Emulator, home: House, tmp_path: Path
):
    begun = home.start(6, window=3, public=False)
    settings = replace(home.settings, default_model="fal-ai/flux/dev")
    changed = House(fal, tmp_path, settings, home.database, home.now)
    changed.until(begun["batchId"], sweeps=True)
    assert [entry.model for entry in fal.ledger] == ["fal-ai/flux/schnell"] * 6


def test_a_batch_runs_on_a_database_in_a_file(fal: Emulator, tmp_path: Path):
    database = SqliteDatabase(tmp_path / "jobs.db")
    with house(fal, tmp_path, database) as home:
        batch = home.until(home.start(12, window=5)["batchId"])
    assert batch["counts"] == counts(total=12, done=12)


def test_with_a_queue_the_first_rows_are_left_to_it(fal: Emulator, home: House):
    queued: list[str] = []

    def enqueue(job_ids: Any) -> list[str]:
        queued.extend(job_ids)
        return []

    services = home.services
    batches = Batches(
        generator=services.generator,
        database=lambda: home.database,
        notices=services.notices,
        enqueue=enqueue,
        settings=home.settings,
        clock=services.clock,
        now=home.now,
        randomness=lambda count: b"\1" * count,
    )
    rows = [{"prompt": "cat"}, {"prompt": ""}, {"prompt": "cat"}, {"prompt": "cat"}]
    url = home.settings.public_url
    batch = batches.start({"rows": rows, "window": 2}, CALLER, home.turn(), url)
    assert fal.ledger == []
    assert len(queued) == 2
    for job_id in queued:
        services.drivers.consume(job_id, home.turn())
    assert home.until(batch.batch_id)["counts"] == counts(total=4, done=3, failed=1)
    assert len(queued) == 2


def test_the_results_of_a_storage_on_this_machine_have_links_that_last(
    fal: Emulator, tmp_path: Path
):
    with house(fal, tmp_path, link_base_url="https://cdn.example") as home:
        batch = home.until(home.start(1)["batchId"])
        key = batch["resultsUrl"].removeprefix("https://cdn.example/")
        with home.services.assets.door.get().open(key) as chunks:
            (line,) = io.BytesIO(b"".join(chunks)).readlines()
    assert json.loads(line)["images"][0]["tempFileURL"].startswith("https://cdn.example/")

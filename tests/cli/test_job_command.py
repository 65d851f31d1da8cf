"""`fal-image job`: jobs that outlive the command which began them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Terminal
from fal_image.dev.emulator import Emulator

NOBODYS = "01m7z8twx4w4rchddrd0pg6y5d"


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator(run_s=0.3) as emulator:
        yield emulator


def begun(type_in: Terminal, *words: str) -> str:
    job = type_in("generate", "a cat", "--async", *words).json
    assert job["state"] == "submitted"
    return str(job["jobId"])


def test_a_job_that_was_not_waited_for_is_waited_for_later(fal: Emulator, type_in: Terminal):
    job_id = begun(type_in)
    assert type_in("job", job_id).json["state"] in ("submitted", "storing")
    done = type_in("job", job_id, "--wait", "-o", "cat.jpg")
    assert done.json["state"] == "done"
    assert done.json["paths"] == ["cat.jpg"]
    assert (type_in.folder / "cat.jpg").is_file()
    assert type_in("job", job_id).json["images"] == [
        image | {"tempFileURL": done.json["tempFileURL"]} for image in done.json["images"]
    ]
    assert len(fal.ledger) == 1


def test_pictures_that_are_not_there_yet_are_not_written(type_in: Terminal):
    done = type_in("job", begun(type_in), "-o", "cat.jpg")
    assert done.code == 2
    assert "--wait" in done.error["message"]


def test_a_name_that_would_lie_about_the_format_is_refused(type_in: Terminal):
    done = type_in("job", begun(type_in), "--wait", "-o", "cat.png")
    assert done.code == 2
    assert "image/jpeg" in done.error["message"]
    assert not (type_in.folder / "cat.png").exists()


def test_a_job_is_cancelled_and_shown_as_it_ended(fal: Emulator, type_in: Terminal):
    fal.fault("slow", on="run")
    job_id = begun(type_in)
    assert type_in("job", job_id, "--cancel", "--wait").json["state"] == "cancelled"
    assert type_in("job", job_id).json["state"] == "cancelled"
    waited = type_in("job", job_id, "--wait")
    assert (waited.code, waited.error["error"]) == (1, "cancelled")


def test_what_is_done_is_past_cancelling(type_in: Terminal):
    job_id = type_in("generate", "a cat", "--seed", "7", "--reuse").json["jobId"]
    done = type_in("job", job_id, "--cancel")
    assert (done.code, done.error["error"]) == (1, "job_finished")


def test_a_job_that_failed_is_shown_and_waiting_for_it_fails(fal: Emulator, type_in: Terminal):
    fal.fault("error", on="result")
    job_id = begun(type_in)
    waited = type_in("job", job_id, "--wait")
    assert waited.code == 1
    assert (waited.error["error"], waited.error["jobId"]) == ("fal_failed", job_id)
    assert type_in("job", job_id).json["error"]["error"] == "fal_failed"


@pytest.mark.parametrize("job_id", [NOBODYS, "../../etc", "", "?x"])
def test_a_job_that_is_not_there_exits_with_1(type_in: Terminal, job_id: str):
    begun(type_in)
    done = type_in("job", job_id)
    assert (done.code, done.error["error"]) == (1, "not_found")


def test_where_no_jobs_are_kept_none_is_looked_for(type_in: Terminal):
    done = type_in("job", NOBODYS)
    assert (done.code, done.error["error"]) == (2, "usage")
    assert list(type_in.folder.iterdir()) == []


def test_with_a_database_of_its_own_an_endpoints_jobs_are_shown_too(
    fal: Emulator, type_in: Terminal, tmp_path: Path
):
    there = type_in.knowing(
        FAL_IMAGE_DATABASE_URL=(tmp_path / "jobs.db").as_uri().replace("file:", "sqlite:"),
        FAL_IMAGE_SECRET="s" * 32,
    )
    job_id = there("generate", "a cat").json["jobId"]
    assert there("job", job_id).json["state"] == "done"


def test_a_picture_that_is_gone_is_not_written(type_in: Terminal):
    job_id = begun(type_in)
    type_in("job", job_id, "--wait")
    (stored,) = (type_in.folder / ".fal-image").rglob("*.jpg")
    stored.unlink()
    done = type_in("job", job_id, "-o", "cat.jpg")
    assert (done.code, done.error["error"]) == (3, "not_written")
    assert done.error["jobId"] == job_id
    assert not (type_in.folder / "cat.jpg").exists()

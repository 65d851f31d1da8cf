"""What becomes of pictures that fal's safety checker flagged."""

from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.extend import Hooks
from fal_image.jobs import Image, Job
from support.instances import CAT, extended, instance

REFUSE: dict[str, Any] = {"FAL_IMAGE_FLAGGED": "refuse"}
DATABASES: list[dict[str, Any]] = [{}, {"FAL_IMAGE_DATABASE_URL": None}]


def warnings_of(job: Any) -> list[str]:
    return [warning["code"] for warning in job["warnings"]]


@pytest.mark.parametrize("database", DATABASES, ids=["kept", "at once"])
def test_a_flagged_picture_is_kept_with_a_warning_by_default(
    fal: Emulator, tmp_path: Path, database: Any
):
    fal.fault("black", on="result")
    job = instance(fal, tmp_path, **database).generate().json
    assert job["images"][0]["nsfw"] is True
    assert job["tempFileURL"]
    assert warnings_of(job) == ["flagged"]


@pytest.mark.parametrize("database", DATABASES, ids=["kept", "at once"])
def test_an_owner_may_refuse_it_and_no_link_is_given(fal: Emulator, tmp_path: Path, database: Any):
    fal.fault("black", on="result")
    one = instance(fal, tmp_path, **database, **REFUSE)
    answer = one.generate()
    [image] = answer.json["images"]
    assert answer.status == 200
    assert (image["tempFileURL"], image["expiresAt"], image["nsfw"]) == (None, None, True)
    assert answer.json["tempFileURL"] is None
    assert warnings_of(answer.json) == ["flagged", "withheld"]
    assert len(list((tmp_path / "pictures").rglob("*.jpg"))) == 1


def test_a_refused_picture_is_linked_nowhere_and_no_input(fal: Emulator, tmp_path: Path):
    fal.fault("black", on="result")
    one = instance(fal, tmp_path, **REFUSE)
    job = one.generate().json
    later = one.job(job["jobId"])
    assert (later["tempFileURL"], warnings_of(later)) == (None, ["flagged", "withheld"])
    [file] = one.ask("POST", "/links", {"fileIDs": [job["fileID"]]}).json["fileList"]
    assert file["error"] == "not_found"
    edit = {"model": "fal-ai/flux/dev/image-to-image", "image_url": job["fileID"]}
    assert one.generate({**CAT, **edit}).status == 404


def test_while_it_is_judged_nobody_gets_a_link_by_guessing_its_name(fal: Emulator, tmp_path: Path):
    tried: list[str | None] = []

    def look(job: Job, image: Image) -> None:
        links = one.ask("POST", "/links", {"fileIDs": [image.file_id]}).json
        tried.append(links["fileList"][0]["error"])

    one = extended(fal, tmp_path, Hooks(on_image=look), **REFUSE)
    assert one.generate().json["tempFileURL"]
    assert tried == ["not_found"]


def test_a_picture_that_nobody_flagged_is_linked_as_ever(fal: Emulator, tmp_path: Path):
    job = instance(fal, tmp_path, **REFUSE).generate().json
    assert job["tempFileURL"]
    assert warnings_of(job) == []


@pytest.mark.parametrize("database", DATABASES, ids=["kept", "at once"])
def test_an_error_names_no_address_of_a_flagged_picture(
    fal: Emulator, tmp_path: Path, database: Any
):
    fal.fault("black", on="result")
    fal.fault("vanished", on="file", times=9)
    one = instance(fal, tmp_path, **database, **REFUSE)
    answer = one.generate()
    assert (answer.status, answer.json["error"]) == (502, "fetch_image_failed")
    assert answer.json["sourceUrls"] == []
    assert answer.json["falRequestId"]

"""Transforms and the AI label, from the request to the files in the bucket."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support.instances import CAT, OTHER_KEY, Calendar, Instance, instance, kept

DATABASES: list[dict[str, Any]] = [{}, {"FAL_IMAGE_DATABASE_URL": None}]
AIGC = b"AIGC"
SMALL: dict[str, Any] = {
    "resize": {"width": 320},
    "format": "webp",
    "thumbnail": {"width": 64, "height": 64},
}


def stored(directory: Path, file_id: str) -> bytes:
    return (directory / "pictures" / file_id.removeprefix("file:///")).read_bytes()


def opened(directory: Path, file_id: str) -> Image.Image:
    picture = Image.open(io.BytesIO(stored(directory, file_id)))
    picture.load()
    return picture


def names(directory: Path) -> list[str]:
    """What is in the bucket, without the jobs' ids."""
    found = (path.name[26:] for path in (directory / "pictures").rglob("*-0*.*"))
    return sorted(found)


def warnings_of(job: Any) -> list[str]:
    return [warning["code"] for warning in job["warnings"]]


def link_error(one: Instance, file_id: str) -> str | None:
    [file] = one.ask("POST", "/links", {"fileIDs": [file_id]}).json["fileList"]
    error: str | None = file["error"]
    return error


@pytest.mark.parametrize("database", DATABASES, ids=["kept", "at once"])
def test_the_answer_has_the_new_picture_its_original_and_its_thumbnail(
    fal: Emulator, tmp_path: Path, database: Any
):
    job = instance(fal, tmp_path, **database).generate({**CAT, "transforms": SMALL}).json
    [image] = job["images"]
    assert (image["width"], image["height"], image["contentType"]) == (320, 180, "image/webp")
    original, thumbnail = image["original"], image["thumbnail"]
    assert (original["width"], original["contentType"]) == (1024, "image/jpeg")
    assert (thumbnail["width"], thumbnail["height"]) == (64, 36)
    for one, kind in ((image, "WEBP"), (original, "JPEG"), (thumbnail, "WEBP")):
        picture = opened(tmp_path, one["fileID"])
        assert (picture.width, picture.height, picture.format) == (
            one["width"],
            one["height"],
            kind,
        )
        assert len(stored(tmp_path, one["fileID"])) == one["bytes"]
        assert one["tempFileURL"]
        assert one["expiresAt"]
    assert names(tmp_path) == ["-0-original.jpg", "-0-thumb.webp", "-0.json", "-0.webp"]


def test_each_of_them_can_be_linked_again_and_used_as_an_input(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    [image] = one.generate({**CAT, "transforms": SMALL}).json["images"]
    for file_id in (image["fileID"], image["original"]["fileID"], image["thumbnail"]["fileID"]):
        assert link_error(one, file_id) is None
        edit = {"model": "fal-ai/flux/dev/image-to-image", "image_url": file_id}
        assert one.generate({**CAT, **edit}).status == 200


def test_to_another_caller_none_of_them_is_there(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    [image] = one.generate({**CAT, "transforms": SMALL}).json["images"]
    ids = [image["fileID"], image["original"]["fileID"], image["thumbnail"]["fileID"]]
    files = one.ask("POST", "/links", {"fileIDs": ids}, key=OTHER_KEY).json["fileList"]
    assert [file["error"] for file in files] == ["not_found"] * 3


def test_a_later_look_finds_the_same_job_with_new_links(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    job = one.generate({**CAT, "transforms": SMALL}).json
    [image], [first] = one.job(job["jobId"])["images"], job["images"]
    for part in ("original", "thumbnail"):
        assert image[part]["tempFileURL"]
        assert image[part]["sha256"] == first[part]["sha256"]


def test_a_thumbnail_alone_leaves_the_picture_as_fal_made_it(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    plain = one.generate().json["images"][0]
    wanted = {"transforms": {"thumbnail": {"width": 100, "height": 100}}}
    [image] = one.generate({**CAT, **wanted}).json["images"]
    assert (image["sha256"], image["original"]) == (plain["sha256"], None)
    assert image["thumbnail"]["width"] == 100


def test_a_watermark_must_be_a_picture_of_the_callers_before_money(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    mine = one.generate().json["fileID"]
    paid = len(fal.ledger)

    def marked(image: str, **headers: Any) -> Any:
        return one.generate({**CAT, "transforms": {"watermark": {"image": image}}}, **headers)

    assert marked(mine, key=OTHER_KEY).json["error"] == "not_found"
    assert marked(mine.replace("-0.", "-9.")).json["error"] == "not_found"
    assert marked("https://example.com/logo.png").json["fields"] == [
        {"field": "transforms.watermark.image", "message": "must be a file id from here"}
    ]
    assert len(fal.ledger) == paid
    done = marked(mine).json
    assert (done["state"], warnings_of(done)) == ("done", [])


def test_a_watermark_with_too_many_pixels_is_refused_before_money(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    wanted = {"resize": {"width": 2001, "height": 2000}, "format": "png"}
    large = one.generate({**CAT, "transforms": wanted}).json["fileID"]
    paid = len(fal.ledger)
    answer = one.generate({**CAT, "transforms": {"watermark": {"image": large}}})
    assert (answer.status, answer.json["fields"]) == (
        400,
        [{"field": "transforms.watermark.image", "message": "must have at most 4000000 pixels"}],
    )
    assert len(fal.ledger) == paid


def test_the_pixels_of_a_whole_job_are_bounded_before_money(fal: Emulator, tmp_path: Path):
    many = {"model": "fal-ai/another/model", "num_images": 5}
    wanted = {"transforms": {"resize": {"width": 5000, "height": 5000}}}
    settings: Any = {"FAL_IMAGE_MODELS": "fal-ai/another/*", "FAL_IMAGE_MAX_IMAGES": "8"}
    one = instance(fal, tmp_path, **settings)
    answer = one.generate({**CAT, **many, **wanted})
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert "in all 5 images together" in answer.json["fields"][0]["message"]
    assert not fal.ledger


def test_a_text_that_the_font_cannot_write_is_refused_before_money(fal: Emulator, tmp_path: Path):
    wanted = {"transforms": {"watermark": {"text": "花猫"}}}
    answer = instance(fal, tmp_path).generate({**CAT, **wanted})
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert answer.json["fields"][0]["field"] == "transforms.watermark.text"
    assert not fal.ledger


def test_what_cannot_be_done_to_a_paid_picture_is_a_warning(fal: Emulator, tmp_path: Path):
    outside = {"transforms": {"crop": {"x": 90_000, "y": 0, "width": 8, "height": 8}}}
    job = instance(fal, tmp_path).generate({**CAT, **outside}).json
    assert (job["state"], warnings_of(job)) == ("done", ["not_transformed"])
    assert job["images"][0]["width"] == 1024
    assert job["images"][0]["original"] is None
    assert job["tempFileURL"]


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif"])
def test_the_owners_label_is_in_every_file_that_leaves(fal: Emulator, tmp_path: Path, kind: str):
    one = instance(fal, tmp_path, FAL_IMAGE_AI_LABEL="metadata", FAL_IMAGE_AI_PRODUCER="Cats Ltd")
    wanted = {"transforms": {**SMALL, "format": kind}}
    job = one.generate({**CAT, **wanted}).json
    [image] = job["images"]
    for each in (image, image["original"], image["thumbnail"]):
        content = stored(tmp_path, each["fileID"])
        assert AIGC in content
        assert b"Cats Ltd" in content
        assert b"trainedAlgorithmicMedia" in content
        assert b"calico" not in content  # nobody asked for the prompt to be told
    assert warnings_of(job) == []


def test_a_label_in_the_file_leaves_the_pixels_alone(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    plain = one.generate().json["fileID"]
    labelled = one.generate({**CAT, "aiLabel": {"prompt": True, "seed": True}}).json["fileID"]
    assert opened(tmp_path, plain).tobytes() == opened(tmp_path, labelled).tobytes()
    assert b"calico" in stored(tmp_path, labelled)
    assert AIGC not in stored(tmp_path, plain)
    assert "-0-original.jpg" not in names(tmp_path)


def test_nobody_gets_the_picture_under_a_visible_mark(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_AI_LABEL="visible")
    job = one.generate().json
    [image] = job["images"]
    assert image["original"] is None
    assert names(tmp_path) == ["-0-unmarked.jpg", "-0.jpg", "-0.json"]
    unmarked = image["fileID"].replace("-0.jpg", "-0-unmarked.jpg")
    original = image["fileID"].replace("-0.jpg", "-0-original.jpg")
    assert [link_error(one, each) for each in (unmarked, original)] == ["not_found"] * 2
    edit = {"model": "fal-ai/flux/dev/image-to-image", "image_url": unmarked}
    assert one.generate({**CAT, **edit}).status == 404
    pixels = [opened(tmp_path, each).tobytes() for each in (image["fileID"], unmarked)]
    assert pixels[0] != pixels[1]


def test_where_everybody_can_read_the_storage_the_unmarked_picture_is_not_kept(
    fal: Emulator, tmp_path: Path
):
    public: dict[str, Any] = {"FAL_IMAGE_LINK_BASE_URL": "https://pictures.example.com"}
    instance(fal, tmp_path, FAL_IMAGE_AI_LABEL="visible", **public).generate()
    assert names(tmp_path) == ["-0.jpg"]


def test_a_transform_that_fails_does_not_cost_the_mark(fal: Emulator, tmp_path: Path):
    outside = {"transforms": {"crop": {"x": 90_000, "y": 0, "width": 8, "height": 8}}}
    one = instance(fal, tmp_path, FAL_IMAGE_AI_LABEL="visible")
    job = one.generate({**CAT, **outside}).json
    assert warnings_of(job) == ["not_transformed"]
    assert "-0-unmarked.jpg" in names(tmp_path)
    assert job["tempFileURL"]


def test_an_idempotency_key_holds_for_one_treatment(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    one.generate(idempotency_key="k-1")
    other = one.generate({**CAT, "transforms": SMALL}, idempotency_key="k-1")
    assert other.json["error"] == "idempotency_conflict"
    assert len(fal.ledger) == 1


def test_a_row_of_a_batch_is_treated_and_labelled_alike(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar), FAL_IMAGE_AI_LABEL="metadata")
    rows = [{**CAT, "transforms": SMALL}, CAT]
    batch = one.ask("POST", "/batches", {"rows": rows, "window": 2}).json
    while one.ask("GET", f"/batches/{batch['batchId']}").json["state"] == "running":
        calendar.forward(minutes=1)
        one.tick()
    assert names(tmp_path) == sorted(
        ["-0-original.jpg", "-0-thumb.webp", "-0.json", "-0.webp", "-0.jpg", "-0.json"]
    )
    for path in (tmp_path / "pictures").rglob("*-0*.*"):
        assert path.suffix == ".json" or AIGC in path.read_bytes(), path


def test_a_job_that_nobody_waits_for_is_treated_and_labelled_alike(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar), FAL_IMAGE_AI_LABEL="visible")
    job_id = one.submitted({**CAT, "transforms": SMALL})["jobId"]
    while kept(tmp_path, job_id).body["state"] != "done":
        calendar.forward(minutes=1)
        one.tick()
    assert names(tmp_path) == ["-0-thumb.webp", "-0-unmarked.jpg", "-0.json", "-0.webp"]
    assert AIGC in stored(tmp_path, one.job(job_id)["fileID"])


@pytest.mark.parametrize("database", DATABASES, ids=["kept", "at once"])
def test_an_error_names_no_address_of_an_unlabelled_picture(
    fal: Emulator, tmp_path: Path, database: Any
):
    fal.fault("truncated", on="file", times=9)
    answer = instance(fal, tmp_path, FAL_IMAGE_AI_LABEL="metadata", **database).generate()
    assert b"fetch_image_failed" in answer.body
    assert b"fal.media" not in answer.body

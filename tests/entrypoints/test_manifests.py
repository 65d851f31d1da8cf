"""The JSON file beside each picture."""

import json
from pathlib import Path
from typing import Any

import pytest

import fal_image
from fal_image.dev.emulator import Emulator
from support.instances import CAT, instance

DATABASES: list[dict[str, Any]] = [{}, {"FAL_IMAGE_DATABASE_URL": None}]


def manifests(directory: Path) -> list[Any]:
    found = sorted((directory / "pictures").rglob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


@pytest.mark.parametrize("database", DATABASES, ids=["kept", "at once"])
def test_each_picture_has_one_with_everything_it_was_made_from(
    fal: Emulator, tmp_path: Path, database: Any
):
    job = instance(fal, tmp_path, **database).generate({**CAT, "num_images": 2}).json
    first, second = manifests(tmp_path)
    image = job["images"][0]
    facts = {name: image[name] for name in ("contentType", "width", "height", "bytes", "sha256")}
    versions = first.pop("versions")
    assert versions["fal-image"] == fal_image.__version__
    assert first == {
        "version": 1,
        "jobId": job["jobId"],
        "index": 0,
        "fileID": image["fileID"],
        "model": "fal-ai/flux/schnell",
        "input": {**CAT, "num_images": 2, "image_size": "landscape_16_9"},
        "seed": 7,
        "falRequestId": job["falRequestId"],
        "createdAt": job["createdAt"],
        "image": facts,
        "source": facts,  # nothing was done to it
        "original": None,
        "thumbnail": None,
        "transforms": None,
        "aiLabel": None,
        "cost": job["cost"],
    }
    assert (second["index"], second["fileID"]) == (1, job["images"][1]["fileID"])


def test_it_stands_beside_the_picture_and_is_found_by_its_file_id(fal: Emulator, tmp_path: Path):
    job = instance(fal, tmp_path).generate().json
    [path] = (tmp_path / "pictures").rglob("*.json")
    assert path.with_suffix(".jpg").is_file()
    assert job["fileID"].removesuffix(".jpg").endswith(path.stem)


def test_no_caller_gets_a_link_to_it(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    file_id = one.generate().json["fileID"].replace(".jpg", ".json")
    [file] = one.ask("POST", "/links", {"fileIDs": [file_id]}).json["fileList"]
    assert file["error"] == "not_found"
    edit = {"model": "fal-ai/flux/dev/image-to-image", "image_url": file_id}
    assert one.generate({**CAT, **edit}).status == 404


def test_where_everybody_can_read_the_storage_none_is_written(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_LINK_BASE_URL="https://pictures.example.com")
    assert one.generate().json["state"] == "done"
    assert manifests(tmp_path) == []


def test_an_input_picture_is_told_as_the_caller_named_it(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    picture = one.generate().json
    edit = {"model": "fal-ai/flux/dev/image-to-image", "image_url": picture["fileID"]}
    job = one.generate({**CAT, **edit}).json
    told = [one for one in manifests(tmp_path) if one["jobId"] == job["jobId"]]
    assert told[0]["input"]["image_url"] == picture["fileID"]

"""The JSON file beside each picture."""

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import fal_image
from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.storage.base import StorageError
from support import pictures, storages
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


def test_it_is_put_while_its_picture_is(fal: Emulator, tmp_path: Path):
    arrived = threading.Event()

    def put(real: Callable[..., Any], key: str, file: BinaryIO, **facts: Any) -> Any:
        if key.endswith(".json"):
            arrived.set()
        else:
            assert arrived.wait(10), "the picture's put waits for the manifest's, or for ever"
        return real(key, file, **facts)

    one = instance(fal, tmp_path, seams=Seams(storage=putting(put)))
    assert one.generate().json["state"] == "done"


def test_one_that_cannot_be_stored_is_a_warning(fal: Emulator, tmp_path: Path):
    def put(real: Callable[..., Any], key: str, file: BinaryIO, **facts: Any) -> Any:
        if key.endswith(".json"):
            raise StorageError("no manifests today")
        return real(key, file, **facts)

    job = instance(fal, tmp_path, seams=Seams(storage=putting(put))).generate().json
    assert job["images"][0]["tempFileURL"]
    assert [warning["code"] for warning in job["warnings"]] == ["no_manifest"]


def test_it_tells_of_the_picture_that_stands_where_another_was_to_be(fal: Emulator, tmp_path: Path):
    """An earlier copy may have put other bytes there: drawn by another Pillow, say."""
    standing = pictures.png(width=40)

    def put(real: Callable[..., Any], key: str, file: BinaryIO, **facts: Any) -> Any:
        if not key.endswith(".json"):
            earlier = {**facts, "sha256": storages.sha256(standing)}
            real(key, io.BytesIO(standing), **earlier)
        return real(key, file, **facts)

    one = instance(fal, tmp_path, seams=Seams(storage=putting(put)))
    image = one.generate({**CAT, "output_format": "png"}).json["images"][0]
    (manifest,) = manifests(tmp_path)
    assert image["sha256"] == storages.sha256(standing)
    assert manifest["image"]["sha256"] == image["sha256"]
    assert manifest["source"]["sha256"] != image["sha256"]


def test_one_of_an_earlier_copy_that_came_to_nothing_is_mended(fal: Emulator, tmp_path: Path):
    """The first copy's manifest was stored, its picture was not, and this copy's bytes are
    others."""
    one = instance(fal, tmp_path, seams=Seams(storage=standing({"sha256": "of another"})))
    image = one.generate().json["images"][0]
    (manifest,) = manifests(tmp_path)
    assert manifest["image"]["sha256"] == image["sha256"]
    assert manifest["fileID"] == image["fileID"]


def test_one_that_tells_of_the_standing_picture_stays_as_it_is(fal: Emulator, tmp_path: Path):
    """Whoever made it knew better what the picture was made from."""
    job = instance(fal, tmp_path / "first").generate().json
    earlier = {"sha256": job["images"][0]["sha256"], "width": 8}
    one = instance(fal, tmp_path, seams=Seams(storage=standing(earlier)))
    assert one.generate().json["warnings"] == []
    assert [manifest["image"] for manifest in manifests(tmp_path)] == [earlier]


def test_a_copy_that_fails_leaves_no_put_on_its_way(fal: Emulator, tmp_path: Path):
    put_at: list[str] = []

    def put(real: Callable[..., Any], key: str, file: BinaryIO, **facts: Any) -> Any:
        if not key.endswith(".json"):
            raise StorageError("no pictures today")
        stored = real(key, file, **facts)
        put_at.append(key)
        return stored

    seams = Seams(storage=putting(put))
    one = instance(fal, tmp_path, seams=seams, FAL_IMAGE_DATABASE_URL=None)
    assert one.generate().json["error"] == "upload_failed"
    assert len(put_at) == 1


def standing(image: dict[str, Any]) -> Callable[[Any], Any]:
    """A storage where a manifest of each picture stands already, which tells this of it."""

    def put(real: Callable[..., Any], key: str, file: BinaryIO, **facts: Any) -> Any:
        if key.endswith(".json") and facts["create_only"]:
            content = json.dumps({"version": 1, "image": image}).encode()
            earlier = {**facts, "sha256": storages.sha256(content)}
            real(key, io.BytesIO(content), **earlier)
        return real(key, file, **facts)

    return putting(put)


def putting(put: Callable[..., Any]) -> Callable[[Any], Any]:
    """What app.Seams wants: a storage whose puts are these, over the real one's."""

    def around(opened: Any) -> Any:
        class Around:
            def put(self, key: str, file: BinaryIO, **facts: Any) -> Any:
                return put(opened.put, key, file, **facts)

            def __getattr__(self, name: str) -> Any:
                return getattr(opened, name)

        return Around()

    return around

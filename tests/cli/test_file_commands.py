"""`fal-image file` and `fal-image regenerate`."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Terminal
from fal_image.dev.emulator import Emulator


def manifest_file(folder: Path) -> Path:
    (path,) = (folder / ".fal-image").rglob("*.json")
    return path


def change(folder: Path, **fields: Any) -> None:
    """Another manifest for the one picture that is there."""
    path = manifest_file(folder)
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | fields), encoding="utf-8")


def test_a_picture_tells_what_it_was_made_from(type_in: Terminal):
    job = type_in("generate", "a calico cat", "--seed", "7").json
    told = type_in("file", job["fileID"]).json
    assert (told["jobId"], told["model"], told["seed"]) == (job["jobId"], job["model"], 7)
    assert told["input"]["prompt"] == "a calico cat"
    assert told["image"]["sha256"] == job["images"][0]["sha256"]
    assert "tempFileURL" not in told


@pytest.mark.parametrize("options", [(), ("--seed", "7", "--reuse")])
def test_the_jobs_id_and_the_index_are_enough(type_in: Terminal, options: tuple[str, ...]):
    """The time in the id tells the day; of an id without a time the database knows the job."""
    job = type_in("generate", "a cat", "-n", "2", *options).json
    told = type_in("file", f"{job['jobId']}-1", "--link").json
    assert told["fileID"] == job["images"][1]["fileID"]
    assert Path(told["tempFileURL"].removeprefix("file://")).is_file()


@pytest.mark.parametrize(
    "file_id",
    [
        "01m7z8twx4w4rchddrd0pg6y5d-0",
        "zzzzzzzzzzzzzzzzzzzzzzzzzz-0",
        "file:///ai-images/../../etc/passwd",
        "file:///ai-images/2026-01-01/01m7z8twx4w4rchddrd0pg6y5d-0.jpg",
        "cat.png",
        "",
    ],
)
def test_what_is_no_picture_of_the_storage_exits_with_1(type_in: Terminal, file_id: str):
    done = type_in("file", file_id, "--link")
    assert (done.code, done.error["error"]) == (1, "not_found")


def test_an_endpoint_hands_out_no_manifests(type_in: Terminal):
    done = type_in("file", "x", FAL_IMAGE_URL="https://pictures.example.com")
    assert (done.code, done.error["error"]) == (2, "usage")
    assert "FAL_IMAGE_STORAGE_URL" in done.error["hint"]


def test_a_picture_is_made_again_and_found_identical(fal: Emulator, type_in: Terminal):
    words = ("--format", "webp", "--thumbnail", "64x64", "--ai-label", "metadata")
    old = type_in("generate", "a calico cat", *words).json
    said = type_in("regenerate", old["fileID"], "-o", "again.webp").json
    assert said["identical"]
    assert said["old"]["fileID"] == old["fileID"] != said["new"]["fileID"]
    assert said["paths"] == ["again.webp"]
    assert said["job"]["images"][0]["thumbnail"]
    first, second = fal.ledger
    assert isinstance(first.input, dict)
    assert second.input == first.input | {"seed": old["seed"]}
    assert type_in("file", old["fileID"]).json["fileID"] == old["fileID"]


def test_another_picture_exits_with_4_and_is_kept_too(fal: Emulator, type_in: Terminal):
    old = type_in("generate", "a calico cat").json
    change(type_in.folder, input={"prompt": "a dog", "image_size": "square"})
    done = type_in("regenerate", old["fileID"])
    assert done.code == 4
    said = json.loads(done.out)
    assert not said["identical"]
    assert type_in("file", said["new"]["fileID"]).json["input"]["prompt"] == "a dog"


def test_a_dry_run_of_it_pays_nothing(fal: Emulator, type_in: Terminal):
    old = type_in("generate", "a calico cat").json
    said = type_in("regenerate", old["fileID"], "--dry-run").json
    assert said["request"]["body"]["seed"] == old["seed"]
    assert said["estimate"]["estimateUsd"] == 0.003
    assert len(fal.ledger) == 1


def test_without_a_seed_nothing_is_made_again(fal: Emulator, type_in: Terminal):
    old = type_in("generate", "a calico cat").json
    change(type_in.folder, seed=None)
    done = type_in("regenerate", old["fileID"])
    assert (done.code, "no seed" in done.error["message"]) == (2, True)
    assert len(fal.ledger) == 1


def test_inputs_that_were_not_kept_are_named(fal: Emulator, type_in: Terminal):
    old = type_in("generate", "a calico cat").json
    gone = f"data:image/png;base64,sha256-{'0' * 64}"
    change(type_in.folder, input={"prompt": "at night", "image_urls": [gone]})
    done = type_in("regenerate", old["fileID"])
    assert done.code == 2
    assert done.error["message"].startswith("image_urls came inside the request")
    assert len(fal.ledger) == 1

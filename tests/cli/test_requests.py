"""What `fal-image generate` asks for, and where the pictures go."""

from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import Terminal
from fal_image.dev.emulator import Emulator


def test_a_dry_run_tells_the_price_and_what_fal_would_get_without_a_key(
    fal: Emulator, type_in: Terminal
):
    said = type_in("generate", "a cat", "-n", "2", "--seed", "7", "--dry-run", FAL_KEY="").json
    assert said["dryRun"]
    assert said["estimate"]["estimateUsd"] == 0.006
    assert said["request"] == {
        "method": "POST",
        "url": "https://queue.fal.run/fal-ai/flux/schnell",
        "body": {"prompt": "a cat", "seed": 7, "num_images": 2, "image_size": "landscape_16_9"},
    }
    assert fal.calls.total() == 0
    assert list(type_in.folder.iterdir()) == []


def test_a_dry_run_is_what_is_then_sent(fal: Emulator, type_in: Terminal):
    words = ("generate", "a cat", "--size", "512x256", "-o", "cat.png")
    planned = type_in(*words, "--dry-run").json["request"]["body"]
    type_in(*words)
    (job,) = fal.ledger
    assert job.input == planned


def test_a_dry_run_refuses_what_would_be_refused(fal: Emulator, type_in: Terminal):
    done = type_in("generate", "a cat", "-n", "9", "--dry-run")
    assert (done.code, done.error["error"]) == (2, "invalid_input")


def test_the_prompt_may_come_from_stdin(fal: Emulator, type_in: Terminal):
    done = type_in("generate", "-", stdin="eine Katze, 猫\n".encode())
    assert done.json["prompt"] == "eine Katze, 猫"


@pytest.mark.parametrize(
    ("stdin", "error"),
    [(b"\xff\xfe", "usage"), (b"x" * (2**20 + 1), "usage"), (b" \n", "missing_prompt")],
    ids=["not UTF-8", "too long", "blank"],
)
def test_a_prompt_that_cannot_be_one_is_refused(
    fal: Emulator, type_in: Terminal, stdin: bytes, error: str
):
    done = type_in("generate", "-", stdin=stdin)
    assert (done.code, done.error["error"]) == (2, error)
    assert fal.ledger == []


def test_names_are_filled_in_and_directories_made(type_in: Terminal):
    done = type_in("generate", "a cat", "-n", "2", "--download", "out/{job}/{index}.{ext}")
    job_id = done.json["jobId"]
    assert done.json["paths"] == [f"out/{job_id}/0.jpg", f"out/{job_id}/1.jpg"]
    for path in done.json["paths"]:
        with Image.open(type_in.folder / path) as image:
            assert image.format == "JPEG"


def test_several_pictures_under_one_name_get_numbers(type_in: Terminal):
    done = type_in("generate", "a cat", "-n", "2", "--download", "cat.{ext}")
    assert done.json["paths"] == ["cat-0.jpg", "cat-1.jpg"]


def test_a_name_that_ends_with_a_format_asks_the_model_for_it(fal: Emulator, type_in: Terminal):
    assert type_in("generate", "a cat", "--download", "{index}.png").code == 0
    (job,) = fal.ledger
    assert isinstance(job.input, dict)
    assert job.input["output_format"] == "png"


def test_what_is_there_is_written_over_and_nothing_else_is_left(type_in: Terminal):
    (type_in.folder / "cat.png").write_bytes(b"old")
    assert type_in("generate", "a cat", "-o", "cat.png").code == 0
    assert (type_in.folder / "cat.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in type_in.folder.iterdir()) == [".fal-image", "cat.png"]


def test_a_name_may_be_as_long_as_names_are(type_in: Terminal):
    name = f"{'猫' * 83}.png"
    assert type_in("generate", "a cat", "-o", name).json["paths"] == [name]


def test_a_link_to_a_file_stays_one(type_in: Terminal):
    (type_in.folder / "real.png").write_bytes(b"old")
    (type_in.folder / "cat.png").symlink_to("real.png")
    assert type_in("generate", "a cat", "-o", "cat.png").code == 0
    assert (type_in.folder / "cat.png").is_symlink()
    assert (type_in.folder / "real.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--download", "{seed}.png"), "{seed} is no placeholder"),
        (("--download", "{index:03d}.png"), "write {index} without a format"),
        (("--download", "{index!r}.png"), "write {index} without a format"),
        (("--download", "{0}.png"), "{0} is no placeholder"),
        (("--download", "{}.png"), "is no placeholder"),
        (("--download", "{index.png"), "a brace is open"),
        (("--download", "{index.__class__}.png"), "is no placeholder"),
        (("--download", "out/"), "is a directory"),
        (("-o", "."), "is a directory"),
        (("-o", "x" * 300 + ".png"), "too long"),
        (("-o", "x" * 300 + "/cat.png"), "too long"),
        (("--download", "x" * 230 + "{job}.{ext}"), "too long"),
        (("-o", "notes.txt/cat.png"), "nothing can be written"),
        (("-o", "cat.png", "--download", "{index}.png"), "not both"),
        (("-o", "cat.gif"), "must end so"),
        (("-o", "cat.png", "--format", "webp"), "must end so"),
        (("-o", "cat.png", "--async"), "--async"),
        (("--thumbnail", "big"), "WIDTHxHEIGHT"),
        (("--reuse",), "needs a seed"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_paid(
    fal: Emulator, type_in: Terminal, words: tuple[str, ...], said: str
):
    (type_in.folder / "notes.txt").write_text("a file", encoding="utf-8")
    done = type_in("generate", "a cat", *words)
    assert done.code == 2
    assert said in done.error["message"]
    assert fal.ledger == []


def test_a_picture_that_cannot_be_written_is_stored_all_the_same(fal: Emulator, type_in: Terminal):
    """`cat.jpg` is a directory by the time that it is known that the picture is a JPEG."""
    (type_in.folder / "cat.jpg").mkdir()
    done = type_in("generate", "a cat", "--download", "cat.{ext}")
    assert (done.code, done.error["error"]) == (3, "not_written")
    assert done.error["fileID"] in done.error["hint"]
    assert type_in("file", done.error["fileID"]).json["jobId"] == done.error["jobId"]


def test_a_format_a_thumbnail_and_a_label_are_done_to_the_picture(type_in: Terminal):
    done = type_in(
        "generate", "a cat", "--format", "webp", "--thumbnail", "64x64", "--ai-label", "metadata",
        "-o", "cat.webp",
    )  # fmt: skip
    (image,) = done.json["images"]
    assert image["contentType"] == "image/webp"
    assert max(image["thumbnail"]["width"], image["thumbnail"]["height"]) == 64
    with Image.open(type_in.folder / "cat.webp") as picture:
        assert picture.format == "WEBP"
        assert "trainedAlgorithmicMedia" in str(picture.info["xmp"])


def test_a_request_is_reused_once_its_picture_is_there(fal: Emulator, type_in: Terminal):
    words = ("generate", "a cat", "--seed", "7", "--reuse")
    first, second = type_in(*words).json, type_in(*words, "-o", "cat.jpg").json
    assert (first["cached"], second["cached"]) == (False, True)
    assert second["cost"]["actual"] == 0
    assert (type_in.folder / "cat.jpg").is_file()
    assert len(fal.ledger) == 1


def test_the_same_request_is_a_new_picture_without_reuse(fal: Emulator, type_in: Terminal):
    words = ("generate", "a cat", "--seed", "7")
    assert type_in(*words).json["jobId"] != type_in(*words).json["jobId"]
    assert len(fal.ledger) == 2


def test_a_batch_is_priced_without_being_begun(fal: Emulator, type_in: Terminal):
    rows = '{"prompt": "a"}\n{"prompt": "b", "num_images": 2}\n{"image_size": "square"}\n'
    rows += '{"prompt": "c", "model": "fal-ai/flux-unheard-of"}\n'
    Path("prompts.jsonl").write_text(rows, encoding="utf-8")
    said = type_in("batch", "prompts.jsonl", "--out", "r.jsonl", "--dry-run", FAL_KEY="").json
    assert (said["total"], said["estimateUsd"], said["unpriced"], said["refused"]) == (
        4,
        0.009,
        1,
        1,
    )
    assert said["refusals"][0] | {"message": ""} == {
        "row": 2, "error": "missing_prompt", "message": ""
    }  # fmt: skip
    assert not Path("r.jsonl").exists()
    assert fal.calls.total() == 0


def test_rows_from_stdin_go_on_where_they_were(fal: Emulator, type_in: Terminal):
    rows = b'{"prompt": "a"}\n{"prompt": "b"}\n'
    words = ("batch", "-", "--out", "results.jsonl")
    assert type_in(*words, stdin=rows).json["done"] == 2
    assert len(Path("results.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert type_in(*words, stdin=rows).json["done"] == 2
    assert len(fal.ledger) == 2
    assert type_in(*words, stdin=b"").code == 2

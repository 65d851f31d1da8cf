"""Nothing that fal's media host sends is believed: a whole picture is stored, or nothing."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.web import Response
from support.entrypoints import request, through_aws

Configure = Callable[..., None]
CURL = {"prompt": "a calico cat at sunset", "output_format": "png"}


def ask(**changes: object) -> Response:
    return through_aws(request(body=CURL | changes))


def stored(pictures: Path) -> list[Path]:
    """The pictures, without the manifests beside them."""
    return [path for path in pictures.rglob("*.*") if path.is_file() and path.suffix != ".json"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("truncated", {"declare": "whole"}),
        ("truncated", {"declare": "sent"}),
        ("mistyped", {"body": "html"}),
        ("oversize", {"bytes": 0}),
        ("oversize", {"bytes": 5_000_000}),
        ("redirect", {"url": "https://evil.example.com/x.png"}),
        ("redirect", {"url": "http://169.254.169.254/latest/meta-data"}),
    ],
)
def test_a_file_that_is_not_a_whole_picture_is_not_stored(
    configured: Configure, fal: Emulator, pictures: Path, kind: str, options: dict[str, object]
):
    configured(FAL_IMAGE_MAX_IMAGE_BYTES="4000000")
    fal.fault(kind, on="file", times=3, **options)
    answer = ask()
    problem = json.loads(answer.read())
    assert (answer.status, problem["error"]) == (502, "fetch_image_failed")
    assert len(problem["sourceUrls"]) == 1
    assert stored(pictures) == []


def test_the_type_is_what_the_bytes_say(configured: Configure, fal: Emulator, pictures: Path):
    fal.fault("mistyped", on="file", body="png")
    (image,) = json.loads(ask().read())["images"]
    assert image["contentType"] == "image/png"
    assert stored(pictures)[0].suffix == ".png"


def test_a_file_cut_once_is_fetched_again(configured: Configure, fal: Emulator):
    fal.fault("truncated", on="file", declare="whole")
    assert ask().status == 200
    assert fal.calls["file"] == 2


def test_one_bad_picture_of_four_fails_the_job_and_keeps_the_others(
    configured: Configure, fal: Emulator, pictures: Path
):
    fal.fault("vanished", on="file")
    problem = json.loads(ask(num_images=4).read())
    assert problem["error"] == "fetch_image_failed"
    assert len(problem["sourceUrls"]) == 4
    assert len(stored(pictures)) == 3


def test_a_flagged_picture_is_kept_and_named(configured: Configure, fal: Emulator):
    fal.fault("black", on="result")
    answer = json.loads(ask().read())
    assert answer["images"][0]["nsfw"] is True
    assert [warning["code"] for warning in answer["warnings"]] == ["flagged"]


def test_a_large_picture_does_not_grow_the_memory_with_it(configured: Configure, fal: Emulator):
    ask()
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fal.fault("padded", on="file", bytes=40_000_000)
    (image,) = json.loads(ask().read())["images"]
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    assert image["bytes"] > 39_000_000
    assert grown_mb < 20  # the emulator is in this process too; the bench measures without it

"""What FAL_IMAGE_STORAGE_URL may say, and what is answered when it may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fal_image.storage import LocalConfig, S3Config, StorageConfig, missing, parse


@pytest.mark.parametrize(
    ("url", "config"),
    [
        ("s3://pictures", S3Config("pictures", "ai-images")),
        ("s3://pictures/", S3Config("pictures", "ai-images")),
        ("s3://pictures/mine", S3Config("pictures", "mine")),
        ("s3://pictures/a_b/2.0/", S3Config("pictures", "a_b/2.0")),
        ("s3://my.pictures-2/x", S3Config("my.pictures-2", "x")),
        ("file:///srv/pictures", LocalConfig(Path("/srv/pictures"), "ai-images")),
        ("file:///srv/my%20pictures/", LocalConfig(Path("/srv/my pictures"), "ai-images")),
        ("file:///srv/me@home", LocalConfig(Path("/srv/me@home"), "ai-images")),
    ],
)
def test_a_storage_url_means(url: str, config: StorageConfig):
    assert parse(url) == config


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "s3://bucket/prefix"),
        ("pictures", "s3://bucket/prefix"),
        ("/srv/pictures", "file:///directory"),
        ("S3://pictures", "must start with"),
        ("https://pictures.s3.amazonaws.com", "must start with"),
        ("cos://pictures-1250000000/x?region=ap-shanghai", "later version"),
        ("cloudbase://env-1/x", "later version"),
        ("s3://", "3 to 63"),
        ("s3:///prefix", "3 to 63"),
        ("s3://ab", "3 to 63"),
        ("s3://" + "a" * 64, "3 to 63"),
        ("s3://Pictures", "3 to 63"),
        ("s3://pic_tures", "3 to 63"),
        ("s3://-pictures", "3 to 63"),
        ("s3://pic..tures", "3 to 63"),
        ("s3://192.168.0.1", "3 to 63"),
        ("s3://pictures:443", "3 to 63"),
        ("s3://key:hunter2@pictures", "3 to 63"),
        ("s3://pictures//mine", "leading '/'"),
        ("s3://pictures/../mine", "'..'"),
        ("s3://pictures/mine/..", "'..'"),
        ("s3://pictures/.mine", "'.'"),
        ("s3://pictures/mi ne", "letters"),
        ("s3://pictures/mine//", "one '/'"),
        ("s3://pictures/m%69ne", "letters"),
        ("s3://pictures/\N{CJK UNIFIED IDEOGRAPH-56FE}", "letters"),
        ("s3://pictures/" + "x" * 600, "512"),
        ("s3://pictures/mine?region=eu-central-1", "'?'"),
        ("s3://pictures/mine#x", "'#'"),
        ("file://srv/pictures", "three slashes"),
        ("file://./pictures", "three slashes"),
        ("file:///", "directory"),
        ("file:////", "directory"),
        ("file:///srv/%00", "directory"),
    ],
)
def test_a_storage_url_that_cannot_be_used_is_told_what_is_wrong(url: str, said: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        parse(url)

    assert said in str(caught.value)


def test_a_password_in_the_url_is_not_repeated():
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        parse("s3://key:hunter2@pictures")

    assert "hunter2" not in str(caught.value)


def test_a_directory_needs_nothing_from_the_environment():
    assert missing(parse("file:///srv/pictures"), {}) == []


@pytest.mark.parametrize(
    "environ",
    [
        {"AWS_REGION": "eu-central-1"},
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        {"AWS_REGION": "auto", "AWS_ENDPOINT_URL": "https://minio.example.com:9000/s3/"},
    ],
)
def test_s3_needs_a_region(environ: dict[str, str]):
    assert missing(parse("s3://pictures"), environ) == []


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "AWS_REGION"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "AWS_REGION"),
        ({"AWS_REGION": "Frankfurt!"}, "AWS_REGION"),
        ({"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL"),
        (
            {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL_S3": "https://u:hunter2@minio"},
            "AWS_ENDPOINT_URL_S3",
        ),
    ],
)
def test_what_s3_lacks_is_told_by_its_name(environ: dict[str, str], name: str):
    (said,) = missing(parse("s3://pictures"), environ)

    assert said.startswith(f"{name}: ")
    assert "hunter2" not in said


def test_boto3_is_imported_for_s3_only(tmp_path: Path):
    program = """
import sys
from datetime import datetime, timezone
from fal_image import storage

def opened(url):
    storage.open_storage(
        storage.parse(url), secrets=(), public_url=None, environ={"AWS_REGION": "eu-central-1"},
        now=lambda: datetime.now(timezone.utc),
    )
    return "boto3" in sys.modules

raise SystemExit(0 if (opened(sys.argv[1]), opened("s3://pictures")) == (False, True) else 1)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path.as_uri()],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )

    assert run.returncode == 0

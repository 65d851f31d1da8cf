"""What FAL_IMAGE_STORAGE_URL may say, and what is answered when it may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fal_image.storage import (
    CloudbaseConfig,
    CosConfig,
    LocalConfig,
    S3Config,
    StorageConfig,
    missing,
    parse,
)


@pytest.mark.parametrize(
    ("url", "config"),
    [
        ("s3://pictures", S3Config("pictures", "ai-images")),
        ("s3://pictures/", S3Config("pictures", "ai-images")),
        ("s3://pictures/mine", S3Config("pictures", "mine")),
        ("s3://pictures/a_b/2.0/", S3Config("pictures", "a_b/2.0")),
        ("s3://my.pictures-2/x", S3Config("my.pictures-2", "x")),
        (
            "cos://pictures-1250000000/mine?region=ap-shanghai",
            CosConfig("pictures-1250000000", "mine", "ap-shanghai"),
        ),
        (
            "cos://7765-web-5328c3-1251059088",
            CosConfig("7765-web-5328c3-1251059088", "ai-images", None),
        ),
        (
            "cos://p-1250000000/?region=ap-beijing-1",
            CosConfig("p-1250000000", "ai-images", "ap-beijing-1"),
        ),
        ("cloudbase://env-1", CloudbaseConfig("env-1", "ai-images", None)),
        (
            "cloudbase://my-env-3gabc/mine/?region=ap-singapore",
            CloudbaseConfig("my-env-3gabc", "mine", "ap-singapore"),
        ),
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
        ("cos://", "account's number"),
        ("cos://pictures", "account's number"),
        ("cos://pictures-shanghai/x", "account's number"),
        ("cos://Pictures-1250000000", "account's number"),
        ("cos://pic.tures-1250000000", "account's number"),
        ("cos://" + "a" * 60 + "-1250000000", "account's number"),
        ("cos://id:hunter2@pictures-1250000000", "account's number"),
        ("cos://pictures-1250000000/x/../y", "'..'"),
        ("cos://pictures-1250000000/x#y", "letters"),
        ("cos://pictures-1250000000/x?", "?region=ap-shanghai"),
        ("cos://pictures-1250000000/x?region=", "?region=ap-shanghai"),
        ("cos://pictures-1250000000/x?region=ap-shanghai&x=1", "?region=ap-shanghai"),
        ("cos://pictures-1250000000/x?region=ap-shanghai#x", "?region=ap-shanghai"),
        ("cos://pictures-1250000000/x?token=hunter2", "?region=ap-shanghai"),
        ("cloudbase://", "environment's id"),
        ("cloudbase:///x", "environment's id"),
        ("cloudbase://Env/x", "environment's id"),
        ("cloudbase://my_env/x", "environment's id"),
        ("cloudbase://env.1/x", "environment's id"),
        ("cloudbase://-env/x", "environment's id"),
        ("cloudbase://" + "e" * 41, "environment's id"),
        ("cloudbase://id:hunter2@env-1/x", "environment's id"),
        ("cloudbase://env-1//x", "'/'"),
        ("cloudbase://env-1/x#y", "letters"),
        ("cloudbase://env-1/x?region=Shanghai", "?region=ap-shanghai"),
        ("cloudbase://env-1/x?token=hunter2", "?region=ap-shanghai"),
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
        ("s3://pictures--euw1-az1--x-s3", "directory bucket"),
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


@pytest.mark.parametrize(
    "url", ["s3://key:hunter2@pictures", "cos://pictures-1250000000/x?token=hunter2"]
)
def test_a_password_in_the_url_is_not_repeated(url: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        parse(url)

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


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("cos://pictures-1250000000?region=ap-shanghai", {}),
        ("cos://pictures-1250000000", {"TCB_ENV": "env-1"}),
        ("cos://pictures-1250000000", {"SCF_NAMESPACE": "env-1"}),
    ],
)
def test_cos_needs_a_region_or_an_environment_to_ask_about(url: str, environ: dict[str, str]):
    assert missing(parse(url), environ) == []


def test_cos_outside_of_an_environment_must_be_told_its_region():
    (said,) = missing(parse("cos://pictures-1250000000"), {"TCB_ENV": ""})

    assert said.startswith("FAL_IMAGE_STORAGE_URL: ")
    assert "?region=" in said


def test_cloudbase_needs_an_api_key_or_the_library_that_signs_for_a_token():
    program = """
import sys
from fal_image.storage import missing, parse

config = parse("cloudbase://env-1")
assert missing(config, {}) == []
sys.modules["tencentcloud"] = None  # as if it were not installed
assert missing(config, {"CLOUDBASE_APIKEY": "k"}) == []
(said,) = missing(config, {})
assert said.startswith("FAL_IMAGE_STORAGE_URL: ") and "CLOUDBASE_APIKEY" in said
"""
    run = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, check=False
    )

    assert run.returncode == 0


def test_credentials_that_must_be_found_elsewhere_need_the_library_that_finds_them():
    """Before fal is asked: a picture that is paid and cannot be put would be lost."""
    program = """
import sys
from fal_image.storage import missing, parse

config, there = parse("s3://pictures"), {"AWS_REGION": "eu-central-1"}
keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
assert missing(config, there) == []
sys.modules["botocore"] = None  # as if it were not installed
assert missing(config, there | keys) == []
(said,) = missing(config, there)
assert said.startswith("FAL_IMAGE_STORAGE_URL: ") and "boto3" in said
"""
    run = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, check=False
    )

    assert run.returncode == 0


def test_a_vendors_library_is_imported_for_its_storage_only(tmp_path: Path):
    program = """
import sys
from datetime import datetime, timezone
from fal_image import storage

def opened(url):
    storage.open_storage(
        storage.parse(url), secrets=(), public_url=None, environ={"AWS_REGION": "eu-central-1"},
        now=lambda: datetime.now(timezone.utc),
    )
    return sorted({"boto3", "botocore", "qcloud_cos", "tencentcloud"} & set(sys.modules))

assert opened(sys.argv[1]) == []
assert opened("cloudbase://env-1") == []
assert opened("s3://pictures") == []
assert opened("cos://pictures-1250000000") == ["qcloud_cos"]
"""
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path.as_uri()],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )

    assert run.returncode == 0

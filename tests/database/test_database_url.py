"""What FAL_IMAGE_DATABASE_URL may say, and what is answered when it may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fal_image.database import (
    CloudbaseConfig,
    DatabaseConfig,
    DynamodbConfig,
    SqliteConfig,
    missing,
    parse,
)


@pytest.mark.parametrize(
    ("url", "config"),
    [
        ("dynamodb://fal-image-jobs", DynamodbConfig("fal-image-jobs")),
        ("dynamodb://Jobs_2.0", DynamodbConfig("Jobs_2.0")),
        ("dynamodb://" + "a" * 255, DynamodbConfig("a" * 255)),
        ("cloudbase://env-1/jobs", CloudbaseConfig("env-1", "jobs", None)),
        ("cloudbase://env-1/Jobs_2-a", CloudbaseConfig("env-1", "Jobs_2-a", None)),
        (
            "cloudbase://my-env-3gabc/jobs?region=ap-singapore",
            CloudbaseConfig("my-env-3gabc", "jobs", "ap-singapore"),
        ),
        ("sqlite:///srv/jobs.db", SqliteConfig(Path("/srv/jobs.db"))),
        ("sqlite:////srv/jobs.db", SqliteConfig(Path("/srv/jobs.db"))),
        ("sqlite:///srv/my%20jobs.db", SqliteConfig(Path("/srv/my jobs.db"))),
        ("sqlite:///srv/me@home/jobs", SqliteConfig(Path("/srv/me@home/jobs"))),
    ],
)
def test_a_database_url_means(url: str, config: DatabaseConfig):
    assert parse(url) == config


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "dynamodb://table"),
        ("jobs", "dynamodb://table"),
        ("/srv/jobs.db", "sqlite:///path"),
        ("sqlite:/srv/jobs.db", "sqlite:///path"),
        ("SQLITE:///srv/jobs.db", "must start with"),
        ("sqlite3:///srv/jobs.db", "must start with"),
        ("postgres://me:hunter2@host/jobs", "must start with"),
        ("dynamodb://", "table's name"),
        ("dynamodb://ab", "table's name"),
        ("dynamodb://" + "a" * 256, "table's name"),
        ("dynamodb://jobs/", "table's name"),
        ("dynamodb://jobs?region=eu-central-1", "table's name"),
        ("dynamodb://key:hunter2@jobs", "table's name"),
        ("dynamodb://j%6Fbs", "table's name"),
        ("dynamodb://jobs\n", "table's name"),
        (
            "dynamodb://\N{CJK UNIFIED IDEOGRAPH-56FE}\N{CJK UNIFIED IDEOGRAPH-56FE}x",
            "table's name",
        ),
        ("cloudbase://", "environment's id"),
        ("cloudbase:///jobs", "environment's id"),
        ("cloudbase://Env/jobs", "environment's id"),
        ("cloudbase://my_env/jobs", "environment's id"),
        ("cloudbase://-env/jobs", "environment's id"),
        ("cloudbase://" + "e" * 41 + "/jobs", "environment's id"),
        ("cloudbase://id:hunter2@env-1/jobs", "environment's id"),
        ("cloudbase://env-1", "collection"),
        ("cloudbase://env-1/", "collection"),
        ("cloudbase://env-1/jobs/", "collection"),
        ("cloudbase://env-1/a/b", "collection"),
        ("cloudbase://env-1/a.b", "collection"),
        ("cloudbase://env-1/..", "collection"),
        ("cloudbase://env-1/" + "c" * 33, "collection"),
        ("cloudbase://env-1/jobs#x", "collection"),
        ("cloudbase://env-1/jobs?", "?region=ap-shanghai"),
        ("cloudbase://env-1/jobs?region=", "?region=ap-shanghai"),
        ("cloudbase://env-1/jobs?region=Shanghai", "?region=ap-shanghai"),
        ("cloudbase://env-1/jobs?token=hunter2", "?region=ap-shanghai"),
        ("sqlite://jobs.db", "three slashes"),
        ("sqlite://./jobs.db", "three slashes"),
        ("sqlite://srv/jobs.db", "three slashes"),
        ("sqlite://", "three slashes"),
        ("sqlite:///", "name a file"),
        ("sqlite:////", "name a file"),
        ("sqlite:///srv/", "name a file"),
        ("sqlite:///srv/..", "name a file"),
        ("sqlite:///.", "name a file"),
        ("sqlite:///srv/jobs%00.db", "name a file"),
        ("sqlite:///srv/jobs.db?mode=memory", "'?'"),
        ("sqlite:///srv/jobs.db#x", "'#'"),
    ],
)
def test_a_database_url_that_cannot_be_used_is_told_what_is_wrong(url: str, said: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        parse(url)

    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_needs_nothing_from_the_environment():
    assert missing(parse("sqlite:///srv/jobs.db"), {}) == []


@pytest.mark.parametrize(
    "environ",
    [
        {"AWS_REGION": "eu-central-1"},
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        {"AWS_REGION": "local", "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:8000/"},
    ],
)
def test_dynamodb_needs_a_region(environ: dict[str, str]):
    assert missing(parse("dynamodb://jobs"), environ) == []


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "AWS_REGION"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "AWS_REGION"),
        ({"AWS_REGION": "Frankfurt!"}, "AWS_REGION"),
        ({"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "moto:9000"}, "AWS_ENDPOINT_URL"),
        (
            {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL_DYNAMODB": "https://u:hunter2@moto"},
            "AWS_ENDPOINT_URL_DYNAMODB",
        ),
    ],
)
def test_what_dynamodb_lacks_is_told_by_its_name(environ: dict[str, str], name: str):
    (said,) = missing(parse("dynamodb://jobs"), environ)

    assert said.startswith(f"{name}: ")
    assert "hunter2" not in said


def test_what_must_be_installed_is_told():
    program = """
import sys
from fal_image.database import missing, parse

dynamodb, cloudbase = parse("dynamodb://jobs"), parse("cloudbase://env-1/jobs")
region = {"AWS_REGION": "eu-central-1"}
assert missing(cloudbase, {}) == []
sys.modules["tencentcloud"] = sys.modules["boto3"] = None  # as if they were not installed
assert missing(dynamodb, region) == []
assert missing(cloudbase, {"CLOUDBASE_APIKEY": "k"}) == []
(said,) = missing(cloudbase, {})
assert said.startswith("FAL_IMAGE_DATABASE_URL: ") and "CLOUDBASE_APIKEY" in said
"""
    run = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, check=False
    )

    assert run.returncode == 0


def test_a_vendors_library_is_imported_for_its_database_only(tmp_path: Path):
    program = """
import sys
from datetime import datetime, timezone
from fal_image import database

def opened(url):
    database.open_database(
        database.parse(url), environ={"AWS_REGION": "eu-central-1"},
        now=lambda: datetime.now(timezone.utc),
    )
    return [name for name in ("boto3", "tencentcloud", "sqlite3") if name in sys.modules]

assert opened("cloudbase://env-1/jobs") == []
assert opened(sys.argv[1]) == ["sqlite3"]
assert opened("dynamodb://jobs") == ["sqlite3"]
"""
    run = subprocess.run(
        [sys.executable, "-c", program, f"sqlite://{tmp_path}/jobs.db"],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )

    assert run.returncode == 0
    assert list(tmp_path.iterdir()) == [], "no call is made"

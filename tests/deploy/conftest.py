"""Templates that take seconds to make and that many tests look at."""

from __future__ import annotations

from typing import Any

import pytest

from support import osls


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of a first deployment: everything is made, with few settings."""
    ran = osls.run(tmp_path_factory.mktemp("made"), "package", **osls.GIVEN)
    assert ran.status == 0, ran.said
    assert ran.asked == "aws --python 3.13 --arch arm64"
    assert ran.template is not None
    return osls.settled(ran.template)


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template where every parameter is given, the key is in Parameter Store, pages may call,
    and the settings come from the file `.env`."""
    parameters = {
        "bucket": "my-pictures",
        "table": "my-jobs",
        "maximumConcurrency": "2",
        "alarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
        "runtime": "python3.11",
        "architecture": "x86_64",
    }
    ran = osls.run(
        tmp_path_factory.mktemp("given"),
        *("package", "--stage", "prod", "--region", "eu-central-1"),
        *(f"--param={name}={value}" for name, value in parameters.items()),
        dotenv=(
            "FAL_KEY_SSM_PARAM=/fal-image/fal-key\n"
            f"FAL_IMAGE_SECRET={osls.SECRET}\n"
            "FAL_IMAGE_ALLOW_ANONYMOUS=1\n"
            "FAL_IMAGE_CORS_ORIGINS=https://a.example,https://b.example\n"
        ),
        FAL_IMAGE_TOKEN="of the one who deploys",
        FAL_IMAGE_URL="https://fal-image.example",
        FAL_IMAGE_LOG_LEVEL=" ",
    )
    assert ran.status == 0, ran.said
    assert ran.asked == "aws --python 3.11 --arch x86_64"
    assert ran.template is not None
    return osls.settled(ran.template)

"""fal as the doctor's tests have it, and one moto server for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fal_image.dev.emulator import Emulator
from support import storages


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _aws_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 looks for credentials in the process's environment."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in storages.AWS_ENVIRON.items():
        monkeypatch.setenv(name, value)

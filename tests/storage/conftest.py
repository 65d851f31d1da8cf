"""One moto server for all storage tests, and a fresh rig for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.storage.base import ObjectStorage
from support import storages


@pytest.fixture(autouse=True)
def _aws_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in storages.AWS_ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=list(storages.RIGS))
def rig(request: pytest.FixtureRequest, tmp_path: Path, moto: str) -> Iterator[storages.Rig]:
    if reason := storages.CANNOT.get(request.param, {}).get(request.node.originalname):
        pytest.skip(reason)
    with storages.RIGS[request.param](tmp_path / "data", moto) as rig:
        yield rig


@pytest.fixture
def store(rig: storages.Rig) -> ObjectStorage:
    return rig.open()

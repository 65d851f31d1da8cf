"""One moto server for all database tests, started by the first that asks, and a rig for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.database.base import Database
from support import databases, storages


@pytest.fixture(autouse=True)
def _aws_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in storages.AWS_ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=list(databases.RIGS))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[databases.Rig]:
    if reason := databases.CANNOT.get(request.param, {}).get(request.node.originalname):
        pytest.skip(reason)
    start = databases.RIGS[request.param]
    with start(tmp_path / "data", lambda: str(request.getfixturevalue("moto"))) as rig:
        yield rig


@pytest.fixture
def database(rig: databases.Rig) -> Database:
    return rig.open()

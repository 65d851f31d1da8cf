from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support import entrypoints
from support.clocks import Time
from support.entrypoints import FAL_KEY, KEY_SHA256, THROUGH
from support.instances import NOWHERE, OTHER_SHA256


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets exactly these settings (None: unset) for the next entrypoint that is loaded."""

    def apply(**settings: str | None) -> None:
        entrypoints.clear_environment(monkeypatch)
        for name, value in settings.items():
            if value is not None:
                monkeypatch.setenv(name, value)

    return apply


@pytest.fixture
def configured(
    configure: Callable[..., None], fal: Emulator, pictures: Path
) -> Callable[..., None]:
    """A working configuration on the emulator and a local directory, bent by keywords."""

    def apply(**bent: str | None) -> None:
        working: dict[str, str | None] = {
            "FAL_KEY": FAL_KEY,
            "FAL_IMAGE_EMULATOR_URL": fal.url,
            "FAL_IMAGE_STORAGE_URL": pictures.as_uri(),
            "FAL_IMAGE_PUBLIC_URL": "https://pictures.example.com",
            "FAL_IMAGE_SECRET": "canary0signing0secret0of0this0test",
            "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        }
        configure(**(working | bent))

    apply()
    return apply


@pytest.fixture
def hand() -> Time:
    """The clock by which `slow` works; only a test moves it."""
    return Time()


@pytest.fixture
def slow(hand: Time) -> Iterator[Emulator]:
    """fal with jobs of 30 s."""
    with Emulator(run_s=30, clock=hand) as emulator:
        yield emulator


@pytest.fixture
def with_database(configured: Callable[..., None], tmp_path: Path) -> Callable[..., None]:
    """`configured`, with two callers and a database, and no way for fal to call back."""

    def apply(**bent: str | None) -> None:
        settings: dict[str, str | None] = {
            "FAL_IMAGE_DATABASE_URL": f"sqlite://{tmp_path}/jobs.db",
            "FAL_IMAGE_PUBLIC_URL": NOWHERE,
            "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256},other={OTHER_SHA256}",
        }
        configured(**(settings | bent))

    apply()
    return apply


@pytest.fixture(params=sorted(THROUGH))
def cloud(request: pytest.FixtureRequest) -> str:
    return str(request.param)

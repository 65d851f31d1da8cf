from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support import entrypoints
from support.entrypoints import FAL_KEY, KEY_SHA256


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

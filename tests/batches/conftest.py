from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support.batch_house import House, house


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def home(fal: Emulator, tmp_path: Path) -> Iterator[House]:
    with house(fal, tmp_path) as opened:
        yield opened

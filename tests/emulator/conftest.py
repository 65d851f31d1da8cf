from __future__ import annotations

from collections.abc import Iterator

import pytest

from fal_image.dev.emulator import Emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """fal without any delay."""
    with Emulator() as running:
        yield running


@pytest.fixture
def busy() -> Iterator[Emulator]:
    """fal whose jobs wait for longer than a test takes."""
    with Emulator(queue_s=3600) as running:
        yield running


@pytest.fixture
def working() -> Iterator[Emulator]:
    """fal whose jobs start at once and run for longer than a test takes."""
    with Emulator(run_s=3600) as running:
        yield running

"""A fal, our server with its page, and somebody at a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support.browsing import Browser, browsing
from support.clocks import Time
from support.instances import Server, serving


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = shutil.which("chromium")
    assert executable is not None
    with browsing(executable, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def hand() -> Time:
    """The clock by which `slow` works; only a test moves it."""
    return Time()


@pytest.fixture
def slow(hand: Time) -> Iterator[Emulator]:
    """fal with jobs that wait for 10 s and run for 10 s."""
    with Emulator(queue_s=10, run_s=10, clock=hand) as emulator:
        yield emulator


@pytest.fixture
def server(fal: Emulator, tmp_path: Path) -> Iterator[Server]:
    """Our server, with a database, open to everybody."""
    with serving(fal, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1") as server:
        yield server

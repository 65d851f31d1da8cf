"""A fal, and OpenAI's own package in front of a server of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from fal_image.dev.emulator import Emulator
from support.entrypoints import KEY
from support.instances import Server, serving

# Settings in, the server and the package in front of it out.
Serve = Callable[..., tuple[Server, openai.OpenAI]]


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def serve(fal: Emulator, tmp_path: Path) -> Iterator[Serve]:
    """Starts a server with the settings of `instances.environment`, bent by keywords."""
    with ExitStack() as stack:

        def start(key: str = KEY, fal: Emulator = fal, **bent: Any) -> tuple[Server, openai.OpenAI]:
            server = stack.enter_context(serving(fal, tmp_path, **bent))
            return server, stack.enter_context(package(server, key))

        yield start


@pytest.fixture
def client(serve: Serve) -> openai.OpenAI:
    return serve()[1]


def package(server: Server, key: str = KEY) -> openai.OpenAI:
    """The package as its users make it: its retries are on."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key)

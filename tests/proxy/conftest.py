"""A fal, both forms of the proxy, and fal's JavaScript client in Node and in Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from fal_image.dev.emulator import Emulator
from support.proxied import Client, client_script, in_chromium, in_node
from support.proxy_calls import FORMS, Form
from support.values import replace


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    form: Form = request.param
    return form


@pytest.fixture
def node() -> Client:
    return in_node()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    executable = shutil.which("chromium")
    assert executable is not None
    with in_chromium(executable, tmp_path_factory.mktemp("chromium")) as client:
        yield client


NODE = pytest.param("node", marks=pytest.mark.needs("node >= 20"))
CHROMIUM = pytest.param(
    "chromium", marks=[pytest.mark.needs("node >= 20"), pytest.mark.needs("chromium")]
)


@pytest.fixture(params=["key", "ticket"])
def has_ticket(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "ticket")


@pytest.fixture(params=[NODE, CHROMIUM])
def client(request: pytest.FixtureRequest, has_ticket: bool) -> Client:
    """fal's client, in a program and in a page of another origin than our server's, signed in by a
    key and by a ticket."""
    client: Client = request.getfixturevalue(request.param)
    return replace(client, has_ticket=has_ticket)


@pytest.fixture(scope="session")
def script() -> bytes:
    return client_script()

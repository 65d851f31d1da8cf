"""A fal, and an instance that keeps to its own document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support.conforming import Contract, conforming, document_of
from support.instances import Instance, instance


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """What the document of any instance says: settings change nothing of it but the address."""
    with Emulator() as emulator:
        return Contract(document_of(instance(emulator, tmp_path_factory.mktemp("any")).app))


@pytest.fixture
def start(fal: Emulator, tmp_path: Path, contract: Contract) -> Callable[..., Instance]:
    """An instance whose every answer is held against the document; `at` is another fal."""

    def apply(
        *, at: Emulator | None = None, seams: Seams | None = None, **bent: str | None
    ) -> Instance:
        made = instance(at or fal, tmp_path, seams=seams, **bent)
        return Instance(conforming(made.app, contract))

    return apply

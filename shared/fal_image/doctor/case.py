"""What is examined, and what with. Refuses to know what is asked and what an answer means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ..routes import Routes
from ..seams import THE_WORLD, Seams
from ..settings import Settings
from ..wire import Wire
from .findings import Finding

PATIENCE_S = 8.0  # for one answer: who takes longer when nothing is asked of them is not well


@dataclass(frozen=True)
class Case:
    """The composed services, the environment they were made from, and the way out.

    `function` is the deployed function that the owner names, if one is named. `patience_s` is the
    longest that one answer may take. Shared between threads.
    """

    services: Routes
    environ: Mapping[str, str] = field(repr=False)
    seams: Seams = THE_WORLD
    function: str | None = None
    patience_s: float = PATIENCE_S

    @property
    def settings(self) -> Settings:
        return self.services.settings

    @property
    def wire(self) -> Wire:
        return self.services.assets.wire


@dataclass(frozen=True)
class Part:
    """Checks that are made one after the other, in a thread of their own.

    `findings` gives each as soon as it is known and does not raise for what it examines: whatever
    it raises all the same becomes a failed finding under the part's name, as does taking too long.
    """

    name: str
    findings: Callable[[Case], Iterator[Finding]]

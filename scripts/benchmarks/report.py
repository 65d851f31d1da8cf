"""One measured figure and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    name: str
    unit: str
    low: float
    middle: float
    high: float
    runs: int
    goal: str

    def line(self) -> str:
        spread = f"{self.middle:.1f} {self.unit}  ({self.low:.1f} to {self.high:.1f})"
        return f"{self.name:<46} {spread:<34} n={self.runs:<6} goal {self.goal}"


def figure(name: str, unit: str, values: Sequence[float], *, goal: str) -> Figure:
    return Figure(name, unit, min(values), median(values), max(values), len(values), goal)

"""One measured figure and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from . import goals

COMPARED = "for comparison"


@dataclass(frozen=True)
class Figure:
    """`ratio` is of medians: this one's to that of `peer`, which was measured by turns with it."""

    name: str
    unit: str
    low: float
    middle: float
    high: float
    runs: int
    goal: str
    peer: str = ""
    ratio: float | None = None

    @property
    def is_met(self) -> bool | None:
        """None: nothing is asked of it."""
        goal = goals.parse(self.goal)
        if goal is None:
            return None
        if not goal.peer:
            return goal.allows(self.middle)
        if goal.peer != self.peer or self.ratio is None:
            raise ValueError(f"{self.name}: {self.goal}, and measured beside {self.peer!r}")
        return goal.allows(self.ratio)

    def shown(self, value: float) -> str:
        return f"{value:,.{self._digits}f}"

    def decided(self) -> str:
        """The median, finely enough to be held against the goal."""
        return self._against_goal(self.middle, self._digits)

    def line(self) -> str:
        low, high = self.shown(self.low), self.shown(self.high)
        spread = f"{self.decided()} {self.unit}  ({low} to {high})"
        goal = " ".join(filter(None, (self.beside(), f"goal {self.goal}", self.verdict())))
        return f"{self.name:<58} {spread:<34} n={self.runs:<6} {goal}"

    def beside(self) -> str:
        return "" if self.ratio is None else f"{self._against_goal(self.ratio, 2)} x {self.peer}"

    def verdict(self) -> str:
        return {None: "", True: "met", False: "NOT MET"}[self.is_met]

    def told(self) -> dict[str, object]:
        """For a program."""
        return {**vars(self), "met": self.is_met}

    @property
    def _digits(self) -> int:
        return 2 if self.unit == "s" else 1

    def _against_goal(self, value: float, digits: int) -> str:
        """With as many digits more as it takes to see that a goal is not met."""
        goal = goals.parse(self.goal)
        if goal is not None and not self.is_met:
            while value != goal.limit and round(value, digits) == goal.limit:
                digits += 1
        return f"{value:,.{digits}f}"


def figure(
    name: str,
    unit: str,
    values: Sequence[float],
    *,
    goal: str = COMPARED,
    beside: tuple[str, Sequence[float]] | None = None,
) -> Figure:
    """`beside` is a peer's name and its values of the same measure."""
    middle, peer, ratio = median(values), "", None
    if beside is not None:
        peer, ratio = beside[0], middle / median(beside[1])
    return Figure(name, unit, min(values), middle, max(values), len(values), goal, peer, ratio)

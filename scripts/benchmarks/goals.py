"""What a goal's text means, and whether a figure meets it. Refuses to know what was measured."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

_GOAL = re.compile(r"(?P<sign><=|>=|<|>) (?P<limit>\d[\d,]*(?:\.\d+)?)(?: x (?P<peer>\w+)| .*)?")
_SIGNS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Goal:
    """A bound of a figure's median; with a `peer`, of the median's ratio to that peer's."""

    sign: str
    limit: float
    peer: str = ""

    def allows(self, value: float) -> bool:
        return bool(_SIGNS[self.sign](value, self.limit))


def parse(text: str) -> Goal | None:
    """The bound that a text like `<= 15 ms` or `<= 0.8 x Node` begins with; None if with none.

    Raises ValueError for a text that looks like a bound and is not one.
    """
    found = _GOAL.fullmatch(text)
    if found:
        return Goal(found["sign"], float(found["limit"].replace(",", "")), found["peer"] or "")
    if text.startswith(("<", ">", "=")):
        raise ValueError(f"no goal: {text!r}")
    return None

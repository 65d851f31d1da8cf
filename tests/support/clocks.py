"""Clocks that only a test moves."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> datetime:
    """The machine's own clock, for what must really pass."""
    return datetime.now(timezone.utc)


class Time:
    """Seconds on a scale of its own; only sleeping moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

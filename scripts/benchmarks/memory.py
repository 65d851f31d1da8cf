"""The most memory that a fresh function holds for a small picture, and for a large one."""

from __future__ import annotations

from collections import defaultdict

from .contenders import NODE, OURS, Contender, Function, stage
from .report import COMPARED, Figure, figure
from .world import control

LARGE_BYTES = 50_000_000
RUNS = 3


def growth(most: int) -> list[Figure]:
    """By turns, each in a process of its own: a peak never goes down again."""
    small: dict[str, list[float]] = defaultdict(list)
    large: dict[str, list[float]] = defaultdict(list)
    with stage() as (fal, contenders):
        for _ in range(min(RUNS, most)):
            for name, contender in contenders.items():
                small[name].append(_peak_mb(contender))
                fault = {"kind": "padded", "on": "file", "bytes": LARGE_BYTES}
                control(fal, "faults", fault)
                large[name].append(_peak_mb(contender))
    node_mb = (NODE, large[NODE])
    grown = [big - little for big, little in zip(large[OURS], small[OURS], strict=True)]
    peaks = "peak memory, a picture of"
    figures = [
        figure(f"{peaks} 50 MB: {OURS}", "MB", large[OURS], goal="<= 90 MB"),
        figure(
            f"{peaks} 50 MB, to Node's", "MB", large[OURS], goal="<= 0.4 x Node", beside=node_mb
        ),
        figure(f"{peaks} 50 MB, over one of 100 KB", "MB", grown, goal="<= 5 MB"),
    ]
    figures += [
        figure(f"{peaks} 50 MB: {name}", "MB", found, goal=COMPARED)
        for name, found in large.items()
        if name != OURS
    ]
    return figures + [
        figure(f"{peaks} 100 KB: {name}", "MB", found, goal=COMPARED)
        for name, found in small.items()
    ]


def _peak_mb(contender: Contender) -> float:
    with Function(contender) as function:
        function.ask(0, output_format="png")
        return function.peak_mb()

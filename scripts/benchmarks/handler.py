"""How fast a warm function is, and how long after fal it answers."""

from __future__ import annotations

import time
from collections.abc import Callable

from support import entrypoints

from .report import Figure, figure
from .world import emulator, environment, generate

WARM_RUNS = 200
LAG_RUNS = 20
FAL_S = 1.3


def warm() -> list[Figure]:
    """A whole request through the AWS handler, fal at 0 s, local storage."""
    with emulator() as url, environment(url):
        main = entrypoints.load("aws")
        for _ in range(20):
            generate(main)
        took_ms = [_timed_ms(lambda: generate(main)) for _ in range(WARM_RUNS)]
    return [figure("warm handler, fal at 0 s", "ms", took_ms, goal="<= 15 ms")]


def lag() -> list[Figure]:
    """What the answer takes beyond fal's own time; the submit is part of it."""
    with emulator(run_s=FAL_S) as url, environment(url):
        main = entrypoints.load("aws")
        generate(main)
        lag_ms = [_timed_ms(lambda: generate(main)) - FAL_S * 1000 for _ in range(LAG_RUNS)]
    return [figure(f"answer after fal is done, fal at {FAL_S} s", "ms", lag_ms, goal="<= 40 ms")]


def _timed_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000

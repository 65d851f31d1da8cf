"""Functions that are warm, side by side: how fast they are, what they cost, and how long after fal
they answer."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product

from .contenders import NODE, OURS, PYTHON, Asked, Contender, Function, stage
from .report import Figure
from .starts import compared
from .world import completed_at

WARM_RUNS = 200
WARM_UP = 300  # until Node's compiler has learned most of it
BLOCK = 20  # CPU time is told in steps of 10 ms
LAG_RUNS = 8  # of each process
LAG_PROCESSES = {OURS: 4, NODE: 3, PYTHON: 1}
FAL_S = (0.5, 4.0)


def warm(most: int) -> list[Figure]:
    """By turns, fal at 0 s: the time until the answer, and the function's CPU time for a job."""
    took_ms: dict[str, list[float]] = defaultdict(list)
    used_ms: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        _, contenders = stack.enter_context(stage())
        functions = {name: stack.enter_context(Function(each)) for name, each in contenders.items()}
        blocks = max(1, min(WARM_RUNS, most) // BLOCK)
        warm_up = max(1, min(WARM_UP, most) // BLOCK)
        for block in range(-warm_up, blocks):
            before_ms = {name: function.cpu_ms() for name, function in functions.items()}
            for number, (name, function) in product(range(BLOCK), functions.items()):
                asked = function.ask(number)
                if block >= 0:
                    took_ms[name].append(asked.took_ms)
            for name, function in functions.items():
                if block >= 0:
                    used_ms[name].append((function.cpu_ms() - before_ms[name]) / BLOCK)
    return [
        *compared("warm, a request that waits, fal at 0 s", took_ms, "<= 0.75 x Node"),
        *compared(f"warm, CPU a job, means of {BLOCK}", used_ms, "<= 12 ms"),
    ]


def lag(most: int) -> list[Figure]:
    """fal at random times: the answer less the moment at which fal was done. All processes are at
    work side by side, so that each has the others' load."""
    runs = min(LAG_RUNS, most)
    with stage(run_s=FAL_S) as (fal, contenders):
        team = [name for name, count in LAG_PROCESSES.items() for _ in range(count)]
        with ThreadPoolExecutor(len(team)) as pool:
            asked = pool.map(
                lambda member: _in_a_row(contenders[member[1]], member[0] * 1000, runs),
                enumerate(team, 1),
            )
            answers = list(zip(team, asked, strict=True))
        done = completed_at(fal)
    lags: dict[str, list[float]] = defaultdict(list)
    for name, found in answers:
        lags[name] += [(each.ended_at - done[each.number]) * 1000 for each in found]
    low, high = FAL_S
    words = f"warm, answer after fal is done, fal at {low} to {high} s"
    return compared(words, lags, "<= 15 ms")


def _in_a_row(contender: Contender, first: int, runs: int) -> list[Asked]:
    with Function(contender) as function:
        return [function.ask(first + run) for run in range(runs + 1)][1:]

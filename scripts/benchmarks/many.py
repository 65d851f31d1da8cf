"""Four pictures in one request over one, where each transfer takes longer."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack

from .contenders import NODE, OURS, Function, stage
from .report import COMPARED, Figure, figure
from .world import control

RUNS = 9
WARM_UP = 1
MANY = 4
ADDED_S = 0.1
TWO_MEGAPIXELS = {"width": 1920, "height": 1080}


def many(most: int) -> list[Figure]:
    """By turns in warm functions: one picture, then four, with 100 ms more for each download (in
    the emulator) and for each put (in the sink)."""
    took_ms: dict[tuple[str, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        fal, contenders = stack.enter_context(stage(put_s=ADDED_S))
        functions = {name: stack.enter_context(Function(each)) for name, each in contenders.items()}
        for run in range(-WARM_UP, min(RUNS, most)):
            for name, function in functions.items():
                for count in (1, MANY):
                    slow = {"kind": "slow", "on": "file", "times": count, "seconds": ADDED_S}
                    control(fal, "faults", slow)
                    wish = {"image_size": TWO_MEGAPIXELS, "num_images": count}
                    asked = function.ask(run + WARM_UP, **wish)
                    if run >= 0:
                        took_ms[name, count].append(asked.took_ms)
    return [figure for name in functions for figure in _rows(name, took_ms)]


def _rows(name: str, took_ms: dict[tuple[str, int], list[float]]) -> list[Figure]:
    one, four = took_ms[name, 1], took_ms[name, MANY]
    goal = "<= 1.3 x one" if name == OURS else COMPARED
    beside = None if name == NODE else (NODE, took_ms[NODE, 1])
    return [
        figure(
            f"four pictures of 2 MP, 100 ms a transfer: {name}",
            "ms",
            four,
            goal=goal,
            beside=("one", one),
        ),
        figure(f"one such picture: {name}", "ms", one, goal=COMPARED, beside=beside),
    ]

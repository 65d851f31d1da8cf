"""Cold starts side by side: from the spawn of a function until fal has its job, and until its
answer; and what a first answer takes once fal is done."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .contenders import NODE, OURS, Asked, Contender, Function, packaged, stage
from .report import COMPARED, Figure, figure
from .world import completed_at, submitted_at

RUNS = 17
WAITING_RUNS = 11
WARM_UP = 2
FAL_S = 1.0
BARE = "fal-image without bytecode"

_Starts = dict[str, list[tuple[float, Asked]]]  # the time of the spawn, and what came of it


def at_once(most: int) -> list[Figure]:
    """fal at 0 s. By turns: fal-image, its package without bytecode, and the peers."""
    with stage() as (fal, contenders), TemporaryDirectory() as folder:
        contenders[BARE] = _without_bytecode(contenders[OURS], Path(folder))
        starts = _start(contenders, min(RUNS, most))
        submits = submitted_at(fal)
    answers = {
        name: [(asked.ended_at - spawned_at) * 1000 for spawned_at, asked in found]
        for name, found in starts.items()
    }
    reached = {
        name: [(submits[asked.number] - spawned_at) * 1000 for spawned_at, asked in found]
        for name, found in starts.items()
    }
    return [
        *compared("cold, spawn until the answer, fal at 0 s", answers, "<= 0.8 x Node"),
        *compared("cold, spawn until the submit", reached, "<= 1.0 x Node"),
    ]


def waiting(most: int) -> list[Figure]:
    """fal at 1 s: the answer of a cold process less the moment at which fal was done."""
    with stage(run_s=FAL_S) as (fal, contenders):
        starts = _start(contenders, min(WAITING_RUNS, most))
        done = completed_at(fal)
    lags = {
        name: [(asked.ended_at - done[asked.number]) * 1000 for _, asked in found]
        for name, found in starts.items()
    }
    words = f"cold, answer after fal is done, fal at {FAL_S:.0f} s"
    return compared(words, lags, "<= 1.0 x Node")


def compared(words: str, values: Mapping[str, Sequence[float]], goal: str) -> list[Figure]:
    """A row for each contender in milliseconds, beside Node; the goal is fal-image's."""
    beside = (NODE, values[NODE])
    return [
        figure(
            f"{words}: {name}",
            "ms",
            found,
            goal=goal if name == OURS else COMPARED,
            beside=None if name == NODE else beside,
        )
        for name, found in values.items()
    ]


def _start(contenders: Mapping[str, Contender], runs: int) -> _Starts:
    """Each contender in turn, so often; the first starts only fill the disk's cache."""
    starts: _Starts = defaultdict(list)
    number = 0
    for run in range(-WARM_UP, runs):
        for name, contender in contenders.items():
            number += 1
            with Function(contender) as function:
                asked = function.ask(number)
            if run >= 0:
                starts[name].append((function.spawned_at, asked))
    return starts


def _without_bytecode(contender: Contender, folder: Path) -> Contender:
    tree, bare = packaged() / "aws", folder / "aws"
    shutil.copytree(tree, bare, ignore=shutil.ignore_patterns("__pycache__"))
    path = contender.environ["PYTHONPATH"].replace(str(tree), str(bare))
    more = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return replace(contender, environ={**contender.environ, **more})

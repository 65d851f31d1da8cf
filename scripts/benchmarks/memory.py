"""How much more memory a function needs for a large picture than for a small one."""

from __future__ import annotations

import subprocess
import sys

from .report import Figure, figure
from .world import control, emulator, environment

LARGE_BYTES = 50_000_000
RUNS = 3

# A process of its own for each size: a peak never goes down again.
_ONE_PICTURE = """
import resource, sys
from scripts.benchmarks.world import generate
from support import entrypoints
generate(entrypoints.load("aws"), output_format="png")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "linux" else 1024))
"""


def growth() -> list[Figure]:
    with emulator() as url, environment(url, FAL_IMAGE_MAX_WAIT_S="120"):
        small, large = [], []
        for _ in range(RUNS):
            small.append(_peak_mb(url))
            large.append(_peak_mb(url, LARGE_BYTES))
    grown = [big - little for big, little in zip(large, small, strict=True)]
    return [
        figure("peak memory, picture of about 100 KB", "MB", small, goal="for comparison"),
        figure("peak memory, PNG of 50 MB", "MB", large, goal="for comparison"),
        figure("peak memory, growth", "MB", grown, goal="<= 12 MB"),
    ]


def _peak_mb(emulator_url: str, picture_bytes: int | None = None) -> float:
    if picture_bytes:
        fault = {"kind": "padded", "on": "file", "bytes": picture_bytes}
        control(emulator_url, "faults", fault)
    command = [sys.executable, "-c", _ONE_PICTURE]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return float(done.stdout) / 1024

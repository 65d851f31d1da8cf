"""Thousands of events nobody should send, through both functions."""

from __future__ import annotations

import time

from fal_image.dev.platforms import LambdaContext
from support import entrypoints, fuzz
from support.hostile import STATUSES, status_of

from .report import Figure, figure
from .world import emulator, environment

EVENTS = 5_000


def events(most: int) -> list[Figure]:
    """Stops at the first event that raises or is answered with a status that is in no table."""
    figures = []
    with emulator() as url, environment(url, FAL_IMAGE_ALLOW_ANONYMOUS="1"):
        for cloud in ("aws", "cloudbase"):
            main = entrypoints.load(cloud)
            context: object = LambdaContext("bench", clock=time.monotonic) if cloud == "aws" else {}
            took_ms = []
            for event in fuzz.events(seed=7, count=min(EVENTS, most)):
                began = time.perf_counter()
                answer = main(event, context)
                took_ms.append((time.perf_counter() - began) * 1000)
                if status_of(answer) not in STATUSES:
                    raise SystemExit(f"{cloud} answered {answer} to {event}")
            figures.append(figure(f"hostile events, {cloud}", "ms", took_ms, goal="none raises"))
    return figures

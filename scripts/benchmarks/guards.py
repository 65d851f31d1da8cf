"""What knowing the caller, counting requests and putting money aside add to a warm request."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from fal_image.app import build
from fal_image.dev import platforms
from fal_image.events import aws
from fal_image.web import App
from support import entrypoints
from support.entrypoints import FAL_KEY, KEY, KEY_SHA256

from .report import Figure, figure
from .world import emulator

RUNS = 200
WARM_UP = 20
OPEN = {"FAL_IMAGE_ALLOW_ANONYMOUS": "1", "FAL_IMAGE_RATE_LIMIT": "off"}
GUARDED = {
    "FAL_IMAGE_API_KEYS": f"bench={KEY_SHA256}",
    "FAL_IMAGE_RATE_LIMIT": "1000/m",
    "FAL_IMAGE_DAILY_BUDGET_USD": "100",
}
CAPPED = {**GUARDED, "FAL_IMAGE_TOTAL_DAILY_BUDGET_USD": "100"}


def guards(most: int) -> list[Figure]:
    """By turns: an app that asks nobody anything, one with a key, a rate and a budget, and one with
    a budget for all callers besides."""
    with emulator() as url, TemporaryDirectory() as directory:
        apps = [
            _app(url, f"{directory}/{number}", settings)
            for number, settings in enumerate((OPEN, GUARDED, CAPPED))
        ]
        took_ms: list[list[float]] = [[], [], []]
        for run in range(-WARM_UP, min(RUNS, most)):
            for app, key, taken in zip(apps, (None, KEY, KEY), took_ms, strict=True):
                took = _timed_ms(app, key)
                if run >= 0:
                    taken.append(took)
    bare, guarded, capped = took_ms
    words = f"added to {median(bare):.1f} ms without"
    return [
        figure(f"key, rate, budget, {words}", "ms", _added(guarded, bare), goal="<= 2 ms"),
        figure(f"and a total budget, {words}", "ms", _added(capped, bare)),
    ]


def _added(guarded: Sequence[float], bare: Sequence[float]) -> list[float]:
    """Each less the one that ran right before: what the machine does meanwhile happens to both."""
    return [more - less for more, less in zip(guarded, bare, strict=True)]


def _app(emulator_url: str, directory: str, guards: dict[str, str]) -> App:
    Path(directory).mkdir()
    return build(
        {
            "FAL_KEY": FAL_KEY,
            "FAL_IMAGE_EMULATOR_URL": emulator_url,
            "FAL_IMAGE_STORAGE_URL": Path(directory, "pictures").as_uri(),
            "FAL_IMAGE_DATABASE_URL": f"sqlite://{directory}/jobs.db",
            "FAL_IMAGE_SECRET": "only0for0measuring0on0this0machine",
            "FAL_IMAGE_LOG_LEVEL": "ERROR",
            **guards,
        }
    )


def _timed_ms(app: App, key: str | None) -> float:
    request = entrypoints.request(body={"prompt": "a calico cat at sunset", "seed": 7}, key=key)
    event = platforms.function_url_event(request, at=entrypoints.NOON)
    context = platforms.LambdaContext("bench", clock=time.monotonic)
    began = time.perf_counter()
    answer = aws.handle(event, context, app)
    took_ms = (time.perf_counter() - began) * 1000
    if answer["statusCode"] != 200:
        raise SystemExit(f"the handler answered {json.loads(answer['body'])}")
    return took_ms

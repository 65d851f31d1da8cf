"""What a cloud bills for one picture: a function that waits, and one that is called back.

Counted is the time inside the function, once with a request that waits for fal, once with a request
answered at once and the webhook that fal sends; both through genuine Lambda events.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fal_image import app, server
from fal_image.dev.platforms import DISGUISES
from fal_image.settings import load
from fal_image.web import App, Request, Response
from support.entrypoints import KEY

from . import world
from .report import Figure, figure

FAL_S = 5.0
RUNS = 2
CALLBACK_S = 30.0


def billed(most: int) -> list[Figure]:
    shares, waited_ms, called_ms = [], [], []
    with world.emulator(run_s=FAL_S) as emulator_url, _function(emulator_url) as (url, meter):
        for _ in range(min(RUNS, most)):
            waited_ms.append(_spent(url, meter, {}, calls=1))
            called_ms.append(_spent(url, meter, {"prefer": "respond-async"}, calls=2))
            shares.append(100 * called_ms[-1] / waited_ms[-1])
    return [
        figure("billed, waiting, fal at 5 s", "ms", waited_ms),
        figure("billed, submit and webhook, fal at 5 s", "ms", called_ms),
        figure("billed, called back of waiting", "%", shares, goal="<= 10 %"),
    ]


class _Meter:
    """Adds up the time that calls spend inside the app, and counts those that are over."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._over = threading.Condition()
        self._calls = 0
        self._seconds = 0.0

    def __call__(self, request: Request) -> Response:
        began = time.perf_counter()
        response = self._app(request)
        with self._over:
            self._seconds += time.perf_counter() - began
            self._calls += 1
            self._over.notify_all()
        return response

    def read(self, calls: int) -> float:
        """The milliseconds of this many calls, once they are over; starts again from nothing."""
        with self._over:
            if not self._over.wait_for(lambda: self._calls >= calls, CALLBACK_S):
                raise SystemExit(f"{self._calls} of {calls} calls came")
            seconds, self._seconds, self._calls = self._seconds, 0.0, 0
            return seconds * 1000


@contextmanager
def _function(emulator_url: str) -> Iterator[tuple[str, _Meter]]:
    """A function that fal's webhooks reach, with a database of its own."""
    with TemporaryDirectory() as directory:
        listener = server.bind("127.0.0.1", 0)
        url = server.url_of(listener)
        database = f"sqlite:///{Path(directory)}/jobs.db"
        more = {"FAL_IMAGE_DATABASE_URL": database}
        with world.environment(emulator_url, **more):
            os.environ["FAL_IMAGE_PUBLIC_URL"] = url
            meter = _Meter(DISGUISES["aws"](app.build_app(load(os.environ))))
            with server.running(meter, listener):
                yield url, meter


def _spent(url: str, meter: _Meter, headers: dict[str, str], *, calls: int) -> float:
    """The milliseconds inside the function for one picture that was made in this many calls."""
    request = urllib.request.Request(
        url,
        json.dumps({"prompt": "a calico cat at sunset", "seed": 7}).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {KEY}", **headers},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=CALLBACK_S) as answer:
        answer.read()
    return meter.read(calls)

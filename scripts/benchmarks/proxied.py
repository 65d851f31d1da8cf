"""What the proxy adds to a call of fal's: as a server beside Express, and through the AWS handler,
with a database on SQLite."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import requests

from fal_image.dev import platforms
from support import entrypoints

from .report import Figure, figure
from .throughput import throughput
from .world import emulator, environment

RUNS = 100
WARM_UP = 20
UNFINISHED_S = 3600.0  # while submits are measured the emulator must not paint on the same cores
GOAL = "<= 3 ms"
SUBMIT = "https://queue.fal.run/fal-ai/flux/schnell"
INITIATE = "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
CAT = {"prompt": "a calico cat at sunset", "seed": 7}
FILE = {"content_type": "image/png", "file_name": "a.png"}

Call = Callable[[str, str, object], Any]


def proxied(most: int) -> list[Figure]:
    """Servers beside each other, then the function's handler: each of its figures is one of pairs,
    the proxied call's time less the direct one's median."""
    return [*throughput(most), *_handled(min(RUNS, most))]


def _handled(runs: int) -> list[Figure]:
    with _world(run_s=0.0) as (through, direct):
        request_id = through("POST", SUBMIT, CAT)["request_id"]
        request = f"https://queue.fal.run/fal-ai/flux/requests/{request_id}"
        while through("GET", f"{request}/status", None)["status"] != "COMPLETED":
            pass
        figures = [
            _added("a status", "GET", f"{request}/status", None, through, direct, runs),
            _added("a result", "GET", request, None, through, direct, runs),
            _added("an upload's address", "POST", INITIATE, FILE, through, direct, runs),
        ]
    with _world(run_s=UNFINISHED_S) as (through, direct):
        return [*figures, _added("a submit, now a job", "POST", SUBMIT, CAT, through, direct, runs)]


@contextmanager
def _world(run_s: float) -> Iterator[tuple[Call, Call]]:
    with (
        emulator(run_s) as url,
        TemporaryDirectory() as directory,
        environment(url, FAL_IMAGE_DATABASE_URL=f"sqlite:///{directory}/jobs.db"),
    ):
        yield _through(entrypoints.load("aws")), _direct(url)


def _added(
    words: str, method: str, url: str, body: object, through: Call, direct: Call, runs: int
) -> Figure:
    proxied_ms, direct_ms = [], []
    for _ in range(WARM_UP):
        direct(method, url, body), through(method, url, body)
    for _ in range(runs):
        direct_ms.append(_timed_ms(lambda: direct(method, url, body)))
        proxied_ms.append(_timed_ms(lambda: through(method, url, body)))
    base_ms = median(direct_ms)
    name = f"{words}, through the handler, added to a direct one's {base_ms:.1f} ms"
    return figure(name, "ms", [taken - base_ms for taken in proxied_ms], goal=GOAL)


def _direct(emulator_url: str) -> Call:
    session = requests.Session()
    session.trust_env = False
    session.headers["authorization"] = f"Key {entrypoints.FAL_KEY}"

    def call(method: str, url: str, body: object) -> Any:
        address = f"{emulator_url}/{url.removeprefix('https://')}"
        answer = session.request(method, address, json=body, timeout=10)
        return _checked(answer.status_code, answer.json())

    return call


def _through(main: Callable[[object, object], dict[str, Any]]) -> Call:
    def call(method: str, url: str, body: object) -> Any:
        request = entrypoints.request(
            method, "/api/fal/proxy", body, headers={"x-fal-target-url": url}
        )
        event = platforms.function_url_event(request, at=entrypoints.NOON)
        context = platforms.LambdaContext("bench", clock=time.monotonic)
        answer = main(event, context)
        return _checked(answer["statusCode"], json.loads(answer["body"]))

    return call


def _checked(status: int, answer: Any) -> Any:
    if status >= 300:
        raise SystemExit(f"HTTP {status}: {answer}")
    return answer


def _timed_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000

"""What the measures share: the emulator in a process of its own, and a loaded function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fal_image.dev import platforms
from support import entrypoints
from support.entrypoints import FAL_KEY, KEY_SHA256

RunS = float | tuple[float, float]

_EMULATOR = """
import random, sys
from fal_image.dev.emulator import serve
low, high = map(float, sys.argv[1:])
chance = random.Random(7)
serve(
    port=0,
    run_s=lambda: chance.uniform(low, high),
    ready=lambda emulator: print(emulator.url, flush=True),
)
"""
# The emulator paints this once and keeps it: painting would count against whoever asks first.
CAT = {"prompt": "a calico cat at sunset", "seed": 7}
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def emulator(run_s: RunS = 0.0) -> Iterator[str]:
    """The emulator's address; a process of its own, so that its work is not counted as ours.

    `run_s` is how long each job runs: always so long, or anything between two bounds, which is the
    same row of times in every run of this program.
    """
    low, high = run_s if isinstance(run_s, tuple) else (run_s, run_s)
    with _running([sys.executable, "-c", _EMULATOR, str(low), str(high)]) as url:
        yield url


@contextmanager
def sink(put_s: float = 0.0) -> Iterator[str]:
    """The address of a bucket that keeps nothing; `put_s` is added to each put."""
    with _running([sys.executable, "-m", "scripts.benchmarks.sink", str(put_s)]) as url:
        yield url


@contextmanager
def _running(command: list[str]) -> Iterator[str]:
    """A program that says its address first, for the length of the block."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def wish(number: int) -> dict[str, object]:
    """A request's body whose job is found again by the number, up to 19,000."""
    return {**CAT, "guidance_scale": 1 + number / 1000}


def completed_at(emulator_url: str) -> dict[int, float]:
    """When fal was done with each job, by the wish's number; seconds since 1970."""
    return {number: at + run_s for number, (at, run_s) in _jobs(emulator_url).items()}


def submitted_at(emulator_url: str) -> dict[int, float]:
    """When each job reached fal, by the wish's number; seconds since 1970."""
    return {number: at for number, (at, _) in _jobs(emulator_url).items()}


def _jobs(emulator_url: str) -> dict[int, tuple[float, float]]:
    entries = control(emulator_url, "ledger")["ledger"]
    return {
        round((entry["input"]["guidance_scale"] - 1) * 1000): (
            datetime.fromisoformat(entry["submitted_at"]).timestamp(),
            entry["run_s"],
        )
        for entry in entries
    }


@contextmanager
def environment(emulator_url: str, **more: str) -> Iterator[None]:
    """The environment of a function with local storage, for the length of the block."""
    before = dict(os.environ)
    with TemporaryDirectory() as directory:
        os.environ.update(
            FAL_KEY=FAL_KEY,
            FAL_IMAGE_EMULATOR_URL=emulator_url,
            FAL_IMAGE_STORAGE_URL=Path(directory).as_uri(),
            FAL_IMAGE_PUBLIC_URL="https://pictures.example.com",
            FAL_IMAGE_SECRET="only0for0measuring0on0this0machine",
            FAL_IMAGE_API_KEYS=f"bench={KEY_SHA256}",
            FAL_IMAGE_LOG_LEVEL="ERROR",
            **more,
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def generate(main: Callable[[object, object], dict[str, Any]], **fields: object) -> dict[str, Any]:
    """One paid request through a loaded handler; fails loudly if no picture comes back."""
    body = {"prompt": "a calico cat at sunset", "seed": 7} | fields
    event = platforms.function_url_event(entrypoints.request(body=body), at=entrypoints.NOON)
    context = platforms.LambdaContext("bench", clock=time.monotonic)
    answer = main(event, context)
    job: dict[str, Any] = json.loads(answer["body"])
    if answer["statusCode"] != 200:
        raise SystemExit(f"the handler answered {job}")
    return job


def control(emulator_url: str, path: str, payload: object = None) -> Any:
    """Ask the emulator's own pages; with a payload, POST it."""
    data = None if payload is None else json.dumps(payload).encode()
    with _DIRECT.open(f"{emulator_url}/_emulator/{path}", data=data, timeout=10) as answer:
        return json.load(answer)

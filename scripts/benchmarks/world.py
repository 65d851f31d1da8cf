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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fal_image.dev import platforms
from support import entrypoints
from support.entrypoints import FAL_KEY, KEY_SHA256

_EMULATOR = """
import sys
from fal_image.dev.emulator import serve
serve(port=0, run_s=float(sys.argv[1]), ready=lambda emulator: print(emulator.url, flush=True))
"""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def emulator(run_s: float = 0.0) -> Iterator[str]:
    """The emulator's address; a process of its own, so that its work is not counted as ours."""
    command = [sys.executable, "-c", _EMULATOR, str(run_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


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

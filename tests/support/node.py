"""JavaScript written for fal, run in Node against the emulator; the modules are in tests/node."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fal_image.dev.emulator import Emulator

FOLDER = Path(__file__).resolve().parents[1] / "node"
KEY = "id:secret"


@dataclass(frozen=True)
class Called:
    """How a call of a function went: one of `returned` and `threw`, and what it printed before.

    `threw` holds name, status and body of an error of fal's client.
    """

    returned: Any
    threw: Any
    printed: tuple[str, ...]


def call(
    module: str, function: str, *arguments: object, emulator: Emulator, fal_key: str = KEY
) -> Called:
    """Call a function of a module in tests/node; it believes that the emulator is fal.

    Raises AssertionError with Node's words when the program fails for any other reason than an
    answer of fal's.
    """
    said = run(
        ["--import", "./as_fal.mjs", "call.mjs", f"./{module}", function, json.dumps(arguments)],
        {"EMULATOR": emulator.url, "FAL_KEY": fal_key},
    )
    return _called(said)


def call_in_page(
    module: str, function: str, *arguments: object, site: str, fal: Emulator
) -> Called:
    """The same as a script of a page of `site`, which has no key; only its sockets lead to fal.

    Raises AssertionError as `call` does.
    """
    options = ["--import", "./as_page.mjs", "--experimental-websocket"]  # a flag until Node 22
    said = run(
        [*options, "call.mjs", f"./{module}", function, json.dumps(arguments)],
        {"SITE": site, "EMULATOR": fal.url},
    )
    return _called(said)


@contextmanager
def conversation(script: str, executable: str, folder: Path) -> Iterator[Callable[[str], str]]:
    """A program that drives one browser for all: a line to it, a line from it. The browser keeps
    what it writes in `folder`."""
    home = {"XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    with subprocess.Popen(
        ["node", script, executable],
        cwd=FOLDER,
        env={**os.environ, **home},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        orders, reports = process.stdin, process.stdout
        assert orders
        assert reports

        def tell(order: str) -> str:
            orders.write(order + "\n")
            orders.flush()
            return reports.readline()

        yield tell


def _called(said: str) -> Called:
    *printed, last = said.splitlines()
    outcome = json.loads(last)
    return Called(outcome.get("returned"), outcome.get("threw"), tuple(printed))


def run(arguments: list[str], environment: dict[str, str] | None = None) -> str:
    """What a program of tests/node writes."""
    done = subprocess.run(
        ["node", *arguments],
        cwd=FOLDER,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        encoding="utf-8",
        timeout=18,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

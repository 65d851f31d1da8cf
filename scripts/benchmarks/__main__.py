"""scripts/bench: every measure of this folder, its figures and its goal.

Medians with their spread, never a pass or fail of a test: machines differ. Everything runs on
loopback against the fal emulator and ends by itself.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable

from fal_image import __version__

from . import batch, billed, cold, guards, handler, hostile, memory, proxied
from .report import Figure

MEASURES: dict[str, Callable[[], list[Figure]]] = {
    "cold": cold.cold,
    "warm": handler.warm,
    "lag": handler.lag,
    "memory": memory.growth,
    "billed": billed.billed,
    "batch": batch.batch,
    "proxied": proxied.proxied,
    "guards": guards.guards,
    "events": hostile.events,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=MEASURES, help="one measure")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    names = [options.only] if options.only else list(MEASURES)
    figures = {name: MEASURES[name]() for name in names}
    if options.json:
        rows = {name: [vars(figure) for figure in found] for name, found in figures.items()}
        print(json.dumps({"machine": _machine(), "figures": rows}))
        return
    print(_machine())
    for found in figures.values():
        for figure in found:
            print(figure.line())


def _machine() -> str:
    python = platform.python_version()
    return f"{platform.machine()}, Python {python}, fal-image {__version__}"


if __name__ == "__main__":
    main()

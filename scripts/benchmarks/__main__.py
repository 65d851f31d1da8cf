"""scripts/bench: every measure of this folder, its figures and its goal.

Medians with their spread, never a pass or fail of a test: machines differ. Everything runs on
loopback against the fal emulator and ends by itself. A run of all measures also writes the table of
docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from datetime import datetime, timezone

from . import batch, billed, cold, crowd, guards, handler, hostile, many, memory, page, proxied
from .report import Figure

MEASURES: dict[str, Callable[[int], list[Figure]]] = {
    "cold": cold.cold,
    "warm": handler.warm,
    "lag": handler.lag,
    "memory": memory.growth,
    "many": many.many,
    "proxied": proxied.proxied,
    "crowd": crowd.crowd,
    "batch": lambda _: batch.batch(),
    "billed": billed.billed,
    "guards": guards.guards,
    "events": hostile.events,
}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun ends, too
    options = _options()
    names = [options.only] if options.only else list(MEASURES)
    figures = {}
    tell = (lambda _: None) if options.json else print
    tell(page.machine())
    for name in names:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        figures[name] = MEASURES[name](options.runs)
        for figure in figures[name]:
            tell(figure.line())
    if options.json:
        rows = {name: [figure.told() for figure in found] for name, found in figures.items()}
        print(json.dumps({"machine": page.machine(), "figures": rows}))
        return
    if not options.only and options.runs == sys.maxsize:
        page.write(figures, datetime.now(timezone.utc).date())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=MEASURES, help="one measure")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    most = "at most so many runs of each, to see that it works"
    parser.add_argument("--runs", type=int, default=sys.maxsize, metavar="N", help=most)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""A large batch on one server: memory, database operations and speed, on SQLite, fal at 0 s."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

from fal_image import app, server
from fal_image.database.base import Database
from fal_image.settings import load
from support.counting import CountingDatabase
from support.entrypoints import KEY, request

from .report import Figure, figure
from .world import emulator, environment

ROWS = 10_000
ROWS_WITHOUT_BUDGET = 2_000

# A process of its own, so that nothing else's memory is counted; the emulator is in another.
_ONE_BATCH = """
import sys
from scripts.benchmarks.batch import one_batch
print(one_batch(int(sys.argv[1])))
"""


def batch() -> list[Figure]:
    with emulator() as url:
        budgeted = _measured(url, ROWS, FAL_IMAGE_DAILY_BUDGET_USD="1000")
        free = _measured(url, ROWS_WITHOUT_BUDGET)
    both = (("with a budget", ROWS, "<= 9", budgeted), ("free", ROWS_WITHOUT_BUDGET, "<= 7", free))
    figures = []
    for words, rows, goal, found in both:
        name = f"batch of {rows}, {words}"
        figures += [
            figure(f"{name}: memory growth", "MB", [found["grown_mb"]], goal="< 40 MB"),
            figure(f"{name}: operations a row", "", [found["operations"]], goal=goal),
            figure(f"{name}: rows a second", "", [found["rows_s"]], goal="for comparison"),
        ]
    return figures


def _measured(emulator_url: str, rows: int, **settings: str) -> dict[str, float]:
    with environment(emulator_url, FAL_IMAGE_MAX_WAIT_S="300", **settings):
        done = subprocess.run(
            [sys.executable, "-c", _ONE_BATCH, str(rows)],
            capture_output=True,
            text=True,
            timeout=900,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def one_batch(rows: int) -> str:
    """Carry out a batch in this process, as its server; what it took, as JSON."""
    counted: list[CountingDatabase] = []

    def counting(opened: Database) -> Database:
        counted.append(CountingDatabase(opened))
        return counted[-1]

    with TemporaryDirectory() as directory:
        listener = server.bind("127.0.0.1", 0)
        os.environ["FAL_IMAGE_DATABASE_URL"] = f"sqlite:///{directory}/jobs.db"
        os.environ["FAL_IMAGE_PUBLIC_URL"] = server.url_of(listener)
        services = app.compose(
            load(os.environ), environ=os.environ, seams=app.Seams(database=counting)
        )
        served = app.front(services)

        def run(count: int) -> None:
            lines = [
                {"prompt": f"a calico cat {row}", "image_size": {"width": 64, "height": 64}}
                for row in range(count)
            ]
            body = {"rows": lines, "window": 50}
            answer = json.loads(served(request("POST", "/batches", body, key=KEY)).read())
            head = f"batch:{answer['batchId']}"
            while counted[0].inner.get(head).body.get("state") != "done":
                time.sleep(0.2)

        with server.running(served, listener), server.sweeping(served):
            run(200)
            before_mb = _resident_mb()
            counted[0].calls.clear()
            began = time.perf_counter()
            run(rows)
            took_s = time.perf_counter() - began
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return json.dumps(
        {
            "grown_mb": peak_mb - before_mb,
            "operations": sum(counted[0].calls.values()) / rows,
            "rows_s": rows / took_s,
        }
    )


def _resident_mb() -> float:
    """What this process holds now (Linux)."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

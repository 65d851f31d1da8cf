"""Batches on one server with SQLite: submits, finished rows, and what a row costs at any size.

All rows ask for the same small picture, which the emulator draws once: fal's work is not measured.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fal_image import app, server
from fal_image.database.base import Database
from fal_image.generate import Turn
from fal_image.settings import load
from fal_image.web import Response
from support.counting import CountingDatabase
from support.entrypoints import KEY, request

from . import contenders
from .report import Figure, figure
from .world import control, emulator, environment

RUNS = 3
BATCHES_AT_ONCE = 5
MAX_WINDOW = 200
WINDOW = 50
WARM_UP = 100
FINISHED = 500  # rows of each run
COUNTED = 300  # rows that are carried out of a batch of any size
SMALL, LARGE = 1_000, 100_000
FLAT = "<= 1.2 x"
STALLS_AFTER_S = 60.0
ALL_ROWS = {"prompt": "a calico cat", "seed": 7, "image_size": {"width": 64, "height": 64}}

# A process of its own, so that nothing else's memory is counted; the emulator is in another.
_CHILD = """
import json, sys
from scripts.benchmarks import batch
print(json.dumps(getattr(batch, sys.argv[1])(*json.loads(sys.argv[2]))))
"""
# What a batch pays once for itself, and not for each of its rows.
_PLANNING = ("create chunk", "create batch", "replace_if batch")


def batch() -> list[Figure]:
    """Submits, finished rows, and the costs."""
    with emulator(60.0) as url:
        submits = _child(url, "submits", url)
    with emulator() as url:
        finished = _child(url, "finished")
        costs = [(_child(url, "cost", SMALL), _child(url, "cost", LARGE)) for _ in range(RUNS)]
        budgeted = _child(url, "cost", SMALL, FAL_IMAGE_DAILY_BUDGET_USD="1000")
    figures = [
        figure("batch, fal at 60 s: submits a second", "", submits, goal=">= 300"),
        figure("batch, fal at 0 s: finished rows a second", "", finished, goal=">= 80"),
    ]
    for name, unit in (("operations", ""), ("cpu_ms", "ms"), ("grown_mb", "MB")):
        words = {
            "operations": "operations of the database a row",
            "cpu_ms": "CPU a row",
            "grown_mb": "memory growth",
        }[name]
        small, large = ([found[name] for found in of_size] for of_size in zip(*costs, strict=True))
        figures += [
            figure(f"batch of {SMALL}: {words}", unit, small),
            figure(f"batch of {LARGE}: {words}", unit, large),
        ]
        if name != "grown_mb":
            ratio = [median(large) / median(small)]
            figures.append(figure(f"batch, {LARGE} to {SMALL}: {words}", "x", ratio, goal=FLAT))
    words = f"batch of {SMALL}, with a budget: operations of the database a row"
    return [*figures, figure(words, "", [budgeted["operations"]], goal="<= 9")]


def submits(emulator_url: str) -> list[float]:
    """How many rows a second reach fal, when several batches begin at once."""
    with _Server() as served:
        served.start(1, 1)
        return [_submitted(served, emulator_url) for _ in range(RUNS)]


def finished() -> list[float]:
    """How many rows a second get done."""
    with _Server() as served:
        served.until_done(served.start(WARM_UP, WINDOW))
        took = []
        for _ in range(RUNS):
            began = time.perf_counter()
            served.until_done(served.start(FINISHED, WINDOW))
            took.append(FINISHED / (time.perf_counter() - began))
        return took


def cost(rows: int) -> dict[str, float]:
    """What a row of a batch of so many costs: its share of the planning, and being carried out.

    COUNTED rows are carried out of it, whatever its size; then it is stopped.
    """
    with _Server() as served:
        served.until_done(served.start(WARM_UP, WINDOW))
        before_mb = _resident_mb()
        planning = _planning(served, rows)
        started = served.start(rows, WINDOW)
        kinds, cpu_s = served.counted.kinds.copy(), time.process_time()
        served.wait(lambda: served.counted.kinds["mark chunk"] - kinds["mark chunk"] >= COUNTED)
        cpu_s, kinds = time.process_time() - cpu_s, served.counted.kinds - kinds
        served.ask("DELETE", f"/batches/{started}")
        # Not getrusage: what it tells of a process that was spawned counts the spawner's memory.
        grown_mb = contenders.peak_mb(os.getpid()) - before_mb
    of_rows = sum(count for kind, count in kinds.items() if kind not in _PLANNING)
    done = kinds["mark chunk"]
    return {
        "operations": planning["operations"] / rows + of_rows / done,
        "cpu_ms": 1000 * (planning["cpu_s"] / rows + cpu_s / done),
        "grown_mb": grown_mb,
    }


def _submitted(served: _Server, emulator_url: str) -> float:
    """Submits a second of batches that begin at once, until the last row of the last is at fal."""
    before = control(emulator_url, "ledger")["calls"]["submit"]
    began = time.perf_counter()
    starting = [
        threading.Thread(target=served.start, args=(MAX_WINDOW, MAX_WINDOW))
        for _ in range(BATCHES_AT_ONCE)
    ]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()  # an answer comes after the window was started
    took_s = time.perf_counter() - began
    taken = control(emulator_url, "ledger")["calls"]["submit"] - before
    if taken != BATCHES_AT_ONCE * MAX_WINDOW:
        raise SystemExit(f"only {taken} rows reached fal")
    return float(taken / took_s)


def _planning(served: _Server, rows: int) -> dict[str, float]:
    """What counting the rows takes, of a batch that nobody starts."""
    content, now = _lines(rows), time.monotonic()
    before, cpu_s = sum(served.counted.calls.values()), time.process_time()
    served.services.batches.attended.begin(
        io.BytesIO(content),
        hashlib.sha256(content).hexdigest(),
        ALL_ROWS,
        Turn("bench", answer_by=now + STALLS_AFTER_S, ends_at=now + STALLS_AFTER_S),
        batch_id="0" * 26,
    )
    operations = sum(served.counted.calls.values()) - before
    return {"operations": operations, "cpu_s": time.process_time() - cpu_s}


def _lines(rows: int) -> bytes:
    return b"".join(b'{"rowId": %d}\n' % row for row in range(rows))


def _child(emulator_url: str, what: str, *arguments: object, **settings: str) -> Any:
    """What a function of this module gives in a process of its own. Its folder is made here: a
    process that is killed leaves it."""
    with TemporaryDirectory() as folder:
        settings |= {
            "FAL_IMAGE_DATABASE_URL": f"sqlite:///{folder}/jobs.db",
            "FAL_IMAGE_MAX_WAIT_S": "300",
        }
        with environment(emulator_url, **settings):
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, what, json.dumps(arguments)],
                capture_output=True,
                encoding="utf-8",
                timeout=300,
            )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


class _Server:
    """This process as a server, as its environment says. A context manager."""

    def __enter__(self) -> _Server:
        self._context = self._open()
        self._context.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self._context.__exit__(*about)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self._answer(request(method, path, body, key=KEY)).read())

    def start(self, rows: int, window: int) -> str:
        """Begin a batch of uploaded rows, as large ones are; its id."""
        content = _lines(rows)
        place = self.ask(
            "POST", "/uploads", {"contentType": "application/jsonl", "bytes": len(content)}
        )
        upload, to = place["upload"], urlsplit(place["upload"]["url"])
        query = tuple(parse_qsl(to.query))
        headers = upload["headers"]
        self._answer(request("PUT", to.path, raw=content, query=query, headers=headers, key=None))
        body = {"file": place["fileID"], "defaults": ALL_ROWS, "window": window}
        started = self.ask("POST", "/batches", body)
        return str(started["batchId"])

    def until_done(self, batch_id: str) -> None:
        head = f"batch:{batch_id}"
        self.wait(lambda: self.counted.inner.get(head).body.get("state") == "done")  # type: ignore[union-attr]

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Until something is so. It must come in STALLS_AFTER_S."""
        gives_up_at = time.monotonic() + STALLS_AFTER_S
        while not is_so():
            if time.monotonic() > gives_up_at:
                raise SystemExit("the batch stands still")
            time.sleep(0.05)

    def _answer(self, asked: Any) -> Response:
        answer = self._app(asked)
        if answer.status >= 400:
            raise SystemExit(f"the server answered {answer.status}: {answer.read()!r}")
        return answer

    @contextmanager
    def _open(self) -> Iterator[None]:
        listener = server.bind("127.0.0.1", 0)
        os.environ["FAL_IMAGE_PUBLIC_URL"] = server.url_of(listener)
        seams = app.Seams(database=self._counting)
        self.services = app.compose(load(os.environ), environ=os.environ, seams=seams)
        self._app = app.front(self.services)
        with server.running(self._app, listener), server.sweeping(self._app):
            yield

    def _counting(self, opened: Database) -> Database:
        self.counted = CountingDatabase(opened)
        return self.counted


def _resident_mb() -> float:
    """What this process holds now (Linux)."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

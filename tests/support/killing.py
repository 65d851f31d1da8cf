"""A program that runs one invocation and is killed right after its Nth effect: SIGKILL, no last
words.

`python -m support.killing` reads one order a line and answers each with a line. It has imported and
composed everything already and forks for each order, so that a whole matrix of kills takes seconds.
The other side of the pipe is `Killer`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from fal_image import settings
from fal_image.app import Seams, compose

from . import clocks
from .effects import CountedDatabase, Effects, counted_wire
from .world import Ask, Instance, counted_storage

TESTS = Path(__file__).parent.parent


@dataclass(frozen=True)
class Ran:
    """One invocation: the effects that took place, in order, and the signal that ended it."""

    effects: tuple[str, ...]
    signal: int | None


class Killer:
    """The program's other side; a context manager."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {**os.environ, **environ, "PYTHONPATH": str(TESTS)}

    def __enter__(self) -> Killer:
        command = [sys.executable, "-m", "support.killing"]
        self._process = subprocess.Popen(
            command,
            cwd=TESTS,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=10)

    def run(
        self, environ: Mapping[str, str], ask: Ask, *, last: int | None, ahead_s: float = 0.0
    ) -> Ran:
        """Let a process answer `ask` until effect `last`; there it is `ahead_s` later than here."""
        order = {"environ": dict(environ), "ask": asdict(ask), "last": last, "ahead_s": ahead_s}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        ran = json.loads(self._process.stdout.readline())
        return Ran(tuple(ran["effects"]), ran["signal"])


def instance(
    environ: Mapping[str, str],
    effects: Effects | None = None,
    now: Callable[[], datetime] = clocks.utc_now,
) -> Instance:
    """An app for these variables, its effects counted. Its database is open."""
    effects = effects or Effects()
    seams = Seams(
        now=now,
        wire=counted_wire(effects),
        storage=lambda opened: counted_storage(opened, effects),
        database=lambda opened: CountedDatabase(opened, effects),
    )
    services = compose(settings.load(environ), environ=environ, seams=seams)
    services.drivers.database()
    return Instance(services)


class _Program:
    """What a new process inherits: all imports, and an app that has not been asked anything."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._effects = Effects(ending=lambda: os.kill(os.getpid(), signal.SIGKILL))
        self._ahead = timedelta()
        self._app = instance(environ, self._effects, lambda: clocks.utc_now() + self._ahead)

    def live(self, order: Mapping[str, Any], pipe: int) -> None:
        """The whole life of one process, told of through the pipe: a line for each effect."""
        self._effects.last = order["last"]
        self._effects.told = lambda name: _write(pipe, name)
        self._ahead = timedelta(seconds=order["ahead_s"])
        said = self._app.ask(Ask(**order["ask"]))
        if said.status >= 300:
            raise SystemExit(f"answered {said.status}: {said.json}")


def _write(pipe: int, name: str) -> None:
    os.write(pipe, f"{name}\n".encode())


def _fork(program: _Program, order: Mapping[str, Any]) -> Ran:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            program.live(order, writing)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as told:
        effects = told.read().split("\n")[:-1]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Ran(tuple(effects), os.WTERMSIG(status))
    if os.WEXITSTATUS(status):
        effects.append("failed")
    return Ran(tuple(effects), None)


def _import_late_ones() -> None:
    """What invocations import when they need it, so that no child spends its time on it."""
    for name in ("cryptography.hazmat.primitives.asymmetric.ed25519", "fal_image.storage.local"):
        importlib.import_module(name)


def main() -> None:
    _import_late_ones()
    programs: dict[str, _Program] = {}
    for line in sys.stdin:
        order = json.loads(line)
        name = json.dumps(order["environ"])
        if name not in programs:
            programs = {name: _Program(order["environ"])}
        sys.stdout.write(json.dumps(asdict(_fork(programs[name], order))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

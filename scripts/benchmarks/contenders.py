"""The functions that are measured side by side, each started as a process of its own.

fal-image is what `scripts/package aws` makes, in a Python that sees nothing else but what Lambda's
image brings; its peers are the programs of `peers`, with the packages their users would install.
All get the same event, the same emulator and the same sink, and each is served by the barest
runtime there is: an event a line on stdin, its answer a line on stdout. Refuses to know what is
measured, and knows CPU time and memory only from outside (Linux's /proc).
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts import setup
from scripts.packaging.build import build

from fal_image.dev import platforms
from support import entrypoints
from support.entrypoints import FAL_KEY, KEY_SHA256
from support.unpacked import lambda_runtime, target_here

from . import world

PEERS = Path(__file__).parent / "peers"
OURS, NODE, PYTHON = "fal-image", "Node", "Python"
ALONE = [sys.executable, "-S"]  # sees what PYTHONPATH names, not what the tests install


@dataclass(frozen=True)
class Contender:
    """How one of the functions is started."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """One event that was answered with pictures; times are seconds since 1970."""

    number: int
    began_at: float
    ended_at: float

    @property
    def took_ms(self) -> float:
        return (self.ended_at - self.began_at) * 1000


class Function:
    """A function's process. A context manager; `spawned_at` is in seconds since 1970."""

    def __init__(self, contender: Contender) -> None:
        self._name = contender.name
        self.spawned_at = time.time()
        self._process = subprocess.Popen(
            contender.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(contender.environ),
            cwd=contender.environ["HOME"],
        )

    def ask(self, number: int, **fields: object) -> Asked:
        """One picture, or as many as the fields say; stops the program if none comes."""
        request = entrypoints.request(body={**world.wish(number), **fields})
        event = platforms.function_url_event(request, at=entrypoints.NOON)
        line = json.dumps(event).encode() + b"\n"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        began_at = time.time()
        self._process.stdin.write(line)
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        ended_at = time.time()
        self._check(answer, int(str(fields.get("num_images", 1))))
        return Asked(number, began_at, ended_at)

    def cpu_ms(self) -> float:
        return cpu_ms(self._process.pid)

    def peak_mb(self) -> float:
        return peak_mb(self._process.pid)

    def __enter__(self) -> Function:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _check(self, line: bytes, images: int) -> None:
        answer: dict[str, Any] = json.loads(line or b"{}")
        body = json.loads(answer.get("body", "{}"))
        if answer.get("statusCode") != 200 or len(body["images"]) != images:
            raise SystemExit(f"{self._name} answered {answer or 'nothing'}")


def cpu_ms(pid: int) -> float:
    """What all threads of a process have used since it was spawned."""
    stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """The most memory that a process has held at once."""
    status = Path("/proc", str(pid), "status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@contextmanager
def stage(
    *, run_s: world.RunS = 0.0, put_s: float = 0.0
) -> Iterator[tuple[str, dict[str, Contender]]]:
    """The emulator's address and the contenders by name, fal-image first."""
    with ExitStack() as stack:
        fal = stack.enter_context(world.emulator(run_s))
        sink = stack.enter_context(world.sink(put_s))
        home = stack.enter_context(TemporaryDirectory(prefix="fal-image-bench-"))
        shared = {**surroundings(home, fal), **bucket(sink)}
        yield fal, {each.name: each for each in (_ours(shared), _node(shared), _python(shared))}


def surroundings(home: str, emulator_url: str) -> dict[str, str]:
    """What every process here is told, and no more of this machine than where its programs are."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "FAL_KEY": FAL_KEY,
        "FAL_IMAGE_EMULATOR_URL": emulator_url,
    }


def bucket(sink_url: str) -> dict[str, str]:
    """Where pictures go, as Lambda and each vendor's SDK are told."""
    return {
        "BUCKET": "pictures",
        "AWS_ENDPOINT_URL_S3": sink_url,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY",
        "AWS_SECRET_ACCESS_KEY": "canary-secret-access-key",
        "AWS_SESSION_TOKEN": "canary-session-token",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def settings() -> dict[str, str]:
    """fal-image's own."""
    return {
        "FAL_IMAGE_STORAGE_URL": "s3://pictures/ai-images",
        "FAL_IMAGE_SECRET": "only0for0measuring0on0this0machine",
        "FAL_IMAGE_API_KEYS": f"bench={KEY_SHA256}",
        "FAL_IMAGE_RATE_LIMIT": "1000/s",
        "FAL_IMAGE_LOG_LEVEL": "ERROR",
        "FAL_IMAGE_MAX_WAIT_S": "120",
    }


@cache
def packaged() -> Path:
    """A folder with the package in `aws` and what Lambda's image brings in `runtime`; it is made
    once, and gone when the program ends."""
    made = TemporaryDirectory(prefix="fal-image-bench-")
    atexit.register(made.cleanup)
    folder = Path(made.name)
    build(target_here("aws"), folder)
    lambda_runtime(folder / "runtime")
    return folder


def node_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """For a peer in Node, as it runs in production; stops the program where it cannot run."""
    if not (setup.node_runs() and setup.node_packages_match(setup.PEERS_FOLDER)):
        raise SystemExit(
            f"this measure needs npm and Node {setup.MIN_NODE} or newer, and scripts/setup --bench"
        )
    return {**environ, "NODE_ENV": "production", "NODE_NO_WARNINGS": "1"}


def node_command(*arguments: str) -> list[str]:
    return ["node", "--import", str(PEERS / "emulated.mjs"), *arguments]


def _ours(environ: Mapping[str, str]) -> Contender:
    folder = packaged()
    path = f"{folder / 'aws'}{os.pathsep}{folder / 'runtime'}"
    command = [*ALONE, str(PEERS / "host.py"), "functions.aws.handler"]
    return Contender(OURS, command, {**environ, **settings(), "PYTHONPATH": path})


def _node(environ: Mapping[str, str]) -> Contender:
    command = node_command(str(PEERS / "host.mjs"), str(PEERS / "recipe.mjs"))
    return Contender(NODE, command, node_environ(environ))


def _python(environ: Mapping[str, str]) -> Contender:
    path = f"{PEERS}{os.pathsep}{sysconfig.get_path('purelib')}"
    command = [*ALONE, str(PEERS / "host.py"), "emulated", "recipe"]
    return Contender(PYTHON, command, {**environ, "PYTHONPATH": path})

"""The servers that are measured: fal-image's, and fal's own proxy on Express. Each is a process of
its own for the length of a block."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import contenders

_URL = re.compile(r"http://127\.0\.0\.1:\d+")


@contextmanager
def fal_image(
    home: str, environ: Mapping[str, str], *, threads: int, has_database: bool = True
) -> Iterator[tuple[str, int]]:
    """`fal-image serve`, with a database on SQLite or without: its address and the process's id."""
    command = [str(Path(sys.executable).with_name("fal-image")), "serve", "--port", "0"]
    own = {**contenders.settings(), "FAL_IMAGE_RATE_LIMIT": "off"}
    if has_database:
        own["FAL_IMAGE_DATABASE_URL"] = f"sqlite://{home}/jobs.db"
    with _serving([*command, "--threads", str(threads)], {**environ, **own}) as server:
        yield server


@contextmanager
def express(environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    command = contenders.node_command(str(contenders.PEERS / "express.mjs"))
    with _serving(command, contenders.node_environ(environ)) as server:
        yield server


@contextmanager
def _serving(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    with subprocess.Popen(
        command,
        env=dict(environ),
        cwd=environ["HOME"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        try:
            said = ""
            for line in process.stdout:
                said += line
                if found := _URL.search(line):
                    yield found[0], process.pid
                    break
            else:
                raise SystemExit(f"{command[0]} does not serve: {said}")
        finally:
            process.kill()

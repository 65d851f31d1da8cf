"""`fal-image serve` looks after jobs that nobody asks for: real processes, fal's webhooks lost."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fal_image import server
from fal_image.dev.emulator import Emulator
from fal_image.web import Request, Response
from support.clocks import utc_now
from support.databases import SqliteRig
from support.instances import environment, instance, kept
from support.programs import heed_ctrl_c

COMMAND = [sys.executable, "-c", "from fal_image.cli import main; main()"]


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@contextmanager
def serve(*options: str, environ: dict[str, str]) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address of a server, and its process, which Ctrl-C has ended afterwards."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *options],
        env=clean | environ,
        preexec_fn=heed_ctrl_c,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert process.stderr is not None
        found = re.search(r"http://[0-9.]+:[0-9]+", process.stderr.readline())
        assert found
        yield found[0], process
        process.send_signal(signal.SIGINT)
        process.wait(10)
    finally:
        process.kill()
        process.communicate()


def health(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        return json.load(answer)


def wait_for_a_sweep(url: str) -> Any:
    pause = threading.Event()
    while (last := health(url)["lastSweep"]) is None:
        pause.wait(0.02)
    return last


def make_due(directory: Path, job_id: str) -> None:
    found = kept(directory, job_id)
    database = SqliteRig(directory / "jobs.db").open()
    assert database.replace_if(found.id, found.version, found.body, due_at=utc_now())


def test_a_job_whose_webhook_is_lost_is_finished_by_the_servers_own_sweep(
    fal: Emulator, tmp_path: Path
):
    job_id = instance(fal, tmp_path).submitted()["jobId"]  # its webhook has nowhere to go
    make_due(tmp_path, job_id)
    with serve(environ=environment(fal, tmp_path)) as (url, process):
        last = wait_for_a_sweep(url)
        assert (last["jobs"], last["failed"]) == (1, 0)
    assert process.returncode is not None
    assert kept(tmp_path, job_id).body["state"] == "done"
    assert len(fal.ledger) == 1


def test_no_sweep_leaves_jobs_to_others(fal: Emulator, tmp_path: Path):
    job_id = instance(fal, tmp_path).submitted()["jobId"]
    make_due(tmp_path, job_id)
    with serve("--no-sweep", environ=environment(fal, tmp_path)) as (url, _):
        assert health(url)["lastSweep"] is None
    assert kept(tmp_path, job_id).body["state"] == "submitted"


def test_without_a_database_there_is_nothing_to_sweep(fal: Emulator, tmp_path: Path):
    environ = environment(fal, tmp_path, FAL_IMAGE_DATABASE_URL=None)
    with serve(environ=environ) as (url, process):
        assert "lastSweep" not in health(url)
    assert process.returncode is not None


class Counted:
    """An app that takes ticks, fails at each, and says when it has had so many."""

    def __init__(self, wanted: int) -> None:
        self.ticks: list[Request] = []
        self.has_had_them = threading.Event()
        self._wanted = wanted

    def __call__(self, request: Request) -> Response:
        self.ticks.append(request)
        if len(self.ticks) >= self._wanted:
            self.has_had_them.set()
        raise RuntimeError("this sweep fails")


def test_ticks_come_at_once_and_then_steadily_whatever_becomes_of_them():
    app = Counted(3)
    with server.sweeping(app, every_s=0.01):
        assert app.has_had_them.wait(5)
    had = len(app.ticks)
    assert {tick.platform.name for tick in app.ticks} == {"timer"}
    assert len({tick.platform.request_id for tick in app.ticks}) == had
    assert not [one for one in threading.enumerate() if one.name == "sweep"]


def test_the_first_tick_does_not_wait_for_its_minute():
    app = Counted(1)
    with server.sweeping(app):
        assert app.has_had_them.wait(5)
    assert len(app.ticks) == 1

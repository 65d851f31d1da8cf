"""A cold start as deployed: from the spawn of AWS's own runtime until the submit reaches fal.

Started is the package that `scripts/package aws` makes, for this machine's Python, with what
Lambda's image brings beside it (boto3) and the deployed settings: S3 and DynamoDB, imitated by moto
in this process. A relay in front of the emulator notes when the submit comes by. The package's
bytecode is there, as it is on a machine with the function's Python; for comparison also without it,
where every start compiles what it imports: the disk of a sandbox is read-only.
"""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit

from fal_image.dev.platforms import GATEWAYS
from support import databases, entrypoints, runtime_api, storages
from support.entrypoints import FAL_KEY, KEY_SHA256
from support.runtime_api import RuntimeApi
from support.unpacked import lambda_runtime

from . import starts, world
from .contenders import ALONE, packaged
from .report import COMPARED, Figure, figure

RUNS = 7
WARM_UP = 1
GOAL = "<= 250 ms"

_SUBMIT = b"POST /queue.fal.run/"
_IMAGE = ("awslambdaric", "simplejson", "snapshot_restore_py.py", "runtime_client*")
_EMPTY = "def main(event, context):\n    return {'statusCode': 200}\n"


class _Start(NamedTuple):
    """Milliseconds from the spawn until the runtime asks for work, and until the submit."""

    ready_ms: float
    submit_ms: float


def cold(most: int) -> list[Figure]:
    """Beside the peers, then as deployed."""
    return [*starts.at_once(most), *starts.waiting(most), *_deployed(most)]


def _deployed(most: int) -> list[Figure]:
    """By turns: the package with bytecode, without it, and a function that does nothing."""
    with _stage() as (folder, relay, settings):
        tree = packaged() / "aws"
        bare = folder / "bare"
        shutil.copytree(tree, bare, ignore=shutil.ignore_patterns("__pycache__"))
        empty = folder / "empty"
        empty.joinpath("functions", "aws").mkdir(parents=True)
        empty.joinpath("functions", "aws", "handler.py").write_text(_EMPTY, encoding="utf-8")
        found: dict[Path, list[_Start]] = {tree: [], bare: [], empty: []}
        for run in range(-WARM_UP, min(RUNS, most)):
            for root, taken in found.items():
                start = _start(root, relay, settings, submits=root is not empty)
                if run >= 0:
                    taken.append(start)
        return [*_figures(found[tree], found[empty]), *_without(found[bare])]


def _figures(ours: Sequence[_Start], empty: Sequence[_Start]) -> list[Figure]:
    runtime_ms = median(start.ready_ms for start in empty)
    loading = [start.ready_ms - runtime_ms for start in ours]
    working = [start.submit_ms - start.ready_ms for start in ours]
    whole = [start.submit_ms for start in ours]
    return [
        figure(
            "cold, AWS's runtime, S3 and DynamoDB: spawn until the submit", "ms", whole, goal=GOAL
        ),
        figure(
            "of that Python and AWS's runtime", "ms", [s.ready_ms for s in empty], goal=COMPARED
        ),
        figure("of that our imports and the app", "ms", loading, goal=COMPARED),
        figure("of that the request, its job written", "ms", working, goal=COMPARED),
    ]


def _without(bare: Sequence[_Start]) -> list[Figure]:
    whole = [start.submit_ms for start in bare]
    return [figure("the same, and no bytecode in the package", "ms", whole, goal=COMPARED)]


@contextmanager
def _stage() -> Iterator[tuple[Path, _Relay, dict[str, str]]]:
    """A folder, fal behind the relay, and the environment of a deployed function."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # moto tells of every call
    with TemporaryDirectory() as name, world.emulator() as url, storages.moto_server() as moto:
        folder, relay = Path(name), _Relay(urlsplit(url).port or 0)
        runtime = lambda_runtime(folder / "runtime")
        for pattern in _IMAGE:
            for part in Path(sysconfig.get_path("purelib")).glob(pattern):
                (runtime / part.name).symlink_to(part)
        bucket, table = storages.S3Rig(moto), databases.DynamodbRig(moto)
        settings = {
            **bucket.environ,
            "HOME": name,
            "PYTHONPATH": str(runtime),
            "FAL_KEY": FAL_KEY,
            "FAL_IMAGE_EMULATOR_URL": relay.url,
            "FAL_IMAGE_STORAGE_URL": bucket.url,
            "FAL_IMAGE_DATABASE_URL": table.url,
            "FAL_IMAGE_PUBLIC_URL": "https://pictures.example.com",
            "FAL_IMAGE_SECRET": "only0for0measuring0on0this0machine",
            "FAL_IMAGE_API_KEYS": f"bench={KEY_SHA256}",
            "FAL_IMAGE_LOG_LEVEL": "ERROR",
        }
        try:
            yield folder, relay, settings
        finally:
            relay.close()


def _start(root: Path, relay: _Relay, settings: Mapping[str, str], *, submits: bool) -> _Start:
    event = GATEWAYS["function-url"].event(
        entrypoints.request(body={"prompt": "a calico cat at sunset", "seed": 7}),
        at=entrypoints.NOON,
    )
    relay.submitted.clear()
    with RuntimeApi() as api:
        invocation = api.offer(event)
        spawned = time.perf_counter()
        with runtime_api.running(api, root, settings, python=ALONE) as process:
            _await(api.asked, process)
            ready = time.perf_counter()
            if submits:
                _await(relay.submitted, process)
            report = invocation.reports.get(timeout=runtime_api.WAIT_S)
    if report.kind != "response" or report.json["statusCode"] != 200:
        raise SystemExit(f"the function answered {report.raw!r}")
    submitted = relay.at if submits else ready
    return _Start((ready - spawned) * 1000, (submitted - spawned) * 1000)


def _await(event: threading.Event, process: subprocess.Popen[str]) -> None:
    if not event.wait(runtime_api.WAIT_S):
        process.kill()
        raise SystemExit(f"the function did not start: {process.communicate()[1]}")


class _Relay:
    """A loopback port in front of the emulator that knows when a submit came by."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.submitted = threading.Event()
        self.at = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                for source, sink in ((near, far), (far, near)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # the function has gone
            while piece := source.recv(65536):
                if piece.startswith(_SUBMIT) and not self.submitted.is_set():
                    self.at = time.perf_counter()
                    self.submitted.set()
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

"""A small Lambda Runtime API, and the real runtime (awslambdaric) as a process of its own on it.

Speaks the paths and headers of the AWS Lambda guide, "Using the Lambda runtime API", and refuses
what it refuses: a report on an invocation that is not running, and answers above 6 MB. Does not
imitate freezing between invocations, time-outs that kill, extensions, SnapStart and streaming.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.entrypoints import ROOT

VERSION = "2018-06-01"
HANDLER = "functions/aws/handler.main"
MAX_ANSWER_BYTES = 6 * 1024 * 1024 + 100  # AWS Lambda guide, quotas: 6 MB; 100 B more pass in fact
WAIT_S = 15.0  # for a report; the runtime answers or the test has failed


@dataclass(frozen=True)
class Report:
    """What the runtime reported: `kind` is "response", "error" or "init/error"."""

    kind: str
    raw: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


@dataclass(frozen=True)
class Invocation:
    id: str
    payload: bytes
    deadline_ms: int
    reports: queue.Queue[Report] = field(default_factory=queue.Queue)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A runtime that is stopped while it waits for work is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class RuntimeApi:
    """Hands out invocations and takes reports. A context manager."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Invocation | None] = queue.Queue()
        self._running: dict[str, Invocation] = {}
        self._initial: queue.Queue[Report] = queue.Queue()
        self.asked = threading.Event()  # the runtime has started and wants work
        self._server = _Server(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def offer(
        self, event: object, *, timeout_s: float = 60.0, request_id: str | None = None
    ) -> Invocation:
        """An invocation that the runtime gets when it asks; bytes are sent as they are."""
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        deadline_ms = int((time.time() + timeout_s) * 1000)
        invocation = Invocation(request_id or str(uuid.uuid4()), payload, deadline_ms)
        self._waiting.put(invocation)
        return invocation

    def invoke(
        self, event: object, *, timeout_s: float = 60.0, request_id: str | None = None
    ) -> Report:
        """Let the runtime work on an event and return its report."""
        invocation = self.offer(event, timeout_s=timeout_s, request_id=request_id)
        return invocation.reports.get(timeout=WAIT_S)

    def initial_report(self) -> Report:
        """What the runtime reported instead of asking for work."""
        return self._initial.get(timeout=WAIT_S)

    def next(self) -> Invocation | None:
        """The next invocation; waits for one. None: the API has closed."""
        self.asked.set()
        invocation = self._waiting.get()
        if invocation is not None:
            self._running[invocation.id] = invocation
        return invocation

    def take(self, path: str, report: Report) -> int:
        """Take a report from the runtime; the status that it is answered with."""
        if path == f"/{VERSION}/runtime/init/error":
            self._initial.put(report)
            return 202
        *before, invocation_id, kind = path.split("/")
        if before != ["", VERSION, "runtime", "invocation"] or kind not in ("response", "error"):
            return 404
        if len(report.raw) > MAX_ANSWER_BYTES:
            return 413
        invocation = self._running.pop(invocation_id, None)
        if invocation is None:
            return 400
        invocation.reports.put(report)
        return 202

    def __enter__(self) -> RuntimeApi:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body leave in one segment; in two, each call waits 40 ms for an ACK.
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self) -> None:
                is_next = self.path == f"/{VERSION}/runtime/invocation/next"
                invocation = api.next() if is_next else None
                if invocation is None:
                    self.close_connection = True
                    return
                self._answer(
                    200,
                    invocation.payload,
                    {
                        "Content-Type": "application/json",
                        "Lambda-Runtime-Aws-Request-Id": invocation.id,
                        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:"
                        "123456789012:function:fal-image",
                    },
                )

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                kind = self.path.removeprefix(f"/{VERSION}/runtime/invocation/").partition("/")[2]
                status = api.take(self.path, Report(kind or "init/error", raw, headers))
                self._answer(status, b'{"status":"OK"}' if status == 202 else b"{}", {})

            def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def task_root(directory: Path, *, without: Collection[str] = ()) -> Path:
    """A function's unpacked zip: `functions/` and `fal_image/` side by side, some parts missing.

    `without` names entries of the package, such as "app.py".
    """
    package = directory / "fal_image"
    package.mkdir(parents=True)
    (directory / "functions").symlink_to(ROOT / "functions")
    for entry in (ROOT / "shared" / "fal_image").iterdir():
        if entry.name not in {"__pycache__", *without}:
            (package / entry.name).symlink_to(entry)
    return directory


@contextmanager
def running(
    api: RuntimeApi,
    root: Path,
    settings: Mapping[str, str],
    *,
    python: Sequence[str] = (sys.executable,),
) -> Iterator[subprocess.Popen[str]]:
    """The function in AWS's own runtime, with an environment as on Lambda; its log is stderr."""
    environment = {
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "fal-image",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fal-image",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/21/[$LATEST]0",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_REGION": "eu-west-1",
        "LAMBDA_TASK_ROOT": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",  # its disk is read-only
        **settings,
    }
    process = subprocess.Popen(
        [*python, "-m", "awslambdaric", HANDLER],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)

"""fal's JavaScript client, unmodified, on its way through our proxy: in Node and in pages.

`proxied` puts everything on this machine: fal, our server, and the site of somebody's pages, which
is another origin. What the client is told to do is in tests/node/calls.mjs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.dev.emulator.exchange import Call, Flow, Reply
from support.values import replace

from .entrypoints import FAL_KEY, KEY
from .instances import OTHER_KEY, Server, serving
from .node import FOLDER, conversation, run

STEP_S = 2.0  # more than 1: the client refuses a shorter time to start in
TAKEN_S = 10.0
MODELS = ["fal-ai/flux*", "fal-ai/flux*/**"]
PAGES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/calls.mjs": ("calls.mjs", "text/javascript; charset=utf-8"),
    "/perform.mjs": ("perform.mjs", "text/javascript; charset=utf-8"),
}


class Steps:
    """A clock that goes on when somebody asks for it, but not before fal has taken something."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        self.taken = threading.Event()

    def __call__(self) -> float:
        return self._now_s

    def step(self) -> None:
        assert self.taken.wait(TAKEN_S), "fal took nothing"
        self._now_s += STEP_S


class WatchedFal(Emulator):
    """fal, which remembers every header that it was shown.

    With `steps` each job waits for one of them and runs for four; without, both take no time.
    Every stream is cut after `hangs_up_after` events, each of them whole.
    """

    def __init__(self, steps: Steps | None = None) -> None:
        if steps is None:
            super().__init__()
        else:
            super().__init__(queue_s=STEP_S, run_s=4 * STEP_S, clock=steps)
        self._steps = steps
        self.shown: list[tuple[str, str]] = []
        self.hangs_up_after: int | None = None

    def _respond(self, call: Call) -> Reply:
        self.shown += [(name.lower(), value) for name, value in call.headers.items()]
        reply = super()._respond(call)
        if self._steps and self.ledger:
            self._steps.taken.set()
        if isinstance(reply, Flow) and self.hangs_up_after is not None:
            return replace(reply, chunks=islice(reply.chunks, self.hangs_up_after), hang_up=True)
        return reply

    def assert_saw_no_key_but_the_owners(self) -> None:
        for name, value in self.shown:
            assert KEY not in value, name
            assert OTHER_KEY not in value, name
            assert name != "authorization" or value == f"Key {FAL_KEY}"


@dataclass(frozen=True)
class Reported:
    """How a call went.

    `sent` are method and address of all that the client sent, `asked` of all that left its page.
    """

    outcome: Mapping[str, Any]
    sent: tuple[str, ...]
    asked: tuple[str, ...]

    @property
    def returned(self) -> Any:
        assert "threw" not in self.outcome, self.outcome["threw"]
        return self.outcome.get("returned")

    @property
    def threw(self) -> Any:
        """The error, whose fields are read in tests/node/perform.mjs."""
        assert "threw" in self.outcome, self.outcome["returned"]
        return self.outcome["threw"]


@dataclass(frozen=True)
class Scene:
    """Our server with its proxy; only pages of `site` may ask it."""

    fal: WatchedFal
    server: Server
    site: str

    @property
    def proxy(self) -> str:
        return f"{self.server.url}/api/fal/proxy"

    def ticket(self) -> str:
        """A new one, of the caller `web`."""
        limits = {"maxImages": 20, "uses": 20, "models": MODELS, "tokens": True}
        minted = self.server.http("POST", "/tickets", limits)
        assert minted.status == 200, minted.body
        ticket: str = minted.json["ticket"]
        return ticket

    def direct(self, reported: Reported) -> list[str]:
        """What the client sent past our proxy, in order."""
        return [line for line in reported.sent if line.partition(" ")[2] != self.proxy]


@dataclass(frozen=True)
class Client:
    """Where the client runs: what gives a line of report for a line of order. With `has_ticket` it
    signs in by a ticket instead of a key."""

    tell: Callable[[str], str]
    has_ticket: bool = False

    def call(
        self,
        scene: Scene,
        call: str,
        /,
        *,
        credentials: str | None = None,
        tries: int = 4,
        **given: Any,
    ) -> Reported:
        """Carry out one of tests/node/calls.mjs; `credentials` is all that signs the client in.

        `tries` counts where the client leaves that to its settings.
        """
        if credentials is None:
            credentials = scene.ticket() if self.has_ticket else KEY
        order = {
            "call": call,
            "given": given,
            "credentials": credentials,
            "retry": {"maxRetries": tries - 1},
            "proxy": scene.proxy,
            "emulator": scene.fal.url,
            "site": scene.site,
            "clock": f"{scene.site}/step",
        }
        report = json.loads(self.tell(json.dumps(order)))
        assert "broke" not in report, report["broke"]
        return Reported(report["outcome"], tuple(report["sent"]), tuple(report.get("asked", ())))


def in_node() -> Client:
    """A process for each call."""
    return Client(lambda order: run(["--experimental-websocket", "in_node.mjs", order]))


@contextmanager
def in_chromium(executable: str, folder: Path) -> Iterator[Client]:
    """A page for each call, all in one browser, which keeps what it writes in `folder`."""
    with conversation("in_pages.mjs", executable, folder) as tell:
        yield Client(tell)


def client_script() -> bytes:
    """fal's client as one script."""
    return run(["bundle.mjs"]).encode()


@contextmanager
def proxied(
    directory: Path,
    script: bytes = b"",
    *,
    steps: Steps | None = None,
    seams: Seams | None = None,
    **bent: str | None,
) -> Iterator[Scene]:
    """fal, our server with a database and file storage, and a site whose pages have `script`.

    A keyword bends a setting. At the end fal has seen its owner's key and no caller's.
    """
    fal = WatchedFal(steps)
    with (
        fal,
        _site(script, steps.step if steps else lambda: None) as site,
        serving(fal, directory, seams=seams, FAL_IMAGE_CORS_ORIGINS=site, **bent) as server,
    ):
        yield Scene(fal, server, site)
        fal.assert_saw_no_key_but_the_owners()


@contextmanager
def _site(script: bytes, step: Callable[[], None]) -> Iterator[str]:
    """A page, its scripts, and `POST /step`; gives the origin."""
    files = {path: ((FOLDER / name).read_bytes(), kind) for path, (name, kind) in PAGES.items()}
    files["/client.js"] = script, "text/javascript; charset=utf-8"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, kind = files.get(self.path, (b"", "text/plain"))
            self.answer(200 if self.path in files else 404, content, kind)

        def do_POST(self) -> None:
            step()
            self.answer(200, b"", "text/plain")

        def answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

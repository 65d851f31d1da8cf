"""The emulator as a server: started, scripted, read and stopped, from Python or over HTTP.

Knows its own pages under /_emulator/. Refuses to know what it imitates.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from types import MappingProxyType, TracebackType

from . import about
from .addresses import FalCall, locate
from .exchange import Answer, Call, Reply, Server, json_answer
from .imitation import Conduct, Entry, Imitation
from .pictures import Studio
from .webhooks import Signer

DEFAULT_PORT = 9001
MAX_CONTROL_BYTES = 64 * 1024


class Emulator:
    """fal on a local port, in threads of this process. A context manager.

    `queue_s` and `run_s` are how long each job waits and runs; a
    callable says it anew for each job. `webhook_backoff_s` is the pause
    before a webhook is sent a second time; it doubles. `comment_s` is the silence after which a
    status stream sends a comment (15 s at fal: inference API reference). `fetch_s` bounds the
    download of an input picture. `detours` takes webhooks for a host to an address on this machine,
    with that host in `Host`: what DNS would do if the host were real. It is read at each call, so
    a host may be added when it is known. `clock` tells the seconds by which jobs run, tokens live
    and results expire; one that is moved by hand is looked at every 20 ms.

    Nothing listens before `start`, which raises OSError if the port is taken; nothing runs after
    `stop`. Both may be repeated; a second start begins with an empty ledger.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        queue_s: float = 0.0,
        run_s: float | Callable[[], float] = 0.0,
        require_key: bool = True,
        revoked_key_ids: Collection[str] = ("revoked",),
        locked_key_ids: Collection[str] = ("locked",),
        webhook_backoff_s: float = 1.0,
        comment_s: float = 15.0,
        fetch_s: float = 10.0,
        detours: Mapping[str, str] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = (host, port)
        self._conduct = Conduct(
            queue_s=queue_s,
            run_s=run_s if callable(run_s) else lambda: run_s,
            require_key=require_key,
            revoked_key_ids=frozenset(revoked_key_ids),
            locked_key_ids=frozenset(locked_key_ids),
            webhook_backoff_s=webhook_backoff_s,
            comment_s=comment_s,
            fetch_s=fetch_s,
            detours=detours,
            clock=clock,
        )
        self._signer = Signer()
        self._studio = Studio()
        self._fal = self._new_fal()
        self._server: Server | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        host, port = self._address
        return f"http://{host}:{port}"

    @property
    def ledger(self) -> list[Entry]:
        """Everything that was taken and may be billed, oldest first."""
        return self._fal.ledger()

    @property
    def calls(self) -> Counter[str]:
        """How many calls of each kind came in: submit, status, stream, result, cancel, …"""
        return self._fal.calls()

    @property
    def public_key(self) -> bytes:
        """The ED25519 key of its webhooks: 32 raw bytes."""
        return self._signer.public_key

    def start(self) -> Emulator:
        with self._lock:
            if self._server is None:
                self._fal = self._new_fal() if self._fal.is_stopped else self._fal
                self._server = Server(self._address, self._respond)
                self._address = (self._address[0], self._server.server_address[1])
                self._server.start()
        return self

    def stop(self) -> None:
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            self._fal.stop()
            server.stop()
            self._studio.close()

    def fault(self, kind: str, *, on: str = "submit", times: int = 1, **options: object) -> None:
        """The next `times` events of this sort fail. Raises ValueError that says what there is."""
        self._fal.script.arm(kind, on=on, times=times, options=options)

    def reset(self) -> None:
        """Forget jobs, files, counts and armed faults; waiting callers are let go."""
        old, self._fal = self._fal, self._new_fal()
        old.stop()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _new_fal(self) -> Imitation:
        return Imitation(self._conduct, self._studio, self._signer)

    def _respond(self, call: Call) -> Reply:
        fal_call = locate(call, self.url)
        return self._fal.respond(fal_call) if fal_call.host else self._own_page(fal_call)

    def _own_page(self, call: FalCall) -> Answer:
        request = (call.method, call.path.rstrip("/"))
        if request in {("GET", ""), ("GET", "/_emulator")}:
            page = about.page().encode()
            return Answer(200, page, {"content-type": "text/plain; charset=utf-8"})
        if request == ("GET", "/_emulator/ledger"):
            entries = [asdict(entry) for entry in self.ledger]
            return json_answer(200, {"ledger": entries, "calls": self.calls})
        if request == ("POST", "/_emulator/reset"):
            self.reset()
            return json_answer(200, {})
        if request == ("POST", "/_emulator/faults"):
            return self._arm(call.body.read(MAX_CONTROL_BYTES))
        text = f"Nothing is imitated at {call.path}; GET /_emulator/ says what is"
        return json_answer(404, {"detail": text})

    def _arm(self, body: bytes) -> Answer:
        try:
            wanted = json.loads(body)
            kind, on = wanted.pop("kind"), wanted.pop("on", "submit")
            times = wanted.pop("times", 1)
            self._fal.script.arm(kind, on=on, times=times, options=wanted)
        except (AttributeError, KeyError, TypeError):
            text = 'Send a JSON object like {"kind": "429", "on": "submit", "times": 1}'
            return json_answer(400, {"detail": text})
        except ValueError as error:
            return json_answer(400, {"detail": str(error)})
        return json_answer(200, {"armed": kind, "on": on, "times": times})


def serve(
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    queue_s: float = 0.0,
    run_s: float | Callable[[], float] = 0.0,
    ready: Callable[[Emulator], object],
) -> None:
    """Run until Ctrl-C; `ready` is called once it listens. Raises OSError if the port is taken."""
    server = Emulator(host, port, queue_s=queue_s, run_s=run_s)
    with suppress(KeyboardInterrupt), server:
        ready(server)
        threading.Event().wait()

"""A server that webhooks are sent to."""

from __future__ import annotations

import json
import queue
import socket
import threading
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class Receiver:
    """Takes what is posted; answers the given statuses in turn, then 200. `connections` counts who
    came to do so; with `keeps_open` one may post again and again."""

    def __init__(self, *statuses: int, keeps_open: bool = False) -> None:
        self._sockets: list[socket.socket] = []
        self.got: queue.Queue[tuple[Message, bytes]] = queue.Queue()
        self._statuses = list(statuses)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if keeps_open else "HTTP/1.0"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                receiver._sockets.append(self.request)
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(receiver._statuses.pop(0) if receiver._statuses else 200)
                self.send_header("content-length", "0")
                self.end_headers()
                receiver.got.put((self.headers, body))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?mine=1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def connections(self) -> int:
        return len(self._sockets)

    def hang_up(self) -> None:
        """Close every connection, as a server does that grew tired of waiting."""
        for one in self._sockets:
            with suppress(OSError):  # it is closed already
                one.shutdown(socket.SHUT_RDWR)

    def next(self) -> tuple[Message, dict[str, Any]]:
        headers, body = self.got.get(timeout=5)
        return headers, json.loads(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

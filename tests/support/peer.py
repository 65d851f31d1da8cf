"""A server that answers with exactly the bytes a test wrote, or dies exactly where it says.

For what no decent HTTP library would send. It counts what it was asked.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

RESET = b"\0reset"  # close at once, with a RST, without an answer


def answer(
    status: int = 200,
    body: bytes | str | Mapping[str, object] = b"",
    *,
    declared: int | None = None,
    **headers: str,
) -> bytes:
    """The raw bytes of an answer; `declared` lies about the length of the body."""
    if isinstance(body, Mapping):
        body = json.dumps(body)
        headers.setdefault("content_type", "application/json")
    content = body.encode() if isinstance(body, str) else body
    length = len(content) if declared is None else declared
    lines = [f"HTTP/1.1 {status} X", f"content-length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@dataclass
class Peer:
    """Answers the n-th request with the n-th script, the last one again and again."""

    scripts: Sequence[bytes]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Peer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    @property
    def paths(self) -> list[str]:
        return [request.split(b" ", 2)[1].decode() for request in self.requests]

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(0.05)
        with connection:
            while (request := self._read(connection)) is not None:
                self.requests.append(request)
                script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
                if script == RESET:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                connection.sendall(script)
                if self._is_cut(script):
                    return

    def _read(self, connection: socket.socket) -> bytes | None:
        """One whole request, None when the other side or the test is done."""
        data = b""
        while not self._closing.is_set():
            head, end, body = data.partition(b"\r\n\r\n")
            if end and len(body) >= _length(head):
                return data
            try:
                chunk = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return None
            if not chunk:
                return None
            data += chunk
        return None

    @staticmethod
    def _is_cut(script: bytes) -> bool:
        head, _, body = script.partition(b"\r\n\r\n")
        return len(body) < _length(head)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0

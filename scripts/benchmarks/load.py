"""A client that costs little: prepared requests over connections that stay open, raw sockets only.

Refuses to know what is asked; it reads of an answer its status and where it ends.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

TIMEOUT_S = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"


def request(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """A request as it goes over the wire."""
    parts = urlsplit(url)
    lines = [f"{method} {parts.path or '/'} HTTP/1.1", f"host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


class Answer(NamedTuple):
    """Status 0 is none that was whole; the body then holds what came of it."""

    took_ms: float
    status: int
    body: bytes


class Client:
    """One connection."""

    def __init__(self, url: str, content: bytes) -> None:
        parts = urlsplit(url)
        self._content = content
        self._answer = b""
        self.began_at = 0.0
        address = (parts.hostname or "", parts.port or 0)
        self.socket = socket.create_connection(address, timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        self._answer = b""
        self.began_at = time.perf_counter()
        self.socket.sendall(self._content)

    def receive(self) -> Answer | None:
        """The answer, once it is whole or the connection has ended."""
        try:
            piece = self.socket.recv(65536)
        except ConnectionError:
            piece = b""
        if not piece:
            return self.given_up()
        self._answer += piece
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        is_whole = len(body) >= int(length[1]) if length else body.endswith(_LAST_CHUNK)
        if not found or not is_whole:
            return None
        return Answer(self._taken_ms(), int(head.split(b" ", 2)[1]), body)

    def given_up(self) -> Answer:
        return Answer(self._taken_ms(), 0, self._answer)

    def ask(self) -> tuple[float, bytes]:
        """Milliseconds until the answer was whole, and its body; stops the program without a
        success."""
        self.send()
        while (answer := self.receive()) is None:
            pass
        _check(answer)
        return answer.took_ms, answer.body

    def close(self) -> None:
        self.socket.close()

    def _taken_ms(self) -> float:
        return (time.perf_counter() - self.began_at) * 1000


def answers(url: str, content: bytes, *, clients: int) -> list[Answer]:
    """What each of so many clients gets, who ask once and all at once; whatever it is."""
    return _loop(url, content, clients=clients, seconds=0.0)


def rate(url: str, content: bytes, *, clients: int, seconds: float) -> float:
    """Answers a second, where each client asks again as soon as it is answered; stops the program
    if one is no success."""
    began_at = time.perf_counter()
    found = _loop(url, content, clients=clients, seconds=seconds)
    took_s = time.perf_counter() - began_at
    for answer in found:
        _check(answer)
    return len(found) / took_s


def _check(answer: Answer) -> None:
    if answer.status not in {200, 202}:
        raise SystemExit(f"no success: {answer.status} {answer.body[:600]!r}")


def _loop(url: str, content: bytes, *, clients: int, seconds: float) -> list[Answer]:
    team = [Client(url, content) for _ in range(clients)]
    found = []
    with selectors.DefaultSelector() as selector:
        for client in team:
            selector.register(client.socket, selectors.EVENT_READ, client)
        ends_at = time.perf_counter() + seconds
        for client in team:
            client.send()
        while waiting := selector.get_map():
            ready = selector.select(TIMEOUT_S)
            if not ready:
                found += [key.data.given_up() for key in waiting.values()]
                break
            for key, _ in ready:
                client = key.data
                answer = client.receive()
                if answer is None:
                    continue
                found.append(answer)
                if answer.status and time.perf_counter() < ends_at:
                    client.send()
                else:
                    selector.unregister(client.socket)
    for client in team:
        client.close()
    return found

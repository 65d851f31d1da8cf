"""One call in, one reply out, over a real socket: bodies, streams, and connections that break.

Knows HTTP/1.1 and how a server fails on the wire. Refuses to know fal: what a call means is the
business of the function that `Server` is given.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from typing import Any

logger = logging.getLogger(__name__)

IDLE_CONNECTION_S = 120.0
JOIN_S = 5.0  # longer than any drawing takes; a handler waits for nothing else once stopped
DRAIN_BYTES = 16 * 1024 * 1024
BLOCK_BYTES = 64 * 1024


class BodyTooLarge(Exception):
    """The caller announced more than the emulator takes; nothing was read."""


class Body:
    """What the caller sends, read at most once and never further than announced."""

    def __init__(self, stream: BufferedIOBase, announced_bytes: int) -> None:
        self._stream = stream
        self.left_bytes = announced_bytes

    def blocks(self) -> Iterator[bytes]:
        """The body in pieces, in constant memory. Raises ConnectionError if it ends early."""
        while self.left_bytes:
            block = self._stream.read(min(self.left_bytes, BLOCK_BYTES))
            if not block:
                raise ConnectionError("the caller closed the connection inside its body")
            self.left_bytes -= len(block)
            yield block

    def read(self, limit_bytes: int) -> bytes:
        if self.left_bytes > limit_bytes:
            raise BodyTooLarge(f"{self.left_bytes} bytes announced, {limit_bytes} allowed")
        return b"".join(self.blocks())


@dataclass(frozen=True)
class Call:
    """One request as it came in; its headers are case-blind."""

    method: str
    target: str
    headers: Message
    body: Body


@dataclass(frozen=True)
class Answer:
    """A reply with its whole body at hand. `cut` sends half of the body and hangs up."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass(frozen=True)
class Flow:
    """A reply that is made while it is sent, each chunk flushed at once.

    `declared_bytes` goes out as Content-Length whether or not the chunks agree with it; None
    sends chunks of unknown total. `hang_up` closes the connection after the last chunk, as if
    more were to come.
    """

    status: int
    chunks: Iterable[bytes]
    headers: Mapping[str, str]
    declared_bytes: int | None = None
    hang_up: bool = False


@dataclass(frozen=True)
class HangUp:
    """No reply: the connection closes, in order or (`reset`) with a TCP RST."""

    reset: bool = False


@dataclass(frozen=True)
class Handover:
    """The connection stops to be HTTP: after `greeting` it belongs to `talk` until that returns.

    `talk` is given the socket and what the caller sent right behind its request. `cut` hangs up
    after the greeting.
    """

    greeting: bytes
    talk: Callable[[socket.socket, bytes], None]
    cut: bool = False


Reply = Answer | Flow | HangUp | Handover


def json_answer(
    status: int, value: object, headers: Mapping[str, str] | None = None, **extra: Any
) -> Answer:
    """`extra` goes to json.dumps."""
    body = json.dumps(value, separators=(",", ":"), **extra).encode()
    return Answer(status, body, {"content-type": "application/json", **(headers or {})})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = BLOCK_BYTES  # one write per answer or event, flushed by hand
    timeout = IDLE_CONNECTION_S
    server: Server

    def _reply(self) -> None:
        if "transfer-encoding" in self.headers:
            self.close_connection = True
            self._send(json_answer(411, {"detail": "Length Required"}))
            return
        announced = self.headers.get("content-length", "0")
        body = Body(self.rfile, int(announced) if announced.isdecimal() else 0)
        call = Call(self.command, self.path, self.headers, body)
        try:
            reply = self.server.respond(call)
        except BodyTooLarge as error:
            reply = json_answer(413, {"detail": str(error)})
        except (ConnectionError, TimeoutError):
            reply = HangUp()
        except Exception:
            logger.exception("the emulator failed on %s %s", self.command, self.path)
            reply = json_answer(500, {"detail": "The emulator itself failed; see its log"})
        self._send(reply)
        self._drain(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _reply

    def _send(self, reply: Reply) -> None:
        if isinstance(reply, HangUp):
            self._hang_up(reply)
        elif isinstance(reply, Flow):
            self._send_flow(reply)
        elif isinstance(reply, Handover):
            self._hand_over(reply)
        else:
            self._send_answer(reply)

    def _send_answer(self, answer: Answer) -> None:
        body = b"" if self.command == "HEAD" else answer.body
        if answer.cut:
            self.close_connection = True
            body = body[: len(body) // 2]
        # 204 has no body, so it must not announce one (RFC 9110, 8.6)
        length = {} if answer.status == 204 else {"content-length": str(len(answer.body))}
        self._head(answer.status, {**answer.headers, **length})
        self.wfile.write(body)
        self.wfile.flush()

    def _send_flow(self, flow: Flow) -> None:
        chunked = flow.declared_bytes is None
        framing = (
            {"transfer-encoding": "chunked"}
            if chunked
            else {"content-length": str(flow.declared_bytes)}
        )
        self._head(flow.status, {**flow.headers, **framing})
        self.wfile.flush()
        if self.command == "HEAD":
            return
        self.close_connection = self.close_connection or flow.hang_up
        for chunk in flow.chunks:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            self.wfile.flush()
        if chunked and not flow.hang_up:
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()

    def _hang_up(self, how: HangUp) -> None:
        self.close_connection = True
        if how.reset:
            # SO_LINGER with zero time turns close() into an RST (socket(7)). The descriptor is
            # closed here because the server would send a FIN first.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(self.connection.detach())

    def _hand_over(self, reply: Handover) -> None:
        self.close_connection = True
        self.wfile.write(reply.greeting)
        self.wfile.flush()
        if not reply.cut:
            self.connection.setblocking(False)
            early = self.rfile.read1(BLOCK_BYTES)  # what is buffered already; it never waits
            reply.talk(self.connection, early)

    def _drain(self, body: Body) -> None:
        """Read what is left of a refused body, so that the connection can serve the next call."""
        if self.close_connection or not body.left_bytes:
            return
        if body.left_bytes > DRAIN_BYTES:
            self.close_connection = True
            return
        for _ in body.blocks():
            pass

    def handle_expect_100(self) -> bool:
        go_on = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def version_string(self) -> str:
        return "fal-emulator"

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


class Server(socketserver.ThreadingTCPServer):
    """A threaded HTTP server whose `stop` leaves no thread, socket or port behind.

    `socketserver` is used without `http.server.HTTPServer`, which looks up its own host name in
    DNS when it binds and polls twice a second for the order to stop.
    """

    allow_reuse_address = True
    request_queue_size = 128
    timeout = 0  # a caller that is gone again before it is accepted must not hold up the loop

    def __init__(self, address: tuple[str, int], respond: Callable[[Call], Reply]) -> None:
        """Binds and listens; raises OSError if the port is taken."""
        super().__init__(address, _Handler)
        self.socket.setblocking(False)
        self.respond = respond
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        self._loop = threading.Thread(target=self._accept, name="fal-emulator", daemon=True)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """Closes the port and every connection and waits until their threads have ended."""
        self._wake.send(b"!")
        self._loop.join()
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections.values():
            _shut(connection)
        for thread in connections:
            thread.join(JOIN_S)
        self._wake.close()
        self._woken.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while self._woken not in [key.fileobj for key, _ in selector.select()]:
                self.handle_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._serve_connection, args=(request, client_address), daemon=True
        )
        with self._lock:
            self._connections[thread] = request
        thread.start()

    def _serve_connection(self, connection: socket.socket, client_address: Any) -> None:
        try:
            self.process_request_thread(connection, client_address)
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are normal here; anything else is a defect of the emulator."""
        if isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            logger.debug("a connection ended early", exc_info=True)
        else:
            logger.exception("the emulator failed inside a reply")


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was closed already

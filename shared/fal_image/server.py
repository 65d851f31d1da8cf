"""The server: the app behind WSGI, threaded, for `serve`, development and CloudBase HTTP functions.

waitress does the HTTP; this module joins the two, says where it listens, and lets nobody hold a
connection by being slow. Refuses to know what is asked and answered.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from msgspec import Struct
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ErrorTask, WSGITask

from .errors import AppError, BodyTooLarge, HeadersTooLarge, Internal, InvalidInput
from .events.wsgi import wsgi_app
from .front import guarded
from .logs import logger
from .polling import Loop, Sockets, Trigger, serves
from .web import App, Platform, Request, problem_response

DEFAULT_PORT = 9000
DEFAULT_THREADS = 32
REFUSED_UNREAD_BYTES = 24 * 1024 * 1024  # up to here our own 413 answers, beyond it waitress's
REFUSED_UNREAD_HEADER_BYTES = 64 * 1024  # the same for headers and our own 431
ONE_PIECE_BYTES = 64 * 1024
SWEEP_EVERY_S = 60.0
STOP_S = 5.0  # how long the end of a server waits for a thread that is at work


class Patience(Struct, frozen=True):
    """How slow a client may be: its request, and its reading of an answer that is ready, may take
    `grace_s` and a second more for every `bytes_per_s` that went through.

    A connection between two requests is waitress's to close, after `IDLE_S`. However long the app
    takes for its answer, or is silent within it, the client is not to blame.
    """

    grace_s: float = 20.0
    bytes_per_s: int = 8 * 1024
    clock: Callable[[], float] = time.monotonic

    def is_over(self, since_s: float, done_bytes: int) -> bool:
        return self.clock() - since_s > self.grace_s + done_bytes / self.bytes_per_s


IDLE_S = 60
PATIENCE = Patience()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, so that the port is certain before anything is printed.

    Port 0 takes any free one. Raises OSError when the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def run(
    app: App,
    listener: socket.socket,
    *,
    threads: int = DEFAULT_THREADS,
    max_upload_bytes: int = 0,
) -> None:
    """Serve on the socket until the process is told to stop (Ctrl-C, SystemExit).

    waitress keeps a long body on the disk until it is whole, `max_upload_bytes` of it at most.
    """
    server = _create(app, listener, threads, max_upload_bytes, PATIENCE)
    try:
        server.run()
    finally:
        server.close()


@contextmanager
def running(
    app: App,
    listener: socket.socket,
    *,
    max_upload_bytes: int = 0,
    patience: Patience = PATIENCE,
) -> Iterator[str]:
    """Serve in a thread for the length of the block; gives the address."""
    server = _create(app, listener, DEFAULT_THREADS, max_upload_bytes, patience)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield url_of(listener)
    finally:
        server.task_dispatcher.shutdown()  # first whoever is still answering, then the sockets
        _close_from_within(server)


def _close_from_within(server: BaseWSGIServer) -> None:
    """Let the thread that waits for the sockets close them: under its hands that is an error."""
    closed = threading.Event()

    def close() -> None:
        server.close()
        closed.set()

    with suppress(OSError):  # somebody else's pull ran it just before, and the trigger is closed
        server.trigger.pull_trigger(close)
    closed.wait(STOP_S)


@contextmanager
def sweeping(app: App, *, every_s: float = SWEEP_EVERY_S) -> Iterator[None]:
    """Send the app a timer's tick at once and then every `every_s` seconds, in a thread, for the
    length of the block.

    Whatever goes wrong with one sweep is logged, and the next one comes. A sweep that is at work
    when the block ends may be cut off: the next one, wherever it runs, finishes what it began.
    """
    stopped = threading.Event()

    def sweep() -> None:
        pause_s = 0.0
        while not stopped.wait(pause_s):
            began = time.monotonic()
            try:
                app(Request("POST", "/timer", Platform("timer", _new_id())))
            except Exception:
                logger.exception("a sweep failed")
            pause_s = max(0.0, every_s - (time.monotonic() - began))

    thread = threading.Thread(target=sweep, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(STOP_S)


def _create(
    app: App, listener: socket.socket, threads: int, max_upload_bytes: int, patience: Patience
) -> BaseWSGIServer:
    # It would warn of every request that waits for a thread or is cut off, in lines of its own.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    sockets = Sockets()
    server = create_server(
        wsgi_app(app),
        map=sockets,
        sockets=[listener],
        threads=threads,
        connection_limit=max(256, threads * 4),
        channel_timeout=IDLE_S,
        max_request_header_size=REFUSED_UNREAD_HEADER_BYTES,
        max_request_body_size=max(REFUSED_UNREAD_BYTES, max_upload_bytes),
        ident="fal-image",
    )
    server.trigger.close()
    server.trigger = Trigger(sockets)
    server.asyncore = Loop(server)
    server.channel_class = partial(_Channel, patience=patience)
    return server


class _Task(WSGITask):  # type: ignore[misc]
    wrote_header = False

    def write(self, data: bytes) -> None:
        """A head and a whole short body leave together: each piece by itself is sent at once."""
        is_whole = self.content_length == len(data) <= ONE_PIECE_BYTES
        if self.wrote_header or not is_whole or not (self.complete and self.has_body):
            super().write(data)
            return
        head = self.build_response_header()
        self.channel.write_soon(head + data)
        self.wrote_header, self.content_bytes_written = True, len(data)


class _Refusal(ErrorTask):  # type: ignore[misc]
    """What waitress refuses by itself, told as the app tells its errors. The page that asked may
    not read it: of a head that was not understood the origin is not known."""

    def execute(self) -> None:
        request_id = _new_id()
        answer = problem_response(_refusal(self.request.error.code), request_id)
        answer = guarded(answer.with_headers(("x-request-id", request_id)), is_private=False)
        body = answer.read()
        self.status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        self.response_headers.extend(answer.headers)
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """One connection. Its thread is waitress's, which sends and receives for all of them, but
    where another is named."""

    task_class = _Task
    error_task_class = _Refusal
    will_close = False

    def __init__(self, *about: Any, patience: Patience, **named: Any) -> None:
        self._patience = patience
        self._began_at: float | None = patience.clock()  # the request that is coming in
        self._written_at = 0.0  # since when there is something to be read, of an answer
        self._sent_bytes = 0
        super().__init__(*about, **named)

    def readable(self) -> bool:
        """Asked once a second at least."""
        if self.connected and not self.will_close and self._is_too_slow():
            self.will_close = True
            with suppress(OSError):  # wakes the loop, which closes; the client may be gone already
                self.socket.shutdown(socket.SHUT_RDWR)
        return bool(super().readable())

    def _is_too_slow(self) -> bool:
        if self.total_outbufs_len:
            return self._patience.is_over(self._written_at, self._sent_bytes)
        if self.requests:
            return False
        if self._began_at is None:
            if self.request is None:
                return False
            self._began_at = self._patience.clock()
        coming = self.request
        read = coming.header_bytes_received + coming.body_bytes_received if coming else 0
        return self._patience.is_over(self._began_at, read)

    def service(self) -> None:
        """In the thread of the app: a request is there as a whole."""
        self._began_at = None
        serves(self._fileno)
        super().service()
        serves(None)

    def write_soon(self, data: Any) -> Any:
        """In the thread of the app."""
        if not self.total_outbufs_len:
            self._written_at, self._sent_bytes = self._patience.clock(), 0
        return super().write_soon(data)

    def send(self, data: bytes, do_close: bool = True) -> Any:
        """In either thread."""
        sent = super().send(data, do_close)
        self._sent_bytes += sent
        return sent


def _refusal(status: int) -> AppError:
    """What waitress means by a status of its own."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return BodyTooLarge("the body is longer than the server takes")
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return HeadersTooLarge("the headers are longer than the server takes")
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return Internal("something broke inside")
    message = "is not HTTP as this server speaks it"
    fields = [{"field": "request", "message": message}]
    return InvalidInput(f"the request {message}", fields=fields)


def _new_id() -> str:
    return os.urandom(16).hex()


def url_of(listener: socket.socket) -> str:
    """The address a program on this machine reaches the socket at."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}"

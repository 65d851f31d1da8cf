"""The server: the app behind WSGI, threaded, for `serve`, development and CloudBase HTTP functions.

waitress does the HTTP; this module only joins the two and says where it listens.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from waitress.server import BaseWSGIServer, create_server

from .events.wsgi import wsgi_app
from .logs import logger
from .web import App, Platform, Request

DEFAULT_PORT = 9000
DEFAULT_THREADS = 32
REFUSED_UNREAD_BYTES = 24 * 1024 * 1024  # up to here our own 413 answers, beyond it waitress's
SWEEP_EVERY_S = 60.0
STOP_S = 5.0  # how long the end of a server waits for a thread that is at work


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
    server = _create(app, listener, threads, max_upload_bytes)
    try:
        server.run()
    finally:
        server.close()


@contextmanager
def running(app: App, listener: socket.socket, *, max_upload_bytes: int = 0) -> Iterator[str]:
    """Serve in a thread for the length of the block; gives the address."""
    server = _create(app, listener, DEFAULT_THREADS, max_upload_bytes)
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
                app(Request("POST", "/timer", Platform("timer", os.urandom(16).hex())))
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
    app: App, listener: socket.socket, threads: int, max_upload_bytes: int
) -> BaseWSGIServer:
    # It would warn of every request that waits for a thread or is cut off, in lines of its own.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    return create_server(
        wsgi_app(app),
        sockets=[listener],
        threads=threads,
        connection_limit=max(256, threads * 4),
        max_request_body_size=max(REFUSED_UNREAD_BYTES, max_upload_bytes),
        ident="fal-image",
    )


def url_of(listener: socket.socket) -> str:
    """The address a program on this machine reaches the socket at."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}"

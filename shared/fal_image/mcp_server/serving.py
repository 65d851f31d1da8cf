"""How agents are connected: over stdin and stdout, or over HTTP on this machine.

Over stdin whoever started us is the caller. Over HTTP each request shows the endpoint's own API
key, and the endpoint decides. Refuses to know what the tools do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError

from .. import __version__
from ..endpoint import Answer, EndpointFailed
from .asking import Asking
from .tools import INSTRUCTIONS, Tools

PATH = "/mcp"
TRUSTED_S = 60.0  # how long a key that was let in is not asked about again
MAX_TRUSTED = 1000
ADMIT_S = 5.0  # how long the endpoint is asked about a key; the call itself begins after that
CHUNK_BYTES = 64 * 1024
STOP_S = 2  # how long the end of a server waits for its connections

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def server_of(tools: Tools) -> Server[Any]:
    """The tools as a server that any transport can carry."""
    listed = tools.listed()
    schemas = {tool.name: tool.input_schema for tool in listed}

    async def list_tools(ctx: Any, params: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        told = 0

        async def heard(message: str) -> None:
            nonlocal told
            told += 1
            await ctx.session.report_progress(told, message=message)

        if params.name not in schemas:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name[:100]}")
        headers = getattr(ctx.request, "headers", {})
        return await tools.call(
            params.name,
            params.arguments or {},
            credential=headers.get("authorization"),
            heard=heard,
        )

    return Server(
        "fal-image",
        version=__version__,
        title="fal-image",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=schemas.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def serve_stdio(tools: Tools) -> None:
    """Serve whoever started this process until it closes our stdin or interrupts us.

    A request that is on its way to the endpoint is waited for; jobs go on without us.
    """
    anyio.run(_over_stdio, server_of(tools))


async def _over_stdio(server: Server[Any]) -> None:
    lines: Any = _Lines(sys.stdin.fileno())  # of an AsyncFile, only the lines are asked for
    async with stdio_server(stdin=lines) as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


class _Lines:
    """The lines of a file as they come, read by a thread that nobody waits for: Python cannot be
    woken from such a read, and Ctrl-C would wait for the next line."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def _read(self) -> None:
        rest = b""
        with suppress(RuntimeError):  # nobody listens any more: the loop is closed
            while chunk := os.read(self._file, CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            self._loop.call_soon_threadsafe(self._lines.put_nowait, None)

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        line = await self._lines.get()
        if line is None:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")


def bound_to(asking: Asking, listener: socket.socket) -> Asgi:
    """The server over HTTP as it answers on this socket: no other Host, no page's Origin, and
    nobody whom the endpoint does not let in."""
    port = listener.getsockname()[1]
    hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    app = server_of(Tools(asking)).streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        transport_security=TransportSecuritySettings(
            allowed_hosts=hosts, allowed_origins=[f"http://{host}" for host in hosts]
        ),
    )
    return Gate(app, asking)


def serve_http(asking: Asking, listener: socket.socket) -> None:
    """Serve on the socket until the process is interrupted."""
    config = uvicorn.Config(
        bound_to(asking, listener),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=STOP_S,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


class Gate:
    """In front of the server over HTTP: whoever shows nothing that the endpoint knows gets the
    endpoint's own refusal. Keys are kept as their SHA-256, and only those that were let in."""

    def __init__(
        self, app: Asgi, asking: Asking, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._asking = asking
        self._clock = clock
        self._trusted: dict[bytes, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        shown = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        credential = shown[0].decode("latin-1") if len(shown) == 1 else None
        status, body = await self._refusal(credential)
        if status is None:
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    async def _refusal(self, credential: str | None) -> tuple[int | None, dict[str, Any]]:
        """The status and body to refuse with; no status for whom the endpoint knows."""
        mark = hashlib.sha256((credential or "").encode()).digest()
        if self._trusted.get(mark, 0.0) > self._clock():
            return None, {}
        try:
            answer: Answer = await self._asking.read(
                "GET", "/models", ends_at=self._asking.ends_at(ADMIT_S), credential=credential
            )
        except EndpointFailed as error:
            return 503, {"title": "The endpoint does not answer", "detail": error.detail}
        if answer.is_error:
            return answer.status, answer.body
        if len(self._trusted) >= MAX_TRUSTED:
            self._trusted.clear()
        self._trusted[mark] = self._clock() + TRUSTED_S
        return None, {}

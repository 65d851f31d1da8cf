"""Agents of a test: `fal-image mcp` as a program, and the SDK's own client in front of it."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import jsonschema  # type: ignore[import-untyped]
import uvicorn
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types import CallToolResult, ImageContent, ResourceLink, TextContent

from fal_image.dev.emulator import Emulator
from fal_image.endpoint import FETCH_S, PATIENCE_S, Answer, Endpoint, EndpointFailed
from fal_image.mcp_server import PATH, Asking, Tools, bound_to
from fal_image.server import bind, url_of
from fal_image.web import Headers

CAT: dict[str, Any] = {"prompt": "a calico cat", "seed": 7, "size": {"width": 64, "height": 64}}

COMMAND = [sys.executable, "-c", "from fal_image.cli import main; main()", "mcp"]


def program_environment(**settings: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    return base | settings


def own_settings(fal: Emulator) -> dict[str, str]:
    """Of a process that is its own endpoint."""
    return {"FAL_KEY": "id:secret", "FAL_IMAGE_EMULATOR_URL": fal.url}


@asynccontextmanager
async def started(cwd: Path, *options: str, **settings: str) -> AsyncIterator[Client]:
    """A client of the command, which a host would have started like this."""
    parameters = StdioServerParameters(
        command=COMMAND[0],
        args=[*COMMAND[1:], *options],
        env=program_environment(**settings),
        cwd=cwd,
    )
    with (cwd / "stderr").open("a", encoding="utf-8") as log:
        async with Client(stdio_client(parameters, errlog=log)) as client:
            yield client


@contextmanager
def served(endpoint: Endpoint) -> Iterator[str]:
    """The server over HTTP, in a thread of the test's own; gives its address."""
    with bind("127.0.0.1", 0) as listener:
        asgi: Any = bound_to(Asking(endpoint, wait_s=45), listener)
        server = uvicorn.Server(uvicorn.Config(asgi, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"{url_of(listener)}{PATH}"
        finally:
            server.should_exit = True
            thread.join()


def played(scene: Callable[[], Awaitable[None]]) -> None:
    """What an agent does, to its end."""
    anyio.run(scene)


class Unhurried:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await anyio.sleep(0.005)  # others have work to do meanwhile


def tools_for(
    endpoint: Endpoint,
    *,
    wait_s: float = math.inf,
    key: str = "made-key",
    time: Unhurried | None = None,
) -> Tools:
    """The tools without a connection, on a clock of their own: they wait for however many looks
    at a job it takes, or for `wait_s` of them."""
    time = time or Unhurried()
    asking = Asking(endpoint, wait_s=wait_s, clock=time.clock, sleep=time.sleep)
    return Tools(asking, new_key=lambda: key)


def called(tools: Tools, name: str, arguments: dict[str, Any], **how: Any) -> CallToolResult:
    """What a tool answers, which is always what its schema promises."""

    async def call() -> CallToolResult:
        return await tools.call(name, arguments, **how)

    result = anyio.run(call)
    (schema,) = [tool.output_schema for tool in tools.listed() if tool.name == name]
    jsonschema.validate(result.structured_content, schema or False)
    return result


def text_of(result: CallToolResult) -> str:
    (block,) = [block for block in result.content if isinstance(block, TextContent)]
    return block.text


def links_of(result: CallToolResult) -> list[ResourceLink]:
    return [block for block in result.content if isinstance(block, ResourceLink)]


def previews_of(result: CallToolResult) -> list[ImageContent]:
    return [block for block in result.content if isinstance(block, ImageContent)]


class Remembering:
    """An endpoint that keeps what it was asked, and may fail as a test wants before it is."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.failures: list[Exception | Answer] = []  # instead of the next answers

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Any = None,
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        self.asked.append((method, path, body, dict(headers or {})))
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Answer):
                return failure
            raise failure
        return self._endpoint.ask(method, path, body, headers or {}, patience_s)

    def fetch(self, link: str, *, max_bytes: int, patience_s: float = FETCH_S) -> bytes:
        return self._endpoint.fetch(link, max_bytes=max_bytes, patience_s=patience_s)


def seen(state: str, **facts: object) -> Answer:
    """A job as an endpoint shows it."""
    return Answer(202, Headers(), {"jobId": "0" * 26, "state": state, **facts})


class Silent:
    """An endpoint that takes every request, and all the patience of who asks, on their clock.

    Its links are as silent. `answers` are what it says first, each at once.
    """

    def __init__(self, time: Unhurried, *answers: Answer) -> None:
        self._time = time
        self._answers = list(answers)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.fetched = 0

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Any = None,
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        self.asked.append((f"{method} {path}", dict(headers or {})))
        if self._answers:
            return self._answers.pop(0)
        self._time.now_s += patience_s
        raise EndpointFailed("the read timed out", sent=True)

    def fetch(self, link: str, *, max_bytes: int, patience_s: float = FETCH_S) -> bytes:
        self.fetched += 1
        self._time.now_s += patience_s
        raise EndpointFailed("the read timed out", sent=True)

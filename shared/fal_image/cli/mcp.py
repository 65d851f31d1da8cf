"""`fal-image mcp`: the endpoint as tools for agents, deployed or in this process.

Everything it says goes to stderr: stdout is the agent's. Refuses to know what the tools do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .. import app, server
from ..dev.home import at_home
from ..endpoint import URL, Deployed, Endpoint, InProcess, deployed
from ..keyring import KeyUnavailable
from ..settings import load

if TYPE_CHECKING:
    from ..mcp_server import Asking

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
DEFAULT_PORT = 9002
DEFAULT_WAIT_S = 45  # hosts give up on a tool after a minute


def mcp(
    http: Annotated[
        bool, typer.Option("--http", help="Serve HTTP on this machine instead of stdin and stdout.")
    ] = False,
    port: Annotated[
        int, typer.Option(help="The port of --http; 0 takes any free one.")
    ] = DEFAULT_PORT,
    wait_s: Annotated[
        float,
        typer.Option(min=0, max=3600, help="How long a tool waits for a job, in seconds."),
    ] = DEFAULT_WAIT_S,
    home: Annotated[
        Path,
        typer.Option(
            file_okay=False, help="Where pictures and jobs are kept that no setting places."
        ),
    ] = Path(".fal-image"),
) -> None:
    """Serve tools for agents: generate, edit, look at a job, estimate, renew links.

    FAL_IMAGE_URL and FAL_IMAGE_TOKEN name the endpoint that is deployed and an API key of it;
    without them this process is the endpoint, with the settings of the environment. An agent's
    configuration starts this command; docs/agents.md has it for the usual ones. With --http every
    request must show an API key of the endpoint itself, as `Authorization: Bearer KEY`.
    """
    try:
        from .. import mcp_server
    except ModuleNotFoundError as error:
        _refuse_without(error)
    with _endpoint(os.environ, home, shows_key=http) as endpoint:
        asking = mcp_server.Asking(endpoint, wait_s=wait_s)
        try:
            if http:
                _serve_http(asking, port)
            else:
                if sys.stdin.isatty():
                    _tell("waiting for an agent on stdin; docs/agents.md tells who starts this")
                mcp_server.serve_stdio(mcp_server.Tools(asking))
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _serve_http(asking: Asking, port: int) -> None:
    from .. import mcp_server

    try:
        listener = server.bind("127.0.0.1", port)
    except OSError as error:
        _refuse(f"cannot listen on port {port}: {error.strerror}; choose another --port")
    with listener:
        _tell(f"tools for agents on {server.url_of(listener)}{mcp_server.PATH}")
        mcp_server.serve_http(asking, listener)


@contextmanager
def _endpoint(environ: Mapping[str, str], home: Path, *, shows_key: bool) -> Iterator[Endpoint]:
    """The endpoint that the tools ask. `shows_key`: each agent does, so we have none of our own.

    One in this process looks after its unfinished jobs, as long as it lives: nobody else does.
    """
    try:
        named = deployed(environ)
    except ValueError as error:
        _refuse(str(error))
    if named is not None:
        yield Deployed(named.url) if shows_key else named
        return
    try:
        environ = at_home(environ, home)
        services = app.compose(load(environ), environ=environ)
    except KeyUnavailable as error:
        _tell(str(error))
        raise typer.Exit(EXIT_FAILED) from None
    except OSError as error:
        _refuse(f"{error.filename or home}: {error.strerror}; name another --home")
    if services.settings.problems:
        _refuse("\n".join([*services.settings.problems, f"(or set {URL} to use one deployed)"]))
    front = app.front(services)
    with server.sweeping(front):
        yield InProcess(front, caller=None) if shows_key else InProcess(front)


def _refuse_without(error: ModuleNotFoundError) -> NoReturn:
    """Say how to install what is missing; a module of ours that is missing is another matter."""
    if error.name is None or error.name.startswith("fal_image"):
        raise error
    _refuse(f"the package {error.name} is not installed: pip install 'fal-image[mcp]'")


def _tell(message: str) -> None:
    typer.echo(message, err=True)


def _refuse(message: str) -> NoReturn:
    _tell(message)
    raise typer.Exit(EXIT_USAGE)

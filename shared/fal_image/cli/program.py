"""The `fal-image` command: the same services without HTTP, and the programs around them.

Pretty on a terminal, one JSON object when piped or with `--json`. Every command has examples in its
`--help`, and each of them is run by a test.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from msgspec.structs import asdict

from .. import __version__, app, server
from ..notices import signing_secret
from ..settings import load
from ..uploads import largest_by_type
from . import batches, doctor, files, generate, jobs, mcp, owner, prices, shown
from .help import examples_of, first_steps
from .here import Here, own_home, own_storage, services
from .output import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    AsJson,
    Output,
    err,
    interrupted,
    tell,
    usage,
)
from .request import STDIN, DryRun, Model, Number, Size, parse_size

PICTURES, OWNER, PROGRAMS = "Pictures", "For the owner", "Programs that stay"

cli = typer.Typer(
    help="Pictures from fal.ai into your own storage.",
    epilog=first_steps(),
    pretty_exceptions_enable=False,
)


@cli.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"fal-image {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def batch(
    rows: Annotated[
        Path,
        typer.Argument(help="A JSONL file: a request in each line; - reads it from stdin."),
    ],
    out: Annotated[Path, typer.Option(help="Write the results here when every row is over.")],
    window: Annotated[int, typer.Option(min=1, max=200, help="Rows at fal at once.")] = 20,
    model: Model = None,
    size: Size = None,
    number: Number = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make the pictures of many prompts, several at once, and write down what became of each.

    Options are for rows that say nothing else. Interrupted, it goes on where it was with the same
    command in the same directory, and pays for nothing twice; with -, when the same rows come in
    again; --out may be another. Without FAL_IMAGE_DATABASE_URL it keeps what it has done below
    ./.fal-image. FAL_IMAGE_URL is of no use here: the pictures are made with the settings of the
    environment.
    """
    screen = Output(as_json)
    given = {"model": model, "image_size": parse_size(size) if size else None, "num_images": number}
    defaults = {name: value for name, value in given.items() if value is not None}
    with screen.ending():
        shown.Destination(str(out), is_template=False).refuse_unwritable()
        _refuse_as_results(rows, out)
        with _spooled(rows) as file:
            try:
                if dry_run:
                    here = Here(services(own_storage()))
                    prices.dry_run_batch(screen, here, file, defaults)
                    return
                found = services(own_home())
                done = batches.Work(found, file, out, defaults, window, err).run()
            except OSError as error:
                raise usage(f"{error.filename or rows}: {error.strerror}") from None
            except KeyboardInterrupt:
                raise interrupted("interrupted before anything was begun") from None
            _show_batch(screen, done, out)


def _refuse_as_results(rows: Path, out: Path) -> None:
    """Raises Stopped if the results would be written over the rows."""
    source = Path("/dev/stdin") if str(rows) == STDIN else rows
    if out.is_file() and source.is_file() and out.samefile(source):
        raise usage(f"{out}: holds the rows; write the results to another file")


@contextmanager
def _spooled(rows: Path) -> Iterator[Path]:
    """The file of rows; what is on stdin as a file, for it is read twice."""
    if str(rows) != STDIN:
        if rows.is_dir() or not rows.exists():
            raise usage(f"{rows}: there is no such file")
        yield rows
        return
    with TemporaryDirectory(prefix="fal-image-") as folder:
        file = Path(folder) / "rows.jsonl"
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        yield file


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes any free one.")] = (
        server.DEFAULT_PORT
    ),
    threads: Annotated[
        int, typer.Option(min=1, max=1000, help="Requests at once.")
    ] = server.DEFAULT_THREADS,
    sweep: Annotated[bool, typer.Option(help="Look after unfinished jobs every minute.")] = True,
) -> None:
    """Serve the HTTP API with the settings of the environment.

    With FAL_IMAGE_DATABASE_URL it also looks after unfinished jobs, which one server is enough for.
    """
    with Output().ending():
        try:
            listener = server.bind(host, port)
        except OSError as error:
            raise usage(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
            ) from None
        url = server.url_of(listener)
        found = services({"FAL_IMAGE_PUBLIC_URL": url, **os.environ})
    tell(f"fal-image {__version__} on {url}", style=None)
    largest = max(largest_by_type(found.settings.max_image_bytes).values())
    front = app.front(found)
    sweeps = sweep and found.settings.database_url is not None
    with server.sweeping(front) if sweeps else nullcontext():
        server.run(front, listener, threads=threads, max_upload_bytes=largest)


def webhook_secret(as_json: AsJson = False) -> None:
    """Print the secret that the receiver of a `webhookUrl` checks its deliveries with.

    It is made from FAL_IMAGE_SECRET and gives away nothing else that FAL_IMAGE_SECRET protects.
    """
    with Output(as_json).ending():
        secrets = load(os.environ).secrets
        if not secrets:
            raise usage("FAL_IMAGE_SECRET: must be set to the endpoint's own")
    secret = signing_secret(secrets[0])
    typer.echo(json.dumps({"secret": secret}) if as_json else secret)


def emulator(
    port: Annotated[int, typer.Option(help="The port; 0 takes any free one.")] = 9001,
    delay_s: Annotated[
        float, typer.Option(min=0, max=600, help="How long a job takes, in seconds.")
    ] = 1.0,
) -> None:
    """Run the fal emulator on this machine: free pictures, faults on demand."""
    from ..dev import emulator as fal_emulator  # draws pictures: not for every start of the command

    def say(running: fal_emulator.Emulator) -> None:
        tell(f"fal emulator on {running.url}, no money; {running.url}/ tells what it does", None)
        tell(f"use it: FAL_KEY=any:key FAL_IMAGE_EMULATOR_URL={running.url} fal-image …", None)

    with Output().ending():
        try:
            fal_emulator.serve(port=port, run_s=delay_s, ready=say)
        except OSError as error:
            raise usage(
                f"cannot listen on port {port}: {error.strerror}; choose another --port"
            ) from None


def _show_batch(screen: Output, done: batches.Done, out: Path) -> None:
    """Say how a batch ended, and end with the exit code that fits. Raises Stopped."""
    counts = asdict(done.counts)
    facts = {"batchId": done.batch_id, "total": done.total, "open": done.open, "out": str(out)}
    ended = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    lines = [f"{done.total} rows: {ended or 'none over'}"]
    screen.show(facts | counts, lines, {"batchId": done.batch_id})
    if done.open:
        tell(f"{done.open} rows are open; the same command goes on with them", None)
    if done.reason:
        tell(f"the last failure that may pass: {done.reason}")
    if done.is_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if not done.is_whole:
        raise typer.Exit(EXIT_FAILED)


def _add(name: str, command: Callable[..., None], panel: str | None, to: typer.Typer = cli) -> None:
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)  # rich wraps them
    to.command(name, help=text, epilog=examples_of(name), rich_help_panel=panel)(command)


_add("generate", generate.generate, PICTURES)
_add("estimate", generate.estimate, PICTURES)
_add("batch", batch, PICTURES)
_add("job", jobs.job, PICTURES)
_add("file", files.file, PICTURES)
_add("regenerate", files.regenerate, PICTURES)
_add("config", owner.config, OWNER)
_add("doctor", doctor.doctor, OWNER)
_add("new", owner.new_key, None, to=owner.keys)
cli.add_typer(owner.keys, name="keys", rich_help_panel=OWNER)
_add("webhook-secret", webhook_secret, OWNER)
_add("serve", serve, PROGRAMS)
_add("emulator", emulator, PROGRAMS)
_add("mcp", mcp.mcp, PROGRAMS)

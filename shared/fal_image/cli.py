"""The `fal-image` command: the same services without HTTP, and the programs around them.

Pretty on a terminal, one JSON object when piped. Exit codes: 0 done; 1 failed and sending it again
cannot pay twice; 2 wrong usage or settings, nothing was sent; 3 failed after money may have been
spent; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from msgspec.structs import asdict, replace
from rich.console import Console
from rich.status import Status

from . import __version__, app, cli_batch, cli_doctor, cli_estimate, cli_owner, server
from .dev.home import kept_secret
from .errors import AppError, DeadlineExceeded
from .fal import catalog
from .generate import Listener, Turn, failure_of
from .inputs import Order, parse_order
from .jobs import Job
from .keyring import KeyUnavailable
from .notices import signing_secret
from .routes import KEPT_BACK_S, Routes
from .settings import Settings, load
from .uploads import largest_by_type
from .web import problem

EXIT_FAILED, EXIT_USAGE, EXIT_PAID, EXIT_INTERRUPTED = 1, 2, 3, 130
DATA_DIR = ".fal-image"

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

cli = typer.Typer(
    help="Pictures from fal.ai into your own storage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(cli_owner.keys, name="keys")
cli.command("config")(cli_owner.config)
cli.command("doctor")(cli_doctor.doctor)
_err = Console(stderr=True)


def main() -> None:
    cli()


@cli.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"fal-image {__version__}")
        raise typer.Exit


@cli.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the picture here too; several get -0, -1, …"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="fal's model id.")] = None,
    size: Annotated[
        str | None, typer.Option(help="A name such as landscape_16_9, or WIDTHxHEIGHT.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same picture.")] = None,
    number: Annotated[int | None, typer.Option("-n", "--number", help="How many pictures.")] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, help="A picture to work on; repeat it for several."
        ),
    ] = None,
) -> None:
    """Make a picture with the settings of the environment and keep it in your storage.

    Without FAL_IMAGE_STORAGE_URL it is kept below ./.fal-image. Pictures to work on are copied to
    fal, which is asked to drop them after an hour.
    """
    environ = {"FAL_IMAGE_STORAGE_URL": (Path.cwd() / DATA_DIR / "pictures").as_uri(), **os.environ}
    services = _services(environ)
    try:
        order = _order(services.settings, prompt, output, model, size, seed, number)
        job = _make(services, order, image or [])
        paths = _write(services, job, output)
    except AppError as error:
        _fail(error)
    except KeyboardInterrupt:
        _tell("interrupted; fal was asked to cancel")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _show(job, paths)


@cli.command()
def estimate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    model: Annotated[str | None, typer.Option(help="fal's model id.")] = None,
    size: Annotated[
        str | None, typer.Option(help="A name such as landscape_16_9, or WIDTHxHEIGHT.")
    ] = None,
    number: Annotated[int | None, typer.Option("-n", "--number", help="How many pictures.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture to work on; repeat it for several.")
    ] = None,
) -> None:
    """Say what a picture would cost, and buy nothing.

    Known models go by the catalog, with a word if fal lists another price now; for others fal's
    price list is asked, if there is a key.
    """
    services = _services({"FAL_IMAGE_STORAGE_URL": Path.cwd().as_uri(), **os.environ})
    try:
        order = _order(services.settings, prompt, None, model, size, None, number)
        if image:
            _name(order, image)
        ends_at = time.monotonic() + services.settings.max_wait_s
        cli_estimate.show(services.estimates.of(order, ends_at=ends_at), _err)
    except AppError as error:
        _fail(error)


@cli.command()
def batch(
    rows: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="A JSONL file: a request in each line."),
    ],
    out: Annotated[Path, typer.Option(help="Write the results here when every row is over.")],
    window: Annotated[int, typer.Option(min=1, max=200, help="Rows at fal at once.")] = 20,
    model: Annotated[str | None, typer.Option(help="fal's model id, for rows without one.")] = None,
    size: Annotated[
        str | None, typer.Option(help="A name such as landscape_16_9, or WIDTHxHEIGHT.")
    ] = None,
    number: Annotated[int | None, typer.Option("-n", "--number", help="Pictures a row.")] = None,
) -> None:
    """Make the pictures of many prompts, several at once, and write down what became of each.

    Interrupted, it goes on where it was with the same command in the same directory, and pays for
    nothing twice. Without FAL_IMAGE_DATABASE_URL it keeps what it has done below ./.fal-image.
    """
    given = {"model": model, "image_size": _size(size) if size else None, "num_images": number}
    defaults = {name: value for name, value in given.items() if value is not None}
    try:
        services = _services(_own_home())
        done = cli_batch.Work(services, rows, out, defaults, window, _err).run()
    except AppError as error:
        _fail(error)
    except OSError as error:
        _refuse(f"{error.filename or out}: {error.strerror}")
    except KeyboardInterrupt:
        _tell("interrupted before anything was begun")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _show_batch(done, out)


@cli.command()
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
    try:
        listener = server.bind(host, port)
    except OSError as error:
        _refuse(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port")
    url = server.url_of(listener)
    environ = {"FAL_IMAGE_PUBLIC_URL": url, **os.environ}
    services = _services(environ)
    _tell(f"fal-image {__version__} on {url}")
    largest = max(largest_by_type(services.settings.max_image_bytes).values())
    front = app.front(services)
    sweeps = sweep and services.settings.database_url is not None
    with server.sweeping(front) if sweeps else nullcontext():
        server.run(front, listener, threads=threads, max_upload_bytes=largest)


@cli.command("webhook-secret")
def webhook_secret() -> None:
    """Print the secret that the receiver of a `webhookUrl` checks its deliveries with.

    It is made from FAL_IMAGE_SECRET and gives away nothing else that FAL_IMAGE_SECRET protects.
    """
    secrets = load(os.environ).secrets
    if not secrets:
        _refuse("FAL_IMAGE_SECRET: must be set to the endpoint's own")
    typer.echo(signing_secret(secrets[0]))


@cli.command()
def emulator(
    port: Annotated[int, typer.Option(help="The port; 0 takes any free one.")] = 9001,
    delay_s: Annotated[
        float, typer.Option(min=0, max=600, help="How long a job takes, in seconds.")
    ] = 1.0,
) -> None:
    """Run the fal emulator on this machine: free pictures, faults on demand."""
    from .dev import emulator as fal_emulator  # draws pictures: not for every start of the command

    def say(running: fal_emulator.Emulator) -> None:
        _tell(f"fal emulator on {running.url}, no money; {running.url}/ tells what it does")
        _tell(f"use it: FAL_KEY=any:key FAL_IMAGE_EMULATOR_URL={running.url} fal-image …")

    try:
        fal_emulator.serve(port=port, run_s=delay_s, ready=say)
    except OSError as error:
        _refuse(f"cannot listen on port {port}: {error.strerror}; choose another --port")


def _own_home() -> dict[str, str]:
    """The environment, with a home in the current directory for what it does not name."""
    home = Path.cwd() / DATA_DIR
    own = {
        "FAL_IMAGE_STORAGE_URL": (home / "pictures").as_uri(),
        "FAL_IMAGE_DATABASE_URL": (home / "fal-image.db").as_uri().replace("file:", "sqlite:", 1),
    }
    if not os.environ.get("FAL_IMAGE_SECRET"):
        own["FAL_IMAGE_SECRET"] = kept_secret(home)
    return {**own, **{name: value for name, value in os.environ.items() if value}}


def _services(environ: Mapping[str, str]) -> Routes:
    """The services for an environment; wrong settings end the command."""
    try:
        services = app.compose(load(environ), environ=environ)
    except KeyUnavailable as error:
        _tell(str(error), style="red")
        raise typer.Exit(EXIT_FAILED) from None
    if services.settings.problems:
        _refuse("\n".join(services.settings.problems))
    return services


def _order(
    settings: Settings,
    prompt: str,
    output: Path | None,
    model: str | None,
    size: str | None,
    seed: int | None,
    number: int | None,
) -> Order:
    given = {
        "prompt": prompt,
        "model": model,
        "image_size": _size(size) if size else None,
        "seed": seed,
        "num_images": number,
    }
    body: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    order = parse_order(
        body, default_model=settings.default_model, aliases=dict(settings.model_aliases)
    )
    known = catalog.find(order.model)
    if output is not None and known is not None and "output_format" in known.fields:
        order.arguments["output_format"] = _format(output, known)
    return order


def _size(text: str) -> object:
    width, cross, height = text.partition("x")
    if cross and width.isdigit() and height.isdigit():
        return {"width": int(width), "height": int(height)}
    return text


def _format(output: Path, model: catalog.Model) -> str:
    choices = model.fields["output_format"].choices or ()
    wanted = _FORMATS.get(output.suffix.lower())
    if wanted not in choices:
        _refuse(f"{model.id} writes {', '.join(choices)}: {output.name} must end so")
    return wanted


def _make(services: Routes, order: Order, inputs: list[Path]) -> Job:
    ends_at = time.monotonic() + services.settings.max_wait_s
    if inputs:
        _attach(services, order, inputs, ends_at)
    turn = Turn(services.new_owner(), answer_by=ends_at, ends_at=ends_at + KEPT_BACK_S)
    if not _err.is_terminal:
        return _ended(services.generator.generate(order, turn))
    with _err.status(f"asking {order.model}") as status:
        heard = replace(turn, listener=_progress(status))
        return _ended(services.generator.generate(order, heard))


def _ended(job: Job) -> Job:
    """The job, if it is done. Raises AppError for one that failed, or goes on without us."""
    failure = failure_of(job)
    if failure is not None:
        raise failure
    if job.state != "done":
        late = DeadlineExceeded("fal is still at work, and the database keeps the job")
        raise late.adding(jobId=job.job_id, falRequestId=job.fal_request_id)
    return job


def _attach(services: Routes, order: Order, inputs: list[Path], ends_at: float) -> None:
    """Copy the pictures to fal and name them in the order, once nothing else speaks against it."""
    field = _name(order, inputs)
    services.generator.checked(order)
    urls = []
    for path in inputs:
        with path.open("rb") as file:
            urls.append(services.uploads.send(path.name, file, ends_at=ends_at))
    order.arguments[field] = urls if field == "image_urls" else urls[0]


def _name(order: Order, inputs: list[Path]) -> str:
    """Put the pictures into the order by their paths; the field that they are in."""
    field = _input_field(order.model, len(inputs))
    names = [str(path) for path in inputs]
    order.arguments[field] = names if field == "image_urls" else names[0]
    return field


def _input_field(model_id: str, count: int) -> str:
    """The model's field for this many pictures; one that is not in the catalog gets the usual."""
    model = catalog.find(model_id)
    single = "image_url" if count == 1 else None
    if model is None:
        return single or "image_urls"
    for field in ("image_urls", single):
        if field in model.fields:
            return field
    if "image_url" in model.fields:
        _refuse(f"{model_id} works on one picture: give --image once")
    alike = [known.id for known in catalog.models().values() if known.kind == "image-to-image"]
    _refuse(f"{model_id} takes no --image; these do: {', '.join(alike)}")


def _progress(status: Status) -> Listener:
    def heard(name: str, facts: dict[str, object]) -> None:
        if name == "queued":
            status.update(f"in fal's queue, position {facts['position']}")
        elif name == "progress":
            status.update(f"fal: {facts['message']}")
        else:
            status.update("a picture is stored")

    return heard


def _write(services: Routes, job: Job, output: Path | None) -> list[Path]:
    """Copy the stored pictures to where the user wants them."""
    if output is None:
        return []
    several = len(job.images) > 1
    paths = []
    for image in job.images:
        name = f"{output.stem}-{image.index}{output.suffix}" if several else output.name
        path = output.with_name(name)
        storage = services.assets.door.get()
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.open(storage.key(image.file_id)) as chunks, path.open("wb") as file:
            file.writelines(chunks)
        paths.append(path)
    return paths


def _show(job: Job, paths: list[Path]) -> None:
    if not sys.stdout.isatty():
        answer = job.to_json(job.job_id) | {"paths": [str(path) for path in paths]}
        typer.echo(json.dumps(answer, ensure_ascii=False))
        return
    for image in job.images:
        typer.echo(f"{image.width}x{image.height} {image.content_type} {image.file_id}")
        typer.echo(f"  {image.url}")
    for path in paths:
        typer.echo(str(path))
    for warning in job.warnings:
        _tell(warning.message, style="yellow")


def _show_batch(done: cli_batch.Done, out: Path) -> None:
    """Say how a batch ended, and end with the exit code that fits."""
    counts = asdict(done.counts)
    if sys.stdout.isatty():
        ended = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        typer.echo(f"{done.total} rows: {ended or 'none over'}")
    else:
        facts = {"batchId": done.batch_id, "total": done.total, "open": done.open, "out": str(out)}
        typer.echo(json.dumps(facts | counts, ensure_ascii=False))
    if done.open:
        _tell(f"{done.open} rows are open; the same command goes on with them")
    if done.reason:
        _tell(f"the last failure that may pass: {done.reason}", style="red")
    if done.is_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if not done.is_whole:
        raise typer.Exit(EXIT_FAILED)


def _fail(error: AppError) -> NoReturn:
    """Say what went wrong, on stderr, and end with the exit code that fits."""
    if _err.is_terminal:
        _tell(f"{error.code}: {error.detail}", style="red")
        _tell(error.hint or "")
    else:
        typer.echo(json.dumps(problem(error, ""), ensure_ascii=False), err=True)
    if error.status in {400, 403, 501}:
        raise typer.Exit(EXIT_USAGE)
    raise typer.Exit(EXIT_FAILED if error.retryable else EXIT_PAID)


def _tell(message: str, style: str | None = None) -> None:
    """Print to stderr as it stands: neither wrapped nor coloured by what it contains."""
    _err.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def _refuse(message: str) -> NoReturn:
    _tell(message, style="red")
    raise typer.Exit(EXIT_USAGE)

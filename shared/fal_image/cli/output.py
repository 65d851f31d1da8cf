"""What all commands have in common: how they show, how they fail, and with which exit code.

What a command found goes to stdout, everything else to stderr. Where a stream is no terminal, and
with `--json`, it gets one JSON object. Refuses to know what is shown.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NoReturn

import typer
from msgspec import Struct
from rich.console import Console

from ..errors import AppError, Misconfigured, recalled
from ..web import problem

EXIT_FAILED, EXIT_USAGE, EXIT_PAID, EXIT_DIFFERENT, EXIT_INTERRUPTED = 1, 2, 3, 4, 130

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    EXIT_FAILED: "failed, and trying again cannot pay twice",
    EXIT_USAGE: "wrong usage or settings; nothing was sent",
    EXIT_PAID: "failed after money may have been spent",
    EXIT_DIFFERENT: "regenerate: made again, and it is another picture",
    EXIT_INTERRUPTED: "interrupted",
}

# Tells a person what a command is waiting for.
Say = Callable[[str], None]

# Of an endpoint's answers: what is wrong with the request, the model, the key or the settings.
_USAGE_STATUSES = frozenset({400, 401, 403, 501})

_PROBLEM = frozenset(problem(Misconfigured(""), ""))  # the members that every problem has

AsJson = Annotated[
    bool,
    typer.Option("--json", help="JSON on a terminal too: one object, errors as one on stderr."),
]

# Where what was paid for can still be found: a person is told these members of an error too.
_WHEREABOUTS = (
    "jobId",
    "batchId",
    "fileID",
    "fileIDs",
    "tempFileURL",
    "falRequestId",
    "sourceUrls",
)


class _Err(Console):
    """stderr. Nobody needs to read it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


err = _Err(stderr=True)


class Stopped(Exception):
    """Why a command ends early, in words for its user; `facts` are further members of the JSON."""

    def __init__(
        self,
        message: str,
        exit_code: int,
        *,
        code: str,
        hint: str | None = None,
        **facts: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.code = code
        self.hint = hint
        self.facts = facts


def usage(message: str, *, hint: str | None = None) -> Stopped:
    """The command was called wrongly; nothing was sent."""
    return Stopped(message, EXIT_USAGE, code="usage", hint=hint)


def misconfigured(problems: Iterable[str]) -> Stopped:
    """The settings cannot be used; nothing was sent."""
    hint = "docs/settings.md lists them; `fal-image config` shows which are in force."
    return Stopped("\n".join(problems), EXIT_USAGE, code=Misconfigured.code, hint=hint)


def interrupted(message: str, *, hint: str | None = None, **facts: object) -> Stopped:
    return Stopped(message, EXIT_INTERRUPTED, code="interrupted", hint=hint, **facts)


def goes_on(job_id: str) -> Stopped:
    """The waiting for a job ended before the job: somebody keeps it."""
    hint = f"`fal-image job {job_id} --wait` waits for it again."
    return interrupted(f"interrupted; the job {job_id} goes on", hint=hint, jobId=job_id)


def raised(told: Mapping[str, Any], **facts: object) -> AppError:
    """The error behind a problem that an endpoint, or a job, tells of; `facts` are added to it."""
    error = recalled(
        str(told["error"]),
        str(told.get("message")),
        hint=told.get("hint"),
        retryable=told.get("retryable") is True,
        extensions={name: value for name, value in told.items() if name not in _PROBLEM},
    )
    return error.adding(**facts)


def exit_code_of(error: AppError) -> int:
    if error.status in _USAGE_STATUSES:
        return EXIT_USAGE
    return EXIT_FAILED if error.retryable else EXIT_PAID


class Output(Struct, frozen=True):
    """The two streams of one command. `as_json` is what its user asked for."""

    as_json: bool = False

    @property
    def is_json(self) -> bool:
        """Whether a program reads what is found."""
        return self.as_json or sys.stdout is None or not sys.stdout.isatty()

    def show(
        self,
        facts: Mapping[str, object],
        lines: Iterable[str],
        paid: Mapping[str, Any] | None = None,
    ) -> None:
        """Print what was found: `facts` for a program, `lines` for a person.

        `paid` names what money was spent for, so that it can be found again if nobody can read it
        here. Raises Stopped if it cannot be printed; BrokenPipeError if nothing was paid.
        """
        try:
            if sys.stdout is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if self.is_json:
                typer.echo(_encodable(facts, sys.stdout.encoding))
                return
            for line in lines:
                typer.echo(_printable(line, sys.stdout.encoding))
        except OSError as error:
            if paid is None and isinstance(error, BrokenPipeError):
                raise
            _drop_stdout()
            exit_code = EXIT_FAILED if paid is None else EXIT_PAID
            text = f"what was found cannot be printed: {error.strerror}"
            raise Stopped(text, exit_code, code="not_written", **(paid or {})) from None

    def warn(self, message: str) -> None:
        """Tell a person what a program finds in the JSON."""
        if not self.is_json:
            tell(message, style="yellow")

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Tell how what is done inside failed, and end the command with the exit code for it."""
        try:
            yield
        except AppError as error:
            self._end(problem(error, ""), exit_code_of(error))
        except Stopped as stop:
            self._end(_facts_of(stop), stop.exit_code)
        except KeyboardInterrupt:
            self._end(_facts_of(interrupted("interrupted")), EXIT_INTERRUPTED)

    def _end(self, facts: Mapping[str, object], exit_code: int) -> NoReturn:
        if self.as_json or not err.is_terminal:
            _tell_json(facts)
        else:
            is_named = facts["error"] not in ("usage", "interrupted", Misconfigured.code)
            tell(f"{facts['error']}: {facts['message']}" if is_named else str(facts["message"]))
            tell(str(facts["hint"] or ""), style=None)
            for line in _whereabouts(facts):
                tell(line, style=None)
        raise typer.Exit(exit_code)

    @contextmanager
    def progress(self, text: str) -> Iterator[Say]:
        """A line on a person's terminal that changes with each call of what is given."""
        if self.as_json or not err.is_terminal:
            yield lambda text: None
            return
        with err.status(text) as status:
            yield status.update


def tell(message: str, style: str | None = "red") -> None:
    """Print to stderr as it stands: neither wrapped nor coloured by what it contains."""
    with suppress(OSError):  # stderr is full or closed: there is no other place to say it
        if message:
            err.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def _tell_json(facts: Mapping[str, object]) -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            typer.echo(_encodable(facts, sys.stderr.encoding), err=True)


def _whereabouts(facts: Mapping[str, object]) -> Iterator[str]:
    for name in _WHEREABOUTS:
        value = facts.get(name)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None:
                yield f"{name}: {one}"


def _encodable(facts: Mapping[str, object], encoding: str) -> str:
    """JSON, as people read it if the stream has letters for it."""
    text = json.dumps(facts, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(facts)
    return text


def _printable(line: str, encoding: str) -> str:
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _drop_stdout() -> None:
    """Forget what could not be printed: at the end of the process it would fail once more."""
    if sys.stdout is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _facts_of(stop: Stopped) -> dict[str, object]:
    """The members of an error that every problem of the endpoint has too."""
    return {
        "error": stop.code,
        "message": stop.message,
        "retryable": stop.exit_code in (EXIT_FAILED, EXIT_USAGE) and stop.code != "cancelled",
        "hint": stop.hint,
        **stop.facts,
    }


# What typer raises for a command line that it cannot read; no public name of it is in all versions.
_Usage: Any = typer.BadParameter.__mro__[1]


def run(cli: typer.Typer) -> NoReturn:
    """Carry out the command line of this process, and end it with the command's exit code."""
    try:
        exit_code = cli(prog_name="fal-image", standalone_mode=False) or 0
    except _Usage as error:
        exit_code = EXIT_USAGE
        _tell_usage(error)
    except typer.Abort:
        exit_code = EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough of it
        _drop_stdout()
        exit_code = EXIT_FAILED
    sys.exit(exit_code)


def _tell_usage(error: Any) -> None:
    if not error.format_message():  # the help was printed instead
        return
    called = error.ctx.command_path if error.ctx else "fal-image"
    stop = usage(error.format_message(), hint=f"`{called} --help` tells what it takes.")
    if "--json" in sys.argv or not err.is_terminal:
        _tell_json(_facts_of(stop))
    else:
        tell(stop.message)
        tell(stop.hint or "", style=None)

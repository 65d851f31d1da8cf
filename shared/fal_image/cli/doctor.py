"""`fal-image doctor`: the findings of an examination, for a person or a program.

Refuses to know what is examined.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer

from .. import app
from ..doctor import Case, Finding, examine
from ..doctor.findings import failed
from ..keyring import KeyUnavailable
from ..seams import THE_WORLD, Seams
from ..settings import load
from ..spellings import web_url
from .output import EXIT_FAILED, EXIT_USAGE

SETTINGS = "settings"
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "bright_black"}
_INDENT = " " * 9


def doctor(
    function: Annotated[
        str | None,
        typer.Option(
            help="The deployed function that the cloud is asked about; on CloudBase it need not be "
            "named if it is called fal-image-gen or fal-image-gen-http."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object instead of a line a check.")
    ] = False,
) -> None:
    """Examine the settings, fal, the storage, the database and what is deployed. It costs nothing.

    Ends with 1 if a check failed, with 2 if the settings cannot be used; every failure says what to
    do. FAL_IMAGE_URL names the endpoint to ask, if it is not FAL_IMAGE_PUBLIC_URL.
    """
    raise typer.Exit(report(os.environ, as_json=as_json, function=function))


def report(
    environ: Mapping[str, str],
    *,
    as_json: bool,
    function: str | None = None,
    seams: Seams = THE_WORLD,
) -> int:
    """Print what is found as soon as it is; the exit code that fits."""
    findings: list[Finding] = []
    exit_code = 0
    for finding, code in _found(environ, function, seams):
        findings.append(finding)
        exit_code = max(exit_code, code)
        if not as_json:
            _tell(finding)
    if as_json:
        said = {"ok": not exit_code, "findings": [finding.to_json() for finding in findings]}
        typer.echo(json.dumps(said, ensure_ascii=False))
    else:
        counts = Counter(finding.verdict for finding in findings)
        typer.echo(", ".join(f"{counts[verdict]} {verdict}" for verdict in counts))
    return exit_code


def _found(
    environ: Mapping[str, str], function: str | None, seams: Seams
) -> Iterator[tuple[Finding, int]]:
    """Every finding, and the exit code that it asks for."""
    try:
        services = app.compose(load(environ), environ=environ, seams=seams)
    except KeyUnavailable as error:
        fix = "Try again; if it stays so, see the network and the rights to read the parameter."
        yield failed(SETTINGS, str(error), fix), EXIT_FAILED
        return
    problems = [*services.settings.problems, *_problem_of_url(environ)]
    for problem in problems:
        yield failed(SETTINGS, problem, "Correct it; docs/settings.md lists them."), EXIT_USAGE
    if not problems:
        case = Case(services, environ, seams, function)
        for finding in examine(case):
            yield finding, EXIT_FAILED if finding.verdict == "failed" else 0


def _problem_of_url(environ: Mapping[str, str]) -> Iterator[str]:
    """FAL_IMAGE_URL is the command's own, and no setting of an endpoint."""
    text = environ.get("FAL_IMAGE_URL", "").strip()
    try:
        if text:
            web_url(text)
    except ValueError as error:
        yield f"FAL_IMAGE_URL: {error}"


def _tell(finding: Finding) -> None:
    """A line for the check and one for its fix; typer drops the colours where no terminal is."""
    typer.secho(f"{finding.verdict:8} ", fg=_COLOURS[finding.verdict], nl=False)
    typer.echo(f"{finding.check}: {finding.said}")
    if finding.fix:
        typer.echo(f"{_INDENT}{finding.fix}")

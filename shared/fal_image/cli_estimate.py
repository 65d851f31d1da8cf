"""`fal-image estimate`: what a request would cost, for a person or a program.

Refuses to know how the command line is parsed.
"""

from __future__ import annotations

import json
import sys

import typer
from rich.console import Console

from .generate import Estimate


def show(estimate: Estimate, console: Console) -> None:
    """Print the price on stdout, one JSON object when piped; what else is to be said goes to the
    console."""
    if not sys.stdout.isatty():
        typer.echo(json.dumps(estimate.to_json(), ensure_ascii=False))
        return
    if estimate.usd_micro is None:
        typer.echo(f"{estimate.model}: unknown, {estimate.reason}")
    else:
        usd = f"{estimate.usd_micro / 1_000_000:f}".rstrip("0").rstrip(".")
        source = "the catalog" if estimate.basis == "catalog" else "fal's price list"
        typer.echo(f"{estimate.model}: {usd} USD by {source} ({_units(estimate)})")
    for warning in estimate.warnings:
        console.print(warning.message, style="yellow", markup=False, highlight=False)


def _units(estimate: Estimate) -> str:
    text = f"{estimate.units} {estimate.unit}{'' if estimate.units == 1 else 's'}"
    text += f" at {estimate.unit_usd:f} USD"
    further = estimate.further_unit_usd
    return text if further is None else f"{text}, after the first at {further:f} USD"

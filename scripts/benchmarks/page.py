"""docs/performance.md: its table, written anew by a full run.

Knows the page's form only; all words around the table are somebody's.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

from . import contenders
from .report import Figure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- scripts/bench: begin -->", "<!-- scripts/bench: end -->"
HEAD = ("`--only`", "measure", "median", "least to most", "runs", "beside", "goal", "met")
_PYTHON_PEERS = ("fal-client", "requests", "boto3")


def machine() -> str:
    """The machine's class, and the versions of what was measured."""
    package = json.loads((contenders.PEERS / "package.json").read_text(encoding="utf-8"))
    peers = [f"{name} {pin}" for name, pin in package["dependencies"].items()]
    peers += [f"{name} {version(name)}" for name in _PYTHON_PEERS]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{os.cpu_count()} cores of {platform.machine()}, {memory_gb:.0f} GB, {platform.system()};"
        f" Python {platform.python_version()}, {_node()};"
        f" {', '.join(peers)}"
    )


def _node() -> str:
    if not shutil.which("node"):
        return "no Node"
    told = subprocess.run(["node", "--version"], capture_output=True, encoding="utf-8").stdout
    return f"Node {told.strip().removeprefix('v')}"


def write(figures: Mapping[str, Sequence[Figure]], today: date, page: Path = PAGE) -> None:
    """Put today's table in the place of the last one. Raises ValueError if there is no place."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name} has no place for the table")
    lines = [f"Measured on {today.isoformat()}: {machine()}.", "", *table(figures)]
    page.write_text("\n".join([before + begin, *lines, end + after]), encoding="utf-8")


def table(figures: Mapping[str, Sequence[Figure]]) -> list[str]:
    rows = [_row(name, figure) for name, found in figures.items() for figure in found]
    return [_line(HEAD), _line(["---"] * len(HEAD)), *map(_line, rows)]


def _row(name: str, figure: Figure) -> list[str]:
    return [
        name,
        figure.name,
        f"{figure.decided()} {figure.unit}".strip(),
        f"{figure.shown(figure.low)} to {figure.shown(figure.high)}",
        str(figure.runs),
        figure.beside(),
        figure.goal,
        {None: "", True: "yes", False: "**no**"}[figure.is_met],
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

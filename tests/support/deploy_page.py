"""docs/deploy.md as its tests read it: topics, and the commands of the shell's blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[2].joinpath("docs", "deploy.md").read_text(encoding="utf-8")


def topics() -> dict[str, str]:
    """The text below each heading."""
    parts = re.split(r"^##+ (.*)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(text: str) -> list[str]:
    """The lines of the shell's blocks, those that go on joined, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"(^|\s)# .*", "", line).strip() for line in lines) if line]


def simple(text: str) -> Iterator[list[str]]:
    """Every command by itself, split into words, without the settings before it."""
    for line in commands(text):
        for command in re.split(r" && | \| ", line):
            yield shlex.split(command)

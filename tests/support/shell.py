"""Blocks of the documentation's shell, carried out as a reader would paste them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

BIN = Path(__file__).parents[2] / ".venv" / "bin"

# The reader's curl, but quiet, never through a proxy, and at its end before the test is.
_CURL = "curl() { command curl --silent --show-error --noproxy '*' --max-time 15 \"$@\"; }\n"


def shell(
    block: str, folder: Path | None = None, timeout_s: int = 18, given: str = "", /, **environ: str
) -> subprocess.CompletedProcess[str]:
    """What a block did, in a shell that has our command on its path and stops at a failure."""
    return subprocess.run(
        ["bash", "-euc", _CURL + block],
        cwd=folder,
        env={"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **environ},
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=timeout_s,
    )


def answer_of(block: str, folder: Path | None = None, /, **environ: str) -> Any:
    """The JSON that a block of one command prints."""
    done = shell(block, folder, **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

"""The `fal-image` command: `program` is its beginning, and each command has a file."""

from __future__ import annotations

import sys


def main() -> None:
    """Carry out the command line of this process. Its commands are loaded here, so that Ctrl-C
    ends their loading too without a word."""
    try:
        from .output import run
        from .program import cli
    except KeyboardInterrupt:
        sys.exit(130)
    run(cli)

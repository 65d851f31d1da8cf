"""The server of a CloudBase HTTP function, or of a container: wiring only."""

from __future__ import annotations

import os

from fal_image.events.startup import built_once
from fal_image.server import bind, run
from fal_image.web import App

PORT = 9000  # CloudBase docs, scf_bootstrap: this port, on every interface
THREADS = 100  # the most requests at a time that CloudBase gives one instance


def _build() -> App:
    from fal_image.app import build  # in here, so that a package with parts missing still answers

    return build(os.environ)


def main() -> None:
    """Serve until the process is told to stop."""
    run(built_once(_build), bind("0.0.0.0", PORT), threads=THREADS)


if __name__ == "__main__":
    main()

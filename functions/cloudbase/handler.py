"""The entrypoint of a CloudBase event function, `functions/cloudbase/handler.main`: wiring only."""

from __future__ import annotations

import os
from typing import Any

from fal_image.events.cloudbase import handle
from fal_image.events.startup import built_once
from fal_image.web import App


def _build() -> App:
    from fal_image.app import build  # in here, so that a package with parts missing still answers

    return build(os.environ)


app = built_once(_build)


def main(event: object, context: object) -> dict[str, Any]:
    """Answer one invocation; never raises."""
    return handle(event, context, app)

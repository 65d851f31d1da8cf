"""What a stranger may be answered, whatever was sent."""

from __future__ import annotations

import json
from typing import Any

from fal_image.errors import catalog

# The errors there are, and success.
STATUSES = {200, 204} | {kind.status for kind in catalog()}


def status_of(answer: dict[str, Any]) -> int:
    """The status of a reply; a direct call's answer is an object with or without `error`."""
    json.dumps(answer)
    if "statusCode" in answer:
        return int(answer["statusCode"])
    return int(answer["status"]) if "error" in answer and "detail" in answer else 200

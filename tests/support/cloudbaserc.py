"""This project's cloudbaserc.json with a test's own changes, and a shell that lacks nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .entrypoints import FAL_KEY, KEY_SHA256, ROOT

FILE = ROOT / "cloudbaserc.json"
Config = dict[str, Any]
_CONFIG = json.loads(FILE.read_text(encoding="utf-8"))

EVENT, HTTP = 0, 1  # the functions' places in the file


def config(change: Callable[[Config], object] | None = None) -> Config:
    changed: Config = copy.deepcopy(_CONFIG)
    if change is not None:
        change(changed)
    return changed


def a_shell(**changes: str | None) -> dict[str, str]:
    """The variables that the file asks for; None leaves one out."""
    whole: dict[str, str | None] = {
        "ENV_ID": "pictures-3gabc",
        "FAL_KEY": FAL_KEY,
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        "FAL_IMAGE_SECRET": "canary0signing0secret0of0this0test",
        "CLOUDBASE_APIKEY": "canary0api0key",
        **changes,
    }
    return {name: text for name, text in whole.items() if text is not None}


def written(folder: Path, content: Config | str) -> Path:
    """The folder, with this as its cloudbaserc.json."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / FILE.name).write_text(text, encoding="utf-8")
    return folder

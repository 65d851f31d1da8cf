"""What a program keeps in a directory of its user's: `.fal-image`, where it was started."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def kept_secret(directory: Path) -> str:
    """The secret of whoever works in this directory: made once, then kept for its user only.

    Raises OSError. Of two programs that make one at once, the first one's counts for both.
    """
    path = directory / "secret"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        made = directory / f"secret.{secrets.token_hex(8)}"
        made.touch(mode=0o600)
        made.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    return path.read_text(encoding="utf-8")


def at_home(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The environment, with a place in this directory for what it does not name. Raises OSError."""
    home = directory.absolute()
    own = {
        "FAL_IMAGE_STORAGE_URL": (home / "pictures").as_uri(),
        "FAL_IMAGE_DATABASE_URL": (home / "fal-image.db").as_uri().replace("file:", "sqlite:", 1),
    }
    if not environ.get("FAL_IMAGE_SECRET"):
        own["FAL_IMAGE_SECRET"] = kept_secret(home)
    return {**own, **{name: value for name, value in environ.items() if value}}

"""What a program keeps in a directory of its user's: `.fal-image`, where it was started."""

from __future__ import annotations

import os
import secrets
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

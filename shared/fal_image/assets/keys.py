"""The names of what a job stores. Deterministic: copying again finds what is there already.

`<prefix>/<UTC date>/<job id>-<n>.<ext>` is the picture that callers get; its companions have one
word more. What callers never get a link to has a word that `of_picture` does not know.
"""

from __future__ import annotations

import re
from datetime import timezone
from typing import Literal

from msgspec import Struct

from ..jobs import ID_CHARS, Job

Part = Literal["", "original", "unmarked", "thumb"]
MANIFEST_EXTENSION = "json"

_NAME = re.compile(
    rf"\d{{4}}-\d\d-\d\d/([0-9a-z]{{{ID_CHARS}}})-(\d{{1,3}})"
    r"(?:-(original|thumb))?\.(?:png|jpg|webp|gif|avif)"
)
_ANY = re.compile(
    rf"\d{{4}}-\d\d-\d\d/[0-9a-z]{{{ID_CHARS}}}-\d{{1,3}}(?=(-[a-z]+)?\.[a-z]{{3,4}}$)"
)


class Named(Struct, frozen=True):
    """Which picture a key is of."""

    job_id: str
    index: int


def stem(prefix: str, job: Job, index: int) -> str:
    """What the keys of a job's picture begin with."""
    day = job.created_at.astimezone(timezone.utc)
    return f"{prefix}/{day:%Y-%m-%d}/{job.job_id}-{index}"


def key(stem: str, part: Part, extension: str) -> str:
    return f"{stem}-{part}.{extension}" if part else f"{stem}.{extension}"


def manifest_key(prefix: str, job: Job, index: int) -> str:
    return f"{stem(prefix, job, index)}.{MANIFEST_EXTENSION}"


def of_picture(key: str, prefix: str) -> Named | None:
    """The picture that callers may have under this key, None for any other key."""
    found = _NAME.fullmatch(_below(key, prefix))
    return Named(found[1], int(found[2])) if found else None


def manifest_of(key: str, prefix: str) -> str | None:
    """The key of the manifest that belongs to a picture's key, or to one of its companions'."""
    found = _ANY.match(_below(key, prefix))
    return f"{prefix}/{found[0]}.{MANIFEST_EXTENSION}" if found else None


def _below(key: str, prefix: str) -> str:
    return key[len(prefix) + 1 :] if key.startswith(f"{prefix}/") else ""

"""The names of those that a platform vouches for.

Refuses to know where a platform says it, and whether its owner takes its word.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from . import _fields

Kind = Literal["wechat", "cloudbase", "jwt", "iam"]
Identities = tuple[tuple[Kind, str], ...]

NOBODY: Identities = ()

_PREFIXES: dict[Kind, str] = {"wechat": "wx:", "cloudbase": "tcb:", "jwt": "jwt:", "iam": "iam:"}
_NAME = re.compile(r"[A-Za-z0-9_.:@/=-]{1,100}")
_DIGEST = re.compile(r"[0-9a-f]{32}")


def identity(kind: Kind, subject: object) -> Identities:
    """The one that the platform calls `subject`, nobody if that is no text.

    A subject that is no name among us, too long or with other characters, goes by half of its
    SHA-256. So does a token's that looks like such a half: some issuers let people choose theirs,
    and it could be somebody else's.
    """
    text = _fields.text(subject)
    if not text:
        return NOBODY
    name = _PREFIXES[kind] + text
    is_ours = _NAME.fullmatch(name) and not (kind == "jwt" and _DIGEST.fullmatch(text))
    if not is_ours:
        name = _PREFIXES[kind] + hashlib.sha256(text.encode()).hexdigest()[:32]
    return ((kind, name),)

"""Names and times of jobs: ids that sort by time, or that an intent always leads back to."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timezone

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, in lower case
ID_CHARS = 26
ID_BYTES = 16
RANDOM_BYTES = 10
ID = re.compile(rf"[{_ALPHABET}]{{{ID_CHARS}}}")


def new_job_id(now: datetime, randomness: bytes) -> str:
    """26 base-32 characters: 48 bits of milliseconds, then 80 random bits; sorts by time."""
    return base32(int(now.timestamp() * 1000).to_bytes(6, "big") + randomness[:RANDOM_BYTES])


def made_at(job_id: str) -> datetime | None:
    """When the id says that it was made; None for a time that no `new_job_id` had. An id that was
    derived says something, too, and it means nothing."""
    number = sum(_ALPHABET.index(char) << 5 * place for place, char in enumerate(job_id[::-1]))
    try:
        return datetime.fromtimestamp((number >> 8 * RANDOM_BYTES) / 1000, timezone.utc)
    except (ValueError, OverflowError):
        return None


def derived_id(secret: str, *parts: str) -> str:
    """26 base-32 characters that only the holder of the secret can make from these parts.

    The same parts always give the same id: this is how one intent finds its one job.
    """
    text = "\n".join(f"{len(part)}:{part}" for part in parts)
    content = text.encode("utf-8", "surrogatepass")
    return base32(hmac.new(secret.encode(), content, hashlib.sha256).digest()[:ID_BYTES])


def base32(content: bytes) -> str:
    """The bytes as one number in base 32, 5 bits a character, as short as their count allows."""
    number, chars = int.from_bytes(content, "big"), -(-len(content) * 8 // 5)
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(chars)))


def rfc3339(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    utc = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return utc.replace("+00:00", "Z")

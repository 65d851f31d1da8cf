"""A job: one paid request to fal and what became of it. Pure values and their JSON form."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

State = Literal["submitted", "storing", "done", "failed"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, in lower case
ID_CHARS = 26
RANDOM_BYTES = 10


@dataclass(frozen=True)
class Image:
    """One stored picture. The link is signed when the answer is made and dies at `expires_at`."""

    index: int
    file_id: str
    width: int
    height: int
    content_type: str
    bytes: int
    sha256: str
    nsfw: bool | None
    url: str | None = None
    expires_at: datetime | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "index": self.index,
            "fileID": self.file_id,
            "tempFileURL": self.url,
            "expiresAt": rfc3339(self.expires_at),
            "width": self.width,
            "height": self.height,
            "contentType": self.content_type,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "nsfw": self.nsfw,
        }


@dataclass(frozen=True)
class Cost:
    """In micro-USD; None is unknown. The estimate is made before, the actual after."""

    estimate_usd_micro: int | None = None
    actual_usd_micro: int | None = None
    billable_units: float | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "estimate": _usd(self.estimate_usd_micro),
            "actual": _usd(self.actual_usd_micro),
            "billableUnits": self.billable_units,
            "currency": "USD",
        }


@dataclass(frozen=True)
class JobWarning:
    """Something the caller should know although the job is done."""

    code: str
    message: str


@dataclass(frozen=True)
class Job:
    job_id: str
    model: str
    prompt: str | None
    created_at: datetime
    updated_at: datetime
    state: State = "submitted"
    finished_at: datetime | None = None
    images: tuple[Image, ...] = ()
    seed: int | None = None
    fal_request_id: str | None = None
    cost: Cost = Cost()
    timings_ms: dict[str, int] = field(default_factory=dict)
    output: object = None
    warnings: tuple[JobWarning, ...] = ()

    def to_json(self, request_id: str) -> dict[str, object]:
        """The job as callers see it. `fileID` and `tempFileURL` are those of the first image."""
        images = [image.to_json() for image in self.images]
        first = images[0] if images else {"fileID": None, "tempFileURL": None}
        return {
            "jobId": self.job_id,
            "state": self.state,
            "model": self.model,
            "prompt": self.prompt,
            "createdAt": rfc3339(self.created_at),
            "updatedAt": rfc3339(self.updated_at),
            "finishedAt": rfc3339(self.finished_at),
            "queuePosition": None,
            "logs": [],
            "images": images,
            "fileID": first["fileID"],
            "tempFileURL": first["tempFileURL"],
            "seed": self.seed,
            "falRequestId": self.fal_request_id,
            "requestId": request_id,
            "cost": self.cost.to_json(),
            "timingsMs": self.timings_ms,
            "batchId": None,
            "row": None,
            "output": self.output,
            "cached": False,
            "warnings": [{"code": w.code, "message": w.message} for w in self.warnings],
            "error": None,
        }


def new_job_id(now: datetime, randomness: bytes) -> str:
    """26 base-32 characters: 48 bits of milliseconds, then 80 random bits; sorts by time."""
    return base32(int(now.timestamp() * 1000).to_bytes(6, "big") + randomness[:RANDOM_BYTES])


def base32(content: bytes) -> str:
    """The bytes as one number in base 32, 5 bits a character, as short as their count allows."""
    number, chars = int.from_bytes(content, "big"), -(-len(content) * 8 // 5)
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(chars)))


def rfc3339(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    utc = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return utc.replace("+00:00", "Z")


def _usd(micro: int | None) -> float | None:
    return None if micro is None else micro / 1_000_000

"""What an examination says: one finding a check. Refuses to know how anything was asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What one check found. `check` is a stable name, `said` one sentence without secrets, `fix`
    what to do about it; a check that is skipped says why it could not be made from here."""

    check: str
    verdict: Verdict
    said: str
    fix: str | None = None

    def to_json(self) -> dict[str, str | None]:
        return asdict(self)


def ok(check: str, said: str) -> Finding:
    return Finding(check, "ok", said)


def warning(check: str, said: str, fix: str) -> Finding:
    return Finding(check, "warning", said, fix)


def failed(check: str, said: str, fix: str) -> Finding:
    return Finding(check, "failed", said, fix)


def skipped(check: str, said: str, fix: str | None = None) -> Finding:
    return Finding(check, "skipped", said, fix)

"""All checks at once, their findings in one order, and an end whatever hangs.

Each part has a thread of its own; a part that is silent is told of like one that failed. Refuses to
know what any check asks.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..front import Secrets
from ..logs import redact
from . import database, egress, endpoint, functions, platform, setup, storage
from .case import Case, Part
from .findings import Finding, failed

LIMIT_S = 50.0
MAX_SAID_CHARS = 500

PARTS: tuple[Part, ...] = (
    setup.PART,
    *egress.PARTS,
    platform.PART,
    storage.PART,
    database.PART,
    endpoint.PART,
    functions.PART,
)

_Heard = queue.Queue[Finding | None]


def examine(
    case: Case, parts: Sequence[Part] = PARTS, *, limit_s: float = LIMIT_S
) -> Iterator[Finding]:
    """Every finding as soon as it and those before it are known, within `limit_s` in all.

    Costs nothing at fal. Leaves in the storage one small picture where it may not delete it, and in
    the database documents that expire. Never raises; what hangs is left to the end of the process.
    """
    ends_at = time.monotonic() + limit_s
    secrets = list(Secrets(case.settings, case.services.variables))
    heard = [(part, _begun(part, case)) for part in parts]
    for part, findings in heard:
        for finding in _told(part, findings, ends_at, limit_s):
            yield _cleaned(finding, secrets)


def _begun(part: Part, case: Case) -> _Heard:
    findings: _Heard = queue.Queue()
    threading.Thread(target=_make, args=(part, case, findings), daemon=True).start()
    return findings


def _make(part: Part, case: Case, findings: _Heard) -> None:
    try:
        for finding in part.findings(case):
            findings.put(finding)
    except Exception as error:
        said = f"the check broke: {type(error).__name__}: {error}"
        findings.put(failed(part.name, said, "Report it, with the version and these words."))
    findings.put(None)


def _told(part: Part, findings: _Heard, ends_at: float, limit_s: float) -> Iterator[Finding]:
    while True:
        try:
            finding = findings.get(timeout=max(0.0, ends_at - time.monotonic()))
        except queue.Empty:
            yield failed(
                part.name,
                f"did not end within {limit_s:g} s",
                "Something on the way takes connections and does not answer: look at routes, "
                "firewalls and, in a VPC, at its endpoints.",
            )
            return
        if finding is None:
            return
        yield finding


def _cleaned(finding: Finding, secrets: Iterable[str]) -> Finding:
    fix = None if finding.fix is None else _clean(finding.fix, secrets)
    return replace(finding, said=_clean(finding.said, secrets), fix=fix)


def _clean(text: str, secrets: Iterable[str]) -> str:
    """One line without secrets: vendors' words may quote what they were sent."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = re.sub(r"(//)[^/?#@\s,]*@", r"\1***@", text)
    return re.sub(r"\s+", " ", redact(text)).strip()[:MAX_SAID_CHARS]

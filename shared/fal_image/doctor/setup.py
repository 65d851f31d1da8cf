"""What the settings say, and what is unwise in them. Asks nobody.

Settings that cannot be used never come so far: nothing can be examined with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from .case import Case, Part
from .findings import Finding, ok, warning


def _examine(case: Case) -> Iterator[Finding]:
    settings = case.settings
    kept = urlsplit(settings.storage_url or "").scheme
    jobs = urlsplit(settings.database_url or "").scheme
    said = (
        f"pictures are kept in {kept}://, jobs in {jobs}://"
        if jobs
        else (f"pictures are kept in {kept}://, jobs nowhere: requests are synchronous only")
    )
    yield ok("settings", said)
    for text in settings.warnings:
        name, _, advice = text.partition(": ")
        yield warning(
            f"settings.{name}", f"{name} {advice}", "See docs/settings.md and docs/secrets.md."
        )


PART = Part("settings", _examine)

"""The way out to fal: name, connection and TLS to each of its hosts, by one free request each.

Whatever is answered will do, also a 404. Refuses to know keys and models.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

from ..wire import FetchError, WireError
from .case import Case, Part
from .findings import Finding, failed, ok
from .reaching import why

QUEUE, REST, MEDIA = "queue.fal.run", "rest.fal.ai", "v3.fal.media"
_MAX_BYTES = 4 * 1024 * 1024


def _examine(host: str, case: Case) -> Iterator[Finding]:
    check, where = f"egress.{host}", case.settings.emulator_url
    try:
        _ask(case, host)
    except (WireError, FetchError) as error:
        said, fix = why(error)
        if where:
            fix = f"Start it (fal-image emulator), or unset FAL_IMAGE_EMULATOR_URL. {fix}"
        yield failed(check, f"{where or host} was not reached: {said}", fix)
    else:
        yield ok(check, f"{f'the emulator, for {host},' if where else host} answers")


def _ask(case: Case, host: str) -> None:
    url = f"https://{host}/"
    if host != MEDIA:
        case.wire.read(url, timeout_s=case.patience_s, max_bytes=_MAX_BYTES)
        return
    ends_at = case.seams.clock() + case.patience_s
    try:
        case.wire.fetch(url, io.BytesIO(), max_bytes=_MAX_BYTES, ends_at=ends_at)
    except FetchError as error:
        if isinstance(error.__cause__, WireError):  # else an answer came, if no picture
            raise


PARTS = tuple(Part(f"egress.{host}", partial(_examine, host)) for host in (QUEUE, REST, MEDIA))

"""Every attempt of this process to reach anybody, told by the interpreter itself.

An audit hook sees below every library and cannot be taken out again; while nobody watches, it
does nothing. Look-ups of names count: a name that was looked up was told to somebody.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_watchers: list[list[tuple[str, object]]] = []


@contextmanager
def watched(*, but: int = 0) -> Iterator[list[tuple[str, object]]]:
    """All there is while the block lasts, in any thread; not what goes to the port `but`."""
    _installed()
    seen: list[tuple[str, object]] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)
        seen[:] = [(event, where) for event, where in seen if not _leads_to(where, but)]


@cache
def _installed() -> None:
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _watchers and event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        where = arguments[:2] if event == "socket.getaddrinfo" else arguments[-1]
        for seen in list(_watchers):
            seen.append((event, where))


def _leads_to(where: object, port: int) -> bool:
    return isinstance(where, tuple) and len(where) > 1 and str(where[1]) == str(port)

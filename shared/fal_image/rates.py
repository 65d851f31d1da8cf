"""How often a caller may ask for what may cost something.

A fixed window: one counter for each caller, or ticket, and stretch of time. Refuses to know what is
asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from msgspec import Struct

from .access import Caller
from .database.base import Database
from .errors import RateLimited
from .ledger import database_answers

KEPT = timedelta(hours=1)  # a counter, after its window
PURGED_AT_ONCE = 100


class Rates(Struct, frozen=True):
    """`limit` in `window_s` seconds. `is_shared` says that all instances count together."""

    database: Callable[[], Database]
    limit: int
    window_s: int
    is_shared: bool
    now: Callable[[], datetime]

    def admit(self, caller: Caller, request_id: str) -> tuple[tuple[str, str], ...]:
        """Count one request, once; the headers that tell what is left. Raises RateLimited,
        DatabaseUnavailable."""
        now_s = self.now().timestamp()
        began_s = now_s - now_s % self.window_s
        ends_in_s = max(1, math.ceil(began_s + self.window_s - now_s))
        whose = f"ticket:{caller.ticket.id}" if caller.ticket else caller.name
        counter = f"rate:{whose}:{int(began_s)}"
        expires_at = datetime.fromtimestamp(began_s + self.window_s, timezone.utc) + KEPT
        with database_answers():
            database = self.database()
            if not self.is_shared:
                database.purge(self.now(), PURGED_AT_ONCE)  # no sweep knows of it
            is_in = database.take(counter, request_id, 1, self.limit, expires_at=expires_at)
            left = max(0, self.limit - database.total(counter)) if is_in else 0
        headers = self._headers(left, ends_in_s)
        if not is_in:
            raise RateLimited(
                f"more than {self.limit} requests in {self.window_s} s",
                headers=(*headers, ("retry-after", str(ends_in_s))),
            )
        return headers

    def _headers(self, left: int, ends_in_s: int) -> tuple[tuple[str, str], ...]:
        """Source: IETF draft "RateLimit header fields for HTTP", version 10."""
        name = "caller" if self.is_shared else "caller-and-instance"
        return (
            ("ratelimit-policy", f'"{name}";q={self.limit};w={self.window_s}'),
            ("ratelimit", f'"{name}";r={left};t={ends_in_s}'),
        )

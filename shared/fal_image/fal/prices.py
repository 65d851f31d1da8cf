"""fal's own price list, asked rarely: what a unit of a model costs now (fal docs, platform APIs).

Refuses to know what a request counts for, and the prices of the catalog.
"""

from __future__ import annotations

import math
import re
import threading
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import quote

from msgspec import Struct

from ..logs import logger
from ..wire import Answer, Clock, Wire, WireError
from . import refusals

URL = "https://api.fal.ai/v1/models/pricing"
PATIENCE_S = 3.0  # nobody waits longer for a price
KEPT_S = 3600.0
QUIET_S = 60.0  # after it did not answer, so that not everybody waits for it
MAX_KEPT = 1000  # ids come from strangers

_UNIT = re.compile(r"[ -~]{1,40}")


class NoPrice(Exception):
    """Why there is no price, in words for whoever asked for one."""


class Listed(Struct, frozen=True):
    """The price of one `unit`, in fal's word for it: "images", "megapixels", "seconds" and more."""

    usd: Decimal
    unit: str


@dataclass
class Prices:
    """What fal listed within the last hour. Shared between threads."""

    wire: Wire
    key: str | None = field(repr=False)
    clock: Clock
    _kept: dict[str, tuple[float, Listed | None]] = field(default_factory=dict)
    _quiet_until: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, model: str, *, ends_at: float) -> Listed:
        """What fal lists for a model. Raises NoPrice. Costs nothing."""
        now = self.clock()
        with self._lock:
            kept_until, listed = self._kept.get(model, (now, None))
            is_quiet = now < self._quiet_until
        if now >= kept_until:
            if not self.key:
                raise NoPrice("the catalog has no price for it, and without FAL_KEY fal tells none")
            if is_quiet:
                raise NoPrice("fal's price list does not answer")
            listed = self._asked(model, self.key, min(PATIENCE_S, ends_at - now))
        if listed is None:
            raise NoPrice("fal lists no price for it")
        return listed

    def _asked(self, model: str, key: str, timeout_s: float) -> Listed | None:
        url = f"{URL}?endpoint_id={quote(model, safe='')}"
        try:
            listed = _read(self.wire.call("GET", url, key=key, timeout_s=timeout_s), model)
        except (WireError, ValueError) as error:
            logger.info("fal's price list is of no use: %s", error)
            with self._lock:
                self._quiet_until = self.clock() + QUIET_S
            raise NoPrice("fal's price list does not answer") from None
        with self._lock:
            self._kept.pop(model, None)
            self._kept[model] = (self.clock() + KEPT_S, listed)
            while len(self._kept) > MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return listed


def _read(answer: Answer, model: str) -> Listed | None:
    """None for a model that fal does not list, or not in USD. Raises ValueError for an answer that
    says nothing."""
    if answer.status == 404:
        return None
    found = refusals.parse_json(answer.body)
    rows = found.get("prices") if isinstance(found, dict) else None
    if answer.status != 200 or not isinstance(rows, list):
        raise ValueError(f"HTTP {answer.status}")
    row = next((row for row in rows if _is_of(row, model)), None)
    return _listed(row) if row and row.get("currency") == "USD" else None


def _is_of(row: object, model: str) -> bool:
    return isinstance(row, dict) and row.get("endpoint_id") == model


def _listed(row: dict[str, object]) -> Listed:
    usd, unit = row.get("unit_price"), row.get("unit")
    is_number = isinstance(usd, (int, float)) and not isinstance(usd, bool) and math.isfinite(usd)
    if not is_number or not isinstance(unit, str) or not _UNIT.fullmatch(unit):
        raise ValueError("a price that cannot be read")
    return Listed(Decimal(str(usd)), unit)

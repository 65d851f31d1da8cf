"""What a test may put in the place of the world."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from msgspec import Struct, field

from .database.base import Database
from .storage.base import ObjectStorage
from .wire import Wire


class Seams(Struct, frozen=True):
    """The clocks, the dice, the way out, and what is kept where."""

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    sleep: Callable[[float], None] = time.sleep
    randomness: Callable[[int], bytes] = secrets.token_bytes
    detours: Mapping[str, str] = field(default_factory=dict)
    wire: type[Wire] = Wire
    storage: Callable[[ObjectStorage], ObjectStorage] = lambda opened: opened
    database: Callable[[Database], Database] = lambda opened: opened


THE_WORLD = Seams()

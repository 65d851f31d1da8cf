"""What the parts of picture processing share: whose picture it is, and that it cannot be done."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class CannotProcess(Exception):
    """The picture cannot be treated as wanted, now or later. `reason` is fit for strangers."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class About(Struct, frozen=True):
    """What an AI label says of a picture.

    `producer` is the name or code of who offers the service, `produce_id` their number for the
    picture. `prompt` and `seed` are None where nobody asked for them to be told.
    """

    producer: str
    produce_id: str
    model: str
    created_at: datetime
    prompt: str | None = None
    seed: int | None = None

"""Tickets: a caller with a key gives part of what it may do to somebody without one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal

from msgspec import Struct

from ..errors import DatabaseRequired, Unauthorized
from ..inputs import field_error, read_fields
from ..jobs import RANDOM_BYTES, base32, rfc3339
from ..settings import Settings
from ..tickets import DEFAULT_LIFE_S, Ticket, TicketWish, sealed
from ..web import Response, json_response
from .table import Call, Route

MAX_WILD = 4

_WILD = re.compile(r"\*+")


class TicketRoutes(Struct, frozen=True):
    settings: Settings
    now: Callable[[], datetime]
    randomness: Callable[[int], bytes]

    def table(self) -> tuple[Route, ...]:
        return (Route("POST", "/tickets", "key", self.mint),)

    def mint(self, call: Call) -> Response:
        """A new ticket. It spends its maker's money, and is kept nowhere: only what it used up."""
        if self.settings.database_url is None:
            raise DatabaseRequired("what a ticket uses up is counted in a database")
        if call.caller not in {caller for caller, _ in self.settings.api_keys}:
            raise Unauthorized("tickets are made with an API key")
        # A limit that was misspelled would be none: strange fields are refused.
        wanted = read_fields(call.json(), TicketWish)
        _check_globs(wanted.models or ())
        ticket = Ticket(
            id=base32(self.randomness(RANDOM_BYTES)),
            caller=call.caller or "",
            exp=math.ceil(self.now().timestamp()) + (wanted.expires_in_s or DEFAULT_LIFE_S),
            user=wanted.user,
            models=wanted.models,
            images=wanted.max_images,
            usd_micro=None if wanted.max_usd is None else _micro(wanted.max_usd),
            uses=wanted.uses,
            tokens=wanted.tokens,
        )
        call.note(ticketId=ticket.id)
        shown = {
            "ticket": sealed(ticket, self.settings.secrets[0]),
            "id": ticket.id,
            "caller": ticket.holder,
            "expiresAt": rfc3339(datetime.fromtimestamp(ticket.exp, timezone.utc)),
        }
        return json_response(200, shown, ("cache-control", "no-store"))


def _check_globs(globs: tuple[str, ...]) -> None:
    """Raises InvalidInput for what would take long to match: each is tried everywhere."""
    if any(len(_WILD.findall(glob)) > MAX_WILD for glob in globs):
        raise field_error("models", f"may have {MAX_WILD} wildcards in an id")


def _micro(usd: float) -> int:
    """By way of its text: 0.57 times a million is less than 570,000."""
    return math.floor(Decimal(str(usd)) * 1_000_000)

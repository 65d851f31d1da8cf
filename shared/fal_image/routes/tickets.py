"""Tickets: a caller with a key gives part of what it may do to somebody without one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal

from msgspec import Struct

from ..errors import DatabaseRequired, Unauthorized
from ..inputs import field_error
from ..jobs import RANDOM_BYTES, base32, rfc3339
from ..settings import Settings
from ..tickets import Ticket, sealed
from ..web import Response, json_response
from .table import Call, Route

DEFAULT_LIFE_S = 3600
MAX_LIFE_S = 7 * 24 * 3600
MAX_MODELS = 20
MAX_WILD = 4
MAX_COUNT = 1_000_000
MAX_USD = 1_000_000

_USER = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_WILD = re.compile(r"\*+")
_GLOB = re.compile(r"[A-Za-z0-9_.*/-]{1,200}")
FIELDS = frozenset({"models", "maxImages", "maxUsd", "uses", "expiresInS", "user", "tokens"})


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
        wanted = _Wanted(call.json())
        ticket = Ticket(
            id=base32(self.randomness(RANDOM_BYTES)),
            caller=call.caller or "",
            exp=math.ceil(self.now().timestamp())
            + (wanted.count("expiresInS", MAX_LIFE_S) or DEFAULT_LIFE_S),
            user=wanted.user(),
            models=wanted.models(),
            images=wanted.count("maxImages", MAX_COUNT),
            usd_micro=wanted.usd_micro(),
            uses=wanted.count("uses", MAX_COUNT),
            tokens=wanted.flag("tokens"),
        )
        call.note(ticketId=ticket.id)
        shown = {
            "ticket": sealed(ticket, self.settings.secrets[0]),
            "id": ticket.id,
            "caller": ticket.holder,
            "expiresAt": rfc3339(datetime.fromtimestamp(ticket.exp, timezone.utc)),
        }
        return json_response(200, shown, ("cache-control", "no-store"))


class _Wanted(Struct, frozen=True):
    """The body of a request for a ticket; each reader raises InvalidInput naming its field."""

    body: Mapping[str, object]

    def __post_init__(self) -> None:
        strange = set(self.body) - FIELDS
        if strange:  # a limit that was misspelled would be none
            raise field_error(min(strange)[:100], f"is none of {', '.join(sorted(FIELDS))}")

    def count(self, name: str, most: int) -> int | None:
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise field_error(name, f"must be a whole number, 1 to {most}")
        return value

    def usd_micro(self) -> int | None:
        value = self.body.get("maxUsd")
        if value is None:
            return None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # By way of its text: 0.57 times a million is less than 570,000.
        micro = math.floor(Decimal(str(value)) * 1_000_000) if is_number else 0
        if not 1 <= micro <= MAX_USD * 1_000_000:
            raise field_error("maxUsd", f"must be dollars, 0.000001 to {MAX_USD}")
        return micro

    def user(self) -> str | None:
        value = self.body.get("user")
        if value is not None and not (isinstance(value, str) and _USER.fullmatch(value)):
            raise field_error("user", "must be 1 to 64 letters, digits, and _ . @ -")
        return value if isinstance(value, str) else None

    def models(self) -> tuple[str, ...] | None:
        value = self.body.get("models")
        if value is None:
            return None
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_MODELS:
            raise field_error("models", f"must be a list of 1 to {MAX_MODELS} model ids or globs")
        if not all(isinstance(glob, str) and _GLOB.fullmatch(glob) for glob in value):
            raise field_error("models", "must hold model ids, in which * and ** stand for anything")
        if any(len(_WILD.findall(glob)) > MAX_WILD for glob in value):  # each is tried everywhere
            raise field_error("models", f"may have {MAX_WILD} wildcards in an id")
        return tuple(value)

    def flag(self, name: str) -> bool:
        value = self.body.get(name, False)
        if not isinstance(value, bool):
            raise field_error(name, "must be true or false")
        return value

"""Tickets: what a caller gives to a browser in place of its key, for little and for a short time.

`t1.<payload>.<signature>`, both base64url without padding; the payload is JSON, the signature the
HMAC-SHA256 of everything before it. What a ticket has used up is counted by the ledger. Refuses to
know databases and how a ticket is shown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import asdict

VERSION = "t1"
MAX_TICKET_CHARS = 4096
DEFAULT_LIFE_S = 3600
MAX_LIFE_S = 7 * 24 * 3600
MAX_MODELS = 20
MAX_COUNT = 1_000_000
MAX_USD = 1_000_000

# `$` alone would let a line's end pass, in Python and nowhere else.
_END = r"$(?!\n)"
Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Dollars = Annotated[
    float, Meta(ge=0.000001, le=MAX_USD, description=f"dollars, 0.000001 to {MAX_USD}")
]
Life = Annotated[int, Meta(ge=1, le=MAX_LIFE_S)]
Glob = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9_.*/-]{{1,200}}{_END}",
        description="a model id, in which * and ** stand for anything",
    ),
]
User = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9_.@-]{{1,64}}{_END}",
        description="1 to 64 letters, digits, and _ . @ -",
    ),
]


class TicketWish(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The limits of a new ticket. What is left out is no limit of its own; it lives for an hour.

    `user` tells holders apart: what one makes no other sees. With `tokens` fal's own tokens are
    handed out to its holder, and what they spend is not counted.
    """

    models: Annotated[tuple[Glob, ...], Meta(min_length=1, max_length=MAX_MODELS)] | None = None
    max_images: Count | None = None
    max_usd: Dollars | None = None
    uses: Count | None = None
    expires_in_s: Life | None = field(name="expiresInS", default=None)
    user: User | None = None
    tokens: bool = False


class Ticket(Struct, frozen=True):
    """What its holder may do. None is no limit of the ticket's own; `exp` is Unix seconds.

    `caller` made it and pays. `user` tells holders apart: what one makes no other sees. With
    `tokens` fal's own tokens are handed out, and what they spend is not counted.
    """

    id: str
    caller: str
    exp: int
    user: str | None = None
    models: tuple[str, ...] | None = None
    images: int | None = None
    usd_micro: int | None = None
    uses: int | None = None
    tokens: bool = False

    @property
    def holder(self) -> str:
        """Who acts with it."""
        return self.caller if self.user is None else f"{self.caller}:{self.user}"


def sealed(ticket: Ticket, secret: str) -> str:
    """The ticket as its holder shows it."""
    fields = asdict(ticket).items()
    # Not `in`: a limit of 0 equals False, and must not be left out.
    known = {name: value for name, value in fields if value is not None and value is not False}
    payload = json.dumps(known, separators=(",", ":")).encode()
    head = f"{VERSION}.{_text(payload)}"
    return f"{head}.{_mac(head, secret).decode()}"


def opened(shown: str, secrets: tuple[str, ...]) -> Ticket | None:
    """The ticket that was shown, None for what none of the secrets has sealed. Whether its time is
    over is for the caller to see."""
    head, _, signature = shown.rpartition(".")
    version, _, payload = head.partition(".")
    if version != VERSION or len(shown) > MAX_TICKET_CHARS:
        return None
    try:
        given = signature.encode()  # compared as text: base64 has several for the same bytes
        if not any(hmac.compare_digest(given, _mac(head, secret)) for secret in secrets):
            return None
        return _DECODER.decode(_bytes(payload))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None


def is_ticket(credential: str) -> bool:
    return credential.startswith(f"{VERSION}.")


# Made at import, by one thread: msgspec learns a type while others may already read it.
_DECODER: msgspec.json.Decoder[Ticket] = msgspec.json.Decoder(Ticket)
msgspec.json.Decoder(TicketWish)


def _mac(head: str, secret: str) -> bytes:
    mac = hmac.new(secret.encode(), f"ticket\n{head}".encode(), hashlib.sha256)
    return _text(mac.digest()).encode()


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

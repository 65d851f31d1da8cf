"""Who is asking, and from which web page. Decides nothing about money."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from .errors import Unauthorized
from .tickets import Ticket, is_ticket, opened
from .web import Headers, Request, Response

ANONYMOUS = "anonymous"
NEW_TICKET = "Ask whoever gave you the ticket for a new one."

# How fal's own keys look (a UUID, a colon, hex): a stranger's mistake that we can name.
_FAL_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}:[0-9a-f]{32,}")

# What gateways read in Authorization: a JSON Web Token, with or without its scheme, and AWS's
# Signature Version 4. No key or ticket of ours looks like either.
_GATEWAYS_OWN = re.compile(
    r"(?:(?i:bearer) +)?eyJ[\w-]*\.[\w-]*\.[\w-]*|AWS4-[A-Z0-9-]+ .*", re.ASCII | re.DOTALL
)

_ALLOWED_HEADERS = (
    "authorization, content-type, x-api-key, idempotency-key, prefer, accept, "
    "x-fal-target-url, x-fal-request-timeout, x-fal-request-start-timeout, x-fal-queue-priority, "
    "x-fal-runner-hint, x-fal-no-retry, x-fal-store-io, x-fal-object-lifecycle-preference, "
    "x-fal-object-lifecycle, x-fal-tags, x-app-fal-disable-fallback, "
    "openai-organization, openai-project, x-stainless-arch, x-stainless-helper-method, "
    "x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
)
_EXPOSED_HEADERS = (
    "location, retry-after, preference-applied, server-timing, x-request-id, x-fal-request-id, "
    "x-fal-error-type, x-fal-request-timeout-type, x-fal-billable-units, ratelimit, "
    "ratelimit-policy, x-should-retry"
)
PREFLIGHT_AGE_S = 7200  # Chromium keeps no preflight longer


class Caller(Struct, frozen=True):
    """Who asks: the name that jobs and files belong to, and the ticket it was shown with."""

    name: str
    ticket: Ticket | None = None


@dataclass(frozen=True)
class Access:
    """The callers an owner lets in. `api_keys` are pairs of a caller and a key's SHA-256; `trust`
    are the kinds of identities whose platform's word is taken. `takes_tickets`: what they use up
    can be counted."""

    api_keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    allow_anonymous: bool = False
    cors_origins: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    takes_tickets: bool = False
    now_s: Callable[[], float] = time.time

    def identify(self, request: Request) -> Caller:
        """The caller. Raises Unauthorized, which says what opens the door."""
        if request.platform.caller is not None:
            return Caller(request.platform.caller)
        names = (name for kind, name in request.platform.identities if kind in self.trust)
        trusted = next(names, None)
        credential = _credential(request.headers, is_checked=trusted is not None)
        if credential is not None and is_ticket(credential):
            return self._holder_of(credential)
        if credential is not None:
            return Caller(self._caller_of(credential))
        if trusted is not None:
            return Caller(trusted)
        if self.allow_anonymous:
            return Caller(ANONYMOUS)
        raise self._refusal("no API key was sent")

    def _holder_of(self, credential: str) -> Caller:
        ticket = opened(credential, self.secrets) if self.takes_tickets else None
        if ticket is None:
            raise self._refusal("the ticket was not made here", hint=NEW_TICKET)
        if ticket.exp <= self.now_s():
            raise self._refusal("the ticket's time is over", hint=NEW_TICKET)
        if ticket.caller not in {caller for caller, _ in self.api_keys}:
            raise self._refusal("whoever made the ticket is no caller any more", hint=NEW_TICKET)
        return Caller(ticket.holder, ticket)

    def _caller_of(self, credential: str) -> str:
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for caller, known in self.api_keys:  # to the last one: the time taken must not tell which
            if hmac.compare_digest(digest, known):
                found = caller
        if found is not None:
            return found
        if _FAL_KEY.fullmatch(credential):
            raise self._refusal(
                "that is a key of fal, not of this endpoint",
                hint="Keep fal keys out of requests: revoke this one if it left your machine, and "
                "send an API key of this endpoint instead.",
            )
        raise self._refusal("the API key is not known")

    def _refusal(self, detail: str, hint: str | None = None) -> Unauthorized:
        if not self.api_keys and not self.allow_anonymous:
            detail = "this endpoint is closed: no callers are configured"
            hint = (
                "The owner sets FAL_IMAGE_API_KEYS to caller=SHA-256 of a key, or "
                "FAL_IMAGE_ALLOW_ANONYMOUS=1 to let everybody spend."
            )
        return Unauthorized(detail, hint=hint, headers=_CHALLENGE)

    def cors_headers(self, request: Request) -> tuple[tuple[str, str], ...]:
        """What lets the asking page read an answer; empty unless its origin is configured."""
        if not self.cors_origins:
            return ()
        origin = request.headers.get("origin")
        if origin not in self.cors_origins or origin is None:
            return (("vary", "Origin"),)
        return (
            ("vary", "Origin"),
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", _EXPOSED_HEADERS),
        )

    def preflight(self, request: Request, methods: str) -> Response:
        """The answer to OPTIONS; like every answer it gets `cors_headers` as well."""
        answer = Response(204, b"", (("allow", methods),))
        if request.headers.get("origin") not in self.cors_origins:
            return answer
        return answer.with_headers(
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", _ALLOWED_HEADERS),
            ("access-control-max-age", str(PREFLIGHT_AGE_S)),
        )


_CHALLENGE = (("www-authenticate", "Bearer"),)


def _credential(headers: Headers, *, is_checked: bool) -> str | None:
    """What the caller shows, in any of the three forms clients of fal send.

    `is_checked`: whoever vouches for the caller has read the Authorization header, so a token or a
    signature that stands there is meant for them and not for us.
    """
    authorization = (headers.get("authorization") or "").strip()
    if is_checked and _GATEWAYS_OWN.fullmatch(authorization):
        authorization = ""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() in {"bearer", "key"} and value.strip():
        return value.strip()
    if scheme:
        raise Unauthorized("the Authorization header is neither Bearer nor Key", headers=_CHALLENGE)
    return (headers.get("x-api-key") or "").strip() or None

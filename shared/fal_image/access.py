"""Who is asking, and from which web page. Decides nothing about money."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from .errors import Unauthorized
from .web import Headers, Request, Response

ANONYMOUS = "anonymous"

# How fal's own keys look (a UUID, a colon, hex): a stranger's mistake that we can name.
_FAL_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}:[0-9a-f]{32,}")

_ALLOWED_HEADERS = (
    "authorization, content-type, x-api-key, idempotency-key, prefer, accept, "
    "x-fal-target-url, x-fal-request-timeout, x-fal-request-start-timeout, x-fal-queue-priority, "
    "x-fal-runner-hint, x-fal-no-retry, x-fal-store-io, x-fal-object-lifecycle-preference, "
    "x-fal-object-lifecycle, x-fal-tags, x-app-fal-disable-fallback"
)
_EXPOSED_HEADERS = (
    "location, retry-after, preference-applied, server-timing, x-request-id, x-fal-request-id, "
    "x-fal-error-type, x-fal-request-timeout-type, x-fal-billable-units"
)
PREFLIGHT_AGE_S = 7200  # Chromium keeps no preflight longer


@dataclass(frozen=True)
class Access:
    """The callers an owner lets in. `api_keys` are pairs of a caller and a key's SHA-256."""

    api_keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    allow_anonymous: bool = False
    cors_origins: tuple[str, ...] = ()

    def identify(self, request: Request) -> str:
        """The caller's name. Raises Unauthorized, which says what opens the door."""
        if request.platform.caller is not None:
            return request.platform.caller
        credential = _credential(request.headers)
        if credential is not None:
            return self._caller_of(credential)
        if self.allow_anonymous:
            return ANONYMOUS
        raise self._refusal("no API key was sent")

    def _caller_of(self, credential: str) -> str:
        digest = hashlib.sha256(credential.encode("utf-8", "surrogateescape")).hexdigest()
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


def _credential(headers: Headers) -> str | None:
    """What the caller shows, in any of the three forms clients of fal send."""
    scheme, _, value = (headers.get("authorization") or "").strip().partition(" ")
    if scheme.lower() in {"bearer", "key"} and value.strip():
        return value.strip()
    if scheme:
        raise Unauthorized("the Authorization header is neither Bearer nor Key", headers=_CHALLENGE)
    return (headers.get("x-api-key") or "").strip() or None

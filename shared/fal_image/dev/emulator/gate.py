"""Who may call: keys as fal checks them, and the short-lived tokens that fal hands out.

Knows fal's wordings of a refusal. Refuses to know whose key it is: every well-formed key is the
same account here.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable, Collection
from datetime import datetime, timedelta, timezone
from email.message import Message

from .exchange import Answer, json_answer

CDN_TOKEN_S = 30 * 24 * 3600  # fal hands out CDN tokens for about 30 days (live sample)
CDN_ONLY = frozenset({"storage/cdn"})
MAX_TOKENS = 10_000


class Gate:
    """Keys: every `id:secret` opens, except ids that were revoked or are locked."""

    def __init__(
        self,
        *,
        require_key: bool,
        revoked_key_ids: frozenset[str],
        locked_key_ids: frozenset[str],
        clock: Callable[[], float],
    ) -> None:
        """Tokens live by `clock`."""
        self._clock = clock
        self._require_key = require_key
        self._revoked = revoked_key_ids
        self._locked = locked_key_ids
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[frozenset[str], float]] = {}

    def refusal(self, headers: Message, *, app: str | None = None) -> Answer | None:
        """Why this caller may not go on, None if it may. `app` is owner/name on the model hosts."""
        if not self._require_key:
            return None
        scheme, _, key = (headers.get("authorization") or "").partition(" ")
        if not scheme:
            return _no_credential(app)
        key_id, _, key_secret = key.strip().partition(":")
        if scheme != "Key" or not key_id or not key_secret:
            return _refuse(
                401,
                "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'.",
            )
        if key_id in self._revoked:
            return _refuse(401, "No user found for Key ID and Secret")
        if key_id in self._locked:
            return _refuse(
                403,
                "User is locked. Reason: Exhausted balance. "
                "Top up your balance at fal.ai/dashboard/billing.",
            )
        return None

    def app_token(self, apps: Collection[str], lifetime_s: float) -> str:
        """A JWT-like token that opens `apps` (bare aliases or owner/alias/…) on the run host."""
        return self._issue(frozenset(apps), lifetime_s)

    def cdn_token(self) -> dict[str, str]:
        now = datetime.now(timezone.utc)
        return {
            "token": self._issue(CDN_ONLY, CDN_TOKEN_S),
            "token_type": "Bearer",
            "created_at": now.isoformat(),
            "expires_at": (now + timedelta(seconds=CDN_TOKEN_S)).isoformat(),
        }

    def token_opens(self, token: str, app: str) -> bool:
        """Whether `token` opens owner/alias `app`."""
        alias = app.split("/")[-1]
        return any(name == alias or f"{name}/".startswith(f"{app}/") for name in self._scope(token))

    def cdn_refusal(self, headers: Message) -> Answer | None:
        """Uploads to the CDN show the token that the token service gave."""
        scheme, _, token = (headers.get("authorization") or "").partition(" ")
        if not self._require_key or (scheme == "Bearer" and self._scope(token) == CDN_ONLY):
            return None
        return _refuse(401, "Invalid or expired CDN token")

    def _issue(self, scope: frozenset[str], lifetime_s: float) -> str:
        head = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=")
        token = f"{head.decode()}.{secrets.token_urlsafe(24)}.emulator"
        with self._lock:
            self._tokens[token] = (scope, self._clock() + lifetime_s)
            while len(self._tokens) > MAX_TOKENS:
                self._tokens.pop(next(iter(self._tokens)))
        return token

    def _scope(self, token: str) -> frozenset[str]:
        """What a token opens; nothing if it is unknown or has expired."""
        with self._lock:
            scope, dies_at = self._tokens.get(token, (frozenset[str](), 0.0))
        return scope if self._clock() < dies_at else frozenset()


def _no_credential(app: str | None) -> Answer:
    if app is None:
        return _refuse(401, "Authorization header is required")
    return _refuse(
        401,
        f'Cannot access application "{app}". '
        "Authentication is required to access this application.",
    )


def _refuse(status: int, detail: str) -> Answer:
    return json_answer(status, {"detail": detail})

"""fal's webhooks: whether a delivery is really fal's, and what it says of a job.

Source: fal docs, webhooks page. Refuses to know what our jobs do with it; cryptography is loaded by
the first delivery.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct

from ..errors import JwksUnavailable, Unauthorized
from ..jobs import base32
from ..logs import logger
from ..web import Headers
from ..wire import Clock, Wire, WireError
from . import refusals

JWKS_URL = "https://rest.fal.ai/.well-known/jwks.json"
MAX_JWKS_BYTES = 64 * 1024
FETCH_TIMEOUT_S = 5.0  # fal waits 15 s for our answer
KEYS_LIVE = timedelta(hours=24)  # fal asks receivers not to keep them for longer
REFRESH_PAUSE = timedelta(seconds=60)
RETRY_PAUSE = timedelta(seconds=5)
MAX_SKEW_S = 300

_STATUS = re.compile(r"Invalid status code: ([1-5][0-9]{2})\b")
_TOKEN_BYTES = 16


class Delivery(Struct, frozen=True):
    """What fal says became of a request: a payload, or a refusal.

    Neither is there if fal could not put it into a webhook, or not in a way we know: then the
    queue has the result. `is_ok` is fal's word that the model succeeded.
    """

    request_id: str
    is_ok: bool = False
    payload: object = None
    refusal: refusals.Refusal | None = None

    @property
    def has_payload(self) -> bool:
        return self.payload is not None


class _Signed(Struct, frozen=True):
    """The four headers of a delivery, each of a shape that fal's have."""

    request_id: str
    user_id: str
    timestamp: str
    signature: bytes

    def message(self, body: bytes) -> bytes:
        digest = hashlib.sha256(body).hexdigest()
        return "\n".join((self.request_id, self.user_id, self.timestamp, digest)).encode()


class _KeySet(Struct, frozen=True):
    """fal's public keys, 32 raw bytes each, and when they were read."""

    keys: tuple[bytes, ...]
    read_at: datetime

    def verify(self, signed: _Signed, message: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        for key in self.keys:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signed.signature, message)
            except InvalidSignature:
                continue
            return True
        return False


class Verifier:
    """Tells fal's deliveries from everybody else's. Safe to share between threads.

    fal's keys are read when the first delivery needs them and kept for 24 h. A signature that no
    key of them made may be a new key's, so they are read once more, but at most once a minute
    (every 5 s while there are none): strangers cannot make us ask fal more often than that, and
    only with headers that look like fal's.
    """

    def __init__(
        self, *, wire: Wire, now: Callable[[], datetime], clock: Clock, user_id: str | None
    ) -> None:
        """`user_id` is the only fal user to believe, None believes all. `clock` is that of
        `ends_at`; the age of keys is told by `now`, which also runs while a function is frozen."""
        self._wire = wire
        self._now = now
        self._clock = clock
        self._user_id = user_id
        self._reading = threading.Lock()
        self._key_set: _KeySet | None = None
        self._tried_at: datetime | None = None

    def verify(self, headers: Headers, body: bytes, *, ends_at: float) -> Delivery:
        """What fal says in a delivery; `body` is the request's raw bytes.

        Raises Unauthorized for what fal did not sign, did not sign just now or signed for another
        user; JwksUnavailable (fal repeats the delivery) if its keys cannot be read.
        """
        signed = self._read_headers(headers)
        message = signed.message(body)
        key_set = self._current(ends_at)
        if not key_set.verify(signed, message):
            newer = self._newer_than(key_set, ends_at)
            if newer is None or not newer.verify(signed, message):
                raise _refused("none of fal's keys made the signature")
        return _read_body(signed.request_id, body)

    def _read_headers(self, headers: Headers) -> _Signed:
        request_id, user_id, timestamp, signature = (
            _only(headers, f"x-fal-webhook-{name}", shape)
            for name, shape in (
                ("request-id", r"[!-~]{1,200}"),
                ("user-id", r"[!-~]{1,200}"),
                ("timestamp", r"[0-9]{1,12}"),
                ("signature", r"[0-9a-f]{128}"),
            )
        )
        if abs(int(self._now().timestamp()) - int(timestamp)) > MAX_SKEW_S:
            raise _refused("it was not signed within the last five minutes")
        if self._user_id is not None and user_id != self._user_id:
            raise _refused("it is not for the user in FAL_IMAGE_WEBHOOK_USER_ID")
        return _Signed(request_id, user_id, timestamp, bytes.fromhex(signature))

    def _current(self, ends_at: float) -> _KeySet:
        seen = self._key_set
        if seen is not None and _is_within(self._now() - seen.read_at, KEYS_LIVE):
            return seen
        newer = self._newer_than(seen, ends_at)
        if newer is None:
            raise JwksUnavailable("fal's signing keys could not be read")
        return newer

    def _newer_than(self, seen: _KeySet | None, ends_at: float) -> _KeySet | None:
        """Keys read after those in `seen`, by this thread or by the one it waited for; None if
        that failed or it is too early to ask fal again."""
        left_s = min(FETCH_TIMEOUT_S, ends_at - self._clock())
        if left_s <= 0 or not self._reading.acquire(timeout=left_s):
            return None
        try:
            if self._key_set is not seen:
                return self._key_set
            now = self._now()
            usable = seen is not None and _is_within(now - seen.read_at, KEYS_LIVE)
            pause = REFRESH_PAUSE if usable else RETRY_PAUSE
            if self._tried_at is not None and _is_within(now - self._tried_at, pause):
                return None
            self._tried_at = now
            keys = self._read_keys(left_s)
            if not keys:
                return None
            self._key_set = _KeySet(keys, now)
            return self._key_set
        finally:
            self._reading.release()

    def _read_keys(self, timeout_s: float) -> tuple[bytes, ...]:
        try:
            answer = self._wire.read(JWKS_URL, timeout_s=timeout_s, max_bytes=MAX_JWKS_BYTES)
        except WireError as error:
            logger.warning("no signing keys from fal: %s", error.reason)
            return ()
        keys = parse_keys(answer.body) if answer.status == 200 else ()
        if not keys:
            logger.warning("no signing keys from fal: HTTP %d without any", answer.status)
        return keys


def parse_keys(body: bytes) -> tuple[bytes, ...]:
    """The ED25519 keys of a JSON Web Key Set (RFC 7517, RFC 8037); others are skipped."""
    found = refusals.parse_json(body)
    listed = found.get("keys") if isinstance(found, dict) else None
    keys = map(_raw_key, listed if isinstance(listed, list) else ())
    return tuple(key for key in keys if key is not None)


def token(secrets: tuple[str, ...], job_id: str) -> str:
    """What only we can put into a job's webhook URL: 26 base-32 characters, by the first secret."""
    return _token(secrets[0], job_id)


def check_token(secrets: tuple[str, ...], job_id: str, shown: str) -> bool:
    """Whether any of the secrets made a token for this job. Takes as long when none did."""
    text = shown.encode(errors="replace")
    right = [hmac.compare_digest(_token(secret, job_id).encode(), text) for secret in secrets]
    return any(right)


def _token(secret: str, job_id: str) -> str:
    digest = hmac.new(secret.encode(), f"webhook\n{job_id}".encode(), hashlib.sha256).digest()
    return base32(digest[:_TOKEN_BYTES])


def _read_body(request_id: str, body: bytes) -> Delivery:
    """What a signed body says. Raises Unauthorized if it is about another request."""
    found = refusals.parse_json(body)
    fields = found if isinstance(found, dict) else {}
    named, status, payload = (fields.get(name) for name in ("request_id", "status", "payload"))
    if isinstance(named, str) and named != request_id:
        raise _refused("its header and its body name different requests")
    if status == "OK" and isinstance(named, str):
        return Delivery(request_id, True, None if fields.get("payload_error") else payload)
    code = _STATUS.match(str(fields.get("error")))
    if status == "ERROR" and isinstance(named, str) and code:
        return Delivery(request_id, refusal=_refusal(int(code[1]), payload))
    logger.warning("a webhook of fal's has a shape we do not know; the queue is asked instead")
    return Delivery(request_id)


def _refusal(status: int, payload: object) -> refusals.Refusal:
    fields = payload if isinstance(payload, dict) else {}
    error_type = fields.get("error_type")
    return refusals.Refusal(
        status,
        Headers(),
        fields.get("detail"),
        error_type if isinstance(error_type, str) else None,
    )


def _raw_key(listed: object) -> bytes | None:
    key = listed if isinstance(listed, dict) else {}
    x = key.get("x")
    if (key.get("kty"), key.get("crv")) != ("OKP", "Ed25519") or not isinstance(x, str):
        return None
    try:
        bare = x.rstrip("=")
        raw = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return raw if len(raw) == 32 else None


def _only(headers: Headers, name: str, shape: str) -> str:
    values = headers.get_all(name)
    if len(values) != 1 or not re.fullmatch(shape, values[0]):
        raise _refused(f"{name} is missing, doubled or malformed")
    return values[0]


def _is_within(age: timedelta, limit: timedelta) -> bool:
    return timedelta(0) <= age < limit  # a clock that was set back does not make things young


def _refused(reason: str) -> Unauthorized:
    """Who knocks learns nothing; the owner finds the reason in the log."""
    logger.warning("a webhook was refused: %s", reason)
    return Unauthorized("The webhook is not fal's", hint="Only fal calls this address.")

"""Notices: telling a receiver of the caller's choice that something came to its end.

Signed as Standard Webhooks (the specification of standardwebhooks.com). Refuses to know jobs and
batches, and when to try again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from .inputs import field_error
from .jobs import rfc3339
from .logs import logger
from .wire import Wire, WireError, host_matches, parse_target

FIELD = "webhookUrl"
TIMEOUT_S = 5.0
MAX_URL_CHARS = 2000


@dataclass(frozen=True)
class Notices:
    """`secrets` are the owner's, the newest first; `hosts` may be told, exact or as *.example.com.

    Safe to share between threads.
    """

    wire: Wire
    secrets: tuple[str, ...] = field(repr=False)
    hosts: tuple[str, ...]
    now: Callable[[], datetime]

    def check(self, url: object, name: str = FIELD) -> str:
        """The URL itself, if it is one that may be told. Raises InvalidInput naming the field."""
        if not isinstance(url, str) or len(url) > MAX_URL_CHARS:
            raise field_error(name, f"must be a string of at most {MAX_URL_CHARS} characters")
        try:
            host = parse_target(url).hostname or ""
        except ValueError as error:
            raise field_error(
                name,
                "must be https:// and a public host's name in lower case, without user, port and "
                "fragment",
            ) from error
        if not any(host_matches(host, pattern) for pattern in self.hosts):
            raise field_error(
                name, f"names the host {host}, which is not in FAL_IMAGE_WEBHOOK_HOSTS"
            )
        return url

    def send(
        self,
        url: str,
        message_id: str,
        event_type: str,
        data: Mapping[str, object],
        *,
        occurred_at: datetime | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> bool:
        """POST one notice; whether the receiver took it (2xx). Sending it again is always safe.

        A receiver knows a repeated notice by its `message_id`; `occurred_at` is when that happened
        which it tells of, None for now. Never raises for what the receiver, the network or a URL
        that is no longer allowed does.
        """
        timestamp = rfc3339(occurred_at or self.now())
        event = {"type": event_type, "timestamp": timestamp, "data": data}
        body = json.dumps(event, separators=(",", ":")).encode()
        headers = self._headers(message_id, body)
        try:
            host = parse_target(url).hostname
            status = self.wire.tell(
                url, body, hosts=self.hosts, headers=headers, timeout_s=timeout_s
            )
        except ValueError:
            logger.warning("a notice was not sent: its %s is not allowed any more", FIELD)
            return False
        except WireError as error:
            logger.warning("a notice to %s got no answer: %s", host, error.reason)
            return False
        if not 200 <= status < 300:
            logger.warning("a notice to %s was not taken: HTTP %d", host, status)
            return False
        return True

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        timestamp = str(int(self.now().timestamp()))
        signed = f"{message_id}.{timestamp}.".encode() + body
        macs = [hmac.new(_key(secret), signed, hashlib.sha256) for secret in self.secrets]
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(f"v1,{_base64(mac.digest())}" for mac in macs),
        }


def signing_secret(secret: str) -> str:
    """What a receiver needs to check the notices that are signed with a secret of the owner's.

    It gives away nothing else that the secret protects.
    """
    return f"whsec_{_base64(_key(secret))}"


def _key(secret: str) -> bytes:
    return hmac.new(secret.encode(), FIELD.encode(), hashlib.sha256).digest()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()

"""Webhooks: one signed POST for each finished job that asked for it, repeated until a 2xx.

Knows the payload, the signature and the key set (fal docs, webhooks page). Unlike fal it also
calls loopback addresses. cryptography is loaded by the first signature or key set, not by
importing this module.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .jobs import Job, Queue
from .models import Outcome
from .pictures import Picture

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ATTEMPTS = 11  # fal's older page: 10 retries over 2 h; the newer one: up to 31
ATTEMPT_S = 15.0  # the time-out of fal's first attempt
MAX_BACKOFF_S = 60.0
BAD_URL = "not a web address"
USER_ID = "fal-emulator-user"
NOT_JSON = (
    "Response payload is not JSON serializable. Either return a JSON serializable object or use "
    "the queue endpoint to retrieve the response."
)


class Signer:
    """An ED25519 key that lives as long as the emulator."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: Ed25519PrivateKey | None = None

    @property
    def public_key(self) -> bytes:
        """32 raw bytes."""
        return self._private_key().public_key().public_bytes_raw()

    def jwks(self) -> dict[str, object]:
        x = base64.urlsafe_b64encode(self.public_key).rstrip(b"=").decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "fal-emulator", "x": x}]}

    def headers(self, request_id: str, body: bytes, at_s: int) -> dict[str, str]:
        """The four headers; the signature covers the ids, the time and the raw body."""
        lines = [request_id, USER_ID, str(at_s), hashlib.sha256(body).hexdigest()]
        signature = self._private_key().sign("\n".join(lines).encode())
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": USER_ID,
            "X-Fal-Webhook-Timestamp": str(at_s),
            "X-Fal-Webhook-Signature": signature.hex(),
        }

    def _private_key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        with self._lock:
            if self._key is None:
                self._key = Ed25519PrivateKey.generate()
            return self._key


class Postman:
    """Delivers webhooks, each on a thread of its own that ends with the emulator."""

    def __init__(
        self, queue: Queue, signer: Signer, data_uri: Callable[[Picture], str], *, backoff_s: float
    ) -> None:
        """`backoff_s` is the pause before the first repetition; it doubles with each."""
        self._queue = queue
        self._signer = signer
        self._data_uri = data_uri
        self._backoff_s = backoff_s
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._at_work: dict[threading.Thread, http.client.HTTPConnection | None] = {}

    def expect(self, job: Job) -> None:
        """Call the job's webhook when it has ended."""
        thread = threading.Thread(target=self._deliver, args=(job,), daemon=True)
        with self._lock:
            self._at_work[thread] = None
        thread.start()

    def stop(self) -> None:
        """Drops what was not delivered. The queue must have been stopped before."""
        self._stopped.set()
        with self._lock:
            at_work = dict(self._at_work)
        for connection in at_work.values():
            if connection is not None and (sock := connection.sock) is not None:
                with suppress(OSError):  # the receiver may have closed it already
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in at_work:
            thread.join(ATTEMPT_S)

    def _deliver(self, job: Job) -> None:
        try:
            outcome = self._queue.wait(job)
            if outcome is not None:
                self._repeat(job, self._body(job, outcome))
        finally:
            with self._lock:
                self._at_work.pop(threading.current_thread(), None)

    def _repeat(self, job: Job, body: bytes) -> None:
        pause_s = self._backoff_s
        for _ in range(ATTEMPTS):
            answer = self._post(job, body)
            job.webhook_answers.append(answer)
            # 3xx and a URL that cannot be called fail for good (fal docs, webhooks page).
            if isinstance(answer, int) and 200 <= answer < 400 or answer == BAD_URL:
                return
            if self._stopped.wait(pause_s):
                return
            pause_s = min(pause_s * 2, MAX_BACKOFF_S)

    def _body(self, job: Job, outcome: Outcome) -> bytes:
        """fal's payload: OK or ERROR by the status of the result."""
        is_ok = outcome.status < 400
        head = {"request_id": job.request_id, "gateway_request_id": job.request_id}
        body = head | {"status": "OK" if is_ok else "ERROR", "payload": outcome.payload}
        if not is_ok:
            body["error"] = f"Invalid status code: {outcome.status}"
        if not outcome.has_json:
            body["payload_error"] = NOT_JSON
        return json.dumps(body, default=self._data_uri).encode()

    def _post(self, job: Job, body: bytes) -> int | str:
        """The receiver's status, or why there is none."""
        signed = self._signer.headers(job.request_id, body, int(time.time()))
        headers = {"content-type": "application/json", **signed}
        try:
            connection, target = _connection(job.webhook_url or "")
        except ValueError:
            return BAD_URL
        try:
            connection.connect()
            self._note(connection)
            connection.request("POST", target, body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    def _note(self, connection: http.client.HTTPConnection) -> None:
        """Let `stop` break this connection; raises OSError if it has come already."""
        with self._lock:
            if self._stopped.is_set():
                raise ConnectionAbortedError("the emulator has stopped")
            self._at_work[threading.current_thread()] = connection


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"not a web address: {url!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return kind(parts.hostname, parts.port, timeout=ATTEMPT_S), target

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
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .addresses import CDN
from .errands import Errands
from .faults import Fault, Script
from .jobs import Job, Queue
from .models import Outcome
from .pictures import Picture

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ATTEMPTS = 11  # fal's older page: 10 retries over 2 h; the newer one: up to 31
ATTEMPT_S = 15.0  # the time-out of fal's first attempt
MAX_BACKOFF_S = 60.0
SIGNATURE = "X-Fal-Webhook-Signature"
BAD_URL = "not a web address"
USER_ID = "fal-emulator-user"
STRANGER_ID = "another-fal-user"
FORGED_PAYLOAD = {"images": [{"url": f"https://{CDN}/files/b/00000000/forged.png"}], "seed": 0}
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

    def headers(
        self, request_id: str, body: bytes, at_s: int, *, user_id: str = USER_ID
    ) -> dict[str, str]:
        """The four headers; the signature covers the ids, the time and the raw body."""
        lines = [request_id, user_id, str(at_s), hashlib.sha256(body).hexdigest()]
        signature = self._private_key().sign("\n".join(lines).encode())
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": user_id,
            "X-Fal-Webhook-Timestamp": str(at_s),
            SIGNATURE: signature.hex(),
        }

    def _private_key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        with self._lock:
            if self._key is None:
                self._key = Ed25519PrivateKey.generate()
            return self._key


class Postman:
    """Delivers webhooks, also those that a fault forges, repeats or delays."""

    def __init__(
        self,
        *,
        queue: Queue,
        signer: Signer,
        errands: Errands,
        script: Script,
        data_uri: Callable[[Picture], str],
        backoff_s: float,
        detours: Mapping[str, str],
    ) -> None:
        """`backoff_s` is the pause before the first repetition; it doubles with each. What is for
        a host in `detours` is taken to the address that stands there instead."""
        self._queue = queue
        self._signer = signer
        self._errands = errands
        self._script = script
        self._data_uri = data_uri
        self._backoff_s = backoff_s
        self._detours = detours
        self._lock = threading.Lock()
        self._is_watching = False

    def expect(self, job: Job) -> None:
        """Call the job's webhook when it has ended."""
        self._queue.expect(job)
        with self._lock:
            is_first, self._is_watching = not self._is_watching, True
        if is_first:
            self._errands.send(self._watch)

    def _watch(self) -> None:
        """One thread waits for all jobs; those that have ended are told of side by side."""
        for job in self._queue.ended():
            self._errands.send(partial(self._deliver, job))

    def _deliver(self, job: Job) -> None:
        outcome = self._queue.outcome(job)
        if outcome is None:
            return
        body = self._body(job, outcome)
        fault = self._script.take("webhook")
        if fault and fault.kind == "late" and self._errands.pause(fault.options["seconds"]):
            return
        if fault and fault.kind == "duplicate":
            for _ in range(fault.options["copies"] - 1):
                self._post(job, *self._letter(job, body))
        self._repeat(job, body, fault)

    def _repeat(self, job: Job, body: bytes, fault: Fault | None) -> None:
        """Until it is taken; only the first attempt is forged or skewed."""
        pause_s = self._backoff_s
        for attempt in range(ATTEMPTS):
            answer = self._post(job, *self._letter(job, body, None if attempt else fault))
            # 3xx and a URL that cannot be called fail for good (fal docs, webhooks page).
            if isinstance(answer, int) and 200 <= answer < 400 or answer == BAD_URL:
                return
            if self._errands.pause(pause_s):
                return
            pause_s = min(pause_s * 2, MAX_BACKOFF_S)

    def _letter(
        self, job: Job, body: bytes, fault: Fault | None = None
    ) -> tuple[dict[str, str], bytes]:
        """Signed headers and the body that goes with them, or does not."""
        at_s = int(time.time())
        if fault and fault.kind == "skewed":
            at_s += round(fault.options["seconds"])
        what = fault.options["what"] if fault and fault.kind == "forged" else ""
        signer = Signer() if what == "key" else self._signer
        user_id = STRANGER_ID if what == "user" else USER_ID
        headers = signer.headers(job.request_id, body, at_s, user_id=user_id)
        if what == "signature":
            first, rest = headers[SIGNATURE][0], headers[SIGNATURE][1:]
            headers[SIGNATURE] = f"{int(first, 16) ^ 1:x}{rest}"
        if what == "body":
            forged = {**json.loads(body), "status": "OK", "payload": FORGED_PAYLOAD}
            body = json.dumps(forged).encode()
        return headers, body

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

    def _post(self, job: Job, signed: dict[str, str], body: bytes) -> int | str:
        """The receiver's status, or why there is none; both go into the ledger."""
        answer = self._answer(job.webhook_url or "", signed, body)
        job.webhook_answers.append(answer)
        return answer

    def _answer(self, url: str, signed: dict[str, str], body: bytes) -> int | str:
        headers = {"content-type": "application/json", **signed}
        try:
            parts = urlsplit(url)
            if detour := self._detours.get(parts.hostname or ""):
                headers["host"] = parts.netloc
                url = detour + parts._replace(scheme="", netloc="").geturl()
            return self._errands.post(url, body, headers, timeout_s=ATTEMPT_S)
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        except ValueError:
            return BAD_URL

"""AWS's services that take JSON: one signed call with a JSON answer.

What DynamoDB, SQS and Parameter Store need is one form of request. Refuses to know what is called.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime, timezone
from typing import Any

from msgspec import Struct

from .attempts import AwsError, persist
from .calls import Calls, Reply
from .credentials import Credentials, Keys
from .hosts import service_host
from .signing import signed_headers


class Protocol(Struct, frozen=True):
    """How a service takes calls: the first half of X-Amz-Target, and the version of its JSON."""

    service: str
    target: str
    json_version: str


class AwsService:
    """One service in one region. Safe to share between threads.

    A call is sent up to ATTEMPTS times when no answer comes, or one that says to try again: it must
    be one that may be carried out twice.
    """

    def __init__(
        self,
        protocol: Protocol,
        *,
        region: str,
        endpoint_url: str | None,
        read_timeout_s: float,
        sleep: Callable[[float], None] = time.sleep,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """No call is made yet. `endpoint_url` is another server that speaks the protocol."""
        host = endpoint_url or f"https://{service_host(protocol.service, region, environ)}"
        self._url = f"{host}/"
        self._protocol = protocol
        self._region = region
        self._credentials = Credentials(environ)
        self._calls = Calls(endpoint_url, read_timeout_s=read_timeout_s, environ=environ)
        self._sleep = sleep

    def call(self, operation: str, body: Mapping[str, object]) -> dict[str, Any]:
        """The answer of one operation. Raises AwsError."""
        content = json.dumps(body, separators=(",", ":")).encode()
        keys = self._credentials.current()
        return persist(lambda: self._once(operation, content, keys), self._sleep)

    def _once(self, operation: str, content: bytes, keys: Keys) -> dict[str, Any]:
        headers = {
            "content-type": f"application/x-amz-json-{self._protocol.json_version}",
            "x-amz-target": f"{self._protocol.target}.{operation}",
        }
        signed = signed_headers(
            "POST",
            self._url,
            headers,
            keys,
            body_sha256=hashlib.sha256(content).hexdigest(),
            service=self._protocol.service,
            region=self._region,
            now=datetime.now(timezone.utc),
        )
        with closing(self._calls.send("POST", self._url, signed, content)) as reply:
            return _read(reply)


def _read(reply: Reply) -> dict[str, Any]:
    content, told = reply.read(), reply.headers.get("x-amz-crc32") or ""
    if told.isdigit() and int(told) != zlib.crc32(content):
        raise AwsError("the answer is not what its checksum says", may_pass=True)
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        status = reply.status
        raise AwsError(f"HTTP {status}: no JSON object", status=status, may_pass=status == 200)
    if reply.status == 200:
        return said
    code = str(said.get("__type", "")).rpartition("#")[2]
    # After its first line a refused signature's message repeats the session token.
    message = str(said.get("message") or said.get("Message") or "").partition("\n")[0]
    reason = f"HTTP {reply.status} {code}: {message}"
    raise AwsError(reason, code=code, status=reply.status, said=said)

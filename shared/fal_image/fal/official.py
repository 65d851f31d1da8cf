"""fal's own Python client over our wire, for calls so rare that they may wait for its import.

Loading fal-client and httpx takes longer than all of ours, so what lies on the way to a picture is
written in `client` instead, and tests hold its submit to fal-client's byte by byte. fal-client's
retry loop never runs: the transport under it reads the whole answer and raises WireError, which
the loop does not know. Refuses to know what an answer means.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import fal_client
import httpx

from ..wire import Wire


@dataclass(frozen=True)
class _Transport(httpx.BaseTransport):
    wire: Wire
    key: str = field(repr=False)
    left_s: float
    bodies: list[bytes]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.wire.call(
            request.method,
            str(request.url),
            key=self.key,
            timeout_s=min(self.left_s, request.extensions["timeout"]["read"]),
        )
        self.bodies.append(answer.body)
        return httpx.Response(200, request=request)  # else fal-client would raise its own errors


def cancel(wire: Wire, key: str, model: str, request_id: str, left_s: float) -> bytes:
    """Ask fal to drop a job; the body of the answer, whatever its status. Raises WireError; may be
    repeated.

    `_client` is a cached property of fal-client 1.0.3, which is why that release is pinned.
    """
    bodies: list[bytes] = []
    client = fal_client.SyncClient(key=key)
    transport = _Transport(wire, key, left_s, bodies)
    client.__dict__["_client"] = httpx.Client(transport=transport, trust_env=False)
    client.cancel(model, request_id)
    return bodies[-1]

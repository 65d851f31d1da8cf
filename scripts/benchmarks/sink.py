"""A bucket that keeps nothing: takes what is put into it, as fast as this machine can read.

Speaks as much of S3 as a put needs and refuses an unsigned one; what S3 checks beside that, the
suite's own servers check. `python -m scripts.benchmarks.sink DELAY_S` says its address, then serves
until it is ended. Each put is answered `DELAY_S` late.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Mapping

_OK = b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nContent-Length: 0\r\n\r\n'
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class Sink:
    """All puts so far, over all connections."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, headers = _read_head(head)
                writer.write(await self._answered(line, headers, reader, writer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # the other side has gone

    async def _answered(
        self,
        line: str,
        headers: Mapping[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes:
        if "100-continue" in headers.get("expect", ""):
            writer.write(_GO_ON)
        digest, left = hashlib.md5(usedforsecurity=False), int(headers.get("content-length", 0))
        while left:
            piece = await reader.read(min(left, 1 << 20))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            digest.update(piece)
            left -= len(piece)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        is_signed = headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 ")
        if not line.startswith("PUT ") or not is_signed:
            return _REFUSED
        return _OK % digest.hexdigest().encode()


def _read_head(head: bytes) -> tuple[str, dict[str, str]]:
    line, *rest = head.decode("latin-1").rstrip().split("\r\n")
    pairs = (field.partition(":") for field in rest)
    return line, {name.lower(): value.strip() for name, _, value in pairs}


async def main() -> None:
    server = await asyncio.start_server(Sink(float(sys.argv[1])).serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

"""Downloads that go wrong, as replies: too short, too long, of another type, gone.

Knows the formats' trailers and PNG chunks. Refuses to know where pictures come from.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator

from .exchange import Answer, Flow, Reply, json_answer
from .faults import Fault

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEADER_BYTES = len(PNG_SIGNATURE) + 25  # the signature and the IHDR chunk
CHUNK_OVERHEAD_BYTES = 12
PAD_TYPE = b"emPd"  # ancillary, private, safe to copy: readers skip it (PNG specification, 5.4)
PAD_BYTES = 256 * 1024
TRAILER_BYTES = {"image/png": 12, "image/jpeg": 2, "image/webp": 16}
HTML = b"<!doctype html><title>Not a picture</title><h1>Attention required</h1>"


def reply_to(fault: Fault, body: bytes, png: bytes, headers: dict[str, str]) -> Reply:
    """What a caller gets instead of `body`; `png` is the same picture as a PNG."""
    if fault.kind == "vanished":
        return json_answer(404, {"detail": "File not found"})
    if fault.kind == "redirect":
        return Answer(302, b"", {"location": fault.options["url"]})
    if fault.kind == "truncated":
        return _truncated(body, headers, fault.options["declare"])
    if fault.kind == "mistyped":
        if fault.options["body"] == "html":
            return Answer(200, HTML, {**headers, "content-type": "image/png"})
        return Answer(200, png, {**headers, "content-type": "image/jpeg"})
    headers = {**headers, "content-type": "image/png"}
    size_bytes = fault.options["bytes"]
    if fault.kind == "padded":
        pads = max(0, size_bytes - len(png) - CHUNK_OVERHEAD_BYTES)
        total = len(png) + sum(CHUNK_OVERHEAD_BYTES + size for size in _pad_sizes(pads))
        return Flow(200, _padded(png, pads), headers, declared_bytes=total)
    return Flow(200, _oversize(png, size_bytes), headers, declared_bytes=size_bytes or None)


def _truncated(body: bytes, headers: dict[str, str], declare: str) -> Reply:
    if declare == "whole":
        return Flow(200, [body[: len(body) // 2]], headers, len(body), hang_up=True)
    return Answer(200, body[: -TRAILER_BYTES.get(headers["content-type"], 1)], headers)


def _oversize(png: bytes, size_bytes: int) -> Iterator[bytes]:
    block = bytes(PAD_BYTES)
    blocks = itertools.chain([png[:PNG_HEADER_BYTES]], itertools.repeat(block))
    if not size_bytes:
        yield from blocks
    left = size_bytes
    for piece in blocks:
        if left <= 0:
            return
        yield piece[:left]
        left -= len(piece)


def _padded(png: bytes, pads: int) -> Iterator[bytes]:
    """The picture with empty chunks behind its header: decoders skip them."""
    yield png[:PNG_HEADER_BYTES]
    whole = _chunk(PAD_BYTES)
    for size in _pad_sizes(pads):
        yield whole if size == PAD_BYTES else _chunk(size)
    yield png[PNG_HEADER_BYTES:]


def _pad_sizes(pads: int) -> Iterator[int]:
    """Sizes of the chunks' contents that make up about `pads` bytes in the file."""
    whole, rest = divmod(pads, PAD_BYTES + CHUNK_OVERHEAD_BYTES)
    yield from itertools.repeat(PAD_BYTES, whole)
    if rest > CHUNK_OVERHEAD_BYTES:
        yield rest - CHUNK_OVERHEAD_BYTES


def _chunk(size: int) -> bytes:
    content = bytes(size)
    check = zlib.crc32(PAD_TYPE + content)
    return struct.pack(">I", size) + PAD_TYPE + content + struct.pack(">I", check)

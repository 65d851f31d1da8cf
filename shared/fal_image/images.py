"""What a downloaded picture is: its format and size from its own bytes, and whether it is whole.

Reads headers, segment lengths and trailers of a seekable file, never the pixels, so memory does not
grow with the picture and nothing is decoded. Refuses to know where the bytes came from, what they
were said to be, and whether the pixels between header and trailer make sense.
"""

from __future__ import annotations

import codecs
import io
import zlib
from typing import BinaryIO

from msgspec import Struct

MAX_PIXELS = 100_000_000  # a viewer needs 4 bytes for each; more is a bomb rather than a picture

CONTENT_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
}

_MAX_STEPS = 4096  # segments or chunks before the size is known; real pictures have a few dozen
_MAX_PADDING_BYTES = 4096  # one disk block: some JPEG encoders fill up their last one


class NotAPicture(Exception):
    """The bytes are no picture, or not a whole one. `reason` is fit for strangers."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Picture(Struct, frozen=True):
    """What the bytes say of themselves. `extension` has no dot; `bytes` is the file's length."""

    content_type: str
    extension: str
    width: int
    height: int
    bytes: int


def inspect(file: BinaryIO) -> Picture:
    """The picture in a seekable file, whole from its first byte to its last; moves the position.

    Knows PNG, JPEG, WebP and GIF. Raises NotAPicture for everything else, for a picture that is
    cut short or has foreign bytes behind it, and for one over MAX_PIXELS.
    """
    end = file.seek(0, io.SEEK_END)
    head = _read(file, 0, min(64, end))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        extension, (width, height) = "png", _png_size(file, end)
    elif head.startswith(b"\xff\xd8\xff"):
        extension, (width, height) = "jpg", _jpeg_size(file, end)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        extension, (width, height) = "webp", _webp_size(file, end)
    elif head.startswith((b"GIF87a", b"GIF89a")):
        extension, (width, height) = "gif", _gif_size(file, end)
    else:
        raise NotAPicture(_looks_like(head))
    if not width or not height:
        raise NotAPicture(f"a picture of {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise NotAPicture(f"{width} x {height} pixels are more than the {MAX_PIXELS} allowed")
    return Picture(CONTENT_TYPES[extension], extension, width, height, end)


_PNG_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_PNG_IEND = b"\0\0\0\0IEND\xaeB`\x82"


def _png_size(file: BinaryIO, end: int) -> tuple[int, int]:
    """PNG specification, third edition: 11.2.1 (IHDR) and 11.2.4 (IEND)."""
    chunk = _read(file, 8, 25)
    length, kind, fields = _big(chunk[:4]), chunk[4:8], chunk[8:21]
    if (length, kind) != (13, b"IHDR") or zlib.crc32(chunk[4:21]) != _big(chunk[21:]):
        raise NotAPicture("a PNG with a broken header")
    depth, colour, compression, filtering, interlace = fields[8:]
    if depth not in _PNG_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise NotAPicture("a PNG with an impossible header")
    if _read(file, end - len(_PNG_IEND), len(_PNG_IEND)) != _PNG_IEND:
        raise NotAPicture("a PNG that does not end with its end mark (IEND): cut short, or more")
    return _big(fields[:4]), _big(fields[4:8])


# Marks without a length (T.81, table B.1): a second start, an end and restarts belong elsewhere.
_JPEG_BARE = {0x00, 0x01, *range(0xD0, 0xDA)}


def _jpeg_size(file: BinaryIO, end: int) -> tuple[int, int]:
    """ITU-T T.81, annex B: segments up to the first scan, one of them a frame header (SOFn)."""
    size = None
    at = 2
    for _ in range(_MAX_STEPS):
        marker = _read(file, at, 2)
        if marker[0] != 0xFF:
            raise NotAPicture("a JPEG whose segments do not follow one another")
        if marker[1] == 0xFF:  # any number of these may stand before a marker (B.1.1.2)
            at += 1
            continue
        length = _big(_read(file, at + 2, 2))
        if marker[1] in _JPEG_BARE or length < 2:
            raise NotAPicture("a JPEG with a broken segment before its picture")
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in {0xC4, 0xC8, 0xCC}:
            size = _jpeg_frame(_read(file, at + 4, 6), length)
        at += 2 + length
        if marker[1] == 0xDA:
            if size is None:
                raise NotAPicture("a JPEG that does not tell its size")
            _check_jpeg_end(file, at, end)
            return size
    raise NotAPicture(f"a JPEG with {_MAX_STEPS} segments and no picture")


def _jpeg_frame(frame: bytes, length: int) -> tuple[int, int]:
    components = frame[5]
    if not components or length != 8 + 3 * components:
        raise NotAPicture("a JPEG with a broken frame header")
    return _big(frame[3:5]), _big(frame[1:3])


def _check_jpeg_end(file: BinaryIO, scan: int, end: int) -> None:
    """The end mark (EOI) behind the first scan, and then nothing but zeros.

    Zeros are let through because some encoders fill up their last block, and cannot hide a loss:
    inside a scan the bytes FF D9 never occur, so they stand before zeros only where it ended.
    """
    start = max(scan, end - _MAX_PADDING_BYTES)
    if not _read(file, start, max(0, end - start)).rstrip(b"\0").endswith(b"\xff\xd9"):
        raise NotAPicture("a JPEG that does not end with its end mark (EOI): cut short, or more")


def _webp_size(file: BinaryIO, end: int) -> tuple[int, int]:
    """WebP container specification (RFC 9649, section 2): the RIFF length covers the file."""
    length = _little(_read(file, 4, 4))
    if 8 + length + length % 2 != end:
        raise NotAPicture(f"a WebP that says {8 + length} bytes and has {end}: cut short, or more")
    canvas, at = None, 12
    for _ in range(_MAX_STEPS):
        kind, size = _read(file, at, 4), _little(_read(file, at + 4, 4))
        if at + 8 + size > end:
            raise NotAPicture("a WebP whose parts are longer than the file")
        if kind in {b"VP8 ", b"VP8L"}:
            frame = _webp_frame(kind, _read(file, at + 8, 10))
            if canvas not in {None, frame}:
                raise NotAPicture("a WebP whose two sizes differ")
            return frame
        if kind == b"ANMF" and canvas:
            return canvas
        if kind == b"VP8X":
            fields = _read(file, at + 8, 10)
            canvas = 1 + _little(fields[4:7]), 1 + _little(fields[7:10])
        at += 8 + size + size % 2
    raise NotAPicture(f"a WebP with {_MAX_STEPS} parts and no picture")


def _webp_frame(kind: bytes, frame: bytes) -> tuple[int, int]:
    """The size in a lossy (RFC 6386, 9.1) or a lossless (RFC 9649, 3.4) frame's first bytes."""
    if kind == b"VP8 ":
        if frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
            raise NotAPicture("a lossy WebP with a broken frame header")
        return _little(frame[6:8]) & 0x3FFF, _little(frame[8:10]) & 0x3FFF
    bits = _little(frame[1:5])
    if frame[0] != 0x2F or bits >> 29:
        raise NotAPicture("a lossless WebP with a broken frame header")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _gif_size(file: BinaryIO, end: int) -> tuple[int, int]:
    """GIF89a specification: 18 (logical screen), 16 (block terminator) and 27 (trailer).

    The blocks in between are not followed, so a cut is seen unless it falls on these two bytes.
    """
    screen = _read(file, 6, 7)
    if _read(file, end - 2, 2) != b"\0;":
        raise NotAPicture("a GIF that does not end with its end mark: cut short, or more")
    return _little(screen[:2]), _little(screen[2:4])


def _looks_like(head: bytes) -> str:
    """What bytes that are none of our pictures seem to be; their content is not repeated."""
    if not head:
        return "empty: no bytes at all"
    if head[4:8] == b"ftyp":
        if head[8:12] in {b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"}:
            return "an AVIF or HEIC picture, a format that is not taken here"
        return "a video (MP4 or its kin), not a picture"
    text = _text(head).lstrip("\ufeff \t\r\n").lower()
    if text.startswith(("<!doctype html", "<html")):
        return "an HTML page, not a picture"
    if text.startswith(("<svg", "<?xml")):
        return "an XML or SVG document, not a picture of pixels"
    if text.startswith(("{", "[")):
        return "JSON, not a picture"
    if text:
        return "text, not a picture"
    return f"no picture format that is taken here (the first bytes are {head[:4].hex(' ')})"


def _text(head: bytes) -> str:
    """The text that begins with these bytes, empty when they are no text in UTF-8."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a cut last character is fine
    except UnicodeDecodeError:
        return ""
    return text if all(char.isprintable() or char in "\ufeff\t\r\n" for char in text) else ""


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    """Exactly `count` bytes. Raises NotAPicture where the file does not have them."""
    if at < 0:
        raise NotAPicture("cut short: the file ends inside its header")
    file.seek(at)
    found = file.read(count)
    if len(found) < count:
        raise NotAPicture("cut short: the file ends inside its header")
    return found


def _big(number: bytes) -> int:
    return int.from_bytes(number, "big")


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")

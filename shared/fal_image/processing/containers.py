"""Where a PNG, JPEG, WebP or GIF keeps its XMP packet, and how another takes its place.

The places are those of the XMP specification, part 3, and of the formats' own specifications. Only
headers and metadata are read, never pixels; everything that is not a packet stays, byte for byte
and in its order. Refuses to know what a packet says.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from msgspec import Struct

from ..images import Picture
from .base import CannotProcess

MAX_PACKET_BYTES = 1024 * 1024  # read into memory; real ones have a few thousand
_MAX_STEPS = 100_000  # parts of a file; encoders cut a picture of 64 MiB into 8192 (libpng)
_MAX_GIF_STEPS = 500_000  # 64 MiB in blocks of 255 bytes are 263,000
_BLOCK_BYTES = 256 * 1024

# What a decoder takes up before it comes to the pixels, some of it in time that grows with its
# square; real pictures have some ten parts and a few thousand bytes.
_MAX_EXTRAS = 1000
_MAX_COMMENTS_BYTES = 256 * 1024


class Splice(Struct, frozen=True):
    """These bytes in place of what is between two positions of a file."""

    start: int
    stop: int
    new: bytes = b""


class Container:
    """A picture's file. `packet` is the XMP packet in it, `room` how long one may be.

    `text_label` tells that a PNG has a text that is a label of GB 45438-2025. Of several packets,
    which no format allows, the first counts and the others go.
    """

    room = MAX_PACKET_BYTES

    def __init__(self, file: BinaryIO, picture: Picture) -> None:
        self.file = file
        self.picture = picture
        self.packet: bytes | None = None
        self.text_label = False
        self.old: list[Splice] = []
        self.at = self._find()

    def splices(self, packet: bytes, text: str) -> list[Splice]:
        """What to change so that the file has this packet, and in a PNG the label as a text."""
        return [Splice(self.at, self.at, self._framed(packet)), *self.old]

    def _find(self) -> int:
        """Look for a packet; the position where one belongs."""
        raise NotImplementedError

    def _framed(self, packet: bytes) -> bytes:
        raise NotImplementedError

    def _found(self, start: int, stop: int, packet: bytes | None) -> None:
        if not self.old:
            self.packet = packet
        self.old.append(Splice(start, stop))

    def _read(self, at: int, count: int) -> bytes:
        """Exactly `count` bytes. Raises CannotProcess where the file does not have them."""
        return _read(self.file, at, count)

    def _read_packet(self, at: int, count: int) -> bytes:
        if count > MAX_PACKET_BYTES:
            raise CannotProcess("its own metadata is too big to be added to")
        return self._read(at, count)


_PNG_XMP = b"XML:com.adobe.xmp\0"
_PNG_AIGC = b"AIGC\0"
_PNG_BEGIN = 33  # signature and IHDR, which stands first (PNG, third edition, 5.6)


class Png(Container):
    """XMP is an iTXt chunk with a keyword of its own (XMP specification, part 3)."""

    def _find(self) -> int:
        for at, kind, length in _png_chunks(self.file):
            if kind not in {b"iTXt", b"tEXt"}:
                continue
            head = self._read(at + 8, min(length, len(_PNG_XMP)))
            if kind == b"iTXt" and head == _PNG_XMP:
                # Only the first counts: many small ones could hold much when they are inflated.
                text = None if self.old else _itxt_text(self._read_packet(at + 8, length))
                self._found(at, at + 12 + length, text)
            elif head.startswith(_PNG_AIGC):
                self.text_label |= b'"Label"' in self._read_packet(at + 8, length)
        return _PNG_BEGIN

    def splices(self, packet: bytes, text: str) -> list[Splice]:
        label = _chunk(b"tEXt", _PNG_AIGC + text.encode("latin-1")) if text else b""
        return [Splice(self.at, self.at, self._framed(packet) + label), *self.old]

    def _framed(self, packet: bytes) -> bytes:
        # Not compressed, no language, no translated keyword (PNG, third edition, 11.3.3.4).
        return _chunk(b"iTXt", _PNG_XMP + bytes(4) + packet)


def _png_chunks(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Where each chunk begins, its kind and how much is in it."""
    at = 8
    for _ in range(_MAX_STEPS):
        length, kind = struct.unpack(">I4s", _read(file, at, 8))
        yield at, kind, length
        if kind == b"IEND":
            return
        at += 12 + length
    raise CannotProcess("it is a PNG in too many parts")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _itxt_text(data: bytes) -> bytes | None:
    """The text of an iTXt with the keyword of XMP, None if it cannot be read."""
    fields = data[len(_PNG_XMP) :]
    texts = fields[2:].split(b"\0", 2)  # language tag, translated keyword, text
    if len(texts) < 3:
        return None
    if not fields[0]:
        return texts[2]
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(texts[2], MAX_PACKET_BYTES)
    except zlib.error:
        return None
    if inflater.unconsumed_tail:
        raise CannotProcess("its own metadata is too big to be added to")
    return text


_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"


class Jpeg(Container):
    """XMP is an APP1 segment behind those of JFIF and Exif (XMP specification, part 3).

    What an extended packet has in segments of its own stays there; the main one still names it.
    """

    room = 65502  # a segment has 65533 bytes, the packet is told to have at most these

    def _find(self) -> int:
        place, is_front = 2, True
        for at, marker, stop in self._segments():
            head = self._read(at + 4, min(stop - at - 4, len(_JPEG_XMP)))
            if marker == 0xE1 and head == _JPEG_XMP:
                begin = at + 4 + len(_JPEG_XMP)
                self._found(at, stop, self._read(begin, stop - begin))
            is_front &= marker == 0xE0 or (marker == 0xE1 and head.startswith(b"Exif\0"))
            if is_front:
                place = stop
        return self.old[0].start if self.old else place

    def _framed(self, packet: bytes) -> bytes:
        data = _JPEG_XMP + packet
        if len(data) > 65533:  # it was in UTF-16, and UTF-8 needs more for what it says
            raise CannotProcess("its own metadata leaves no room for the AI label")
        return b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data

    def _segments(self) -> Iterator[tuple[int, int, int]]:
        """What stands before the first scan: where it begins, its marker, where it ends."""
        at = 2
        for _ in range(_MAX_STEPS):
            filled, marker, length = struct.unpack(">BBH", self._read(at, 4))
            if filled == marker == 0xFF:  # any number of these may stand before a marker (B.1.1.2)
                at += 1
                continue
            if filled != 0xFF or length < 2:
                raise CannotProcess("it is a JPEG whose segments do not follow one another")
            if marker == 0xDA:
                return
            yield at, marker, at + 2 + length
            at += 2 + length
        raise CannotProcess("it is a JPEG in too many parts")


_VP8X_ALPHA, _VP8X_XMP = 0x10, 0x04


class Webp(Container):
    """XMP is a chunk behind the picture, announced by a flag in VP8X (RFC 9649, 2.7)."""

    def _find(self) -> int:
        self.header: tuple[int, bytes] | None = None
        self.has_alpha = False
        at, stop = 12, self.picture.bytes
        for _ in range(_MAX_STEPS):
            if at == stop:
                return stop
            kind, size = struct.unpack("<4sI", self._read(at, 8))
            end = at + 8 + size + size % 2
            if end > stop:
                raise CannotProcess("it is a WebP whose parts are longer than the file")
            if kind == b"VP8X":
                self.header = at + 8, self._read(at + 8, 1)
            elif kind == b"VP8L":
                # After the signature and twice 14 bits of size (RFC 9649, 3.4).
                self.has_alpha = bool(self._read(at + 8, 5)[4] & 0x10)
            elif kind == b"XMP ":
                self._found(at, end, self._read_packet(at + 8, size))
            at = end
        raise CannotProcess("it is a WebP in too many parts")

    def splices(self, packet: bytes, text: str) -> list[Splice]:
        changes = [*super().splices(packet, text), self._flagged()]
        length = self.picture.bytes - 8
        length += sum(len(each.new) - (each.stop - each.start) for each in changes)
        return [Splice(4, 8, struct.pack("<I", length)), *changes]

    def _flagged(self) -> Splice:
        """The XMP flag, in the VP8X chunk that is there or in a new one."""
        if self.header is not None:
            at, flags = self.header
            return Splice(at, at + 1, bytes([flags[0] | _VP8X_XMP]))
        flags = bytes([_VP8X_XMP | (_VP8X_ALPHA if self.has_alpha else 0)])
        sides = [
            (side - 1).to_bytes(3, "little") for side in (self.picture.width, self.picture.height)
        ]
        return Splice(12, 12, b"VP8X" + struct.pack("<I", 10) + flags + bytes(3) + b"".join(sides))

    def _framed(self, packet: bytes) -> bytes:
        return b"XMP " + struct.pack("<I", len(packet)) + packet + bytes(len(packet) % 2)


_GIF_EXTENSION, _GIF_IMAGE = b"\x21", b"\x2c"
_GIF_COMMENT = b"\x21\xfe"
_GIF_XMP = b"\x21\xff\x0bXMP DataXMP"
# A reader that skips blocks by their lengths, wherever it lands in a packet, comes out at the end.
_GIF_TRAILER = b"\x01" + bytes(range(0xFF, -1, -1)) + b"\0"


class Gif(Container):
    """XMP is an application extension that is not cut into blocks (XMP specification, part 3)."""

    def _find(self) -> int:
        begin = 13 + _gif_palette(self.file, 10)
        for at, kind, stop in _gif_parts(self.file, begin):
            if kind != _GIF_EXTENSION or stop - at < len(_GIF_XMP):
                continue
            if self._read(at, len(_GIF_XMP)) == _GIF_XMP:
                packet = self._read_packet(at + len(_GIF_XMP), stop - at - len(_GIF_XMP))
                self._found(at, stop, packet[: -len(_GIF_TRAILER)])
        return begin

    def splices(self, packet: bytes, text: str) -> list[Splice]:
        return [Splice(3, 6, b"89a"), *super().splices(packet, text)]  # 87a has no extensions

    def _framed(self, packet: bytes) -> bytes:
        return _GIF_XMP + packet + _GIF_TRAILER


def _gif_parts(file: BinaryIO, begin: int) -> Iterator[tuple[int, bytes, int]]:
    """Where each extension and each image begins, which of them it is, and where it ends."""
    at, steps = begin, iter(range(_MAX_GIF_STEPS))
    for _ in range(_MAX_STEPS):
        kind = _read(file, at, 1)
        if kind == b"\x3b":
            return
        if kind not in {_GIF_EXTENSION, _GIF_IMAGE}:
            raise CannotProcess("it is a GIF whose blocks do not follow one another")
        blocks = at + 2 if kind == _GIF_EXTENSION else at + 11 + _gif_palette(file, at + 9)
        stop = _behind_blocks(file, blocks, steps)
        yield at, kind, stop
        at = stop
    raise CannotProcess("it is a GIF in too many parts")


def _gif_palette(file: BinaryIO, at: int) -> int:
    """How many bytes of colours follow a descriptor with these flags (GIF89a, 18 and 20)."""
    (flags,) = _read(file, at, 1)
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind_blocks(file: BinaryIO, at: int, steps: Iterator[int]) -> int:
    for _ in steps:
        (size,) = _read(file, at, 1)
        at += 1 + size
        if not size:
            return at
    raise CannotProcess("it is a GIF in too many parts")


_CONTAINERS: dict[str, type[Container]] = {"png": Png, "jpg": Jpeg, "webp": Webp, "gif": Gif}


def opened(file: BinaryIO, picture: Picture) -> Container:
    """The container that a picture is in. Raises CannotProcess if it is none of ours, or broken."""
    kind = _CONTAINERS.get(picture.extension)
    if kind is None:
        raise CannotProcess(f"nothing can be written into the metadata of {picture.content_type}")
    return kind(file, picture)


def check_extras(file: BinaryIO, picture: Picture) -> None:
    """Raises CannotProcess for a PNG or GIF with so much beside its pixels that a decoder would
    take minutes for it, and for one in which that cannot be counted."""
    if picture.extension == "png":
        pixels = {b"IDAT", b"fdAT", b"fcTL"}
        extras = sum(kind not in pixels for _, kind, _ in _png_chunks(file))
        comments = 0
    elif picture.extension == "gif":
        extras, comments = _gif_extras(file)
    else:
        return
    if extras > _MAX_EXTRAS or comments > _MAX_COMMENTS_BYTES:
        raise CannotProcess("it has too much beside its pixels")


def _gif_extras(file: BinaryIO) -> tuple[int, int]:
    """How many extensions stand before the first image, and how long the comments among them."""
    extras = comments = 0
    for at, kind, stop in _gif_parts(file, 13 + _gif_palette(file, 10)):
        if kind == _GIF_IMAGE:
            break
        extras += 1
        if _read(file, at, 2) == _GIF_COMMENT:
            comments += stop - at
    return extras, comments


def copy(source: BinaryIO, splices: Sequence[Splice], into: BinaryIO) -> int:
    """Copy a file with its changes, block by block; how many bytes that are.

    What is inserted at a position comes before what is taken out behind it.
    """
    written = at = 0
    for each in sorted(splices, key=lambda splice: (splice.start, splice.stop)):
        written += _copy_range(source, at, each.start, into) + len(each.new)
        into.write(each.new)
        at = each.stop
    return written + _copy_range(source, at, None, into)


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    """Exactly `count` bytes. Raises CannotProcess where the file does not have them."""
    file.seek(at)
    found = file.read(count)
    if len(found) < count:
        raise CannotProcess("it is cut short")
    return found


def _copy_range(source: BinaryIO, start: int, stop: int | None, into: BinaryIO) -> int:
    source.seek(start)
    copied = 0
    while stop is None or start + copied < stop:
        left = _BLOCK_BYTES if stop is None else min(_BLOCK_BYTES, stop - start - copied)
        block = source.read(left)
        if not block:
            break
        into.write(block)
        copied += len(block)
    return copied

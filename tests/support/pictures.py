"""Small pictures that every decoder accepts, and big ones that cost nothing to make."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO

from PIL import Image

WIDTH, HEIGHT = 21, 13  # odd and unequal, so that no reader can mix them up unseen


@lru_cache
def _saved(kind: str, width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    left = Image.linear_gradient("L").resize((width, height))
    right = Image.radial_gradient("L").resize((width, height))
    file = io.BytesIO()
    Image.merge("RGB", (left, right, left)).convert(mode).save(file, kind, **options)
    return file.getvalue()


def png(*, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return _saved("PNG", width, height)


def jpeg(*, width: int = WIDTH, height: int = HEIGHT, progressive: bool = False) -> bytes:
    return _saved("JPEG", width, height, progressive=progressive)


def webp_lossy(*, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return _saved("WEBP", width, height)


def webp_lossless(*, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return _saved("WEBP", width, height, lossless=True)


def webp_extended(*, width: int = WIDTH, height: int = HEIGHT, lossless: bool = False) -> bytes:
    """With a VP8X chunk, because there is metadata beside the picture."""
    return _saved("WEBP", width, height, lossless=lossless, xmp=b"<x/>")


@lru_cache
def webp_animated(*, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    frames = [Image.new("RGB", (width, height), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


def gif(*, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return _saved("GIF", width, height, "P")


# Every kind of picture that is taken, by name, with its content type and extension.
KINDS: dict[str, tuple[Callable[..., bytes], str, str]] = {
    "png": (png, "image/png", "png"),
    "jpeg": (jpeg, "image/jpeg", "jpg"),
    "jpeg progressive": (lambda **size: jpeg(progressive=True, **size), "image/jpeg", "jpg"),
    "webp lossy": (webp_lossy, "image/webp", "webp"),
    "webp lossless": (webp_lossless, "image/webp", "webp"),
    "webp extended": (webp_extended, "image/webp", "webp"),
    "webp extended lossless": (
        lambda **size: webp_extended(lossless=True, **size),
        "image/webp",
        "webp",
    ),
    "webp animated": (webp_animated, "image/webp", "webp"),
    "gif": (gif, "image/gif", "gif"),
}


def png_header(
    *, width: int = WIDTH, height: int = HEIGHT, kind: bytes = b"\x08\x02\0\0\0"
) -> bytes:
    """A PNG's first 33 bytes, their checksum right, for sizes nobody could draw."""
    fields = b"IHDR" + struct.pack(">II", width, height) + kind
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + fields + _crc(fields)


def png_of(length: int) -> BinaryIO:
    """A decodable PNG of about `length` bytes in a file; it takes disk or memory only for zeros."""
    small = png()
    fields = b"zzZz" + bytes(length)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(small[:33] + struct.pack(">I", length) + fields + _crc(fields) + small[33:])
    file.seek(0)
    return file


def _crc(fields: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(fields))

"""Pictures into the processing and out of it again, for tests that look at pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFont

from fal_image.images import Picture, inspect
from fal_image.processing.base import CannotProcess
from fal_image.processing.transforms import redraw, shrink
from fal_image.treatment import Thumbnail, Transforms

from . import pictures

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(width: int, height: int, colour: tuple[int, ...] = RED) -> bytes:
    """A PNG of one colour."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(colour)]
    return saved(Image.new(mode, (width, height), colour))


def halves(width: int, height: int) -> bytes:
    """A PNG whose left half is red and its right half blue."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return saved(image)


def look(content: bytes) -> Image.Image:
    """The pixels of a file, with what its header says in `info`."""
    opened: Image.Image = Image.open(io.BytesIO(content))
    opened.load()
    return opened


def redrawn(content: bytes, transforms: Transforms | None = None, **options: Any) -> Image.Image:
    return look(redrawn_bytes(content, transforms, **options)[0])


def redrawn_bytes(
    content: bytes,
    transforms: Transforms | None = None,
    *,
    picture: Picture | None = None,
    watermark: bytes | None = None,
    is_marked: bool = False,
    font: str | None = None,
    xmp: bytes | None = None,
) -> tuple[bytes, Picture]:
    into = io.BytesIO()
    what = redraw(
        io.BytesIO(content),
        picture or inspect(io.BytesIO(content)),
        into,
        transforms=transforms,
        is_marked=is_marked,
        watermark=None if watermark is None else io.BytesIO(watermark),
        font=font,
        xmp=xmp,
    )
    return into.getvalue(), what


def refusal(content: bytes, transforms: Transforms | None = None, **options: Any) -> str:
    with pytest.raises(CannotProcess) as caught:
        redrawn_bytes(content, transforms, **options)
    return caught.value.reason


def shrunk(content: bytes, width: int, height: int, picture: Picture | None = None) -> Image.Image:
    into = io.BytesIO()
    what = shrink(
        io.BytesIO(content),
        picture or inspect(io.BytesIO(content)),
        into,
        Thumbnail(width=width, height=height),
        xmp=None,
    )
    image = look(into.getvalue())
    assert (what.width, what.height) == image.size
    return image


def pillows_font() -> bytes:
    """The font that Pillow carries: a TrueType file with few letters."""
    font = ImageFont.load_default(10)
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert isinstance(font.path, io.BytesIO)
    return font.path.getvalue()


def font_with(letter: str, path: Path) -> str:
    """A font file of one letter, which looks as Pillow's `A`; gives its path."""
    font = pillows_font()
    glyph = 0x24  # of the capital A in most fonts, in Pillow's too
    groups = (1).to_bytes(4, "big") + b"".join(
        number.to_bytes(4, "big") for number in (ord(letter), ord(letter), glyph)
    )
    subtable = b"\0\x0c\0\0" + (12 + len(groups)).to_bytes(4, "big") + bytes(4) + groups
    cmap = b"\0\0\0\1" + b"\0\3\0\x0a" + (12).to_bytes(4, "big") + subtable
    count = int.from_bytes(font[4:6], "big")
    entries = [12 + 16 * number for number in range(count)]
    (entry,) = (at for at in entries if font[at : at + 4] == b"cmap")
    where = (len(font) + 3) // 4 * 4
    moved = where.to_bytes(4, "big") + len(cmap).to_bytes(4, "big")
    whole = (font[: entry + 8] + moved + font[entry + 16 :]).ljust(where, b"\0") + cmap
    path.write_bytes(whole)
    return str(path)


def tall_png(width: int, height: int) -> bytes:
    """A PNG that says it is this large, and has no pixels at all."""
    return pictures.png_header(width=width, height=height) + b"\0\0\0\0IEND\xaeB`\x82"

"""Small pictures of pictures: always below their limit, never of a bomb."""

from __future__ import annotations

import base64
import io
import random

import pytest
from PIL import Image

from fal_image.mcp_server.previews import MAX_CHARS, preview_of
from fal_image.treatment import MAX_PIXELS
from support import pictures


def saved(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def noise(side_px: int) -> bytes:
    """What no encoder makes small."""
    return saved(Image.frombytes("RGB", (side_px,) * 2, random.Random(7).randbytes(side_px**2 * 3)))


def shown(preview: str | None) -> Image.Image:
    assert preview is not None
    return Image.open(io.BytesIO(base64.b64decode(preview)))


@pytest.mark.parametrize("max_chars", [MAX_CHARS, MAX_CHARS // 4, 4000])
def test_the_worst_picture_fits(max_chars: int):
    preview = preview_of(noise(1024), max_chars=max_chars)
    assert len(preview or "") <= max_chars
    assert max(shown(preview).size) <= 512
    assert MAX_CHARS < 64 * 1024


def test_where_nothing_fits_there_is_none():
    assert preview_of(noise(1024), max_chars=300) is None


@pytest.mark.parametrize(
    "content", [pictures.png(), pictures.jpeg(), pictures.webp_lossy(), pictures.gif()]
)
def test_every_kind_is_shown_and_none_enlarged(content: bytes):
    picture = shown(preview_of(content, max_chars=MAX_CHARS))
    assert (picture.format, picture.size) == ("JPEG", (pictures.WIDTH, pictures.HEIGHT))


def test_transparency_shows_as_white():
    glass = saved(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    assert shown(preview_of(glass, max_chars=MAX_CHARS)).getpixel((4, 4)) == (255, 255, 255)


def test_a_turned_picture_is_shown_upright():
    turned = Image.new("RGB", (40, 20), "red")
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter (Exif, tag Orientation)
    file = io.BytesIO()
    turned.save(file, "JPEG", exif=exif)
    assert shown(preview_of(file.getvalue(), max_chars=MAX_CHARS)).size == (20, 40)


def test_a_bomb_is_not_decoded():
    side_px = int(MAX_PIXELS**0.5) + 1
    bomb = saved(Image.new("1", (side_px, side_px)))
    assert len(bomb) < 100_000
    assert preview_of(bomb, max_chars=MAX_CHARS) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", pictures.png()[:-20], pictures.png().replace(b"IDAT", b"IDOT"), b"%!PS-Adobe"],
)
def test_what_is_no_picture_has_no_preview(content: bytes):
    assert preview_of(content, max_chars=MAX_CHARS) is None

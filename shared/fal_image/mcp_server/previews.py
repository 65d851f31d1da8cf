"""A small picture of a picture, for an agent to look at. Refuses to know where its bytes came from.

What is decoded is bounded before it is: what the header says is checked first.
"""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageOps

from ..images import NotAPicture, inspect
from ..treatment import MAX_PIXELS

CONTENT_TYPE = "image/jpeg"
MAX_CHARS = 64 * 1024 - 1  # of all previews of an answer together, as base64: below 64 KB
MAX_SOURCE_BYTES = 32 * 1024 * 1024  # what is larger is not fetched for a preview

_SIDES_PX = (512, 384, 256, 160, 96)
_QUALITIES = (80, 60, 40)


def preview_of(content: bytes, *, max_chars: int) -> str | None:
    """The picture as base64 of a JPEG of at most `max_chars` characters and 512 pixels a side.

    None for what is no picture we know, one of more than MAX_PIXELS, one that cannot be decoded,
    and where there is no room for even the smallest.
    """
    try:
        facts = inspect(io.BytesIO(content))
        if facts.width * facts.height > MAX_PIXELS:
            return None
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP", "GIF")) as picture:
            picture.draft("RGB", (_SIDES_PX[0], _SIDES_PX[0]))
            whole = ImageOps.exif_transpose(picture)
            whole.thumbnail((_SIDES_PX[0], _SIDES_PX[0]))
            return _fitting(_on_white(whole), max_chars)
    except (NotAPicture, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return None


def _fitting(picture: Image.Image, max_chars: int) -> str | None:
    for side_px in _SIDES_PX:
        picture.thumbnail((side_px, side_px))
        for quality in _QUALITIES:
            into = io.BytesIO()
            picture.save(into, "JPEG", quality=quality, optimize=True)
            text = base64.b64encode(into.getvalue()).decode()
            if len(text) <= max_chars:
                return text
    return None


def _on_white(picture: Image.Image) -> Image.Image:
    """JPEG knows no transparency: it shows as white, as most viewers do."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    seen = picture.convert("RGBA")
    ground = Image.new("RGBA", seen.size, "white")
    ground.alpha_composite(seen)
    return ground.convert("RGB")

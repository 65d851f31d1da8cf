"""A line of text as a small picture, and which of its letters a font does not have.

One code point, one letter, from left to right: no font knows more without a shaping engine, and
not every Pillow has one. Refuses to know where the text is put.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from PIL import Image, ImageFont

_MEASURED_PX = 96  # large enough that no two letters look alike
_NOBODYS_LETTER = "\U0010ffff"  # a noncharacter (Unicode 16, 23.7): fonts draw their "missing" sign
_WHITE, _DARK = (255, 255, 255, 255), (0, 0, 0, 200)
# Controls, marks on other letters, and breaks between lines (Unicode 16, table 4-4).
_SHAPING = {"Cc", "Cf", "Cn", "Co", "Cs", "Mc", "Me", "Mn", "Zl", "Zp"}
_OUTLINES = 16  # in a letter's size


def written(text: str) -> str:
    """The text as it is drawn: letters and their accents in one code point where there is one."""
    return unicodedata.normalize("NFC", text.strip())


def not_drawable(text: str) -> str:
    """The characters that no font is asked for: they shape their neighbours, or are no letters."""
    return "".join(
        letter
        for letter in dict.fromkeys(written(text))
        if unicodedata.category(letter) in _SHAPING
        or unicodedata.bidirectional(letter) in {"R", "AL"}
    )


def missing(text: str, path: str | None) -> str:
    """The letters of a text that a font does not have. Raises OSError."""
    font = opened(path, _MEASURED_PX)
    nothing = _look(font, _NOBODYS_LETTER)
    return "".join(
        letter
        for letter in dict.fromkeys(written(text))
        if not letter.isspace() and _look(font, letter) == nothing
    )


def opened(path: str | None, size: float) -> ImageFont.FreeTypeFont:
    """The font of a file, or Pillow's own. Raises OSError if the file cannot be read as a font."""
    from PIL import ImageFont

    if path is None:
        # With a size this is never the bitmap font, which the types allow for, too.
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
    # Not `ImageFont.truetype`: it goes looking for a font of the same name elsewhere. Basic, as
    # Pillow's own: what shapes letters is not everywhere, and would draw them differently.
    return ImageFont.FreeTypeFont(path, size, layout_engine=ImageFont.Layout.BASIC)


def drawn(text: str, path: str | None, *, width: int, height: int) -> Image.Image:
    """A line of white text with a dark outline, as large as fits into this box: RGBA.

    Raises OSError if the font cannot be read.
    """
    from PIL import Image, ImageDraw

    text = written(text)
    across, down = _box(opened(path, _MEASURED_PX), text, _MEASURED_PX)[2:]
    size = max(1.0, _MEASURED_PX * min(width / across, height / down))
    font = opened(path, size)
    left, top, across, down = _box(font, text, size)
    image = Image.new("RGBA", (across, down), (*_DARK[:3], 0))
    ImageDraw.Draw(image).text(
        (-left, -top), text, _WHITE, font, stroke_width=_outline(size), stroke_fill=_DARK
    )
    if across > width or down > height:  # hinting rounds the letters of small sizes up
        image = image.resize((min(across, width), min(down, height)))
    return image


def _box(font: ImageFont.FreeTypeFont, text: str, size: float) -> tuple[int, int, int, int]:
    """Where the ink of a text drawn at 0, 0 begins, and how wide and high it is."""
    left, top, right, bottom = font.getbbox(text, stroke_width=_outline(size))
    return int(left), int(top), max(1, int(right - left)), max(1, int(bottom - top))


def _outline(size: float) -> int:
    return max(1, round(size / _OUTLINES))


def _look(font: ImageFont.FreeTypeFont, letter: str) -> tuple[float, tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return font.getlength(letter), mask.size, bytes(mask)

"""The mark that people see: `AI生成 AI-generated`, drawn from strokes that stand here as data.

No font is needed, so it looks the same wherever a function runs, and there is one for 生 and 成.
Refuses to know who wants the mark, and every file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Point = tuple[float, float]

SHARE = 0.055  # of the shortest side; GB 45438-2025 wants characters of at least 5 % of it
MIN_HEIGHT_PX = 14  # below that the strokes of 生 run together

# How far each character reaches to the right, and its strokes as in an SVG path (M: begin, L: line,
# Q and C: curves). Heights are measured from 0, the top of 生, to 1, its foot; g goes below it.
_BOWL = "M.54,.67 C.54,.83 .42,.95 .27,.95 C.12,.95 0,.83 0,.67 C0,.51 .12,.39 .27,.39"
_BOWL += " C.42,.39 .54,.51 .54,.67"
_GLYPHS = {
    " ": (0.2, ""),
    "-": (0.27, "M0,.66 L.27,.66"),
    "A": (0.74, "M0,.95 L.37,.05 L.74,.95 M.13,.65 L.61,.65"),
    "I": (0.0, "M0,.05 L0,.95"),
    "a": (0.54, _BOWL + " M.54,.39 L.54,.95"),
    "d": (0.54, _BOWL + " M.54,.02 L.54,.95"),
    "e": (
        0.55,
        "M.01,.66 L.55,.66 C.55,.5 .43,.39 .28,.39 C.12,.39 0,.51 0,.67"
        " C0,.83 .12,.95 .29,.95 C.39,.95 .47,.91 .52,.84",
    ),
    "g": (
        0.54,
        _BOWL + " M.54,.39 L.54,.98 C.54,1.14 .44,1.22 .28,1.22 C.18,1.22 .1,1.19 .04,1.13",
    ),
    "n": (0.48, "M0,.39 L0,.95 M0,.63 C0,.48 .1,.39 .25,.39 C.4,.39 .48,.48 .48,.63 L.48,.95"),
    "r": (0.28, "M0,.39 L0,.95 M0,.65 C0,.48 .1,.39 .28,.39"),
    "t": (0.34, "M.13,.15 L.13,.78 C.13,.9 .19,.95 .34,.95 M0,.39 L.34,.39"),
    "生": (
        1.01,
        "M.33,.06 Q.28,.25 .13,.43 M.28,.28 L.94,.28 M.22,.6 L.9,.6 M.58,.03 L.58,.95"
        " M.07,.95 L1.01,.95",
    ),
    "成": (
        0.96,
        "M.13,.24 L.92,.24 M.13,.24 L.13,.46 Q.13,.77 0,.98"
        " M.13,.5 L.43,.5 Q.43,.72 .39,.8 Q.37,.84 .25,.81"
        " M.53,.03 Q.55,.44 .68,.7 Q.78,.88 .86,.95 Q.92,.99 .96,.78"
        " M.84,.41 Q.71,.79 .4,.98 M.69,.03 L.83,.13",
    ),
}
_CHINESE, _ENGLISH = "AI生成", "AI-generated"
# From the whole mark to as much of it as a tiny picture has room for.
_LINES = ((f"{_CHINESE} {_ENGLISH}",), (_CHINESE, _ENGLISH), (_CHINESE,), ("AI",))

# In heights of a character, where they do not say pixels.
_STROKE, _BOLD_STROKE, _THINNEST_PX = 0.1, 0.13, 1.6  # bolder where it would be too thin to see
_SPACING = 0.21
_LEADING = 1.5
_PADDING_X, _PADDING_Y = 0.45, 0.4
_ROUNDING = 0.35

_PLATE = (0, 0, 0, 153)  # over white it becomes #666: white letters on it have a contrast of 5.7:1
_INK = (255, 255, 255, 255)
_FINEST = 8  # how many times larger the mark is drawn before it is reduced, at most
_DRAWN_PX = 512  # and how high a character need not be for that


class Layer(Struct, frozen=True):
    """What is laid over a picture: an RGBA image, and where its upper left corner goes."""

    image: Image.Image
    x: int
    y: int


def draw(width: int, height: int) -> Layer:
    """The mark for the bottom right corner of a picture of this size.

    Its characters are SHARE of the shortest side high, and at least MIN_HEIGHT_PX. Where the whole
    mark does not fit at that height there is as much of it as does, down to a shrunk `AI`.
    """
    shortest = min(width, height)
    margin = shortest // 50
    room = width - 2 * margin, height - 2 * margin
    character: float = max(MIN_HEIGHT_PX, math.ceil(shortest * SHARE))
    for lines in _LINES:
        across, down = _extent(lines)
        if across * character <= room[0] and down * character <= room[1]:
            break
    else:
        character = min(room[0] / across, room[1] / down)
    image = _drawn(lines, character)
    return Layer(
        image, max(0, width - margin - image.width), max(0, height - margin - image.height)
    )


def _drawn(lines: tuple[str, ...], character: float) -> Image.Image:
    """The plate and the lines on it, drawn larger and then reduced, which smooths every edge."""
    from PIL import Image, ImageDraw

    finer = max(2, min(_FINEST, int(_DRAWN_PX / character)))
    unit = character * finer
    pen_px = unit * min(_BOLD_STROKE, max(_STROKE, _THINNEST_PX / character))
    width, height = (max(1, int(side * character)) for side in _extent(lines))
    size = width * finer, height * finer
    plate, ink = Image.new("L", size), Image.new("L", size)
    box = (0, 0, size[0] - 1, size[1] - 1)
    ImageDraw.Draw(plate).rounded_rectangle(box, radius=_ROUNDING * unit, fill=_PLATE[3])
    pen = ImageDraw.Draw(ink)
    for number, line in enumerate(lines):
        left, top = _PADDING_X, _PADDING_Y + number * _LEADING
        for stroke in _strokes(line):
            points = [((left + x) * unit, (top + y) * unit) for x, y in stroke]
            _stroke(pen, points, pen_px)
    image = Image.new("RGBA", (width, height), _PLATE[:3])
    image.putalpha(plate.reduce(finer))
    image.paste(_INK, mask=ink.reduce(finer))
    return image


def _stroke(pen: ImageDraw.ImageDraw, points: list[Point], width: float) -> None:
    """A line with round ends and joints."""
    half = width / 2
    pen.line(points, fill=255, width=round(width))
    for x, y in points:
        pen.ellipse((x - half, y - half, x + half, y + half), fill=255)


def _extent(lines: tuple[str, ...]) -> tuple[float, float]:
    """How wide and high the plate of these lines is, in heights of a character."""
    widest = max(_advance(line) for line in lines) - _SPACING
    return widest + 2 * _PADDING_X, 1 + (len(lines) - 1) * _LEADING + 2 * _PADDING_Y


def _advance(text: str) -> float:
    return sum(_GLYPHS[character][0] + _SPACING for character in text)


def _strokes(text: str) -> Iterator[list[Point]]:
    """Every stroke of a line of text, its first character's left edge at 0."""
    left = 0.0
    for character in text:
        width, path = _GLYPHS[character]
        for stroke in _polylines(path):
            yield [(left + x, y) for x, y in stroke]
        left += width + _SPACING


_COMMAND = re.compile(r"([MLQC])([^MLQC]+)")
_STEPS = 12  # straight pieces of a curve


def _polylines(path: str) -> Iterator[list[Point]]:
    points: list[Point] = []
    for command, numbers in _COMMAND.findall(path):
        pairs = [pair.split(",") for pair in numbers.split()]
        given = [(float(x), float(y)) for x, y in pairs]
        if command == "M" and points:
            yield points
            points = []
        if command in "ML":
            points += given
        else:
            curve = [points[-1], *given]
            points += [_on_curve(curve, step / _STEPS) for step in range(1, _STEPS + 1)]
    if points:
        yield points


def _on_curve(points: list[Point], t: float) -> Point:
    """The point at `t`, 0 to 1, of the Bézier curve through these control points (de Casteljau)."""
    while len(points) > 1:
        points = [
            (x + (to_x - x) * t, y + (to_y - y) * t) for (x, y), (to_x, to_y) in pairwise(points)
        ]
    return points[0]

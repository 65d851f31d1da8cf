"""Landscapes out of words: the same prompt, seed and model always give the same pixels.

Knows how to draw. Refuses to know fal, HTTP, files and caches. Pillow is loaded by the first
picture, not by importing this module.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

Colour = tuple[int, int, int]
RIDGE_STEPS = 160  # of a range's line; a small picture shows fewer
STARS = 90
FONT_PX = 9  # the smallest that can be read
SMOOTH_PX = 4_000_000  # above that the smooth edges would cost more memory than they are worth


@dataclass(frozen=True)
class Palette:
    """The sky at the zenith, half way and at the horizon; its light; the far and near hills."""

    sky: tuple[Colour, Colour, Colour]
    light: Colour
    far: Colour
    near: Colour
    has_stars: bool


def _palette(colours: str, *, has_stars: bool = False) -> Palette:
    """From six web colours: zenith, half way, horizon, light, far hill, near hill."""
    zenith, middle, low, light, far, near = (
        (int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)) for text in colours.split()
    )
    return Palette((zenith, middle, low), light, far, near, has_stars)


PALETTES = (
    _palette("262e5c b25c78 ffbe82 ffecbe b0687a 221a38"),  # after sunset
    _palette("5c96d6 a0cbec f0f0e2 fffae2 8eb0be 244a42"),  # noon
    _palette("0c102c 202c5c 565c8c f0f0ff 3e4676 080c1e", has_stars=True),  # full moon
    _palette("745c9e e28eaa ffd6be fff6e0 b880a4 36224e"),  # pink morning
    _palette("145468 58a8a4 ece2b4 fffcdc 629c98 0c303a"),  # by the sea
    _palette("c45c34 ee9c54 fcdc9c fff8d6 ce7c58 481e22"),  # desert
    _palette("96b0ba c6d4d4 f0eade fffff6 9eb0b2 2e3e42"),  # mist
    _palette("081c2e 104654 6ebe96 d6ffe2 225c60 04141c", has_stars=True),  # northern night
)


def landscape(words: str, width: int, height: int) -> Image:
    """A sky, a light, clouds and hills that follow from `words`."""
    from PIL import Image

    rng = random.Random(hashlib.sha256(words.encode(errors="surrogatepass")).digest())
    palette = rng.choice(PALETTES)
    horizon = rng.uniform(0.52, 0.68)
    size = (width, height)
    picture = Image.new("RGB", size)
    picture.paste(_gradient((width, round(height * horizon) + 1), palette.sky), (0, 0))
    picture.paste(palette.sky[2], (0, round(height * horizon), width, height))
    if palette.has_stars:
        _stars(picture, rng, horizon)
    _light(picture, rng, palette, horizon)
    _clouds(picture, rng, palette, horizon)
    water = rng.random() < 0.35
    _hills(picture, rng, palette, horizon, water)
    return picture


def black(width: int, height: int) -> Image:
    """What fal's safety checker returns for a flagged picture."""
    from PIL import Image

    return Image.new("RGB", (width, height))


def _gradient(size: tuple[int, int], colours: tuple[Colour, ...]) -> Image:
    """Colours from top to bottom, smoothly."""
    from PIL import Image

    width, height = size
    column = Image.new("RGB", (1, height))
    steps = len(colours) - 1
    pixels = []
    for y in range(height):
        place = y / max(1, height - 1) * steps
        index = min(int(place), steps - 1)
        share = place - index
        (r, g, b), (red, green, blue) = colours[index], colours[index + 1]
        # As `_mix`, which would take half of the time that a small picture takes.
        pixels.append(
            (
                round(r + (red - r) * share),
                round(g + (green - g) * share),
                round(b + (blue - b) * share),
            )
        )
    column.putdata(pixels)
    return column.resize(size)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _stars(picture: Image, rng: random.Random, horizon: float) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    unit = max(1.0, picture.height / 700)
    for _ in range(min(STARS, picture.width * picture.height // 100)):
        x = rng.random() * picture.width
        y = rng.random() ** 1.4 * picture.height * horizon
        radius = rng.choice((0.5, 0.7, 1.0)) * unit
        shade = rng.randrange(150, 255)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), (shade, shade, 255))


def _light(picture: Image, rng: random.Random, palette: Palette, horizon: float) -> None:
    """Sun or moon: a wide glow, a near glow and a disc."""
    from PIL import Image, ImageDraw

    width, height = picture.size
    short = min(width, height)
    x = width * rng.uniform(0.18, 0.82)
    y = height * horizon * rng.uniform(0.28, 0.86)
    falloff = Image.radial_gradient("L")
    for reach, strength in ((1.15, 0.55), (0.42, 0.5)):
        side = max(2, round(short * reach))
        glow = falloff.point(_ramp(strength)).resize((side, side))
        picture.paste(palette.light, (round(x - side / 2), round(y - side / 2)), glow)
    radius = max(2, round(short * rng.uniform(0.045, 0.085)))
    disc = Image.new("L", (radius * 8, radius * 8))
    ImageDraw.Draw(disc).ellipse((0, 0, radius * 8 - 1, radius * 8 - 1), 245)
    disc = disc.resize((radius * 2, radius * 2), Image.Resampling.BOX)
    picture.paste(palette.light, (round(x - radius), round(y - radius)), disc)


@lru_cache(maxsize=8)
def _ramp(strength: float) -> list[int]:
    """How bright a glow is, by the distance from its middle."""
    return [round(max(0.0, 1 - value / 181) ** 2 * 255 * strength) for value in range(256)]


def _clouds(picture: Image, rng: random.Random, palette: Palette, horizon: float) -> None:
    """Flat banks of soft puffs, drawn small and blown up, which blurs them for nothing."""
    from PIL import Image, ImageDraw, ImageFilter

    wide, high = 160, min(480, max(8, round(160 * picture.height / picture.width)))
    small = Image.new("L", (wide, high))
    draw = ImageDraw.Draw(small)
    for _ in range(rng.randrange(2, 6)):
        x, y = rng.uniform(0, wide), rng.uniform(0.06, 0.93) * high * horizon
        for _ in range(rng.randrange(5, 10)):
            puff_x, puff_y = x + rng.gauss(0, 12), y + rng.gauss(0, 1.3)
            long, thick = rng.uniform(5, 16), rng.uniform(0.8, 2.6)
            box = (puff_x - long, puff_y - thick, puff_x + long, puff_y + thick)
            draw.ellipse(box, rng.randrange(60, 130))
    soft = small.filter(ImageFilter.GaussianBlur(1.6))
    mask = soft.resize(picture.size, Image.Resampling.BICUBIC)
    picture.paste(_mix(palette.sky[2], (255, 255, 255), 0.5), (0, 0), mask)


def _hills(
    picture: Image, rng: random.Random, palette: Palette, horizon: float, water: bool
) -> None:
    """Ranges from the hazy far to the dark near, each lighter at its foot where mist lies."""
    width, height = picture.size
    ranges = rng.randrange(4, 7)
    craggy = rng.random() < 0.5
    for index in range(ranges):
        nearness = index / (ranges - 1)
        if water and index == ranges - 2:
            _water(picture, rng, palette, round(height * (horizon + 0.13)))
        base = horizon + (1.0 - horizon) * nearness**1.25 * 0.86
        swing = (0.15 if craggy else 0.10) * (1 - 0.55 * nearness)
        steps = min(RIDGE_STEPS, max(8, width // 2))
        ridge = _ridge(rng, base, swing, craggy and nearness < 0.7, steps)
        top = max(0, int(height * min(y for _, y in ridge)))
        if top >= height:
            continue
        colour = _mix(palette.far, palette.near, nearness)
        foot = _mix(colour, palette.sky[2], 0.55 * (1 - nearness))
        ground = _gradient((width, height - top), (colour, _mix(colour, foot, 0.7), foot))
        picture.paste(ground, (0, top), _outline(ridge, width, height, top))


def _outline(ridge: list[tuple[float, float]], width: int, height: int, top: int) -> Image:
    """The mask of a range from the row `top` down, drawn larger for smooth edges if it is small."""
    from PIL import Image, ImageDraw

    scale = 2 if width * height <= SMOOTH_PX else 1
    wide, high = width * scale, (height - top) * scale
    mask = Image.new("L", (wide, high))
    points = [(x * wide, (y * height - top) * scale) for x, y in ridge]
    ImageDraw.Draw(mask).polygon([*points, (wide, high), (0, high)], fill=255)
    return mask.reduce(scale)


def _ridge(
    rng: random.Random, base: float, swing: float, craggy: bool, steps: int
) -> list[tuple[float, float]]:
    """The line of a range from left to right, in shares of width and height."""
    waves = [
        (rng.uniform(0.6, 1.6) * 2**octave, rng.uniform(0, math.tau), 0.5**octave)
        for octave in range(6 if craggy else 3)
    ]
    line = []
    for step in range(steps + 1):
        x = step / steps
        y = 0.0
        for frequency, phase, weight in waves:
            wave = math.sin(x * frequency * math.tau + phase)
            y += weight * (1 - 2 * abs(wave) if craggy else wave)
        line.append((x, base - swing * y / 2))
    return line


def _water(picture: Image, rng: random.Random, palette: Palette, top: int) -> None:
    """A lake that mirrors what stands above it, darker and with streaks of light."""
    from PIL import Image, ImageDraw, ImageOps

    width, height = picture.size
    depth = height - top
    if depth < 2 or top < 2:
        return
    mirrored = ImageOps.flip(picture.crop((0, max(0, top - depth), width, top)))
    mirrored = mirrored.resize((max(1, width // 3), max(1, depth // 6))).resize((width, depth))
    tint = Image.new("RGB", (width, depth), _mix(palette.sky[1], palette.near, 0.35))
    lake = Image.blend(mirrored, tint, 0.35)
    draw = ImageDraw.Draw(lake)
    for _ in range(26):
        y = rng.random() ** 1.6 * depth
        x, long = rng.random() * width, width * rng.uniform(0.02, 0.12)
        pale = _mix(palette.sky[2], palette.light, rng.random())
        draw.line((x - long, y, x + long, y), _mix(palette.sky[1], pale, 0.6), 1)
    picture.paste(lake, (0, top))


def sign(picture: Image, caption: str) -> None:
    """The corner that says where the picture comes from."""
    from PIL import Image, ImageDraw

    width, height = picture.size
    text = caption.replace(" ", "  ")  # the space of Pillow's own font is very narrow
    text = text[: max(8, width // 2)]  # what is beyond the edge need not be drawn
    font = _font(max(FONT_PX, min(width, height) // 36))
    left, top, right, bottom = ImageDraw.Draw(picture).textbbox((0, 0), text, font=font)
    pad = max(3, round((bottom - top) * 0.6))
    box = (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad)
    plate = Image.new("L", box)
    ImageDraw.Draw(plate).rounded_rectangle((0, 0, box[0] - 1, box[1] - 1), pad, fill=110)
    corner = (pad, height - box[1] - pad)
    picture.paste((0, 0, 0), corner, plate)
    spot = (corner[0] + pad - left, corner[1] + pad - top)
    ImageDraw.Draw(picture).text(spot, text, (255, 255, 255), font=font)


@lru_cache(maxsize=8)
def _font(size_px: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size=size_px)

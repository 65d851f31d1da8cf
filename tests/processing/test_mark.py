"""The visible mark can be read on every picture, and is as high as the standard wants it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fal_image.processing import mark
from fal_image.treatment import Crop, Resize, Transforms
from support.redrawing import halves, plain, redrawn

SIDES = st.integers(1, 400)
WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (127, 127, 127)


def ink(width: int, height: int) -> Image.Image:
    """The mark's letters without their plate, as shades."""
    return mark.draw(width, height).image.convert("RGB").convert("L")


def columns(shades: Image.Image) -> list[bool]:
    """Which columns have any ink, from left to right."""
    strips = (shades.crop((x, 0, x + 1, shades.height)) for x in range(shades.width))
    return [max(strip.tobytes()) >= 128 for strip in strips]


def letters(shades: Image.Image) -> int:
    """How many letters stand apart from one another."""
    found = columns(shades)
    return sum(now and not before for before, now in zip([False, *found], found, strict=False))


def test_it_says_the_whole_of_it_on_a_usual_picture():
    # A I 生 成 A I - g e n e r a t e d
    assert letters(ink(1024, 1024)) == 16


@pytest.mark.parametrize(
    "size", [(256, 256), (512, 512), (1024, 1024), (1024, 576), (2048, 2048), (720, 1280)]
)
def test_its_characters_are_five_percent_of_the_shortest_side_high(size: tuple[int, int]):
    shades = ink(*size)
    widths = columns(shades)
    first = widths.index(True)
    end = first + widths[first:].index(False)
    capital = shades.crop((first, 0, end, shades.height)).point([0] * 128 + [255] * 128)
    box = capital.getbbox()

    assert box is not None
    assert box[3] - box[1] >= 0.05 * min(size)


@pytest.mark.parametrize("size", [(256, 256), (300, 1000), (1000, 300), (2048, 2048), (5000, 5000)])
def test_it_stands_in_the_bottom_right_corner_and_leaves_most_of_the_picture(size):
    layer = mark.draw(*size)
    right, bottom = layer.x + layer.image.width, layer.y + layer.image.height

    assert (right, bottom) == (size[0] - min(size) // 50, size[1] - min(size) // 50)
    assert layer.image.width * layer.image.height < size[0] * size[1] / 10


@settings(deadline=None)
@given(SIDES, SIDES)
def test_as_much_of_it_as_fits_is_inside_of_every_picture(width, height):
    layer = mark.draw(width, height)

    assert layer.image.mode == "RGBA"
    assert 0 <= layer.x <= layer.x + layer.image.width <= width
    assert 0 <= layer.y <= layer.y + layer.image.height <= height


@pytest.mark.parametrize(
    ("size", "count"),
    [((256, 256), 16), ((64, 64), 4), ((32, 32), 2)],
)
def test_a_small_picture_has_the_beginning_of_it(size: tuple[int, int], count: int):
    assert letters(ink(*size)) == count


def test_a_picture_too_narrow_for_one_line_has_two():
    assert mark.draw(128, 128).image.height > mark.draw(256, 256).image.height


@pytest.mark.parametrize("side", [2, 3, 5, 8])
def test_the_tiniest_pictures_get_something(side: int):
    image = redrawn(plain(side, side, WHITE), is_marked=True)

    assert image.getcolors() != [(side * side, WHITE)]


@pytest.mark.parametrize("colour", [WHITE, BLACK, GREY, (255, 230, 0), (0, 60, 255)])
@pytest.mark.parametrize("side", [256, 1024])
def test_it_is_read_on_any_colour(colour, side: int):
    layer = mark.draw(side, side)
    box = (layer.x, layer.y, layer.x + layer.image.width, layer.y + layer.image.height)
    shown = redrawn(plain(side, side, colour), is_marked=True).crop(box).convert("L")
    shades = shown.histogram()
    paper = max(range(256), key=shades.__getitem__)  # most of it is the plate
    inked = sum(shades[230:])

    assert contrast(230, paper) >= 4.5  # WCAG 2.2, 1.4.3
    assert inked > 0.04 * shown.width * shown.height


def contrast(light: int, dark: int) -> float:
    """Of two greys (WCAG 2.2, contrast ratio)."""

    def luminance(level: int) -> float:
        share = level / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    return (luminance(light) + 0.05) / (luminance(dark) + 0.05)


def test_the_rest_of_the_picture_stays_as_it_was():
    layer = mark.draw(300, 200)
    above = (0, 0, 300, layer.y)
    plainly = redrawn(halves(300, 200), Transforms(format="png"))
    marked = redrawn(halves(300, 200), Transforms(format="png"), is_marked=True)

    assert marked.crop(above).tobytes() == plainly.crop(above).tobytes()
    assert marked.tobytes() != plainly.tobytes()


def test_it_is_opaque_enough_on_something_transparent():
    image = redrawn(plain(256, 256, (0, 0, 0, 0)), is_marked=True)

    assert image.getchannel("A").getextrema() == (0, 255)


def test_it_fits_the_picture_as_it_becomes():
    wanted = Transforms(crop=Crop(x=0, y=0, width=500, height=500), resize=Resize(width=256))
    expected = redrawn(plain(256, 256), Transforms(format="png"), is_marked=True)

    assert redrawn(plain(600, 600), wanted, is_marked=True).tobytes() == expected.tobytes()


def test_it_is_the_same_every_time():
    assert mark.draw(512, 512).image.tobytes() == mark.draw(512, 512).image.tobytes()

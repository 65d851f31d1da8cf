"""A watermark lies where it was wanted, as large and as strong as it was wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from fal_image.errors import InvalidInput, Misconfigured
from fal_image.processing import mark
from fal_image.processing.transforms import check
from fal_image.treatment import Place, Transforms, Watermark
from support import pictures
from support.redrawing import (
    BLUE,
    RED,
    font_with,
    pillows_font,
    plain,
    redrawn,
    refusal,
    saved,
    tall_png,
)

PLACES: tuple[Place, ...] = ("top-left", "top-right", "center", "bottom-left", "bottom-right")
SIDES = st.integers(1, 60)


def marked(**wanted) -> Transforms:
    return Transforms(watermark=Watermark(**wanted))


def changed(image: Image.Image, colour=RED) -> tuple[int, int, int, int]:
    """The box of the pixels that are not of this colour."""
    box = ImageChops.difference(image, Image.new("RGB", image.size, colour)).getbbox()
    assert box is not None
    return box


def letters_of(wanted: Transforms, font: str | None = None) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        check(wanted, font)
    fields: Any = caught.value.extensions["fields"]
    assert [field["field"] for field in fields] == ["transforms.watermark.text"]
    return caught.value


# Where it lies


@pytest.mark.parametrize(
    ("place", "box"),
    [
        ("top-left", (4, 4, 54, 29)),
        ("top-right", (146, 4, 196, 29)),
        ("center", (75, 87, 125, 112)),
        ("bottom-left", (4, 171, 54, 196)),
        ("bottom-right", (146, 171, 196, 196)),
    ],
)
def test_a_picture_lies_at_its_place_as_wide_as_its_share(place: Place, box):
    wanted = marked(image="cloud://logo.png", place=place, opacity=1, scale=0.25)

    image = redrawn(plain(200, 200), wanted, watermark=plain(20, 10, BLUE))

    assert changed(image) == box
    assert image.getpixel((box[0], box[1])) == BLUE


@pytest.mark.parametrize("place", PLACES)
def test_a_text_lies_at_its_place_as_wide_as_its_share(place: Place):
    wanted = marked(text="Example Studio", place=place, scale=0.5)

    left, upper, right, lower = changed(redrawn(plain(400, 300), wanted))

    assert 190 <= right - left <= 200
    down, _, across = place.partition("-")
    expected = {"left": 6, "right": 394 - (right - left), "": 200 - (right - left) // 2}
    assert abs(left - expected[across]) <= 4
    assert {"top": upper <= 8, "bottom": lower >= 292, "center": abs(upper + lower - 300) < 4}[down]


@settings(deadline=None)
@given(
    SIDES,
    SIDES,
    st.sampled_from(PLACES),
    st.floats(0.001, 1),
    st.booleans(),
    st.sampled_from(["Ab", "a longer text of several words, yes", "."]),
)
def test_a_watermark_of_any_size_fits_into_any_picture(
    width, height, place, scale, is_marked, text
):
    content = plain(width, height)

    written = redrawn(content, marked(text=text, place=place, scale=scale), is_marked=is_marked)
    stamp = marked(image="x", place=place, scale=scale)
    stamped = redrawn(content, stamp, is_marked=is_marked, watermark=plain(3, 70, BLUE))

    assert written.size == stamped.size == (width, height)


def test_opacity_is_how_much_it_covers():
    def shade(opacity: float) -> object:
        wanted = marked(image="x", place="center", opacity=opacity, scale=1)
        return redrawn(plain(50, 50), wanted, watermark=plain(5, 5, BLUE)).getpixel((25, 25))

    assert shade(1) == BLUE
    assert shade(0.5) == (127, 0, 128)
    assert shade(0.1) == (229, 0, 26)


def test_a_transparent_watermark_shows_the_picture_through_it():
    wanted = marked(image="x", place="center", opacity=1, scale=1)
    image = redrawn(plain(50, 50), wanted, watermark=plain(5, 5, (0, 0, 255, 0)))

    assert image.getcolors() == [(2500, RED)]


def test_a_watermark_on_something_transparent_is_seen():
    wanted = marked(image="x", place="center", opacity=1, scale=0.5)
    image = redrawn(plain(50, 50, (9, 9, 9, 0)), wanted, watermark=plain(5, 5, BLUE))

    assert image.getpixel((25, 25)) == (*BLUE, 255)
    assert image.getchannel("A").getpixel((1, 1)) == 0


@pytest.mark.parametrize("place", PLACES)
def test_it_lies_on_something_transparent_as_pillow_lays_it_at_once(place: Place):
    gradient = Image.linear_gradient("L").resize((300, 600))
    ground = Image.merge("RGBA", (gradient, gradient, gradient, gradient.rotate(180)))
    logo = Image.merge("RGBA", (gradient.rotate(180), gradient, gradient, gradient))
    wanted = marked(image="x", place=place, opacity=1, scale=1)

    image = redrawn(saved(ground), wanted, watermark=saved(logo))

    expected = ground.copy()
    down = {"top": 6, "center": 12, "bottom": 18}[place.partition("-")[0]]
    expected.alpha_composite(logo.resize((288, 576), Image.Resampling.LANCZOS), (6, down))
    assert ImageChops.difference(image, expected).getbbox(alpha_only=False) is None


def test_text_is_light_with_a_dark_outline_so_it_is_read_on_anything():
    for colour in ((255, 255, 255), (0, 0, 0), RED):
        image = redrawn(plain(400, 200, colour), marked(text="Example", opacity=1, scale=0.8))
        shades = image.convert("L").tobytes()
        assert max(shades) - min(shades) > 150


@pytest.mark.parametrize("text", ["Example Studio", "III"])
def test_it_never_covers_the_mark(text: str):
    bare = redrawn(plain(300, 300), is_marked=True)
    label = mark.draw(300, 300)
    box = (label.x, label.y, 300, 300)

    for wanted in (marked(text=text, opacity=1, scale=1), marked(image="x", opacity=1, scale=1)):
        image = redrawn(plain(300, 300), wanted, is_marked=True, watermark=plain(5, 5, BLUE))
        assert image.crop(box).tobytes() == bare.crop(box).tobytes()
        assert changed(image)[1] < label.y


def test_the_mark_is_drawn_over_a_watermark_that_reaches_there():
    label = mark.draw(300, 300)
    wanted = marked(image="x", place="center", opacity=1, scale=1)

    image = redrawn(plain(300, 300), wanted, is_marked=True, watermark=plain(5, 5, BLUE))
    expected = Image.new("RGB", (300, 300), BLUE)
    expected.paste(label.image, (label.x, label.y), label.image)

    box = (label.x, label.y, label.x + label.image.width, label.y + label.image.height)
    assert image.crop(box).tobytes() == expected.crop(box).tobytes()


# Pictures as watermarks


@pytest.mark.parametrize("kind", list(pictures.KINDS))
def test_every_kind_of_picture_is_a_watermark(kind: str):
    image = redrawn(plain(100, 100), marked(image="x"), watermark=pictures.KINDS[kind][0]())

    assert changed(image)


@pytest.mark.parametrize(
    ("watermark", "reason"),
    [
        (None, "is not there"),
        (b"", "empty"),
        (b"<svg/>", "an XML or SVG document"),
        (tall_png(6000, 6000), "6000 x 6000 pixels are more than"),
        (plain(2001, 2000), "2001 x 2000 pixels are more than the 4000000"),
        (tall_png(60, 60), "cannot be decoded"),
        (saved(Image.new("RGB", (9, 9)), "AVIF"), "an AVIF"),
    ],
)
def test_what_is_no_watermark_is_refused(watermark: bytes | None, reason: str):
    found = refusal(plain(100, 100), marked(image="x"), watermark=watermark)

    assert found.startswith("the picture of its watermark")
    assert reason in found


# Letters


def test_letters_that_the_font_lacks_are_named_before_money():
    error = letters_of(marked(text="© 生成 Pictures 生"))

    assert "Pillow's own font lacks: 生 (U+751F), 成 (U+6210)" in error.detail
    assert "FAL_IMAGE_WATERMARK_FONT" in (error.hint or "")


def test_many_missing_letters_are_not_all_named():
    text = "".join(chr(0x4E00 + number) for number in range(30))

    assert letters_of(marked(text=text)).detail.endswith("(U+4E09) and 20 more")


def test_every_printable_ascii_letter_can_be_drawn():
    check(marked(text="".join(map(chr, range(0x20, 0x7F)))), None)


@pytest.mark.parametrize(
    "text",
    ["two\nlines", "tab\there", "\u202eright", "a\u0300\u0301\u0302", "שלום", "مرحبا", "\u2028"],
)
def test_what_shapes_its_neighbours_is_refused(text: str):
    assert "are not drawn here: " in letters_of(marked(text=f"a{text}b")).detail


def test_an_emoji_of_several_code_points_is_refused():
    letters_of(marked(text="👩\u200d🎨"))


def test_an_accent_of_its_own_is_the_letter_with_it(tmp_path: Path):
    font = font_with("é", tmp_path / "one.ttf")

    check(marked(text="e\u0301"), font)


def test_the_owners_font_has_other_letters(tmp_path: Path):
    font = font_with("生", tmp_path / "one.ttf")

    check(marked(text="生 生"), font)
    error = letters_of(marked(text="生成"), font)
    assert "the font of FAL_IMAGE_WATERMARK_FONT lacks: 成 (U+6210)" in error.detail
    drawn = changed(redrawn(plain(99, 99), marked(text="生"), font=font))
    as_pillows = changed(redrawn(plain(99, 99), marked(text="A")))
    assert all(abs(one - other) <= 1 for one, other in zip(drawn, as_pillows, strict=True))


@pytest.mark.parametrize("content", [None, b"", b"no font", pillows_font()[:500]])
def test_a_font_that_cannot_be_read_is_the_owners_mistake(content: bytes | None, tmp_path: Path):
    path = tmp_path / "broken.ttf"
    if content is not None:
        path.write_bytes(content)
    wanted = marked(text="Example")

    with pytest.raises(Misconfigured, match="FAL_IMAGE_WATERMARK_FONT cannot be read as a font"):
        check(wanted, str(path))
    reason = refusal(plain(99, 99), wanted, font=str(path))
    assert reason == "the text of its watermark cannot be drawn"


def test_a_font_is_not_looked_for_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "here.ttf").write_bytes(pillows_font())
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    with pytest.raises(Misconfigured):
        check(marked(text="Example"), "/nowhere/here.ttf")


def test_a_font_is_not_asked_for_without_a_text():
    check(marked(image="cloud://logo.png"), "/nowhere/font.ttf")
    check(Transforms(format="webp"), "/nowhere/font.ttf")

"""A picture becomes the one that was asked for, whatever kind it was, or is refused cleanly."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from fal_image.images import Picture, inspect
from fal_image.processing.transforms import redraw
from fal_image.treatment import (
    Crop,
    Format,
    Resize,
    Transforms,
    Watermark,
)
from support import pictures
from support.redrawing import (
    BLUE,
    RED,
    WHITE,
    halves,
    look,
    plain,
    redrawn,
    redrawn_bytes,
    refusal,
    saved,
    shrunk,
)

FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp", "avif")
SIDES = st.integers(1, 40)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def is_near(found: object, wanted: tuple[int, ...], by: int = 12) -> bool:
    assert isinstance(found, tuple)
    return all(abs(one - other) <= by for one, other in zip(found, wanted, strict=True))


# Geometry


def test_a_crop_takes_its_rectangle():
    image = redrawn(halves(20, 10), Transforms(crop=Crop(x=8, y=3, width=4, height=5)))

    assert image.size == (4, 5)
    assert [image.getpixel((x, 0)) for x in range(4)] == [RED, RED, BLUE, BLUE]


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 60), st.integers(0, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_crop_is_clipped_to_the_picture(width, height, x, y, wide, high):
    wanted = Transforms(crop=Crop(x=x, y=y, width=wide, height=high))
    content = plain(width, height)

    if x >= width or y >= height:
        assert f"outside of its {width} x {height} pixels" in refusal(content, wanted)
    else:
        size = redrawn(content, wanted).size
        assert size == (min(wide, width - x), min(high, height - y))


@settings(deadline=None)
@given(SIDES, SIDES, SIDES)
def test_one_side_keeps_the_proportions(width, height, side):
    content = plain(width, height)

    wide = redrawn(content, Transforms(resize=Resize(width=side))).size
    high = redrawn(content, Transforms(resize=Resize(height=side))).size

    assert wide[0] == side
    assert high[1] == side
    assert wide[1] == 1 or abs(wide[1] - height * side / width) <= 0.5
    assert high[0] == 1 or abs(high[0] - width * side / height) <= 0.5


def test_one_side_keeps_all_of_a_very_flat_picture():
    image = redrawn(halves(400, 1), Transforms(resize=Resize(width=10)))

    assert image.size == (10, 1)
    assert (image.getpixel((0, 0)), image.getpixel((9, 0))) == (RED, BLUE)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_both_sides_are_filled_exactly(width, height, wide, high):
    image = redrawn(plain(width, height), Transforms(resize=Resize(width=wide, height=high)))

    assert image.size == (wide, high)
    assert image.getcolors() == [(wide * high, RED)]


def test_what_stands_over_is_cut_off_on_both_sides_alike():
    stripes = Image.new("RGB", (60, 20), BLUE)
    stripes.paste(RED, (20, 0, 40, 20))
    image = redrawn(saved(stripes), Transforms(resize=Resize(width=20, height=20)))

    assert image.getcolors() == [(400, RED)]


def test_a_crop_comes_before_the_resize():
    wanted = Transforms(crop=Crop(x=10, y=0, width=10, height=10), resize=Resize(width=5))
    image = redrawn(halves(20, 10), wanted)

    assert image.size == (5, 5)
    assert image.getcolors() == [(25, BLUE)]


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_a_thumbnail_fits_its_box_and_is_never_enlarged(width, height, wide, high):
    size = shrunk(plain(width, height), wide, high).size

    assert size[0] <= min(wide, width)
    assert size[1] <= min(high, height)
    filled = size[0] == wide or size[1] == high
    assert filled or size == (width, height)
    assert abs(size[0] * height - size[1] * width) <= max(width, height)


@pytest.mark.parametrize(("orientation", "corner"), [(3, (9, 19)), (6, (9, 0)), (8, (0, 19))])
def test_a_turned_picture_is_upright_before_it_is_cropped(orientation: int, corner):
    size = (10, 20) if orientation == 3 else (20, 10)
    image = Image.new("RGB", size, BLUE)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(image, exif=exif)

    turned = redrawn(content, Transforms(format="png"))
    cut = redrawn(content, Transforms(crop=Crop(x=corner[0], y=corner[1], width=1, height=1)))

    assert turned.size == (10, 20)
    assert cut.getpixel((0, 0)) == RED
    assert not turned.getexif()


# Formats


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", list(pictures.KINDS))
def test_every_kind_becomes_every_format(kind: str, format: Format):
    content, what = redrawn_bytes(pictures.KINDS[kind][0](), Transforms(format=format))

    extension = "jpg" if format == "jpeg" else format
    expected = Picture(f"image/{format}", extension, pictures.WIDTH, pictures.HEIGHT, len(content))
    assert what == expected
    assert look(content).format == format.upper()
    if format != "avif":
        assert inspect(io.BytesIO(content)) == what


@pytest.mark.parametrize("kind", list(pictures.KINDS))
def test_without_a_format_a_picture_keeps_its_own_and_a_gif_becomes_a_png(kind: str):
    make, content_type, _ = pictures.KINDS[kind]
    expected = "image/png" if content_type == "image/gif" else content_type

    assert redrawn_bytes(make(), Transforms(resize=Resize(width=7)))[1].content_type == expected
    assert redrawn_bytes(make(), is_marked=True)[1].content_type == expected
    assert f"image/{(shrunk(make(), 9, 9).format or '').lower()}" == expected


def test_an_avif_is_shrunk_to_an_avif():
    content, what = redrawn_bytes(plain(40, 20), Transforms(format="avif"))

    assert shrunk(content, 10, 10, what).size == (10, 5)
    assert shrunk(content, 10, 10, what).format == "AVIF"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("1", {}),
        ("L", {}),
        ("L", {"transparency": 255}),
        ("LA", {}),
        ("P", {}),
        ("P", {"transparency": 0}),
        ("P", {"transparency": b"\x00\x80\xff"}),
        ("RGB", {}),
        ("RGB", {"transparency": (255, 0, 0)}),
        ("RGBA", {}),
        ("I;16", {}),
        ("I;16", {"transparency": 65535}),
    ],
)
def test_every_mode_of_a_png_becomes_every_format(mode: str, options, format: Format):
    wanted = Transforms(resize=Resize(width=9), format=format, watermark=Watermark(text="ab"))
    content = saved(Image.new(mode, (20, 10)), **options)

    assert redrawn(content, wanted, is_marked=True).size == (9, 5)


@pytest.mark.parametrize("format", ["png", "webp", "avif"])
def test_what_is_transparent_stays_so(format: Format):
    image = redrawn(plain(20, 10, (255, 0, 0, 0)), Transforms(format=format))

    assert image.mode == "RGBA"
    assert image.getchannel("A").getextrema() == (0, 0)


def test_a_jpeg_shows_white_where_the_picture_was_transparent():
    image = redrawn(plain(20, 10, (255, 0, 0, 0)), Transforms(format="jpeg"))

    assert is_near(image.getpixel((5, 5)), WHITE)


def test_a_grey_picture_of_16_bits_keeps_its_shades():
    image = Image.new("I;16", (2, 1))
    image.putpixel((0, 0), 0x80FF)
    image.putpixel((1, 0), 0x12FF)

    drawn = redrawn(saved(image, transparency=0x12FF), Transforms(format="png"))

    assert drawn.getpixel((0, 0)) == (0x80, 0x80, 0x80, 255)
    assert drawn.getpixel((1, 0)) == (0x12, 0x12, 0x12, 0)


def test_a_cmyk_jpeg_becomes_rgb():
    content = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")

    assert is_near(redrawn(content, Transforms(format="png")).getpixel((8, 8)), RED)
    assert redrawn(content, is_marked=True).mode == "RGB"


def test_a_colour_profile_is_kept():
    content = saved(Image.new("RGB", (20, 10)), icc_profile=SRGB)

    for format in FORMATS:
        assert redrawn(content, Transforms(format=format)).info["icc_profile"] == SRGB
    assert shrunk(content, 5, 5).info["icc_profile"] == SRGB


def test_a_profile_for_other_colours_does_not_go_on_rgb():
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    broken = SRGB[:16] + b"CMYK" + SRGB[20:100]

    for image, profile in (
        (Image.new("L", (8, 8), 200), grey),
        (Image.new("LA", (8, 8), (200, 128)), grey),
        (Image.new("RGB", (8, 8), RED), grey),
        (Image.new("RGB", (8, 8), RED), b"x"),
    ):
        drawn = redrawn(saved(image, icc_profile=profile), Transforms(format="png"))
        assert "icc_profile" not in drawn.info
        assert is_near(drawn.getpixel((4, 4)), image.convert(drawn.mode).getpixel((4, 4)))  # type: ignore[arg-type]
    cmyk = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", icc_profile=broken)
    assert is_near(redrawn(cmyk, Transforms(format="png")).getpixel((8, 8)), RED)


def test_quality_makes_files_smaller():
    noise = saved(Image.effect_noise((64, 64), 80))

    for format in ("jpeg", "webp", "avif"):
        sizes = [
            redrawn_bytes(noise, Transforms(format=format, quality=quality))[1].bytes
            for quality in (10, None, 100)
        ]
        assert sizes == sorted(set(sizes))


def test_quality_changes_nothing_of_a_png():
    noise = saved(Image.effect_noise((64, 64), 80))

    assert redrawn_bytes(noise, Transforms(quality=1)) == redrawn_bytes(noise, Transforms())


def test_an_xmp_packet_goes_into_an_avif_only():
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"

    for format in FORMATS:
        content, _ = redrawn_bytes(plain(20, 10), Transforms(format=format), xmp=xmp)
        assert (xmp in content) == (format == "avif")


def test_nothing_but_pixels_and_colours_is_carried_along():
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    content = saved(Image.new("RGB", (20, 10)), "JPEG", exif=exif, comment=b"where I live")
    told = saved(Image.new("RGB", (20, 10)), "WEBP", exif=exif, xmp=b"where I live")

    for source in (content, told):
        assert b"where I live" in source
        for format in FORMATS:
            assert b"where I live" not in redrawn_bytes(source, Transforms(format=format))[0]


@pytest.mark.parametrize("format", FORMATS)
def test_equal_input_gives_equal_bytes(format: Format):
    wanted = Transforms(
        resize=Resize(width=300), format=format, watermark=Watermark(text="Example")
    )
    content = pictures.webp_lossy(width=200, height=150)

    first = redrawn_bytes(content, wanted, is_marked=True)

    assert redrawn_bytes(content, wanted, is_marked=True) == first


def test_it_writes_into_any_file_and_leaves_it_at_its_start():
    source = io.BytesIO(plain(300, 200))
    picture = inspect(source)
    kinds: list[Callable[[], Any]] = [
        io.BytesIO,
        tempfile.TemporaryFile,
        lambda: tempfile.SpooledTemporaryFile(max_size=50),  # noqa: SIM115 - closed below
    ]
    written = []
    for kind in kinds:
        with kind() as into:
            what = redraw(
                source,
                picture,
                into,
                transforms=Transforms(format="jpeg"),
                is_marked=False,
                watermark=None,
                font=None,
                xmp=None,
            )
            written.append(into.read())
            assert what.bytes == len(written[-1])

    assert written == [written[0]] * 3
    assert not source.closed


def test_two_threads_get_what_they_asked_for():
    found: dict[str, bytes] = {}

    def work(format: Format) -> None:
        found[format] = redrawn_bytes(plain(200, 200), Transforms(format=format))[0]

    threads = [threading.Thread(target=work, args=(format,)) for format in FORMATS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {look(content).format for content in found.values()} == {"PNG", "JPEG", "WEBP", "AVIF"}

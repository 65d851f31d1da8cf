"""Bombs, garbage and sizes beyond the limits are refused cleanly, where possible before money."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zlib

import pytest
from PIL import Image

from fal_image.errors import InvalidInput
from fal_image.images import Picture
from fal_image.processing import pixels
from fal_image.processing.base import CannotProcess
from fal_image.processing.transforms import check, redraw
from fal_image.treatment import (
    MAX_CODED_PIXELS,
    MAX_PIXELS,
    MAX_SIDE_PX,
    Format,
    Resize,
    Transforms,
)
from support import pictures
from support.redrawing import plain, redrawn, redrawn_bytes, refusal, saved, tall_png

FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp", "avif")


@pytest.mark.parametrize("side", [5001, 9000, 10_000, 20_000])
def test_a_bomb_is_refused_before_it_is_opened(side: int):
    class Unread(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("it was read")

    picture = Picture("image/png", "png", side, side, 100)
    with pytest.raises(CannotProcess) as caught:
        redraw(
            Unread(),
            picture,
            io.BytesIO(),
            transforms=None,
            is_marked=True,
            watermark=None,
            font=None,
            xmp=None,
        )
    assert f"{side} x {side} pixels are more than the {MAX_PIXELS}" in caught.value.reason


@pytest.mark.parametrize("side", [5001, 9000, 10_000, 20_000])
def test_a_bomb_behind_a_small_header_is_refused_before_it_is_decoded(side: int):
    small = Picture("image/png", "png", 8, 8, 100)

    reason = refusal(tall_png(side, side), is_marked=True, picture=small)

    assert str(MAX_PIXELS) in reason or "decoded" in reason  # Pillow itself refuses the largest


def test_a_frame_larger_than_its_gif_is_a_bomb():
    gif = bytearray(pictures.gif())
    frame = gif.index(b",\0\0\0\0")
    gif[frame + 5 : frame + 9] = (6000).to_bytes(2, "little") * 2

    assert str(MAX_PIXELS) in refusal(bytes(gif), Transforms(format="png"))


@pytest.mark.parametrize(
    "resize",
    [Resize(width=8192, height=8192), Resize(height=MAX_SIDE_PX), Resize(width=6000, height=5000)],
)
def test_a_result_that_is_too_large_is_refused(resize: Resize):
    assert "more than" in refusal(plain(20, 20), Transforms(resize=resize))


def test_a_side_that_follows_from_the_other_has_the_same_limit():
    reason = refusal(plain(10, 100), Transforms(resize=Resize(width=1000)))

    assert reason == "resized to 1000 x 10000 it has a side over 8192"


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_formats_whose_encoders_take_more_memory_have_a_smaller_limit(format: Format):
    wanted = Transforms(resize=Resize(width=4000, height=2100), format=format)

    assert f"8300000 that are written as {format}" in refusal(plain(4, 4), wanted)
    with pytest.raises(InvalidInput, match="8300000"):
        check(wanted, None)
    check(Transforms(resize=Resize(width=3840, height=2160), format=format), None)


def test_a_webp_too_large_for_its_encoder_becomes_a_png_where_nobody_wants_a_format():
    content = saved(Image.new("RGB", (4, 4)), "WEBP")
    large, small = (Resize(width=4000, height=height) for height in (2100, 2000))

    assert redrawn(content, Transforms(resize=large)).format == "PNG"
    assert redrawn(content, Transforms(resize=small)).format == "WEBP"
    assert large.width * large.height > MAX_CODED_PIXELS  # type: ignore[operator]


def test_a_webp_that_its_decoder_has_no_memory_for_is_refused_before_it_is_opened():
    content = pictures.webp_lossy()
    picture = Picture("image/webp", "webp", 4200, 4096, len(content))

    assert "more than the 17000000" in refusal(content, is_marked=True, picture=picture)


def test_pictures_are_worked_on_one_at_a_time():
    started, done = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        redrawn_bytes(plain(8, 8), is_marked=True)
        done.set()

    thread = threading.Thread(target=work)
    with pixels.one_at_a_time:
        thread.start()
        assert started.wait(5)
        assert not done.wait(0.1)
    thread.join()
    assert done.is_set()


def test_a_side_that_the_format_cannot_have_is_refused():
    assert refusal(plain(17_000, 1), Transforms(format="webp")) == "it cannot be written as webp"


@pytest.mark.parametrize("kind", list(pictures.KINDS))
def test_garbage_for_pixels_is_refused_or_drawn_and_nothing_else(kind: str):
    make, content_type, extension = pictures.KINDS[kind]
    content = make(width=64, height=64)
    picture = Picture(content_type, extension, 64, 64, len(content))

    assert refusal(content[:20], picture=picture) in {
        "its pixels cannot be decoded",
        "it is cut short",
    }
    for at in range(30, len(content) - 8, 7):
        broken = content[:at] + bytes(byte ^ 0x5A for byte in content[at : at + 8])
        for damaged in (broken, broken + content[at + 8 :]):
            try:
                redrawn_bytes(damaged, Transforms(format="png"), picture=picture)
            except CannotProcess as error:
                assert error.reason  # noqa: PT017 - either way is right, another exception is not


def test_only_the_format_that_the_header_said_is_opened():
    picture = Picture("image/jpeg", "jpg", 21, 13, 100)

    assert refusal(pictures.png(), picture=picture) == "its pixels cannot be decoded"
    bmp = saved(Image.new("RGB", (8, 8)), "BMP")
    assert refusal(bmp, picture=picture) == "its pixels cannot be decoded"


def test_unreadable_exif_does_not_cost_the_picture():
    content = saved(Image.new("RGB", (20, 10)), "WEBP", exif=b"Exif\0\0garbage")

    assert redrawn(content, Transforms(format="png")).size == (20, 10)


def test_more_pixels_than_are_worked_on_are_refused_before_money():
    with pytest.raises(InvalidInput) as caught:
        check(Transforms(resize=Resize(width=8192, height=8192)), None)

    assert caught.value.extensions["fields"] == [
        {"field": "transforms.resize", "message": "must not have more than 25000000 pixels"}
    ]


def test_more_pixels_than_are_worked_on_for_a_whole_job_are_refused_before_money():
    wanted = Transforms(resize=Resize(width=5000, height=4000))

    check(wanted, None, images=5)
    with pytest.raises(InvalidInput) as caught:
        check(wanted, None, images=6)
    assert caught.value.extensions["fields"] == [
        {
            "field": "transforms.resize",
            "message": "must not have more than 100000000 pixels in all 6 images together",
        }
    ]
    check(Transforms(resize=Resize(width=5000)), None, images=6)


def gif_with(extensions: bytes) -> bytes:
    content = pictures.gif()
    at = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    return content[:at] + extensions + content[at:]


def png_with(kind: bytes, *, times: int) -> bytes:
    content = pictures.png()
    chunk = bytes(4) + kind + zlib.crc32(kind).to_bytes(4, "big")
    return content[:33] + chunk * times + content[33:]


@pytest.mark.timeout(2)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gif_with(b"\x21\xfe\x01x\0" * 50_000), "too much beside its pixels"),
        (gif_with(b"\x21\xfe" + (b"\xff" + b"x" * 255) * 40_000 + b"\0"), "too much beside"),
        (gif_with(b"\x21\xfe\x01x\0" * 110_000), "too many parts"),
        (gif_with(b"\x99"), "do not follow one another"),
        (png_with(b"teSt", times=50_000), "too much beside its pixels"),
        (png_with(b"IDAT", times=110_000), "too many parts"),
    ],
    ids=["comments", "a long comment", "parts", "between", "chunks", "pieces"],
)
def test_what_would_keep_a_decoder_busy_is_refused_before_it_is_opened(content: bytes, reason: str):
    assert reason in refusal(content, Transforms(format="png"))


def test_comments_and_pixels_in_many_pieces_are_nothing_bad():
    assert redrawn(gif_with(b"\x21\xfe" + (b"\xff" + b"x" * 255) * 900 + b"\0"), is_marked=True)
    assert redrawn(png_with(b"teSt", times=900), is_marked=True)
    frames = [Image.new("L", (2, 2), shade % 256) for shade in range(1200)]
    moving = saved(frames[0], save_all=True, append_images=frames[1:])
    assert redrawn(moving, is_marked=True).size == (2, 2)


def test_what_can_be_done_is_not_refused():
    for format in FORMATS:
        check(Transforms(format=format, resize=Resize(width=2000, height=2000)), None)


def test_pillow_is_imported_only_by_those_who_need_it():
    program = (
        "import sys\n"
        "from fal_image.processing import transforms\n"
        "from fal_image.treatment import *\n"
        "transforms.check(Transforms(resize=Resize(width=9), format='webp'), None)\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'PIL']\n"
        "transforms.check(Transforms(watermark=Watermark(text='a')), None)\n"
        "assert 'PIL' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

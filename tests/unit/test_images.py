"""A picture is taken for what its bytes are, and only when they are all there."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fal_image.images import MAX_PIXELS, NotAPicture, Picture, inspect
from support import pictures

KINDS = pytest.mark.parametrize("kind", list(pictures.KINDS))
PNG, JPEG, GIF = pictures.png(), pictures.jpeg(), pictures.gif()
LOSSY, LOSSLESS, EXTENDED = (
    pictures.webp_lossy(),
    pictures.webp_lossless(),
    pictures.webp_extended(),
)


def look(content: bytes) -> Picture:
    return inspect(io.BytesIO(content))


def refusal(content: bytes) -> str:
    with pytest.raises(NotAPicture) as caught:
        look(content)
    return caught.value.reason


class CountedFile(io.BytesIO):
    """Remembers how many bytes were read out of it."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.read_bytes += len(found)
        return found


@KINDS
def test_a_whole_picture_is_known_by_its_bytes(kind: str):
    make, content_type, extension = pictures.KINDS[kind]
    content = make(width=37, height=5)

    assert look(content) == Picture(content_type, extension, 37, 5, len(content))


@KINDS
def test_a_picture_of_one_pixel_is_a_picture(kind: str):
    picture = look(pictures.KINDS[kind][0](width=1, height=1))

    assert (picture.width, picture.height) == (1, 1)


@KINDS
def test_a_picture_cut_anywhere_is_refused(kind: str):
    content = pictures.KINDS[kind][0]()

    for length in range(len(content)):
        refusal(content[:length])


@KINDS
def test_a_picture_with_something_behind_it_is_refused(kind: str):
    content = pictures.KINDS[kind][0]()

    refusal(content + b"<script>alert(1)</script>")
    refusal(content + b"x")


@given(st.binary(max_size=200))
@example(b"RIFF\x04\0\0\0WEBP")
@example(b"\xff\xd8\xff")
def test_no_bytes_raise_anything_else(content: bytes):
    for start in (b"", PNG[:8], PNG[:16], b"\xff\xd8", b"RIFF", EXTENDED[:12], b"GIF89a"):
        with contextlib.suppress(NotAPicture):
            look(start + content)


@given(
    st.sampled_from([PNG, JPEG, LOSSY, LOSSLESS, EXTENDED, pictures.webp_animated(), GIF]),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=6)), max_size=4),
    st.integers(0, 60),
)
def test_damaged_pictures_raise_nothing_else(
    content: bytes, damages: list[tuple[int, bytes]], cut: int
):
    damaged = bytearray(content)
    for at, patch in damages:
        at %= len(damaged)
        damaged[at : at + len(patch)] = patch
    try:
        picture = look(bytes(damaged[: len(damaged) - cut]))
    except NotAPicture:
        return
    assert 0 < picture.width * picture.height <= MAX_PIXELS


def test_a_big_picture_is_not_read_whole():
    with pictures.png_of(3_000_000) as file:
        counted = CountedFile(file.read())

    assert inspect(counted).bytes > 3_000_000
    assert counted.read_bytes < 1000


def test_a_long_jpeg_is_not_read_whole():
    metadata = b"\xff\xe1\xff\xff" + bytes(0xFFFD)
    file = CountedFile(JPEG[:2] + 40 * metadata + JPEG[2:])

    assert inspect(file).width == pictures.WIDTH
    assert file.read_bytes < 5000


def test_endless_segments_are_given_up():
    assert "4096 segments" in refusal(JPEG[:2] + 5000 * b"\xff\xfe\0\x02" + JPEG[2:])
    assert "4096 segments" in refusal(b"\xff\xd8" + 5000 * b"\xff")
    empty_chunks = 5000 * b"JUNK\0\0\0\0"
    riff = b"RIFF" + struct.pack("<I", 4 + len(empty_chunks)) + b"WEBP"
    assert "4096 parts" in refusal(riff + empty_chunks)


@pytest.mark.parametrize(
    ("width", "height", "is_taken"),
    [
        (10_000, 10_000, True),
        (10_000, 10_001, False),
        (100_000_001, 1, False),
        (2**31 - 1, 2**31 - 1, False),
        (0, 10, False),
        (10, 0, False),
    ],
)
def test_a_png_is_held_to_the_pixel_limit(width: int, height: int, is_taken: bool):
    content = pictures.png_header(width=width, height=height) + PNG[33:]

    if is_taken:
        assert look(content).width == width
    else:
        assert "pixels" in refusal(content)


def test_jpeg_and_webp_are_held_to_the_pixel_limit():
    frame = JPEG.index(b"\xff\xc0")
    huge_jpeg = JPEG[: frame + 5] + b"\xff\xff\xff\xff" + JPEG[frame + 9 :]
    assert "65535 x 65535 pixels" in refusal(huge_jpeg)

    huge_webp = LOSSY[:26] + b"\xff\x3f\xff\x3f" + LOSSY[30:]
    assert "16383 x 16383 pixels" in refusal(huge_webp)


def test_a_jpeg_filled_up_with_zeros_is_whole():
    assert look(JPEG + bytes(100)).bytes == len(JPEG) + 100


def test_a_jpeg_cut_and_filled_up_with_zeros_is_not():
    assert "EOI" in refusal(JPEG[:-20] + bytes(20))
    assert "EOI" in refusal(JPEG + bytes(5000))


def test_the_end_of_a_preview_is_not_the_end_of_the_jpeg():
    preview = b"\xff\xe1" + struct.pack(">H", 2 + len(JPEG)) + JPEG
    content = JPEG[:2] + preview + JPEG[2:]

    assert look(content).width == pictures.WIDTH
    refusal(content[: 2 + len(preview)])


@pytest.mark.parametrize(
    "kind", [b"\x08\x07\0\0\0", b"\x03\x02\0\0\0", b"\x08\x02\x01\0\0", b"\x08\x02\0\0\x02"]
)
def test_a_png_that_cannot_exist_is_refused(kind: bytes):
    assert "impossible" in refusal(pictures.png_header(kind=kind) + PNG[33:])


def test_a_png_header_with_a_wrong_checksum_is_refused():
    assert "broken header" in refusal(PNG[:16] + b"\0\0\x10\0" + PNG[20:])


def test_a_jpeg_without_a_frame_header_is_refused():
    scan = JPEG.index(b"\xff\xda")
    assert "size" in refusal(b"\xff\xd8" + JPEG[scan:])


@pytest.mark.parametrize("bare", [b"\xff\xd8", b"\xff\xd9", b"\xff\xd0", b"\xff\x01", b"\xff\0"])
def test_a_jpeg_with_a_bare_mark_before_its_picture_is_refused(bare: bytes):
    refusal(JPEG[:2] + b"\xff\xfe\0\x02" + bare + JPEG[2:])


def test_a_webp_whose_canvas_is_not_its_picture_is_refused():
    assert "two sizes" in refusal(EXTENDED[:24] + b"\x63\0\0" + EXTENDED[27:])


def test_a_webp_of_odd_length_needs_its_padding_byte():
    odd = b"RIFF" + struct.pack("<I", len(LOSSY) - 9) + LOSSY[8:-1]

    assert look(odd + b"\0").width == pictures.WIDTH
    refusal(odd)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\xef\xbb\xbf\n <HTML lang=en>", "HTML"),
        (b'{"detail": "expired"}', "JSON"),
        (b"[1]", "JSON"),
        (b"<?xml version='1.0'?><Error/>", "XML"),
        (b"<svg xmlns=''/>", "SVG"),
        (b"Not Found\n", "text"),
        ("é".encode() * 50 + "字".encode(), "text"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "video"),
        (b"BM\x1e\0\0\0", "42 4d 1e 00"),
        (b"\xde\xad\xbe\xef", "de ad be ef"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "52 49 46 46"),
    ],
)
def test_the_refusal_says_what_the_bytes_look_like(content: bytes, said: str):
    assert said in refusal(content)


def test_the_refusal_does_not_repeat_the_bytes():
    assert "canary" not in refusal(b'{"canary": "fal-secret"}') + refusal(b"canary")

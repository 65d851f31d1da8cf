"""Whatever a file is, labelling it ends well or says why it cannot be done."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from datetime import datetime, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fal_image import images
from fal_image.images import Picture
from fal_image.processing import labels, packets
from fal_image.processing.base import About, CannotProcess
from support import pictures, xmp

KINDS = pytest.mark.parametrize("kind", list(pictures.KINDS))
ABOUT = About("us", "job1-0", "m/m", datetime(2026, 11, 22, tzinfo=timezone.utc))


def try_to_label(content: bytes, picture: Picture) -> bytes | None:
    """The labelled file, None where it cannot be done."""
    into = io.BytesIO()
    with contextlib.suppress(CannotProcess):
        labels.labelled(io.BytesIO(content), picture, ABOUT, into)
        return into.getvalue()
    return None


def refusal(content: bytes, extension: str) -> str:
    picture = Picture(images.CONTENT_TYPES[extension], extension, 3, 2, len(content))
    with pytest.raises(CannotProcess) as caught:
        labels.labelled(io.BytesIO(content), picture, ABOUT, io.BytesIO())
    return caught.value.reason


def png_with(text: bytes) -> bytes:
    content = pictures.png()
    chunk = struct.pack(">I", len(text)) + b"iTXt" + text + bytes(4)
    return content[:33] + chunk + content[33:]


@KINDS
def test_a_file_that_was_cut_is_never_an_accident(kind: str):
    content = pictures.KINDS[kind][0]()
    picture = images.inspect(io.BytesIO(content))

    for length in range(len(content)):
        try_to_label(content[:length], picture)


@KINDS
@given(data=st.data())
def test_a_file_with_wrong_bytes_is_never_an_accident(kind: str, data: st.DataObject):
    content = bytearray(pictures.KINDS[kind][0]())
    picture = images.inspect(io.BytesIO(content))
    places = st.integers(0, min(200, len(content) - 1))
    for at, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=5)):
        content[at] = byte

    made = try_to_label(bytes(content), picture)

    with contextlib.suppress(images.NotAPicture):
        images.inspect(io.BytesIO(content))
        assert made is None or images.inspect(io.BytesIO(made))


@KINDS
@given(content=st.binary(max_size=80))
@example(content=b"")
def test_a_file_that_is_no_picture_is_never_an_accident(kind: str, content: bytes):
    _, content_type, extension = pictures.KINDS[kind]

    try_to_label(content, Picture(content_type, extension, 3, 2, len(content)))


@pytest.mark.parametrize("extension", ["png", "webp", "gif", "jpg"])
def test_an_empty_file_is_refused(extension: str):
    refusal(b"", extension)


def test_a_png_without_an_end_is_refused():
    assert refusal(pictures.png()[:-12], "png") == "it is cut short"


def test_a_gif_with_something_between_its_blocks_is_refused():
    assert "follow one another" in refusal(b"GIF89a\1\0\1\0\0\0\0" + b"\x99", "gif")


def test_a_webp_whose_parts_are_longer_than_the_file_is_refused():
    content = pictures.webp_lossy()

    assert "longer" in refusal(content[:-2], "webp")


def test_a_picture_in_too_many_parts_is_refused():
    assert "parts" in refusal(pictures.png()[:33] + b"\0\0\0\0teSt\0\0\0\0" * 100_001, "png")
    assert "parts" in refusal(b"\xff\xd8" + b"\xff\xee\0\2" * 100_001, "jpg")
    assert "parts" in refusal(b"RIFF\0\0\0\0WEBP" + b"teSt\0\0\0\0" * 100_001, "webp")
    assert "parts" in refusal(b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe\0" * 100_001, "gif")


def test_metadata_of_many_megabytes_is_refused():
    packet = xmp.title_packet("x" * 5_000_000)
    data = b"XML:com.adobe.xmp" + bytes(5) + packet

    assert "too big" in refusal(png_with(data), "png")


def test_many_packets_that_inflate_to_many_megabytes_are_not_all_inflated():
    chunk = png_with(b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(1_000_000)))[33:]
    chunk = chunk[: -len(pictures.png()[33:])]
    content = pictures.png()[:33] + chunk * 20_000 + pictures.png()[33:]

    picture = images.inspect(io.BytesIO(content))
    into = io.BytesIO()
    labels.labelled(io.BytesIO(content), picture, ABOUT, into)

    assert xmp.label_in(into.getvalue())["ContentProducer"] == "us"


BLANKS = b" " * 1_000_000


@pytest.mark.timeout(2)
@pytest.mark.parametrize("end", [b"", b"<?xpacket end='r'?>", b'<?xpacket end="w"?>'])
@pytest.mark.parametrize("blanks", [BLANKS, BLANKS[2:].replace(b"  ", b"\n ")])
def test_any_amount_of_blanks_is_gone_through_once(blanks: bytes, end: bytes):
    inner = blanks.join([b"</rdf:RDF>", b"</x:xmpmeta>"])
    packet = xmp.packet_of("").partition(b"</rdf:RDF>")[0] + inner + end

    made = packets.added(
        packets.opened(packet), [packets.Property("a", "u:", "B", "c")], room=3_000_000
    )

    assert xmp.properties(made)["{u:}B"] == "c"


def test_a_long_namespace_of_many_names_is_refused():
    names = "".join(f"<a:b{number}/>" for number in range(20_000))
    inner = f"<rdf:Description xmlns:a='{'u' * 100_000}'>{names}</rdf:Description>"

    with pytest.raises(CannotProcess, match="namespace"):
        packets.opened(xmp.packet_of(inner))


def test_a_namespace_of_another_length_than_usual_is_fine():
    inner = f"<rdf:Description xmlns:a='{'u' * 256}'><a:b>1</a:b></rdf:Description>"

    assert packets.opened(xmp.packet_of(inner)).ids == {f"{'u' * 256} b"}


def test_a_small_packet_that_inflates_to_many_megabytes_is_refused():
    data = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50_000_000))

    assert "too big" in refusal(png_with(data), "png")

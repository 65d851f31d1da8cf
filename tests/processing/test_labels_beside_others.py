"""What was in a picture's metadata before the label stays there, and there is one XMP packet."""

from __future__ import annotations

import io
import json
import struct
import zlib
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image, ImageCms, PngImagePlugin

from fal_image import images
from fal_image.processing import labels
from fal_image.processing.base import About, CannotProcess
from support import pictures, xmp

ABOUT = About("us", "job1-0", "m/m", datetime(2026, 11, 22, tzinfo=timezone.utc), "a cat")
THEIRS = json.dumps({"Label": "1", "ContentProducer": "them", "ProduceID": "9"})
JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
TC260 = 'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"'
FORMATS = pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])


def label(content: bytes, about: About = ABOUT) -> bytes:
    source, into = io.BytesIO(content), io.BytesIO()
    told = labels.labelled(source, images.inspect(source), about, into)
    assert images.inspect(into) == told
    return into.getvalue()


def with_packet(kind: str, packet: bytes) -> bytes:
    if kind == "PNG":
        return png_with(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet)
    if kind == "JPEG":
        return jpeg_with((0xE1, JPEG_XMP + packet))
    if kind == "WEBP":
        file = io.BytesIO()
        Image.new("RGB", (3, 2)).save(file, "WEBP", xmp=packet)
        return file.getvalue()
    content = pictures.gif()
    palette = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    magic = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return content[:palette] + b"\x21\xff\x0bXMP DataXMP" + packet + magic + content[palette:]


def png_with(kind: bytes, data: bytes, *, at: int = 33) -> bytes:
    content = pictures.png()
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return content[:at] + struct.pack(">I", len(data)) + kind + data + crc + content[at:]


def jpeg_with(*segments: tuple[int, bytes], at: int = 2) -> bytes:
    content = pictures.jpeg()
    made = [struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data for marker, data in segments]
    return content[:at] + b"".join(made) + content[at:]


def jpeg_segments(content: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 2
    while content[at + 1] != 0xDA:
        marker, length = struct.unpack(">xBH", content[at : at + 4])
        found.append((marker, content[at + 4 : at + 2 + length]))
        at += 2 + length
    return found


def test_the_builders_of_this_file_make_what_pillow_finds():
    for kind in ("PNG", "JPEG", "WEBP"):
        assert xmp.packet_in(with_packet(kind, xmp.title_packet())) == xmp.title_packet()


@FORMATS
@pytest.mark.parametrize("about", ["", "uuid:1&amp;&quot;2&quot;"])
def test_a_packet_that_is_there_is_added_to(kind: str, about: str):
    content = label(with_packet(kind, xmp.title_packet("Cats &amp; <!-- x -->dogs", about=about)))

    made = xmp.properties_in(content)
    assert made[xmp.TITLE] == "Cats & dogs"
    assert json.loads(made[xmp.AIGC])["ContentProducer"] == "us"
    assert content.count(b"W5M0MpCehiHzreSzNTczkc9d") == 1
    packet = xmp.packet_in(content)
    assert packet is not None
    assert packet.count(f'rdf:about="{about}"'.encode()) == 2  # all about the same thing


@FORMATS
def test_a_packet_keeps_its_words_byte_for_byte(kind: str):
    inner = (
        "<r:Description xmlns:a='urn:a#' a:b='1'><!-- </rdf:RDF> --><a:c><![CDATA[</r:RDF>]]></a:c>"
    )
    before = xmp.packet_of(inner + "</r:Description>", rdf="r")

    after = xmp.packet_in(label(with_packet(kind, before)))

    assert after is not None
    assert inner.encode() in after
    assert xmp.properties(after)["{urn:a#}c"] == "</r:RDF>"


@FORMATS
@pytest.mark.parametrize(
    "written",
    [
        f"<rdf:Description {TC260}><TC260:AIGC>{THEIRS}</TC260:AIGC></rdf:Description>",
        f"<rdf:Description {TC260} TC260:AIGC='{THEIRS}'/>",
        f"<rdf:Description {TC260.replace('TC260=', 'x=')} x:AIGC='{THEIRS}'/>",
    ],
)
def test_a_label_of_somebody_else_is_kept_and_not_doubled(kind: str, written: str):
    content = label(with_packet(kind, xmp.packet_of(written)))

    assert xmp.label_in(content)["ContentProducer"] == "them"
    assert xmp.SOURCE_TYPE in xmp.properties_in(content)
    assert b'"us"' not in content


def test_a_label_in_a_png_text_is_not_contradicted():
    content = label(png_with(b"tEXt", b"AIGC\0" + THEIRS.encode(), at=len(pictures.png()) - 12))

    assert xmp.AIGC not in xmp.properties_in(content)
    assert xmp.SOURCE_TYPE in xmp.properties_in(content)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.info["AIGC"] == THEIRS


def test_a_png_text_that_only_has_the_name_is_no_label():
    content = label(png_with(b"tEXt", b"AIGC\0is what this is"))

    assert xmp.label_in(content)["ContentProducer"] == "us"


@FORMATS
def test_properties_that_are_there_are_not_written_again(kind: str):
    there = "<rdf:Description xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:CreatorTool='Theirs'/>"

    made = xmp.properties_in(label(with_packet(kind, xmp.packet_of(there))))

    assert made[xmp.TOOL] == "Theirs"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])  # a GIF cannot hold its zeros
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_packet_in_utf_16_becomes_one_in_utf_8(kind: str, encoding: str):
    there = xmp.title_packet("猫").decode().encode(encoding)

    made = xmp.properties_in(label(with_packet(kind, there)))

    assert made[xmp.TITLE] == "猫"
    assert xmp.AIGC in made


def test_a_compressed_packet_of_a_png_is_added_to():
    packet = zlib.compress(xmp.title_packet())
    content = png_with(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0words\0" + packet)

    assert xmp.properties_in(label(content))[xmp.TITLE] == "Cats"


def test_a_packet_behind_the_pixels_of_a_png_moves_before_them():
    there = b"XML:com.adobe.xmp" + bytes(5) + xmp.title_packet()
    content = label(png_with(b"iTXt", there, at=len(pictures.png()) - 12))

    assert content.count(b"XML:com.adobe.xmp") == 1
    assert content.index(b"<dc:title>Cats") < content.index(b"IDAT")


@FORMATS
@pytest.mark.parametrize(
    "there",
    [
        b"",
        b"<x/>",
        b"no XML at all",
        xmp.title_packet()[:-40],
        xmp.title_packet().replace(b"Cats", b"C\xe4ts"),
        xmp.packet_of("").replace(b"></rdf:RDF>", b"/>"),
        b'<!DOCTYPE r [<!ENTITY a "a">]>' + xmp.title_packet("&amp;a;"),
        b"\xff\xfe\0",
    ],
    ids=["empty", "other XML", "text", "cut", "latin-1", "empty RDF", "DTD", "half a letter"],
)
def test_a_packet_that_nobody_can_read_gives_way_to_the_label(kind: str, there: bytes):
    content = label(with_packet(kind, there))

    assert xmp.label_in(content)["ContentProducer"] == "us"


@pytest.mark.parametrize("fields", [b"", b"\0", b"\1\0\0\0no deflate"])
def test_a_broken_text_chunk_gives_way_to_the_label(fields: bytes):
    content = label(png_with(b"iTXt", b"XML:com.adobe.xmp\0" + fields))

    assert content.count(b"XML:com.adobe.xmp") == 1
    assert xmp.AIGC in xmp.properties_in(content)


@FORMATS
@given(data=st.data())
def test_whatever_the_packet_was_the_label_can_be_read(kind: str, data: st.DataObject):
    whole = xmp.title_packet()
    cut, on = sorted(data.draw(st.integers(0, len(whole))) for _ in range(2))
    broken = whole[:cut] + data.draw(st.binary(max_size=9)) + whole[on:]
    if kind == "GIF":
        broken = broken.replace(b"\0", b"").replace(b"\1", b"")  # the marks of its end

    made = xmp.properties_in(label(with_packet(kind, broken)))

    assert json.loads(made[xmp.AIGC])["ContentProducer"] == "us"


def test_exif_colours_and_comments_of_a_jpeg_stay():
    exif = Image.Exif()
    exif[0x010E] = "A cat"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "JPEG", exif=exif, icc_profile=icc, comment="Meow")

    content = label(file.getvalue())

    with Image.open(io.BytesIO(content)) as image:
        assert image.getexif()[0x010E] == "A cat"
        assert (image.info["icc_profile"], image.info["comment"]) == (icc, b"Meow")
    assert [marker for marker, _ in jpeg_segments(content)][:4] == [0xE0, 0xE1, 0xE1, 0xE2]
    assert jpeg_segments(content)[2][1].startswith(JPEG_XMP)


def test_content_credentials_of_a_jpeg_stay_byte_for_byte():
    jumbf = (0xEB, b"JP\0\1\0\0\0\1" + b"\0\0\0\x1ajumb" + bytes(range(64)))
    before = jpeg_with(jumbf, at=20)  # behind JFIF

    after = jpeg_segments(label(before))

    assert [each for each in after if not each[1].startswith(JPEG_XMP)] == jpeg_segments(before)


def test_bytes_that_only_fill_up_a_jpeg_are_no_segments():
    content = jpeg_with((0xE1, JPEG_XMP + xmp.title_packet()), at=20)

    filled = label(content[:20] + b"\xff" * 5 + content[20:])

    assert xmp.properties_in(filled).keys() >= {xmp.TITLE, xmp.AIGC}


def test_of_two_packets_the_first_one_counts():
    two = [(0xE1, JPEG_XMP + xmp.title_packet(title)) for title in ("Cats", "Dogs")]

    content = label(jpeg_with(*two))

    assert xmp.properties_in(content)[xmp.TITLE] == "Cats"
    assert content.count(JPEG_XMP) == 1


def test_the_parts_of_an_extended_packet_stay():
    space = "xmlns:xmpNote='http://ns.adobe.com/xmp/note/'"
    note = f"<rdf:Description {space} xmpNote:HasExtendedXMP='AB'/>"
    extension = (0xE1, b"http://ns.adobe.com/xmp/extension/\0AB" + bytes(80))

    content = label(jpeg_with((0xE1, JPEG_XMP + xmp.packet_of(note)), extension))

    assert extension in jpeg_segments(content)
    assert xmp.properties_in(content)["{http://ns.adobe.com/xmp/note/}HasExtendedXMP"] == "AB"


def test_padding_makes_room_for_the_label():
    there = xmp.title_packet(padding=64_000)

    made = xmp.properties_in(label(with_packet("JPEG", there)))

    assert {xmp.TITLE, xmp.AIGC, xmp.PROMPT} <= made.keys()


def test_a_full_packet_leaves_out_the_prompt_first_and_is_refused_then():
    silent = replace(ABOUT, prompt=None)
    made = xmp.packet_in(label(with_packet("JPEG", xmp.title_packet("")), silent))
    assert made is not None
    spare = 65_502 - len(made)

    tight = with_packet("JPEG", xmp.title_packet("x" * spare))
    full = with_packet("JPEG", xmp.title_packet("x" * (spare + 1)))

    assert label(tight) == label(tight, silent)
    assert xmp.AIGC in xmp.properties_in(label(tight))
    with pytest.raises(CannotProcess, match="no room"):
        label(full)


def test_a_labelled_packet_that_only_utf_16_made_small_enough_is_refused():
    labelled = xmp.packet_in(label(with_packet("PNG", xmp.title_packet("猫" * 25_000))))
    assert labelled is not None

    with pytest.raises(CannotProcess, match="no room"):
        label(with_packet("JPEG", labelled.decode().encode("utf-16")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_other_formats_have_room_for_big_packets(kind: str):
    made = xmp.properties_in(label(with_packet(kind, xmp.title_packet("x" * 100_000))))

    assert {xmp.TITLE, xmp.AIGC, xmp.PROMPT} <= made.keys()


def test_texts_and_colours_of_a_png_stay():
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat, steps: 4")
    info.add_itxt("Title", "猫")
    info.add(b"caBX", b"\0\0\0\x1ajumb")
    file = io.BytesIO()
    Image.new("P", (3, 2)).save(file, "PNG", pnginfo=info, transparency=0, dpi=(300, 300))

    content = label(file.getvalue())

    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.info["parameters"] == "a cat, steps: 4"
        assert (image.info["Title"], image.info["transparency"]) == ("猫", 0)
        assert round(image.info["dpi"][0]) == 300
    assert b"caBX\0\0\0\x1ajumb" in content


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_a_picture_that_moves_still_moves(kind: str):
    frames = [Image.new("RGB", (8, 4), colour) for colour in ("red", "green", "blue")]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=70, loop=3)

    content = label(file.getvalue())

    with (
        Image.open(io.BytesIO(file.getvalue())) as before,
        Image.open(io.BytesIO(content)) as after,
    ):
        count = getattr(after, "n_frames", 1)  # of formats with several, Pillow's types say
        assert (count, after.info["loop"]) == (3, before.info["loop"])
        for frame in range(3):
            before.seek(frame)
            after.seek(frame)
            assert before.convert("RGBA").tobytes() == after.convert("RGBA").tobytes()
    assert xmp.AIGC in xmp.properties_in(content)


@pytest.mark.parametrize("alpha", [False, True])
def test_a_simple_lossless_webp_becomes_an_extended_one(alpha: bool):
    file = io.BytesIO()
    mode = "RGBA" if alpha else "RGB"
    Image.linear_gradient("L").resize((300, 7)).convert(mode).save(file, "WEBP", lossless=True)
    if alpha:
        made = Image.new("RGBA", (300, 7), (1, 2, 3, 4))
        file = io.BytesIO()
        made.save(file, "WEBP", lossless=True, exact=True)
    assert file.getvalue()[12:16] == b"VP8L"

    content = label(file.getvalue())

    kind, size, flags, wide, high = struct.unpack("<4sIB3x3s3s", content[12:30])
    assert (kind, size) == (b"VP8X", 10)
    assert flags == 0x04 + (0x10 if alpha else 0)
    assert [int.from_bytes(side, "little") + 1 for side in (wide, high)] == [300, 7]
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == mode


def test_exif_and_colours_of_a_webp_stay():
    exif = Image.Exif()
    exif[0x010E] = "A cat"
    file = io.BytesIO()
    Image.new("RGBA", (3, 2)).save(file, "WEBP", exif=exif, icc_profile=b"colours")

    content = label(file.getvalue())

    assert content[20] == file.getvalue()[20] | 0x04
    with Image.open(io.BytesIO(content)) as image:
        assert image.getexif()[0x010E] == "A cat"
        assert image.info["icc_profile"] == b"colours"


def test_an_old_gif_becomes_one_that_may_have_metadata():
    old = pictures.gif().replace(b"GIF89a", b"GIF87a")

    content = label(old)

    assert content.startswith(b"GIF89a")
    assert xmp.AIGC in xmp.properties_in(content)

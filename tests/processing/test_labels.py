"""The AI label is in the file, others can read it, and the picture is what it was."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fal_image import images
from fal_image.images import Picture
from fal_image.processing import labels
from fal_image.processing.base import About, CannotProcess
from support import pictures, xmp

KINDS = pytest.mark.parametrize("kind", list(pictures.KINDS))


def about(
    *,
    producer: str = "Cat Pictures Ltd",
    produce_id: str = "job1-0",
    model: str = "fal-ai/flux/schnell",
    created_at: datetime = datetime(2026, 11, 22, 1, 2, 3, 400_000, tzinfo=timezone.utc),
    prompt: str | None = None,
    seed: int | None = None,
) -> About:
    return About(producer, produce_id, model, created_at, prompt, seed)


def label(content: bytes, says: About | None = None) -> bytes:
    """The labelled picture, which our own reader takes for the picture that was told."""
    source, into = io.BytesIO(content), io.BytesIO()
    told = labels.labelled(source, images.inspect(source), says or about(), into)
    assert images.inspect(into) == told
    return into.getvalue()


def pixels(content: bytes) -> list[bytes]:
    with Image.open(io.BytesIO(content)) as image:
        found = []
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            found.append(image.convert("RGBA").tobytes())
        return found


@KINDS
def test_every_kind_of_picture_says_that_a_model_made_it(kind: str):
    made = xmp.properties_in(label(pictures.KINDS[kind][0]()))

    assert json.loads(made.pop(xmp.AIGC)) == {
        "Label": "1",
        "ContentProducer": "Cat Pictures Ltd",
        "ProduceID": "job1-0",
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    assert made == {
        xmp.SOURCE_TYPE: "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        xmp.SYSTEM: "fal-ai/flux/schnell",
        xmp.TOOL: "fal-image",
        xmp.CREATED: "2026-11-22T01:02:03Z",
    }


@KINDS
def test_the_pixels_are_those_of_before(kind: str):
    content = pictures.KINDS[kind][0](width=37, height=5)

    assert pixels(label(content)) == pixels(content)


@KINDS
def test_prompt_and_seed_are_told_when_somebody_asked_for_it(kind: str):
    made = xmp.properties_in(label(pictures.KINDS[kind][0](), about(prompt="a cat", seed=0)))

    assert (made[xmp.PROMPT], made[xmp.SEED]) == ("a cat", "0")


def test_the_fields_stand_in_the_order_of_the_standard():
    assert list(xmp.label_in(label(pictures.png()))) == [
        "Label",
        "ContentProducer",
        "ProduceID",
        "ReservedCode1",
        "ContentPropagator",
        "PropagateID",
        "ReservedCode2",
    ]


def test_a_png_has_the_label_as_a_text_too():
    content = label(pictures.png(), about(producer="某某公司"))

    with Image.open(io.BytesIO(content)) as image:
        assert json.loads(image.info["AIGC"]) == xmp.label_in(content)
    assert xmp.label_in(content)["ContentProducer"] == "某某公司"


def test_the_metadata_of_a_png_stands_before_its_pixels():
    content = label(pictures.png())

    assert content.index(b"XML:com.adobe.xmp") < content.index(b"IDAT")
    assert content.index(b"tEXtAIGC\0") < content.index(b"IDAT")


def test_the_time_is_told_in_utc():
    there = datetime(2026, 11, 22, 1, 0, tzinfo=timezone(timedelta(hours=8)))

    made = xmp.properties_in(label(pictures.png(), about(created_at=there)))

    assert made[xmp.CREATED] == "2026-11-21T17:00:00Z"


@KINDS
def test_a_second_label_changes_no_byte(kind: str):
    once = label(pictures.KINDS[kind][0](), about(prompt="a cat", seed=1))

    assert label(once, about(prompt="a cat", seed=1)) == once
    assert label(once, about(producer="Somebody else", prompt="a dog", seed=2)) == once


@KINDS
def test_a_label_that_grows_keeps_what_it_said(kind: str):
    first = label(pictures.KINDS[kind][0](), about(producer="First"))
    second = label(first, about(producer="Second", prompt="a cat"))

    assert xmp.label_in(second)["ContentProducer"] == "First"
    assert xmp.properties_in(second)[xmp.PROMPT] == "a cat"
    assert second.count(b"W5M0MpCehiHzreSzNTczkc9d") == 1


@KINDS
@given(prompt=st.text(), producer=st.text(), seed=st.none() | st.integers())
def test_any_words_come_back(kind: str, prompt: str, producer: str, seed: int | None):
    content = label(pictures.KINDS[kind][0](), about(producer=producer, prompt=prompt, seed=seed))

    made = xmp.properties_in(content)
    assert made.get(xmp.PROMPT, "") == "".join(filter(is_xml, prompt))
    assert made.get(xmp.SEED) == (None if seed is None else str(seed))
    assert xmp.label_in(content)["ContentProducer"] == "".join(filter(is_xml, producer))


def is_xml(char: str) -> bool:
    """XML 1.0, section 2.2."""
    code = ord(char)
    return char in "\t\n\r" or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code > 0xFFFF


@pytest.mark.parametrize(
    "prompt",
    [
        "<script>alert(1)</script>",
        "]]> <![CDATA[ &amp; &#0; &lt;",
        "</rdf:RDF></x:xmpmeta><?xpacket end='w'?>",
        "one\r\ntwo\rthree\nfour\tfive ",
        "🐈\u200d⬛ \u202e \ufeff",
        "\"quotes\" and 'quotes'",
    ],
)
def test_awkward_words_come_back(prompt: str):
    assert xmp.properties(labels.packet(about(prompt=prompt)))[xmp.PROMPT] == prompt


def test_what_xml_cannot_hold_is_left_out():
    words = "a\0 \x1b[1mcat\ud800\ufffe\uffff\x7f"

    assert xmp.properties(labels.packet(about(prompt=words)))[xmp.PROMPT] == "a [1mcat\x7f"


def test_a_packet_for_other_formats_says_the_same():
    says = about(prompt="a cat", seed=7)

    assert xmp.properties(labels.packet(says)) == xmp.properties_in(label(pictures.jpeg(), says))
    assert labels.packet(says).startswith(b'<?xpacket begin="\xef\xbb\xbf" id=')


@KINDS
def test_a_prompt_that_is_too_long_is_cut_and_never_an_error(kind: str):
    prompt = "猫 & <狗>\r" * 20_000

    content = label(pictures.KINDS[kind][0](), about(prompt=prompt))

    told = xmp.properties_in(content)[xmp.PROMPT]
    assert told.endswith("…")
    assert prompt.startswith(told[:-1])
    packet = xmp.packet_in(content)
    assert packet is not None
    assert 65_000 < len(packet) <= 65_502 + len(xmp.packet_of(""))


def test_what_a_jpeg_can_hold_is_held_to_the_byte():
    """One character more, and the last ones become an ellipsis."""
    room = 65_502 - len(labels.packet(about(prompt="x"))) + 1

    fits = xmp.properties_in(label(pictures.jpeg(), about(prompt="x" * room)))[xmp.PROMPT]
    cut = xmp.properties_in(label(pictures.jpeg(), about(prompt="x" * (room + 1))))[xmp.PROMPT]

    assert fits == "x" * room
    assert cut == "x" * (room - 3) + "…"


def test_memory_does_not_grow_with_the_picture():
    with pictures.png_of(30_000_000) as source:
        into = Measured()
        labels.labelled(source, images.inspect(source), about(), into)

    assert into.longest <= 1024 * 1024
    assert into.written > 30_000_000


class Measured(io.BytesIO):
    """Keeps nothing of what is written into it but how much at once."""

    longest = written = 0

    def write(self, block: object, /) -> int:
        size = len(memoryview(block))  # type: ignore[arg-type]
        self.longest, self.written = max(self.longest, size), self.written + size
        return size


def test_an_avif_is_labelled_when_it_is_drawn_and_not_afterwards():
    drawn = Picture("image/avif", "avif", 1, 1, 4)

    with pytest.raises(CannotProcess, match="image/avif"):
        labels.labelled(io.BytesIO(b"ftyp"), drawn, about(), io.BytesIO())

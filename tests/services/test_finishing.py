"""What becomes of pictures that cannot be treated as wanted: they are paid, and never lost."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from fal_image.app import compose
from fal_image.assets import Assets, Kept, manifest_of, of_picture
from fal_image.dev.emulator import Emulator
from fal_image.jobs import Job, Source
from fal_image.settings import Settings
from fal_image.treatment import Label, Level, Transforms, Treatment, Watermark
from support import pictures
from support.clocks import utc_now

JOB_ID = "0" * 26


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def assets(fal: Emulator, tmp_path: Path) -> Assets:
    settings = Settings(emulator_url=fal.url, storage_url=tmp_path.as_uri())
    return compose(settings, environ={}).assets


def inline(content: bytes) -> Source:
    return Source(0, "data:image/png;base64," + base64.b64encode(content).decode(), None)


def kept(assets: Assets, content: bytes, treatment: Treatment) -> Kept:
    now = utc_now()
    job = Job(JOB_ID, "fal-ai/flux/schnell", now, now, treatment=treatment)
    [one] = assets.keep(job, [inline(content)], ends_at=assets.clock() + 10)
    return one


def labelled(level: Level, required: Level = "off") -> Treatment:
    return Treatment(label=Label(level, required))


def unreadable() -> bytes:
    """A PNG whose header and end are right, with pixels that no decoder makes sense of."""
    content = bytearray(pictures.png(width=64, height=64))
    at = content.index(b"IDAT") + 4
    content[at : at + 8] = b"\xff" * 8
    return bytes(content)


def codes(one: Kept) -> list[str]:
    return [note.code for note in one.notes]


def test_what_the_owner_wants_marked_and_cannot_be_is_kept_for_the_owner(assets: Assets):
    one = kept(assets, unreadable(), labelled("visible", required="visible"))
    assert one.image.withheld
    assert one.image.url is None
    storage = assets.door.get()
    key = storage.key(one.image.file_id)
    assert key.endswith(f"{JOB_ID}-0-unmarked.png")
    assert of_picture(key, assets.prefix) is None
    assert storage.head(key).sha256 == one.image.sha256


def test_a_mark_that_only_a_caller_wanted_does_not_cost_the_picture(assets: Assets):
    one = kept(assets, unreadable(), labelled("visible"))
    assert not one.image.withheld
    assert one.image.url
    assert codes(one) != []


def test_a_picture_that_cannot_be_drawn_still_says_what_made_it(assets: Assets):
    one = kept(assets, unreadable(), labelled("visible"))
    with assets.door.get().open(assets.door.get().key(one.image.file_id)) as chunks:
        assert b"trainedAlgorithmicMedia" in b"".join(chunks)


def test_a_watermark_that_is_gone_by_now_is_a_warning(assets: Assets):
    gone = f"file:///{assets.prefix}/2026-01-01/{JOB_ID}-7.png"
    marked = Treatment(Transforms(watermark=Watermark(image=gone)))
    one = kept(assets, pictures.png(), marked)
    assert codes(one) == ["not_transformed"]
    assert one.image.sha256 == one.source_sha256
    assert one.image.url


def test_copying_again_finds_every_file_and_stores_none_twice(assets: Assets, tmp_path: Path):
    small = Treatment(Transforms(format="webp"), Label("visible", "visible"))
    first = kept(assets, pictures.png(width=300, height=200), small)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-0*.*")}
    second = kept(assets, pictures.png(width=300, height=200), small)
    assert second.image.unlinked() == first.image.unlinked()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-0*.*")} == before


def test_a_gif_can_be_marked_as_the_png_that_it_becomes(assets: Assets):
    one = kept(assets, pictures.gif(width=300, height=200), labelled("visible", "visible"))
    assert one.image.content_type == "image/png"
    with assets.door.get().open(assets.door.get().key(one.image.file_id)) as chunks:
        assert Image.open(io.BytesIO(b"".join(chunks))).size == (300, 200)


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        (f"ai/2026-01-01/{JOB_ID}-3.png", f"ai/2026-01-01/{JOB_ID}-3.json"),
        (f"ai/2026-01-01/{JOB_ID}-3-thumb.webp", f"ai/2026-01-01/{JOB_ID}-3.json"),
        (f"ai/2026-01-01/{JOB_ID}-3-unmarked.jpg", f"ai/2026-01-01/{JOB_ID}-3.json"),
        (f"ai/2026-01-01/{JOB_ID}-3.json", f"ai/2026-01-01/{JOB_ID}-3.json"),
        (f"other/2026-01-01/{JOB_ID}-3.png", None),
        ("ai/uploads/2026-01-01/abc.png", None),
        (f"ai/2026-01-01/{JOB_ID}-3.png/x", None),
    ],
)
def test_the_manifest_of_a_picture_is_found_by_any_of_its_keys(name: str, manifest: str | None):
    assert manifest_of(name, "ai") == manifest


def test_an_original_without_the_label_that_the_owner_wants_is_given_to_nobody(assets: Assets):
    treatment = Treatment(Transforms(quality=90), Label("metadata", "metadata"))
    one = kept(assets, packed_jpeg(), treatment)
    assert one.image.url
    assert one.image.original is not None
    assert one.image.original.withheld
    assert one.image.to_json()["original"] is None


def packed_jpeg() -> bytes:
    """A JPEG whose own XMP fills its segment, so that no label goes into it."""
    packet = (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        f"<rdf:Description rdf:about='' xmlns:a='urn:a' a:b='{'x' * 65_200}'/>"
        "</rdf:RDF></x:xmpmeta>"
    )
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "JPEG", xmp=packet.encode())
    return file.getvalue()


def test_what_lacks_its_mark_says_so(assets: Assets):
    one = kept(assets, unreadable(), labelled("visible", required="visible"))
    assert codes(one) == ["not_labelled"]

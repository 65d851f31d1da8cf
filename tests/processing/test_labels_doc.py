"""What docs/ai-label.md shows is what happens."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fal_image import images
from fal_image.dev.emulator import Emulator
from fal_image.processing import labels
from fal_image.processing.base import About
from support import pictures, xmp
from support.instances import instance

PAGE = (Path(__file__).parents[2] / "docs" / "ai-label.md").read_text(encoding="utf-8")
ABOUT = About(
    "Cat Pictures Ltd",
    "job1-0",
    "fal-ai/flux/schnell",
    datetime(2026, 11, 22, tzinfo=timezone.utc),
    "a calico cat",
    7,
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def labelled(content: bytes) -> bytes:
    source, into = io.BytesIO(content), io.BytesIO()
    labels.labelled(source, images.inspect(source), ABOUT, into)
    return into.getvalue()


def test_the_bodies_make_the_pictures_that_they_ask_for(tmp_path: Path):
    with Emulator() as fal:
        one = instance(fal, tmp_path)
        marked, told = [one.generate(json.loads(body)).json for body in blocks("json")]
    folder = tmp_path / "pictures"
    files = [
        (folder / job["fileID"].removeprefix("file:///")).read_bytes() for job in (marked, told)
    ]
    assert all(b"trainedAlgorithmicMedia" in content for content in files)
    assert [b"a calico cat" in content for content in files] == [False, True]
    assert len(list(folder.rglob("*-unmarked.*"))) == 1


@pytest.mark.parametrize("make", [pictures.png, pictures.jpeg, pictures.webp_lossy])
def test_the_lines_of_python_read_the_label(
    make: Callable[[], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "picture.png").write_bytes(labelled(make()))
    monkeypatch.chdir(tmp_path)
    (program,), (shown,) = blocks("python"), blocks("text")

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {})

    assert printed.getvalue() == shown


def test_every_property_that_is_written_is_in_the_table():
    named = re.findall(r"`(?:TC260|Iptc4xmpExt|falimage|xmp):(\w+)`", PAGE)

    written = [name.rpartition("}")[2] for name in xmp.properties_in(labelled(pictures.png()))]
    assert sorted(set(named)) == sorted(written)


def test_every_string_of_the_label_is_in_the_table():
    rows = [
        re.findall(r"`(\w+)`", line.split("|")[1]) for line in PAGE.splitlines() if "|" in line[:1]
    ]

    named = [name for row in rows for name in row]
    assert [name for name in xmp.label_in(labelled(pictures.png())) if name not in named] == []


def test_a_label_takes_as_much_room_as_the_page_says():
    silent = About(ABOUT.producer, ABOUT.produce_id, ABOUT.model, ABOUT.created_at)

    assert 900 < len(labels.packet(silent)) < 1300

"""A picture to start from: chosen, dropped or pasted; stored first, then named in the request."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support.browsing import Browser, Visit
from support.instances import Server, serving
from support.pictures import png

pytestmark = [
    pytest.mark.needs("node >= 20"),
    pytest.mark.needs("chromium"),
    pytest.mark.timeout(90),  # longer than the browser itself waits, also on a busy machine
]
PICTURE = "article img[src*='/files/']"
TO_PICTURE = "fal-ai/flux/dev/image-to-image"
CONTENT = base64.b64encode(png()).decode()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Visit]:
    with browser.visit(server.url) as page:
        page.words("About $").see()
        yield page


@pytest.fixture
def cat(tmp_path: Path) -> str:
    path = tmp_path / "cat.png"
    path.write_bytes(png())
    return str(path)


def chosen(page: Visit, path: str) -> None:
    page.find("#file").set_input_files(path)


def bodies(page: Visit, path: str) -> list[dict[str, object]]:
    return [json.loads(one["body"]) for one in page.asked() if one["url"].endswith(path)]


def handed_over(page: Visit, event: str, holder: str) -> None:
    """The browser's own event with a file in it, as a mouse or a clipboard would bring it."""
    page.run(f"""(() => {{
      const bytes = Uint8Array.from(atob("{CONTENT}"), (one) => one.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], "cat.png", {{ type: "image/png" }}));
      const options = {{ bubbles: true, cancelable: true, {holder}: data }};
      document.body.dispatchEvent(new {event}(options));
    }})()""")


@pytest.mark.parametrize(
    ("model", "field"), [(TO_PICTURE, "image_url"), ("fal-ai/flux-2/edit", "image_urls")]
)
@pytest.mark.long
def test_a_picture_goes_into_the_storage_and_its_id_into_the_request(
    page: Visit, server: Server, cat: str, model: str, field: str
):
    page.field("Model").select_option(model)
    chosen(page, cat)
    page.words("cat.png is ready").first.see()
    page.field("Describe the picture").fill("at night")
    page.button("Generate").click()
    page.find(PICTURE).see()
    (body,) = bodies(page, "/generate")
    named = body[field][0] if field == "image_urls" else body[field]  # type: ignore[index]
    assert str(named).startswith("file:///ai-images/uploads/")
    assert {"PUT"} == {one["method"] for one in page.asked() if "/uploads/" in one["url"]}
    page.button("Remove").first.click()
    assert page.focused() == "file"
    page.button("Reuse settings").click()
    page.find("#preview[src*='/uploads/']").see()
    assert bodies(page, "/generate") == [body]


@pytest.mark.parametrize(
    ("event", "holder"),
    [("DragEvent('drop',", "dataTransfer"), ("ClipboardEvent('paste',", "clipboardData")],
)
@pytest.mark.long
def test_a_picture_may_be_dropped_or_pasted(page: Visit, event: str, holder: str):
    kind, _, name = event.partition("(")
    page.field("Model").select_option(TO_PICTURE)
    page.run(f"window.Made = class extends {kind} {{ constructor(o) {{ super({name} o); }} }}")
    handed_over(page, "Made", holder)
    page.words("cat.png is ready").first.see()


@pytest.mark.long
def test_a_model_of_words_alone_says_so_and_another_is_offered(page: Visit, cat: str):
    chosen(page, cat)
    page.words("This model works from words alone").see()
    page.button(f"Switch to {TO_PICTURE}").click()
    page.words("This model works from words alone").see_gone()
    assert page.field("Model").input_value() == TO_PICTURE
    assert page.focused() == "model"
    assert page.violations() == []


@pytest.mark.long
def test_a_model_that_needs_a_picture_says_so_at_its_field(page: Visit, fal: Emulator):
    page.field("Model").select_option(TO_PICTURE)
    page.field("Describe the picture").fill("at night")
    page.button("Generate").click()
    page.find("#picture-wrong").see()
    assert page.focused() == "file"
    assert not fal.ledger


@pytest.mark.long
def test_a_file_that_is_no_picture_is_refused_before_it_is_sent(page: Visit, tmp_path: Path):
    text = tmp_path / "cat.txt"
    text.write_text("no cat", encoding="utf-8")
    chosen(page, str(text))
    assert "image/png" in page.find("#picture-wrong").see().text()
    assert not [one for one in page.asked() if one["method"] == "PUT"]


@pytest.mark.long
def test_where_uploads_are_not_configured_the_reason_is_told(
    browser: Browser, fal: Emulator, cat: str, tmp_path: Path
):
    with (
        serving(
            fal,
            tmp_path,
            FAL_IMAGE_ALLOW_ANONYMOUS="1",
            FAL_IMAGE_STORAGE_URL="s3://bucket/pictures",
            FAL_IMAGE_SECRET=None,
            FAL_IMAGE_DATABASE_URL=None,
            AWS_REGION="eu-central-1",
            AWS_ACCESS_KEY_ID="canary0aws0id",
            AWS_SECRET_ACCESS_KEY="canary0aws0secret",
        ) as server,
        browser.visit(server.url) as page,
    ):
        page.words("About $").see()
        chosen(page, cat)
        assert "FAL_IMAGE_SECRET" in page.find("#picture-wrong").see().text()

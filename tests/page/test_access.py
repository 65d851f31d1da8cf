"""Who may use the page, from where, and where its key goes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.page import FILE
from support.browsing import Browser, Visit
from support.entrypoints import KEY
from support.instances import OTHER_KEY, Server, serving

pytestmark = [
    pytest.mark.needs("node >= 20"),
    pytest.mark.needs("chromium"),
    pytest.mark.timeout(90),  # longer than the browser itself waits, also on a busy machine
]
PICTURE = "article img[src*='/files/']"


@pytest.fixture
def closed(fal: Emulator, tmp_path: Path) -> Iterator[Server]:
    with serving(fal, tmp_path) as server:
        yield server


def first_picture(page: Visit) -> None:
    page.field("Describe the picture").fill("a calico cat")
    page.press("Control+Enter")
    page.find(PICTURE).see()


def authorizations(page: Visit, url: str) -> set[str | None]:
    return {one["headers"].get("authorization") for one in page.asked() if url in one["url"]}


def test_a_closed_endpoint_asks_for_a_key_and_three_interactions_are_enough(
    browser: Browser, closed: Server
):
    with browser.visit(closed.url) as page:
        page.find("#key-wrong").see()
        assert page.focused() == "key"
        page.type(KEY)
        page.press("Enter")
        assert page.focused() == "prompt"
        page.words("About $").see()
        first_picture(page)
        stored = json.loads(
            str(page.run("JSON.stringify([{...localStorage}, {...sessionStorage}])"))
        )
        assert KEY not in json.dumps(stored[0])
        assert list(stored[1]) == [f"fal-image key {closed.url}"]
        assert page.field("API key or ticket").get_attribute("type") == "password"
        assert authorizations(page, "/files/") == {None}


@pytest.mark.long
def test_a_ticket_opens_it_too(browser: Browser, closed: Server):
    ticket = closed.http("POST", "/tickets", {"maxImages": 1}).json["ticket"]
    with browser.visit(closed.url) as page:
        page.field("API key or ticket").fill(ticket)
        page.press("Enter")
        page.words("About $").see()
        first_picture(page)
        page.press("Control+Enter")
        page.role("alert").first.find("text=budget").first.see()


@pytest.mark.long
def test_a_key_that_is_not_known_is_said_to_be_so(browser: Browser, closed: Server):
    with browser.visit(closed.url) as page:
        page.field("API key or ticket").fill("k-nobodys")
        page.press("Enter")
        page.role("alert").first.find("text=the API key is not known").see()
        assert page.field("API key or ticket").get_attribute("aria-invalid") == "true"
        page.field("API key or ticket").fill(f" {KEY}\u200b")  # as it is pasted
        page.press("Enter")
        page.words("About $").see()
        assert page.role("alert").first.text() == ""


@pytest.mark.long
def test_pictures_of_another_key_look_gone(browser: Browser, closed: Server):
    with browser.visit(closed.url) as page:
        page.field("API key or ticket").fill(KEY)
        page.press("Enter")
        page.words("About $").see()
        first_picture(page)
        page.field("API key or ticket").fill(OTHER_KEY)
        page.press("Enter")
        page.words("Gone").see()


@pytest.mark.long
def test_what_was_asked_for_with_one_key_is_not_asked_again_with_another(
    browser: Browser, closed: Server, fal: Emulator
):
    with browser.visit(closed.url) as page:
        page.field("API key or ticket").fill(KEY)
        page.press("Enter")
        page.words("About $").see()
        page.lose("**/generate", 1)
        page.field("Describe the picture").fill("a calico cat")
        page.press("Control+Enter")
        page.find("article").find("text=Asking again").see()
        page.reload()
        page.button("Ask again").see()
        page.find("#connect").click()
        page.field("API key or ticket").fill(OTHER_KEY)
        page.button("Ask again").click()  # the key is typed, and nothing but this click tells so
        page.words("asking again may pay again").first.see()
        assert page.button("Ask again").count() == 0
        page.field("API key or ticket").fill(KEY)
        page.press("Enter")
        page.button("Ask again").click()
        page.find(PICTURE).see()
        assert len(fal.ledger) == 1
        assert KEY not in str(page.run("JSON.stringify({...localStorage})"))


@pytest.mark.long
def test_a_copy_in_a_file_asks_the_endpoint_that_is_typed(
    browser: Browser, fal: Emulator, tmp_path: Path
):
    copy = tmp_path / "page.html"
    copy.write_bytes(FILE.read_bytes())
    with (
        serving(fal, tmp_path, FAL_IMAGE_CORS_ORIGINS="null") as server,
        browser.visit(copy.as_uri()) as page,
    ):
        page.find("#endpoint-wrong").see()
        assert page.focused() == "endpoint"
        page.type(server.url)
        page.press("Tab")
        page.find("#key-wrong").see()
        page.field("API key or ticket").fill(KEY)
        page.press("Enter")
        page.words("About $").see()
        first_picture(page)
        page.reload()
        page.find(PICTURE).see()
        name, content = page.button("Download: picture 1").download()
        assert content[:3] == b"\xff\xd8\xff"


@pytest.mark.long
def test_an_endpoint_that_does_not_let_the_page_in_is_named(
    browser: Browser, fal: Emulator, tmp_path: Path
):
    copy = tmp_path / "page.html"
    copy.write_bytes(FILE.read_bytes())
    with (
        serving(fal, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1") as server,
        browser.visit(copy.as_uri()) as page,
    ):
        page.field("Endpoint").fill(server.url)
        page.press("Tab")
        said = page.role("alert").first.find("text=FAL_IMAGE_CORS_ORIGINS").see().text()
        assert re.search(r"must name null", said)


@pytest.mark.long
def test_a_key_never_goes_to_another_endpoint(browser: Browser, fal: Emulator, tmp_path: Path):
    with (
        serving(fal, tmp_path / "one") as one,
        serving(fal, tmp_path / "two", FAL_IMAGE_CORS_ORIGINS=one.url) as two,
        browser.visit(one.url) as page,
    ):
        page.field("API key or ticket").fill(KEY)
        page.press("Enter")
        page.words("About $").see()
        page.field("Endpoint").fill(two.url)
        page.press("Tab")
        page.find("#key-wrong").see()
        assert page.field("API key or ticket").input_value() == ""
        assert authorizations(page, two.url) == {None}
        page.field("Endpoint").fill("")
        page.press("Tab")
        page.find("#key-wrong").see_gone()
        assert page.field("API key or ticket").input_value() == KEY


@pytest.mark.long
def test_the_page_of_a_stage_asks_its_stage(browser: Browser, fal: Emulator, tmp_path: Path):
    with (
        serving(
            fal, tmp_path, FAL_IMAGE_BASE_PATH="/prod", FAL_IMAGE_ALLOW_ANONYMOUS="1"
        ) as server,
        browser.visit(f"{server.url}/prod/") as page,
    ):
        page.words("About $").see()
        asked = {one["url"] for one in page.asked() if one["method"] == "POST"}
        assert asked == {f"{server.url}/prod/estimate"}


@pytest.mark.long
def test_without_a_way_to_keep_things_the_page_works(browser: Browser, closed: Server):
    with browser.visit() as page:
        hide = "for (const name of ['localStorage', 'sessionStorage'])"
        hide += " Object.defineProperty(window, name, { get() { throw new Error('no'); } });"
        page.add_init_script({"content": hide})
        page.goto(closed.url)
        page.field("API key or ticket").fill(KEY)
        page.press("Enter")
        page.words("About $").see()
        first_picture(page)

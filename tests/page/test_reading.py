"""The page for everybody: a screen reader, a keyboard alone, a phone, the dark, both languages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fal_image.dev.emulator import Emulator
from support.browsing import Browser, Visit
from support.instances import Server

pytestmark = [
    pytest.mark.needs("node >= 20"),
    pytest.mark.needs("chromium"),
    pytest.mark.timeout(90),  # longer than the browser itself waits, also on a busy machine
]
PICTURE = "article img[src*='/files/']"
NARROW = 320

WAYS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "narrow": {"width": NARROW},
    "chinese, narrow and dark": {"locale": "zh-CN", "width": NARROW, "color_scheme": "dark"},
}


@pytest.fixture(params=[pytest.param(way, marks=pytest.mark.long) for way in WAYS])
def page(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Visit]:
    options: dict[str, str | int] = WAYS[request.param]  # type: ignore[assignment]
    with browser.visit(server.url, **options) as page:  # type: ignore[arg-type]
        page.find("#price:has-text('$')").see()
        yield page


def stands(page: Visit) -> None:
    """Nothing is wrong for axe-core, and nothing is wider than the window."""
    assert page.violations() == []
    width, seen = page.run("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= seen
    assert "undefined" not in page.find("body").text()


def test_axe_finds_nothing_wrong(browser: Browser, server: Server):
    with browser.visit(server.url) as page:
        page.find("#price:has-text('$')").see()
        stands(page)


def test_axe_finds_nothing_wrong_in_any_state(page: Visit, fal: Emulator):
    stands(page)
    page.find("#connect").click()
    stands(page)
    page.find("#generate").click()
    page.find("#problem strong").see()
    stands(page)
    page.find("#prompt").fill("a calico cat " * 20)
    page.find("#number").select_option("3")
    page.press("Control+Enter")
    page.find(PICTURE).nth(2).see()
    fal.fault("error", on="result")
    page.find("#generate").click()
    page.find(".problem strong:visible").see()  # of the card, or of the form: fal is that fast
    stands(page)
    page.find("#model").select_option("")
    page.find("#size").select_option("custom")
    stands(page)


def test_both_languages_are_spoken(browser: Browser, server: Server):
    with browser.visit(server.url, locale="zh-TW") as page:
        assert page.find("html").get_attribute("lang") == "zh-CN"
        page.field("描述你想要的图片").fill("一只三花猫")
        page.button("生成").click()
        page.find(PICTURE).see()
        page.words("1 张图片已完成").wait_for({"state": "attached"})
        page.button("English").click()
        assert page.find("html").get_attribute("lang") == "en"
        assert page.field("Describe the picture").input_value() == "一只三花猫"
        assert page.button("Copy curl").is_visible()
        page.find(PICTURE).see()
        page.reload()
        page.button("Generate").see()
        page.find(PICTURE).see()


@pytest.mark.long
def test_errors_are_told_in_chinese_with_the_endpoints_own_words(browser: Browser, server: Server):
    with browser.visit(server.url, locale="zh-CN") as page:
        page.button("生成").click()
        alert = page.role("alert").first
        alert.find("text=请先写下图片描述").see()
        assert alert.find("p[lang=en]").count() == 2


@pytest.mark.long
def test_a_keyboard_reaches_everything_in_the_order_that_is_read(browser: Browser, server: Server):
    with browser.visit(server.url) as page:
        page.find("#price:has-text('$')").see()
        page.type("a calico cat")
        page.press("Control+Enter")
        page.find(PICTURE).see()
        page.find("#connect").focus()
        reached = []
        for _ in range(16):
            reached.append(page.focused())
            assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
            page.press("Tab")
        form = ["connect", "language", "prompt", "model", "size", "number", "seed", "file"]
        assert reached[: len(form) + 1] == [*form, "generate"]
        assert reached[-4:] == ["Reuse settings", "Reuse seed", "Copy curl", "Remove"]


@pytest.mark.long
def test_progress_is_told_and_the_focus_stays_where_it_was(browser: Browser, server: Server):
    with browser.visit(server.url) as page:
        page.find("#price:has-text('$')").see()
        page.type("a calico cat")
        for _ in range(6):
            page.press("Tab")
        assert page.focused() == "generate"
        page.press("Enter")
        page.find(PICTURE).see()
        assert page.focused() == "generate"
        assert page.role("status").text() == "One picture is ready"
        assert page.find("article").get_attribute("aria-busy") == "false"


@pytest.mark.long
def test_nothing_moves_where_nothing_should(browser: Browser, server: Server):
    moving = "getComputedStyle(document.querySelector('[aria-current]')).animationName"
    for motion, name in (("reduce", "none"), ("no-preference", "breathe")):
        with browser.visit(server.url, reduced_motion=motion) as page:
            page.find("#price:has-text('$')").see()
            page.type("a calico cat")
            page.press("Control+Enter")
            page.find("[aria-current]").see()
            assert page.run(moving) == name

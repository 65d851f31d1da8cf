"""From words to pictures in the page, through the real server: what a visitor does and sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fal_image.dev.emulator import Emulator
from support.browsing import Browser, Visit
from support.clocks import Time
from support.instances import Server, serving

pytestmark = [
    pytest.mark.needs("node >= 20"),
    pytest.mark.needs("chromium"),
    pytest.mark.timeout(90),  # longer than the browser itself waits, also on a busy machine
]
PROMPT = "a calico cat at sunset"
PICTURE = "article img[src*='/files/']"


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Visit]:
    with browser.visit(server.url) as page:
        ready(page)
        yield page


def ready(page: Visit) -> None:
    """The price stands there, so the models are known."""
    page.words("About $0.003 for one picture").see()


def sent(page: Visit) -> list[dict[str, object]]:
    return [one for one in page.asked() if one["url"].endswith("/generate")]


def test_the_first_picture_takes_two_interactions(page: Visit, server: Server, fal: Emulator):
    page.type(PROMPT)
    page.press("Control+Enter")
    picture = page.find(PICTURE)
    picture.see()
    assert picture.get_attribute("alt") == PROMPT
    assert len(fal.ledger) == 1
    assert page.role("status").text() == "One picture is ready"
    assert page.focused() == "prompt"
    hosts = {urlsplit(str(one["url"])).netloc for one in page.asked()}
    assert hosts - {""} == {urlsplit(server.url).netloc}
    assert page.said() == []


@pytest.mark.long
def test_an_example_takes_two_clicks(page: Visit):
    page.role("button", "paper boat").click()
    page.button("Generate").click()
    assert page.find(PICTURE).see().get_attribute("alt").startswith("A paper boat")


@pytest.mark.long
def test_what_the_form_says_is_what_is_sent(page: Visit):
    page.field("Describe the picture").fill(PROMPT)
    page.field("Model").select_option("fal-ai/flux/dev")
    page.field("Size").select_option("custom")
    page.field("Width in pixels").fill("640")
    page.field("Height in pixels").fill("480")
    page.field("Pictures").select_option("2")
    page.field("Seed").fill("7")
    page.words("for 2 pictures").see()
    page.button("Generate").click()
    page.find(PICTURE).nth(1).see()
    assert json.loads(str(sent(page)[0]["body"])) == {
        "prompt": PROMPT,
        "model": "fal-ai/flux/dev",
        "image_size": {"width": 640, "height": 480},
        "num_images": 2,
        "seed": 7,
    }
    assert page.words("640 × 480 · seed 7").is_visible()


@pytest.mark.long
def test_a_model_of_ones_own_and_one_without_sizes(page: Visit):
    field = page.field("Size")
    page.field("Model").select_option("fal-ai/flux-pro/kontext/text-to-image")
    assert "21:9" in field.text()
    page.field("Model").select_option({"label": "Another model…"})
    page.field("Model id").fill("fal-ai/flux/of/my/own")
    assert "fal-ai/flux*" in page.find("#globs").text()
    page.field("Describe the picture").fill(PROMPT)
    page.button("Generate").click()
    answered = ("article button:has-text('Cancel')", ".problem strong:visible", PICTURE)
    page.find(", ".join(answered)).first.see()
    assert json.loads(str(sent(page)[0]["body"])) == {
        "prompt": PROMPT,
        "model": "fal-ai/flux/of/my/own",
    }


@pytest.mark.long
def test_stages_are_shown_as_the_job_goes_on(
    browser: Browser, slow: Emulator, hand: Time, tmp_path: Path
):
    with (
        serving(slow, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1") as server,
        browser.visit(server.url) as page,
    ):
        page.type(PROMPT)
        page.press("Control+Enter")
        step = page.find("[aria-current=step]")
        page.words("Next in line").first.see()
        assert step.text() == "In line"
        hand.sleep(12)
        page.words("The model is painting").first.see()
        assert step.text() == "Painting"
        hand.sleep(10)
        page.find(PICTURE).see()
        assert step.count() == 0


@pytest.mark.long
def test_cancelling_is_asked_of_fal(browser: Browser, slow: Emulator, tmp_path: Path):
    with (
        serving(slow, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1") as server,
        browser.visit(server.url) as page,
    ):
        page.type(PROMPT)
        page.press("Control+Enter")
        page.button("Cancel").click()
        page.find("article").find("text=Cancelled").see()
        assert slow.calls["cancel"] == 1
        assert page.button("Cancel").count() == 0
        assert page.focused().startswith(PROMPT)  # the card: the button is gone
        page.button("Remove").click()
        assert page.focused() == "pictures"


@pytest.mark.long
def test_a_page_that_is_opened_again_goes_on_with_its_jobs(
    browser: Browser, slow: Emulator, hand: Time, tmp_path: Path
):
    with (
        serving(slow, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1") as server,
        browser.visit(server.url) as page,
    ):
        page.type(PROMPT)
        page.press("Control+Enter")
        page.button("Cancel").see()
        page.reload()
        page.button("Cancel").see()
        hand.sleep(20)
        page.find(PICTURE).see()
        assert len(slow.ledger) == 1


@pytest.mark.long
def test_a_lost_answer_is_asked_for_again_and_paid_once(page: Visit, fal: Emulator):
    page.lose("**/generate", 2)
    page.type(PROMPT)
    page.press("Control+Enter")
    page.find(PICTURE).see()
    keys = [one["headers"]["idempotency-key"] for one in sent(page)]  # type: ignore[index]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len(fal.ledger) == 1


@pytest.mark.long
def test_an_answer_that_never_came_is_safe_to_ask_for_after_a_reload(page: Visit, fal: Emulator):
    page.lose("**/generate", 1)
    page.type(PROMPT)
    page.press("Control+Enter")
    page.find("article").find("text=Asking again").see()
    page.reload()
    page.button("Ask again").click()
    page.find(PICTURE).see()
    assert len(fal.ledger) == 1


@pytest.mark.long
@pytest.mark.parametrize("change", ["{by: '00000000'}", "{by: undefined}", "{time: 0}"])
def test_what_may_be_paid_again_is_not_offered_to_be_asked_again(
    page: Visit, server: Server, change: str
):
    page.lose("**/generate", 1)
    page.type(PROMPT)
    page.press("Control+Enter")
    page.find("article").find("text=Asking again").see()
    name = f"'fal-image list {server.url}'"
    page.run(
        f"const [entry] = JSON.parse(localStorage.getItem({name})); "
        f"localStorage.setItem({name}, JSON.stringify([{{...entry, ...{change}}}]))"
    )
    page.reload()
    page.words("asking again may pay again").first.see()
    assert page.button("Ask again").count() == 0
    assert page.button("Reuse settings").is_visible()


@pytest.mark.long
def test_every_click_is_an_intent_of_its_own(page: Visit, fal: Emulator):
    page.type(PROMPT)
    page.press("Control+Enter")
    page.find(PICTURE).see()
    page.press("Control+Enter")
    page.find(PICTURE).nth(1).see()
    assert len(fal.ledger) == 2


@pytest.mark.long
def test_an_endpoint_without_a_database_is_waited_for(
    browser: Browser, fal: Emulator, tmp_path: Path
):
    with (
        serving(
            fal, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1", FAL_IMAGE_DATABASE_URL=None
        ) as server,
        browser.visit(server.url) as page,
    ):
        page.type(PROMPT)
        page.press("Control+Enter")
        page.find(PICTURE).see()
        page.press("Control+Enter")
        page.find(PICTURE).nth(1).see()
        asked = [one["headers"].get("prefer") for one in sent(page)]  # type: ignore[attr-defined]
        assert asked == ["respond-async", None, None]
        assert len(fal.ledger) == 2
        page.reload()
        page.find(PICTURE).nth(1).see()


def test_pictures_that_are_paid_and_not_stored_are_linked_until_they_are_removed(
    browser: Browser, fal: Emulator, tmp_path: Path
):
    fal.fault("vanished", on="file")
    with (
        serving(
            fal, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1", FAL_IMAGE_DATABASE_URL=None
        ) as server,
        browser.visit(server.url) as page,
    ):
        page.type(PROMPT)
        page.press("Control+Enter")
        link = page.find("article").role("link", "Picture 1 at fal")
        address = link.see().get_attribute("href")
        assert address.startswith("https://v3.fal.media/")
        assert link.get_attribute("rel") == "noopener noreferrer"
        assert link.get_attribute("target") == "_blank"
        assert fal.ledger[0].request_id in page.find("article").role("alert").text()
        assert page.violations() == []
        page.reload()
        assert link.see().get_attribute("href") == address
        page.button("Remove").click()
        page.reload()
        page.words("Nothing here yet").see()


@pytest.mark.long
def test_leaving_is_warned_of_while_an_endpoint_without_a_database_is_waited_for(
    browser: Browser, slow: Emulator, hand: Time, tmp_path: Path
):
    leaves = "dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    with (
        serving(
            slow, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1", FAL_IMAGE_DATABASE_URL=None
        ) as server,
        browser.visit(server.url) as page,
    ):
        page.type(PROMPT)
        assert page.run(leaves)
        page.press("Control+Enter")
        page.words("Waiting for the picture").first.see()
        assert not page.run(leaves)
        while not slow.ledger:  # what is not at fal yet would begin its 20 s later
            page.run("0")
        hand.sleep(20)
        page.find(PICTURE).see()
        assert page.run(leaves)


def test_what_is_wrong_is_told_with_its_hint_where_it_is_wrong(page: Visit, fal: Emulator):
    page.button("Generate").click()
    alert = page.role("alert").first
    alert.find('text=Add "prompt"').see()
    field = page.field("Describe the picture")
    assert field.get_attribute("aria-invalid") == "true"
    assert page.focused() == "prompt"
    field.fill(PROMPT)
    page.field("Seed").fill("seven")
    page.button("Generate").click()
    page.find("#seed-wrong").see()
    assert field.get_attribute("aria-invalid") is None
    assert page.field("Seed").get_attribute("aria-invalid") == "true"
    assert page.focused() == "seed"
    assert not fal.ledger


@pytest.mark.long
def test_a_job_that_failed_says_why_on_its_card(
    browser: Browser, slow: Emulator, hand: Time, tmp_path: Path
):
    slow.fault("error", on="result")
    with (
        serving(slow, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1") as server,
        browser.visit(server.url) as page,
    ):
        page.type(PROMPT)
        page.press("Control+Enter")
        page.button("Cancel").see()
        hand.sleep(20)
        alert = page.find("article").role("alert")
        alert.find("text=fal did not make the picture").see()
        assert "status.fal.ai" in alert.text()
        request_id = slow.ledger[0].request_id
        assert request_id in alert.text()
        page.reload()
        page.words(request_id).see()
        page.button("Remove").click()
        page.reload()
        page.words("Nothing here yet").see()


@pytest.mark.long
def test_flagged_pictures_are_called_so(page: Visit, fal: Emulator):
    fal.fault("black", on="result")
    page.type(PROMPT)
    page.press("Control+Enter")
    page.words("Flagged by the model").see()

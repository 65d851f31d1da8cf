"""The list that a browser keeps: file ids, never links or keys, and links that are always fresh."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support.browsing import Browser, Visit
from support.entrypoints import KEY
from support.entrypoints import request as a_request
from support.instances import Calendar, Server, read, serving

pytestmark = [
    pytest.mark.needs("node >= 20"),
    pytest.mark.needs("chromium"),
    pytest.mark.timeout(90),  # longer than the browser itself waits, also on a busy machine
]
PICTURE = "article img[src*='/files/']"
MAX_LINKS = 50


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def server(fal: Emulator, tmp_path: Path, calendar: Calendar) -> Iterator[Server]:
    with serving(fal, tmp_path, seams=Seams(now=calendar), FAL_IMAGE_ALLOW_ANONYMOUS="1") as server:
        yield server


def made(server: Server, **changes: object) -> dict[str, object]:
    """A job of nobody in particular, which is done."""
    body = {"prompt": "a calico cat", "seed": 7, **changes}
    answer = read(server.app(a_request("POST", "/generate", body, key=None)))
    assert answer.status == 200, answer.body
    job: dict[str, object] = answer.json
    return job


def entry(number: int, *file_ids: str, **changes: object) -> dict[str, object]:
    """What the page would have kept of a request."""
    images = [{"fileID": file_id, "width": 1024, "height": 576} for file_id in file_ids]
    body = {"prompt": f"cat {number}", "model": "fal-ai/flux/dev", "image_size": "square"}
    kept = {"id": f"{number}", "time": number, "body": body, "jobId": f"j{number}", "state": "done"}
    return {**kept, "images": images, "seed": 7, "usd": 0.003, **changes}


def visited(page: Visit, server: Server, *entries: dict[str, object]) -> None:
    """Open the page in a browser that has kept these."""
    page.goto(f"{server.url}/health")
    kept = json.dumps(json.dumps(entries))
    page.run(f"localStorage.setItem('fal-image list {server.url}', {kept})")
    page.goto(server.url)


def renewals(page: Visit) -> list[list[str]]:
    """The file ids of each call for links."""
    asked = [one for one in page.asked() if one["url"].endswith("/links")]
    return [json.loads(one["body"])["fileIDs"] for one in asked]


def kept(page: Visit) -> str:
    return str(page.run("JSON.stringify([{...localStorage}, {...sessionStorage}])"))


def ids(job: dict[str, object]) -> list[str]:
    return [image["fileID"] for image in job["images"]]  # type: ignore[attr-defined]


def test_pictures_are_there_again_with_fresh_links(
    browser: Browser, server: Server, calendar: Calendar
):
    (file_id,) = ids(made(server))
    calendar.forward(days=2)
    with browser.visit() as page:
        visited(page, server, entry(1, file_id))
        page.find(PICTURE).see()
        assert renewals(page) == [[file_id]]
        assert "/files/" not in kept(page)
        assert "sig=" not in kept(page)


@pytest.mark.long
def test_what_a_visit_makes_is_kept_without_links(browser: Browser, server: Server):
    with browser.visit(server.url) as page:
        page.field("Describe the picture").fill("a calico cat")
        page.press("Control+Enter")
        page.find(PICTURE).see()
        (list_,) = [json.loads(value) for name, value in json.loads(kept(page))[0].items()]
        assert list_[0]["body"]["prompt"] == "a calico cat"
        assert list_[0]["images"][0]["fileID"].startswith("file:///")
        assert {"jobId", "seed", "state"} <= set(list_[0])
        assert "/files/" not in kept(page)
        assert "sig=" not in kept(page)


@pytest.mark.long
def test_links_are_renewed_before_they_die(browser: Browser, server: Server, calendar: Calendar):
    (file_id,) = ids(made(server))
    with browser.visit(has_clock=True) as page:
        visited(page, server, entry(1, file_id))
        page.find(PICTURE).see()
        before = page.find("figure a").get_attribute("href")
        calendar.forward(seconds=3580)
        page.forward(s=3580)
        page.find(f"figure a:not([href='{before}'])").see()
        assert len(renewals(page)) == 2


@pytest.mark.long
def test_fifty_links_are_asked_for_at_once(browser: Browser, server: Server):
    (file_id,) = ids(made(server))
    others = [f"{file_id[:-5]}{number}.jpg" for number in range(1, 70)]
    with browser.visit() as page:
        visited(page, server, entry(1, file_id, *others))
        page.words("Gone").first.see()
        page.find("figure p:visible").nth(68).see()
        assert [len(one) for one in renewals(page)] == [50, 20]
        assert page.find(PICTURE).count() == 1


@pytest.mark.long
def test_what_is_gone_says_so_and_can_be_removed(browser: Browser, server: Server):
    (file_id,) = ids(made(server))
    with browser.visit() as page:
        visited(page, server, entry(2, file_id.replace("-0.jpg", "-3.jpg")), entry(1, file_id))
        page.words("Gone: deleted, or it belongs to another key.").see()
        assert page.role("button", "Copy link").count() == 1
        page.find("article").first.button("Remove").click()
        assert page.find("article").count() == 1
        assert page.focused().startswith("cat 1")
        page.reload()
        page.find(PICTURE).see()
        assert page.find("article").count() == 1


@pytest.mark.long
def test_a_job_that_was_given_up_is_asked_for_again(browser: Browser, server: Server):
    job = made(server)
    late = {"error": "job_timeout", "title": "fal did not finish the job", "message": "too slow"}
    given_up = {"state": "failed", "error": {**late, "jobId": "j1", "falRequestId": "r1"}}
    with browser.visit() as page:
        visited(page, server, entry(1, jobId=job["jobId"], **given_up), entry(2, **given_up))
        page.words("Job: j1 · Request at fal: r1").nth(1).see()
        page.button("Ask again").nth(1).click()
        page.words("There is nothing here").first.see()  # the endpoint has forgotten the job
        page.button("Ask again").first.click()
        page.find(PICTURE).see()
        assert page.words("fal did not finish the job").count() == 1
        page.reload()
        page.find(PICTURE).see()


@pytest.mark.long
def test_a_failure_links_to_web_addresses_only(browser: Browser, server: Server):
    urls = ["https://v3.fal.media/a.jpg", "javascript:alert(1)", "data:image/png;base64,AA", 7]
    error = {"error": "upload_failed", "message": "the bucket is full", "sourceUrls": urls}
    with browser.visit() as page:
        visited(page, server, entry(1, state="failed", error=error))
        page.role("link").see()
        assert page.role("link").count() == 1
        assert page.role("link").get_attribute("href") == urls[0]


@pytest.mark.long
def test_settings_and_seeds_are_used_again(browser: Browser, server: Server):
    size = {"width": 640, "height": 480}
    body = {"prompt": "a dog", "model": "fal-ai/flux/dev", "image_size": size, "num_images": 3}
    with browser.visit() as page:
        visited(page, server, entry(1, body=body, seed=99))
        page.words("About $").see()
        page.button("Reuse settings").click()
        assert page.focused() == "prompt"
        fields = ["prompt", "model", "size", "width", "height", "number", "seed"]
        values = [page.find(f"#{name}").input_value() for name in fields]
        assert values == ["a dog", "fal-ai/flux/dev", "custom", "640", "480", "3", ""]
        page.button("Reuse seed").click()
        assert page.field("Seed").input_value() == "99"


@pytest.mark.long
def test_a_link_is_copied_fresh_and_a_request_without_its_key(
    browser: Browser, fal: Emulator, tmp_path: Path
):
    rights = ["clipboard-read", "clipboard-write"]
    with serving(fal, tmp_path) as server, browser.visit(permissions=rights) as page:
        visited(page, server, entry(1, body={"prompt": "it's a cat"}))
        page.field("API key or ticket").fill(KEY)
        page.press("Enter")
        page.words("About $").see()
        page.field("Describe the picture").fill("a calico cat")
        page.press("Control+Enter")
        page.find(PICTURE).see()
        before = len(renewals(page))
        page.button("Copy link: picture 1").click()
        page.words("Link copied").wait_for({"state": "attached"})
        assert len(renewals(page)) == before + 1
        link = str(page.run("navigator.clipboard.readText()"))
        assert server.http("GET", link.removeprefix(server.url), key="").status == 200
        page.button("Copy curl").nth(1).click()
        page.find("#status:has-text('Copied')").wait_for({"state": "attached"})
        curl = str(page.run("navigator.clipboard.readText()"))
        assert KEY not in curl
        assert "Bearer $KEY" in curl
        assert f"'{server.url}/generate'" in curl
        assert "it'\\''s a cat" in curl


@pytest.mark.long
def test_where_pages_may_not_copy_the_words_are_shown(browser: Browser, server: Server):
    with browser.visit(permissions=[]) as page:
        visited(page, server, entry(1))
        page.run("Clipboard.prototype.writeText = () => Promise.reject(new Error('no'))")
        page.button("Copy curl").click()
        assert "curl -X POST" in page.role("textbox", "Copy it from here:").input_value()
        page.button("Close").click()
        assert page.focused() == "Copy curl"


@pytest.mark.long
def test_a_picture_is_saved_under_its_own_name(browser: Browser, server: Server):
    (file_id,) = ids(made(server))
    with browser.visit() as page:
        visited(page, server, entry(1, file_id))
        page.find(PICTURE).see()
        name, content = page.button("Download: picture 1").download()
        assert name == file_id.rpartition("/")[2]
        assert content[:3] == b"\xff\xd8\xff"


@pytest.mark.long
def test_a_list_of_another_shape_is_nobodys(browser: Browser, server: Server):
    with browser.visit() as page:
        visited(page, server, {"id": "x"}, entry(1, prompt=None))
        page.find("article").see()
        assert page.find("article").count() == 1
        assert page.said() == []

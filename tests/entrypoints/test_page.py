"""The web page as it is served: one file, to everybody, which may do nothing but what it must."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

import pytest

from fal_image.page import FILE
from fal_image.routes.service import PAGE_KEPT_S
from support.doors import DOORS, behind
from support.entrypoints import KEY
from support.entrypoints import request as a_request

Configure = Callable[..., None]
MAX_BYTES = 60_000
TEXT = FILE.read_text(encoding="utf-8")


def blocks(tag: str) -> list[str]:
    return re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", TEXT, re.DOTALL)


@pytest.mark.parametrize("door", DOORS)
def test_everybody_gets_the_page(configured: Configure, door: str):
    configured()
    send = behind(door)
    answer = send(a_request("GET", "/", key=None))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body.decode() == TEXT
    head = send(a_request("HEAD", "/", key=None))
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-security-policy"] == answer.headers["content-security-policy"]


def test_the_page_stands_at_the_endpoints_own_path(configured: Configure):
    configured(FAL_IMAGE_BASE_PATH="/prod")
    send = behind("wsgi")
    pages = [send(a_request("GET", path, key=None)) for path in ("/prod", "/prod/")]
    assert [page.body.decode() for page in pages] == [TEXT, TEXT]
    assert send(a_request("GET", "/product", key=None)).status == 404


def test_caches_keep_the_page_for_minutes_whoever_asks(configured: Configure):
    configured()
    send = behind("wsgi")
    for key in (None, KEY):
        answer = send(a_request("GET", "/", key=key))
        assert answer.headers["cache-control"] == f"public, max-age={PAGE_KEPT_S}"


def test_nothing_runs_in_the_page_but_what_stands_in_it(configured: Configure):
    configured()
    answer = behind("wsgi")(a_request("GET", "/", key=None))
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    for tag in ("script", "style"):
        hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()) for one in blocks(tag)]
        assert policy[f"{tag}-src"] == " ".join(f"'sha256-{one.decode()}'" for one in hashes)
        assert len(hashes) == 1
    assert policy["default-src"] == "'none'"
    assert policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == "https: http:"
    assert policy["img-src"] == "https: http: blob: data:"
    assert policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_page_is_one_small_file():
    assert len(TEXT.encode()) <= MAX_BYTES


def test_the_page_names_no_other_file_and_no_other_host():
    loaded = re.findall(r"<[^>]*\s(?:src|href|srcset|action)=[\"']?([^\"'\s>]+)", TEXT)
    assert [one.partition(",")[0] for one in loaded] == ["data:image/svg+xml"]
    assert not re.search(r"@import|url\(|\bimport\b", TEXT)
    hosts = set(re.findall(r"https?://([\w.-]+)", TEXT))
    assert hosts <= {"www.w3.org"}  # the name of SVG, which nobody asks


def test_data_is_text_and_never_markup():
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\b|new Function"
    assert not re.search(markup, TEXT)
    assert not re.search(r"<[^>]*\s(?:on\w+|style)=", TEXT)


def test_both_languages_have_the_same_words():
    english, chinese = (
        re.findall(r"(?:^|[,{] ?)\s*(\w+): (?=[\"(\[{a-z])", part, re.MULTILINE)
        for part in re.findall(r"^  (?:en|zh): \{\n(.*?)^  \},\n", TEXT, re.DOTALL | re.MULTILINE)
    )
    assert chinese[: chinese.index("errors")] == english[: english.index("errors")]
    assert set(english) <= set(chinese)
    assert {"idempotency_conflict", "database_required", "invalid_json"} <= set(english)
    assert len(english) > 60

"""Which pages may read answers: exact origins, said once, by us or by whatever stands in front."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fal_image.app import build
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.front import MAX_HEADER_BYTES
from fal_image.web import Headers, Request, Response
from support import entrypoints
from support.doors import PROXY, in_header, lambda_context, through_json
from support.entrypoints import NOON
from support.entrypoints import request as a_request
from support.events import as_wsgi
from support.instances import CAT, instance
from support.values import replace

Configure = Callable[..., None]
Send = Callable[[Request], Response]
SHOP, ADMIN = "https://shop.example", "https://admin.example:8443"
BOTH = f"{SHOP},{ADMIN}"
ALLOWED, EXPOSED = "access-control-allow-origin", "access-control-expose-headers"


@pytest.fixture(params=["wsgi", *platforms.GATEWAYS, "cloudbase"])
def send(request: pytest.FixtureRequest) -> Callable[[], Send]:
    """Loads one of the functions and gives what asks it; repeated headers come as they left."""
    door = str(request.param)

    def wsgi() -> Send:
        return as_wsgi(build(os.environ))

    def cloudbase() -> Send:
        main = entrypoints.load("cloudbase")
        context = platforms.cloudbase_context("c-1")
        return lambda one: platforms.read_cloudbase_reply(
            main(through_json(platforms.cloudbase_event(one)), context)
        )

    def aws() -> Send:
        main, way = entrypoints.load("aws"), platforms.GATEWAYS[door]
        return lambda one: way.read_reply(
            main(through_json(way.event(one, at=NOON)), lambda_context())
        )

    return {"wsgi": wsgi, "cloudbase": cloudbase}.get(door, aws)


def said(answer: Response, name: str) -> list[str]:
    return [value for key, value in answer.headers if key.lower() == name]


def permissions(answer: Response) -> Counter[str]:
    """How often each header of CORS is said."""
    return Counter(
        name.lower() for name, _ in answer.headers if name.lower().startswith("access-control-")
    )


def from_page(
    origin: str, method: str = "GET", path: str = "/models", **changes: object
) -> Request:
    headers = {"origin": origin} | dict(changes.pop("headers", {}))  # type: ignore[call-overload]
    return a_request(method, path, headers=headers, **changes)  # type: ignore[arg-type]


ASKED: dict[str, tuple[Request, int]] = {
    "200": (from_page(SHOP), 200),
    "open": (from_page(SHOP, path="/health", key=None), 200),
    "400": (from_page(SHOP, "POST", "/", raw=b"{"), 400),
    "401": (from_page(SHOP, key="k-nobodys"), 401),
    "404": (from_page(SHOP, path="/nowhere"), 404),
    "405": (from_page(SHOP, "DELETE"), 405),
    "413": (from_page(SHOP, "POST", "/", raw=b" " * (6 * 2**20 + 1)), 413),
    "414": (from_page(SHOP, path="/" + "p" * 9000), 414),
    "431": (from_page(SHOP, headers={"x-long": "v" * MAX_HEADER_BYTES}), 431),
    "proxy": (from_page(SHOP, "POST", PROXY, headers={"x-fal-target-url": "https://a.b"}), 412),
}


@pytest.mark.parametrize("name", ASKED)
def test_every_answer_says_once_that_its_page_may_read_it(
    configured: Configure, send: Callable[[], Send], name: str
):
    configured(FAL_IMAGE_CORS_ORIGINS=BOTH)
    request, status = ASKED[name]
    answer = send()(request)
    assert answer.status == status
    assert permissions(answer) == {ALLOWED: 1, EXPOSED: 1}
    assert said(answer, ALLOWED) == [SHOP]
    assert said(answer, "vary") == ["Origin"]


def test_each_configured_origin_is_told_its_own_name(
    configured: Configure, send: Callable[[], Send]
):
    configured(FAL_IMAGE_CORS_ORIGINS=BOTH)
    ask = send()
    assert [said(ask(from_page(one)), ALLOWED) for one in (SHOP, ADMIN)] == [[SHOP], [ADMIN]]


LOOK_ALIKES = [
    "null",
    "*",
    "",
    "HTTPS://SHOP.EXAMPLE",
    "https://Shop.example",
    f"{SHOP}/",
    f"{SHOP}:443",
    f"{SHOP}:8443",
    f"{SHOP}.evil.example",
    "https://evil-shop.example",
    "https://sub.shop.example",
    "https://evil.example#https://shop.example",
    f"{SHOP}@evil.example",
    f"{SHOP}%00.evil.example",
    f"{SHOP}, {SHOP}",
    BOTH,
    "http://shop.example",
    "shop.example",
    "https://admin.example",
    "https://xn--shp-0na.example",
]


@pytest.mark.parametrize("origin", LOOK_ALIKES)
def test_an_origin_that_only_looks_like_a_configured_one_may_read_nothing(
    configured: Configure, send: Callable[[], Send], origin: str
):
    configured(FAL_IMAGE_CORS_ORIGINS=BOTH)
    ask = send()
    for request in (from_page(origin), from_page(origin, "OPTIONS", "/", key=None)):
        answer = ask(request)
        assert permissions(answer) == {}
        assert said(answer, "vary") == ["Origin"]  # no cache may keep it for another page


def test_pages_in_files_may_read_where_the_owner_names_null(
    configured: Configure, send: Callable[[], Send]
):
    configured(FAL_IMAGE_CORS_ORIGINS=f"null,{SHOP}")
    ask = send()
    assert [said(ask(from_page(one)), ALLOWED) for one in ("null", SHOP)] == [["null"], [SHOP]]
    assert permissions(ask(from_page(ADMIN))) == {}


def test_who_is_no_page_is_told_that_answers_differ_by_page(
    configured: Configure, send: Callable[[], Send]
):
    configured(FAL_IMAGE_CORS_ORIGINS=SHOP)
    answer = send()(a_request("GET", "/models"))
    assert (permissions(answer), said(answer, "vary")) == ({}, ["Origin"])


@pytest.mark.parametrize("name", ASKED)
def test_where_the_gateway_does_it_nothing_is_said(
    configured: Configure, send: Callable[[], Send], name: str
):
    configured(FAL_IMAGE_CORS_ORIGINS=None)
    answer = send()(ASKED[name][0])
    assert (permissions(answer), said(answer, "vary")) == ({}, [])


def test_a_preflight_is_answered_without_a_key_and_remembered(
    configured: Configure, send: Callable[[], Send]
):
    configured(FAL_IMAGE_CORS_ORIGINS=SHOP)
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    answer = send()(from_page(SHOP, "OPTIONS", "/generate", key=None, headers=asks))
    assert answer.status == 204
    assert set(permissions(answer).values()) == {1}
    assert said(answer, ALLOWED) == [SHOP]
    assert said(answer, "access-control-allow-methods") == ["OPTIONS, POST"]
    assert said(answer, "access-control-max-age") == ["7200"]
    (headers,) = said(answer, "access-control-allow-headers")
    assert {"authorization", "x-api-key", "x-fal-target-url"} <= set(headers.split(", "))


def test_no_page_is_let_in_with_cookies(configured: Configure, send: Callable[[], Send]):
    configured(FAL_IMAGE_CORS_ORIGINS=SHOP)
    ask = send()
    for method in ("GET", "OPTIONS"):
        answer = ask(from_page(SHOP, method, headers={"cookie": "session=1"}))
        assert "access-control-allow-credentials" not in permissions(answer)
    refused = ask(from_page(SHOP, key=None, headers={"cookie": "session=1"}))
    assert refused.status == 401


def test_an_origin_that_no_browser_sends_is_a_mistake_that_is_named(
    configured: Configure, send: Callable[[], Send]
):
    for value in ("*", "NULL", f"{SHOP}/", "https://*.shop.example", "https://Shop.example"):
        configured(FAL_IMAGE_CORS_ORIGINS=value)
        answer = send()(from_page(SHOP))
        assert answer.status == 500, value
        assert b"FAL_IMAGE_CORS_ORIGINS" in answer.read()
        assert permissions(answer) == {}


def test_events_and_proxied_answers_are_readable_too(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_CORS_ORIGINS=SHOP)
    job_id = one.submitted()["jobId"]
    asked = {
        "events": from_page(SHOP, path=f"/jobs/{job_id}/events"),
        "submit": in_header("https://queue.fal.run/fal-ai/flux/schnell", headers={"origin": SHOP}),
        "stream": in_header(
            "https://fal.run/fal-ai/flux/schnell/stream", headers={"origin": SHOP}, body=CAT
        ),
    }
    for name, request in asked.items():
        answer = as_wsgi(one.app)(request)
        assert answer.status == 200, name
        assert (permissions(answer), said(answer, ALLOWED)) == ({ALLOWED: 1, EXPOSED: 1}, [SHOP])
        assert said(answer, "vary") == ["Origin"]


def test_a_caller_above_the_rate_is_told_so_in_its_page(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_CORS_ORIGINS=SHOP, FAL_IMAGE_RATE_LIMIT="1/m")
    asked = from_page(SHOP, "POST", "/generate", body=CAT)
    ids = ["a", "b", "c"]  # the third is the second within one minute
    platforms_of = [replace(asked.platform, request_id=request_id) for request_id in ids]
    answers = [one.app(replace(asked, platform=platform)) for platform in platforms_of]
    assert answers[-1].status == 429
    assert permissions(answers[-1]) == {ALLOWED: 1, EXPOSED: 1}


def test_an_origin_header_that_came_twice_is_of_no_page(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_CORS_ORIGINS=SHOP)
    plain = a_request("GET", "/models")
    twice = Headers([*plain.headers, ("origin", SHOP), ("Origin", SHOP)])
    answer = one.app(Request("GET", "/models", plain.platform, (), twice))
    assert (answer.status, permissions(answer)) == (200, {})

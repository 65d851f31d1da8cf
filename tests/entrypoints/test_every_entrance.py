"""The same requests through every HTTP event format give the same answers, byte for byte.

What an entrance loses before the function sees it cannot be given back: a load balancer without
lists keeps the last of repeated headers and query keys. So the app looks at the last of repeated
keys, and no row below repeats a header whose values it acts upon.
"""

import itertools
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from fal_image.app import Seams, build_app
from fal_image.dev.emulator import Emulator
from fal_image.dev.platforms import GATEWAYS, as_cloudbase, as_lambda
from fal_image.settings import load
from fal_image.web import App, Headers, Platform, Request, Response
from support.entrypoints import KEY, NOON
from support.events import as_wsgi

Configure = Callable[..., None]

ENTRANCES: Mapping[str, Callable[[App], App]] = {
    **{name: partial(as_lambda, gateway=name) for name in GATEWAYS},
    "cloudbase": as_cloudbase,
    "wsgi": as_wsgi,
}
JSON = ("content-type", "application/json")
SHOWN = ("authorization", f"Bearer {KEY}")
PICTURE = bytes(range(256))


def row(
    method: str = "POST",
    path: str = "/generate",
    *,
    query: tuple[tuple[str, str], ...] = (),
    headers: tuple[tuple[str, str], ...] = (JSON, SHOWN),
    body: bytes = b"",
) -> Request:
    platform = Platform("wsgi", "r-1", client_ip="203.0.113.7")
    return Request(method, path, platform, query, Headers(headers), body)


def order(**fields: object) -> bytes:
    return json.dumps({"prompt": "a calico cat", "seed": 7} | fields, ensure_ascii=False).encode()


ROWS: dict[str, Request] = {
    # methods
    "get": row("GET", "/models"),
    "head": row("HEAD", "/health"),
    "post": row(body=order()),
    "put": row("PUT", "/generate", body=b"{}"),
    "delete": row("DELETE", "/health"),
    "patch": row("PATCH", "/generate", body=b"{}"),
    "preflight": row(
        "OPTIONS",
        headers=(("origin", "https://a.example"), ("access-control-request-method", "POST")),
    ),
    "preflight of another origin": row("OPTIONS", headers=(("origin", "https://b.example"),)),
    "from a page": row("GET", "/models", headers=(SHOWN, ("origin", "https://a.example"))),
    # paths
    "root": row(path="/", body=order(prompt="root")),
    "slash at the end": row("GET", "/models/"),
    "two slashes": row("GET", "//models"),
    "unicode path": row("GET", "/图/ü é/🎨"),
    "path with a percent": row("GET", "/100%/%2F"),
    "path with every mark": row("GET", "/a-b.c_d~e!f$g&h'i(j)k*l+m,n;o=p:q@r"),
    "climbing path": row("GET", "/files/../../etc/passwd", query=(("exp", "1"), ("sig", "x"))),
    # query
    "repeated query key": row("GET", "/files/a.png", query=(("exp", "1"), ("exp", "2"))),
    "unicode query": row("GET", "/models", query=(("图", "é & ü=%+ "), ("", ""), ("blank", ""))),
    # headers
    "repeated header": row(
        "GET", "/models", headers=(SHOWN, ("accept", "a/b"), ("accept", "c/d"), ("x-a", "1, 2"))
    ),
    "cookies": row("GET", "/models", headers=(SHOWN, ("cookie", "a=1; b=2"))),
    "key of its own header": row("GET", "/models", headers=(("x-api-key", KEY),)),
    "no key": row(headers=(JSON,), body=order()),
    "wrong key": row(headers=(JSON, ("x-api-key", "wrong")), body=order()),
    "idempotency key": row(headers=(JSON, SHOWN, ("idempotency-key", "k-1")), body=order()),
    # bodies
    "empty body": row(),
    "unicode body": row(body=order(prompt="图 é 🎨")),
    "base64 body": row(headers=(("content-type", "image/png"), SHOWN), body=PICTURE),
    "json without a type": row(headers=(SHOWN,), body=order(prompt="untyped")),
    "json as a form": row(
        headers=(("content-type", "application/x-www-form-urlencoded"), SHOWN), body=order()
    ),
    "json that is no utf-8": row(body=b'{"prompt":"\xff"}'),
    "cut json": row(body=b'{"prompt": '),
    "list": row(body=b"[]"),
    "deep json": row(body=b"[" * 50_000),
    "offer of an upload": row(path="/uploads", body=b'{"contentType":"image/png","bytes":256}'),
    # errors that the app knows
    "missing prompt": row(body=order(prompt=" ")),
    "unknown model": row(body=order(model="fal-ai/minimax/video")),
    "field out of range": row(body=order(num_inference_steps=99)),
    "file of somebody else": row(path="/links", body=b'{"fileID":"s3://other/a.png"}'),
}


@pytest.fixture
def apps(configured: Configure, fal: Emulator, tmp_path: Path) -> Callable[[], App]:
    """Makes one app like the other: same clock, same dice, a directory of its own."""
    numbers = itertools.count()

    def new_app() -> App:
        directory = tmp_path / f"pictures-{next(numbers)}"
        configured(
            FAL_IMAGE_STORAGE_URL=directory.as_uri(), FAL_IMAGE_CORS_ORIGINS="https://a.example"
        )
        seams = Seams(
            clock=itertools.count(1000.0, 0.001).__next__,
            now=lambda: NOON,
            randomness=lambda count: b"\x07" * count,
        )
        return build_app(load(os.environ), environ=os.environ, seams=seams)

    return new_app


def shown(response: Response) -> tuple[int, bytes, dict[str, str]]:
    """What a client sees, without what depends on fal's request id and on how long it took."""
    body = response.read()
    headers = {name.lower(): value for name, value in response.headers}
    for name in ("content-length", "server-timing"):  # servers add the first by themselves
        headers.pop(name, None)
    if response.status == 200 and b'"falRequestId"' in body:
        job = json.loads(body)
        assert job["falRequestId"]
        body = json.dumps(job | {"falRequestId": "F", "timingsMs": {}}).encode()
    return response.status, body, headers


@pytest.mark.parametrize("name", ROWS)
def test_every_entrance_gives_the_same_answer(apps: Callable[[], App], name: str):
    answers = {
        entrance: shown(through(apps())(ROWS[name])) for entrance, through in ENTRANCES.items()
    }
    expected = answers["wsgi"]
    assert answers == dict.fromkeys(ENTRANCES, expected)
    assert expected[0] != 500
    assert expected[2]["x-request-id"] == "r-1"


def test_the_table_makes_pictures_and_meets_every_kind_of_refusal(apps: Callable[[], App]):
    statuses = {as_wsgi(apps())(request).status for request in ROWS.values()}
    assert statuses == {200, 204, 400, 401, 403, 404, 405, 415, 501}


@pytest.mark.parametrize("entrance", sorted(ENTRANCES))
def test_a_picture_is_the_same_bytes_through_every_entrance(
    apps: Callable[[], App], tmp_path: Path, entrance: str
):
    served = ENTRANCES[entrance](apps())
    (image,) = json.loads(served(ROWS["post"]).read())["images"]
    link = urlsplit(image["tempFileURL"])
    query = (("exp", "1"), ("sig", "x"), *parse_qsl(link.query))  # of repeated keys the last counts
    answer = served(row("GET", link.path, query=query, headers=()))
    (stored,) = list(tmp_path.glob("pictures-0/**/*-0.jpg"))
    assert (answer.status, answer.read()) == (200, stored.read_bytes())
    assert dict(answer.headers)["content-type"] == image["contentType"]

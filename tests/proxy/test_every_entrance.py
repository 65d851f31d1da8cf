"""A proxied call gives the same answer through every entrance, by header and by path.

fal is canned here: what it says is known to the byte, and so is what must be left of it.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator.exchange import Answer as Said
from fal_image.dev.emulator.exchange import Flow
from fal_image.dev.platforms import (
    GATEWAYS,
    as_cloudbase,
    as_lambda,
    cloudbase_context,
    cloudbase_event,
    read_cloudbase_reply,
)
from fal_image.events import aws, cloudbase
from fal_image.web import App, Headers, Response, decode_events
from support.canned_fal import CannedFal
from support.doors import PROXY, lambda_context
from support.entrypoints import FAL_KEY, KEY, KEY_SHA256, NOON
from support.events import as_wsgi
from support.instances import instance, read
from support.proxied_calls import CALLS, FORMS, PLACES, REQUEST
from support.values import replace

Shown = tuple[int, dict[str, str], bytes]

OURS = "https://pictures.example.com"
ENTRANCES: Mapping[str, Callable[[App], App]] = {
    **{name: partial(as_lambda, gateway=name) for name in GATEWAYS},
    "cloudbase": as_cloudbase,
    "wsgi": as_wsgi,
}
IMAGES = {"images": [{"url": "https://v3.fal.media/files/a/b.png"}], "prompt": "图 é 🎨"}
EVENTS = [b'data: {"images":[]}\n\n', b": still here\n\n", b'data: {"images":[{"url":"u"}]}\n\n']
BYTES = bytes(range(256)) * 40
SSE = "text/event-stream"

PASSED = {
    "x-fal-request-id": "r-1",
    "x-fal-billable-units": "1",
    "x-new": "of fal's",
}
DROPPED = {  # of the connection between fal and us, of the body's coding, or ours to say
    "connection": "keep-alive, x-hop",
    "x-hop": "1",
    "keep-alive": "timeout=5",
    "proxy-authenticate": "Basic",
    "te": "trailers",
    "upgrade": "h2c",
    "access-control-allow-origin": "*",
    "set-cookie": "fal=1",
    "location": "https://evil.com/",
}
OWN = {
    "x-request-id": "r-1",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def said(status: int, body: object, kind: str = "application/json") -> Said:
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    theirs = {"content-type": kind, **dict.fromkeys(OWN, "theirs")} | PASSED | DROPPED
    return Said(status, content, theirs)


def packed(answer: Said) -> Said:
    headers = {**answer.headers, "content-encoding": "gzip"}
    return Said(answer.status, gzip.compress(answer.body), headers)


def status_of(state: str, request: str = REQUEST) -> dict[str, object]:
    places = {"status_url": f"{request}/status", "response_url": request}
    return {"status": state, "request_id": "r-1", **places, "cancel_url": f"{request}/cancel"}


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def flow(*pieces: bytes) -> Flow:
    return Flow(200, list(pieces), {"content-type": SSE} | PASSED | DROPPED)


SAID: Mapping[str, Said | Flow] = {
    "submit": said(200, status_of("IN_QUEUE") | {"queue_position": 3}),
    "status": packed(said(202, status_of("IN_PROGRESS"))),
    "follow": flow(event(status_of("IN_PROGRESS")), b": c\n\n", event(status_of("COMPLETED"))),
    "result": said(200, IMAGES),
    "cancel": said(202, {"status": "CANCELLATION_REQUESTED"}),
    "stream": flow(*EVENTS),
    "upload": said(200, {"upload_url": "https://v3b.fal.media/u", "file_url": "https://f"}),
    "token": said(200, "t.o.k"),
}


def fal_saying(**changes: Said | Flow) -> CannedFal:
    return CannedFal({PLACES[name]: changes.get(name, answer) for name, answer in SAID.items()})


@pytest.fixture
def fal() -> Iterator[CannedFal]:
    with fal_saying() as canned:
        yield canned


def app_at(fal: CannedFal, directory: Path, base_path: str | None = None) -> App:
    """An app with one caller and no database, so that fal's ids mean the same to every call."""
    return instance(
        fal,
        directory,
        FAL_IMAGE_DATABASE_URL=None,
        FAL_IMAGE_RATE_LIMIT="off",  # its headers tell seconds
        FAL_IMAGE_API_KEYS=f"web={KEY_SHA256}",
        FAL_IMAGE_PUBLIC_URL=OURS,
        FAL_IMAGE_BASE_PATH=base_path,
    ).app


def shown(response: Response) -> Shown:
    """What a client sees; the length is the server's to say."""
    answer = read(response)
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return answer.status, headers, answer.body


def everywhere(app: App, form: str, name: str, **changes: str) -> Shown:
    """What every entrance answers alike."""
    answers = {
        entrance: shown(through(app)(FORMS[form](name, **changes)))
        for entrance, through in ENTRANCES.items()
    }
    assert answers == dict.fromkeys(ENTRANCES, answers["wsgi"])
    return answers["wsgi"]


def expected_body(name: str, form: str) -> Any:
    """What is left of fal's words: in the path form its addresses are ours."""
    base = f"{OURS}{PROXY}/queue.fal.run/" if form == "path" else "https://queue.fal.run/"
    request = REQUEST.replace("https://queue.fal.run/", base)
    values: dict[str, Any] = {
        "submit": status_of("IN_QUEUE", request) | {"queue_position": 3},
        "status": status_of("IN_PROGRESS", request),
        "result": IMAGES,
        "run": IMAGES,
        "run by GET": IMAGES,
        "cancel": {"status": "CANCELLATION_REQUESTED"},
        "upload": {"upload_url": "https://v3b.fal.media/u", "file_url": "https://f"},
        "token": "t.o.k",
    }
    return values[name]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("follow", "stream")])
def test_every_entrance_gives_fals_answer(fal: CannedFal, tmp_path: Path, form: str, name: str):
    status, headers, body = everywhere(app_at(fal, tmp_path), form, name)
    assert status == (202 if name in ("status", "cancel") else 200)
    assert json.loads(body) == expected_body(name, form)
    kind = {"content-type": "application/json"}
    if name == "submit":  # a job of ours by then, whose answer we write
        assert headers == kind | OWN | {"x-fal-request-id": "r-1", "cache-control": "no-store"}
    else:
        assert headers == kind | OWN | PASSED
    for heard in fal.heard:
        assert heard.headers["authorization"] == f"Key {FAL_KEY}"
        assert KEY not in str(heard)
        assert "x-fal-target-url" not in heard.headers


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_arrives_whole_where_it_cannot_arrive_in_pieces(
    fal: CannedFal, tmp_path: Path, form: str
):
    status, headers, body = everywhere(
        app_at(fal, tmp_path), form, "stream", accept="application/json, text/event-stream"
    )
    assert (status, body) == (200, b"".join(EVENTS))
    assert headers["content-type"] == SSE
    assert headers["cache-control"] == "no-store"
    assert headers["x-fal-request-id"] == "r-1"
    assert not set(headers) & set(DROPPED)
    assert all(SSE in heard.headers["accept"] for heard in fal.heard)


@pytest.mark.parametrize("form", FORMS)
def test_the_statuses_of_a_request_arrive_as_events(fal: CannedFal, tmp_path: Path, form: str):
    status, headers, body = everywhere(app_at(fal, tmp_path), form, "follow")
    assert (status, headers["content-type"]) == (200, SSE)
    told = [json.loads(event.data) for event in decode_events([body])]
    assert [one["status"] for one in told] == ["IN_PROGRESS", "COMPLETED"]
    first = OURS if form == "path" else "https://queue.fal.run"
    assert all(one["status_url"].startswith(f"{first}/") for one in told)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["status", "cancel", "upload", "token", "result"])
def test_bytes_that_are_no_text_arrive_as_they_left(tmp_path: Path, form: str, name: str):
    with fal_saying(**{name: said(200, BYTES, "application/octet-stream")}) as fal:
        status, headers, body = everywhere(app_at(fal, tmp_path), form, name)
    assert (status, body) == (200, BYTES)
    assert headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_text_that_is_no_utf_8_arrives_as_it_left(tmp_path: Path, form: str, kind: str):
    with fal_saying(status=said(200, b'{"a":"\xff"}', kind)) as fal:
        status, headers, body = everywhere(app_at(fal, tmp_path), form, "status")
    assert (status, headers["content-type"], body) == (200, kind, b'{"a":"\xff"}')


REFUSALS = {
    "422": said(422, {"detail": [{"loc": ["body"], "msg": "no", "type": "value_error"}]}),
    "404": said(404, {"status": "NOT_FOUND"}),
    "429": said(429, {"detail": "slow down"}),
    "500": said(500, {"detail": "broken"}),
    "page": said(502, b"<html>Bad Gateway</html>", "text/html"),
    "nothing": said(503, b""),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_fal_refuses_keeps_its_status_and_its_words(tmp_path: Path, form: str, refusal: str):
    theirs = REFUSALS[refusal]
    with fal_saying(status=theirs, cancel=theirs, token=theirs) as fal:
        app = app_at(fal, tmp_path)
        for name in ("status", "cancel", "token"):
            status, headers, body = everywhere(app, form, name)
            assert (status, body) == (theirs.status, theirs.body)
            assert headers["content-type"] == theirs.headers["content-type"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_below_a_base_path_the_answers_are_the_same(
    fal: CannedFal, tmp_path: Path, form: str, name: str
):
    app = app_at(fal, tmp_path, "/prod")
    assert everywhere(app, form, name, base="/prod") == everywhere(app, form, name)
    assert everywhere(app, form, name, base="/product")[0] == 404


def spelled(event: dict[str, Any], spell: Callable[[str], str]) -> dict[str, Any]:
    """An event in which header names are in another case, as clients of HTTP/1.1 may write them."""
    headers = {place: event[place] for place in ("headers", "multiValueHeaders") if place in event}
    return event | {
        place: {spell(name): value for name, value in pairs.items()}
        for place, pairs in headers.items()
    }


@pytest.mark.parametrize("spell", [str.upper, str.title, str.lower])
@pytest.mark.parametrize("form", FORMS)
def test_the_case_of_a_header_does_not_matter(
    fal: CannedFal, tmp_path: Path, form: str, spell: Callable[[str], str]
):
    app, request = app_at(fal, tmp_path), FORMS[form]("status")
    answers = [
        way.read_reply(aws.handle(spelled(way.event(request, at=NOON), spell), context, app))
        for way in GATEWAYS.values()
        for context in [lambda_context()]
    ]
    event = spelled(cloudbase_event(request), spell)
    answers.append(read_cloudbase_reply(cloudbase.handle(event, cloudbase_context("c-1"), app)))
    assert [answer.status for answer in answers] == [202] * 6
    assert all(json.loads(answer.read()) == expected_body("status", form) for answer in answers)


@pytest.mark.parametrize("form", FORMS)
def test_a_header_that_came_twice_changes_no_answer(fal: CannedFal, tmp_path: Path, form: str):
    app, one = app_at(fal, tmp_path), FORMS[form]("status")
    kinds = [("accept", "text/plain"), ("accept", "application/json")]
    twice = replace(one, headers=Headers([*one.headers, *kinds]))
    answers = [shown(through(app)(twice)) for through in ENTRANCES.values()]
    assert answers == [everywhere(app, form, "status")] * len(ENTRANCES)

"""What passes through the proxy, in both directions, and what does not."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.dev.emulator.exchange import Answer as Said
from fal_image.dev.emulator.exchange import HangUp, Reply, json_answer
from support.canned_fal import CannedFal
from support.emulator import QUEUE, RUN, SCHNELL
from support.entrypoints import FAL_KEY, KEY, KEY_SHA256
from support.entrypoints import request as a_request
from support.instances import instance, read
from support.proxy_calls import AFTERWARDS, FLUX, PAID, Door, Form, HeardFal

PLACE = f"{QUEUE}/{FLUX}/requests/r-1"
TAKEN = json_answer(200, {"request_id": "r-1", "queue_position": 3})
PASSED = {
    "x-fal-request-start-timeout": "30",
    "x-fal-request-timeout": "5.0",
    "x-fal-runner-hint": "warm",
    "x-fal-no-retry": "1",
    "x-fal-tags": "team=web,page=start",
    "x-app-fal-disable-fallback": "true",
}
KEPT_BACK = {  # the owner's, the caller's own, and what only an entrance may say
    "x-fal-queue-priority": "normal",
    "x-fal-store-io": "1",
    "x-fal-object-lifecycle-preference": '{"initial_acl":{"default":"hide"}}',
    "x-fal-object-lifecycle": '{"initial_acl":{"default":"hide"}}',
    "x-fal-retry-config": '{"server_error":{"retries":9}}',
    "x-fal-webhook": "https://evil.example/",
    "x-fal-webhook-url": "https://evil.example/",
    "x-fal-client-proxy": "mine",
    "x-fal-novel": "1",
    "x-app-fal-novel": "1",
    "cookie": "session=canary0cookie",
    "x-forwarded-for": "203.0.113.7",
    "origin": "https://shop.example",
    "referer": "https://shop.example/secret",
    "prefer": "respond-async",
    "te": "trailers",
    "proxy-authorization": "Basic canary",
}
NEVER = {*KEPT_BACK, "x-api-key", "x-fal-target-url"}
Canned = Callable[[Mapping[tuple[str, str], Reply]], tuple[CannedFal, Door]]


def alone(**bent: str | None) -> Any:
    """Settings of an instance with one caller and no database: it asks fal after any request."""
    return {
        "FAL_IMAGE_DATABASE_URL": None,
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        **bent,
    }


@pytest.fixture
def canned(tmp_path: Path, form: Form) -> Iterator[Canned]:
    """A fal that says what it is told to, and the proxy before it."""
    started: list[CannedFal] = []

    def start(said: Mapping[tuple[str, str], Reply]) -> tuple[CannedFal, Door]:
        fal = CannedFal(said)
        fal.start()
        started.append(fal)
        seams = Seams(sleep=lambda seconds: None)
        return fal, Door(instance(fal, tmp_path, seams=seams, **alone()), form)

    yield start
    for fal in started:
        fal.stop()


# Towards fal.


@pytest.mark.parametrize("what", PAID)
def test_a_callers_own_wishes_reach_fal_and_an_owners_do_not(tmp_path: Path, form: Form, what: str):
    fal = HeardFal()
    with fal:
        door = Door(instance(fal, tmp_path), form)
        assert door.pay(what, key=None, x_api_key=KEY, **PASSED, **KEPT_BACK).status == 200
    method, _, paid = fal.heard[0]
    assert method == "POST"
    assert {name: paid[name] for name in PASSED} == PASSED
    for _, target, shown in fal.heard:
        assert shown["authorization"] == f"Key {FAL_KEY}"
        assert NEVER.isdisjoint(shown)
        assert KEY not in f"{target} {shown}"
        assert "canary0cookie" not in f"{shown}"
        assert "evil" not in target


@pytest.mark.parametrize("scheme", ["Key", "Bearer"])
@pytest.mark.parametrize("what", AFTERWARDS)
def test_asking_after_a_request_shows_fal_nothing_of_the_caller(
    tmp_path: Path, form: Form, what: str, scheme: str
):
    fal = HeardFal()
    with fal:
        door = Door(instance(fal, tmp_path), form)
        mine = door.submitted()
        fal.heard.clear()
        named = {"authorization": f"{scheme} {KEY}", **PASSED, **KEPT_BACK}
        assert door.afterwards(what, mine, key=None, **named).status in {200, 400}
        assert fal.heard
        for _, _, shown in fal.heard:
            assert shown["authorization"] == f"Key {FAL_KEY}"
            assert {*NEVER, *PASSED}.isdisjoint(shown)


@pytest.mark.parametrize("name", PASSED)
@pytest.mark.parametrize("what", PAID)
def test_a_wish_that_is_no_plain_text_is_refused(
    fal: Emulator, tmp_path: Path, form: Form, what: str, name: str
):
    door = Door(instance(fal, tmp_path), form)
    for value in (
        "a\r\nx-fal-store-io: 1",
        "a\nb",
        "a\0b",
        "a\x7fb",
        "tägs=1",
        "图",
        "",
        "x" * 1025,
    ):
        answer = door.pay(what, **{name: value})
        assert (answer.status, answer.json["error"]) == (400, "invalid_input"), value
        assert name in answer.json["detail"]
    assert fal.calls.total() == 0


def test_what_a_caller_accepts_is_kept(canned: Canned):
    fal, door = canned(
        {("GET", f"{PLACE}/status"): Said(200, b"{}", {"content-type": "application/x-novel"})}
    )
    for given, sent in [
        ("application/x-novel", "application/x-novel"),
        ("text/html, */*;q=0.1", "text/html, */*;q=0.1"),
        ("a\r\nx-fal-store-io: 1", "ax-fal-store-io: 1"),
        ("图", "*/*"),
    ]:
        answer = door.afterwards("status", "r-1", accept=given)
        assert answer.headers["content-type"] == "application/x-novel"
        assert fal.heard[-1].headers["accept"] == sent
        assert "x-fal-store-io" not in fal.heard[-1].headers
    door.afterwards("status", "r-1")
    assert fal.heard[-1].headers["accept"] == "application/json"


def test_streams_are_asked_for_as_streams(tmp_path: Path, form: Form):
    fal = HeardFal()
    with fal:
        door = Door(instance(fal, tmp_path), form)
        followed = door.afterwards("follow", door.submitted(), accept="application/json")
        assert followed.headers["content-type"].startswith("text/event-stream")
        shown = door.pay("stream", accept="application/json, text/event-stream")
        assert shown.headers["content-type"].startswith("text/event-stream")
        assert "text/event-stream" in fal.heard[-1][2]["accept"]


@pytest.mark.parametrize("what", ["submit", "run", "stream"])
@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("text/plain", b'{"prompt": "a cat"}', 415),
        ("application/x-www-form-urlencoded", b"prompt=a", 415),
        ("application/octet-stream", b"\0", 415),
        ("application/json", b"[1]", 400),
        ("application/json", b'{"prompt": ', 400),
        ("application/json", b'{"prompt": "\xff"}', 400),
        ("application/json", b"[" * 100_000, 400),
    ],
)
def test_only_a_json_object_is_an_input(
    fal: Emulator,
    tmp_path: Path,
    form: Form,
    what: str,
    content_type: str,
    content: bytes,
    status: int,
):
    one = instance(fal, tmp_path)
    asked = Door(one, form).request(*PAID[what], content_type=content_type)
    request = a_request(asked.method, asked.path, raw=content, headers=dict(asked.headers))
    answer = read(one.app(request))
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(answer.json["detail"], str)
    assert fal.calls.total() == 0


def test_the_order_of_a_get_is_its_query(fal: Emulator, tmp_path: Path, form: Form):
    query = "prompt=a%20%22cat%22%20%26%20more&seed=7&num_images=2&enable_safety_checker=true"
    url = f"{RUN}/{SCHNELL}?{query}&image_size=square&novel=12"
    answer = Door(instance(fal, tmp_path), form).ask("GET", url)
    assert len(answer.json["images"]) == 2
    assert fal.ledger[0].input == {
        "prompt": 'a "cat" & more',
        "seed": 7,
        "num_images": 2,
        "enable_safety_checker": True,
        "image_size": "square",
        "novel": "12",
    }


def test_what_is_no_number_of_json_is_no_number_in_a_query(
    fal: Emulator, tmp_path: Path, form: Form
):
    door = Door(instance(fal, tmp_path), form)
    for text in ("NaN", "Infinity", "1e999", "%5B" * 650, "9" * 1500):
        answer = door.ask("GET", f"{RUN}/{SCHNELL}?prompt=a&guidance_scale={text}")
        assert answer.status == 422, text
        assert answer.json["detail"][0]["loc"] == ["body", "guidance_scale"]
    assert fal.calls.total() == 0


def test_to_look_at_the_head_of_an_answer_pays_for_nothing(
    fal: Emulator, tmp_path: Path, form: Form
):
    door = Door(instance(fal, tmp_path), form)
    for what in ("run by GET", "stream", "submit"):
        answer = door.ask("HEAD", PAID[what][1])
        assert (answer.status, answer.body) == (405, b"")
    assert fal.calls.total() == 0


# Back to the caller.


FALS = {
    "content-type": "application/json",
    "x-fal-request-id": "r-1",
    "x-fal-billable-units": "1.5",
    "x-fal-served-from": "runner-9",
    "x-fal-needs-retry": "0",
    "x-ratelimit-remaining": "3",
    "etag": '"e"',
    "retry-after": "3",
}
NOT_PASSED = {
    "connection": "keep-alive, x-hop",
    "x-hop": "1",
    "keep-alive": "timeout=5",
    "upgrade": "h2c",
    "trailer": "x-later",
    "te": "trailers",
    "proxy-authenticate": "Basic",
    "set-cookie": "fal=1",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "x-theirs",
    "alt-svc": 'h3=":443"',
    "vary": "Accept",
    "age": "7",
    "expires": "Sat, 21 Nov 2037 12:00:00 GMT",
    "last-modified": "Sat, 21 Nov 2026 12:00:00 GMT",
    "nel": '{"report_to":"theirs"}',
    "report-to": '{"group":"theirs"}',
    "clear-site-data": '"*"',
    "location": "https://evil.example/",
}
OURS_TO_SAY = {
    "x-request-id": "r-1",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@pytest.mark.parametrize("what", ["status", "result", "cancel", "follow"])
def test_fals_headers_come_back_and_those_of_its_connection_do_not(canned: Canned, what: str):
    method, ending = AFTERWARDS[what]
    theirs = FALS | NOT_PASSED | dict.fromkeys(OURS_TO_SAY, "theirs")
    _, door = canned({(method, PLACE + ending): Said(200, b'{"status": "COMPLETED"}', theirs)})
    answer = door.respond(method, PLACE + ending)
    assert sorted(answer.headers) == sorted({**FALS, **OURS_TO_SAY}.items())


@pytest.mark.parametrize("origin", ["https://shop.example", "https://elsewhere.example"])
def test_which_pages_may_read_is_said_once_and_by_us(
    fal: Emulator, tmp_path: Path, form: Form, origin: str
):
    settings: Any = alone(FAL_IMAGE_CORS_ORIGINS="https://shop.example")
    door = Door(instance(fal, tmp_path, **settings), form)
    mine = door.submitted()
    calls = {what: AFTERWARDS[what] for what in AFTERWARDS}
    responses = [
        door.respond(method, f"{QUEUE}/{FLUX}/requests/{mine}{ending}", origin=origin)
        for method, ending in calls.values()
    ]
    responses += [door.respond(*PAID[what], origin=origin) for what in PAID]
    for response in responses:
        said = [(name, value) for name, value in response.headers if name.startswith("access-")]
        response.close()
        names = [name for name, _ in response.headers]
        assert len(names) == len(set(names)), names
        if origin != "https://shop.example":
            assert said == []
            continue
        assert dict(said)["access-control-allow-origin"] == origin
        assert "x-fal-request-id" in dict(said)["access-control-expose-headers"]
        assert len(said) == 2


def test_bodies_come_back_byte_for_byte(canned: Canned):
    content = bytes(range(256)) * 300
    _, door = canned({("GET", PLACE): Said(200, content, {"content-type": "image/png"})})
    for _ in range(2):
        answer = door.afterwards("result", "r-1")
        assert (answer.body, answer.headers["content-type"]) == (content, "image/png")


def test_a_redirect_of_fals_is_followed_by_nobody(canned: Canned):
    fal, door = canned({("GET", PLACE): Said(302, b"", {"location": "https://evil.example/"})})
    answer = door.afterwards("result", "r-1")
    assert answer.status == 302
    assert "location" not in answer.headers
    assert len(fal.heard) == 1


@pytest.mark.parametrize("status", [404, 409, 422, 429, 500, 503, 504])
@pytest.mark.parametrize(
    "detail", ["Fal's own words", [{"loc": ["body"], "msg": "m", "type": "t"}]]
)
def test_fals_errors_keep_status_and_detail_at_every_question(
    canned: Canned, status: int, detail: object
):
    headers = {"x-fal-error-type": "some_type", "x-fal-request-id": "r-1", "retry-after": "2"}
    said = json_answer(status, {"detail": detail, "error_type": "some_type"}, headers)
    _, door = canned({(method, PLACE + end): said for method, end in AFTERWARDS.values()})
    for what in AFTERWARDS:
        answer = door.afterwards(what, "r-1")
        assert (answer.status, answer.json["detail"]) == (status, detail)
        assert answer.json["error_type"] == "some_type"
        assert {name: answer.headers[name] for name in headers} == headers


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 502, 503, 504])
def test_fals_refusal_of_a_submit_keeps_status_and_detail(canned: Canned, status: int):
    """None of them costs anything: whoever repeats the submit pays once."""
    said = json_answer(status, {"detail": "Fal's own words", "error_type": "some_type"})
    fal, door = canned({("POST", f"{QUEUE}/{SCHNELL}"): said})
    for answer in (door.submit(), door.pay("run")):
        assert (answer.status, answer.json["detail"]) == (status, "Fal's own words")
        assert answer.json["error_type"] == "some_type"
        assert answer.json["status"] == status
        assert answer.json["retryable"] is True


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503, 504])
def test_fals_refusal_of_a_stream_keeps_status_and_detail(canned: Canned, status: int):
    said = json_answer(status, {"detail": "Fal's own words"}, {"x-fal-error-type": "some_type"})
    _, door = canned({("POST", f"{RUN}/{SCHNELL}/stream"): said})
    answer = door.pay("stream")
    assert (answer.status, answer.json["detail"]) == (status, "Fal's own words")
    assert answer.headers["x-fal-error-type"] == "some_type"


def test_a_list_of_problems_stays_a_list(canned: Canned):
    detail = [{"loc": ["body", "prompt"], "msg": "field required", "type": "missing"}]
    said = json_answer(422, {"detail": detail})
    _, door = canned(
        {("POST", f"{QUEUE}/{SCHNELL}"): said, ("POST", f"{RUN}/{SCHNELL}/stream"): said}
    )
    for what in PAID:
        answer = door.pay(what)
        assert (answer.status, answer.json["detail"]) == (422, detail)


WORDS = "User is locked. Reason: Exhausted balance of canary0account."


@pytest.mark.parametrize("status", [401, 403])
def test_what_fal_says_of_the_owners_key_is_for_the_owner_only(
    canned: Canned, status: int, capfd: pytest.CaptureFixture[str]
):
    """And no client repeats a call because of it, as one does at 502."""
    said = json_answer(status, {"detail": WORDS}, {"x-fal-account": "canary0account"})
    places = [(method, PLACE + end) for method, end in AFTERWARDS.values()]
    places += [("POST", f"{QUEUE}/{SCHNELL}"), ("POST", f"{RUN}/{SCHNELL}/stream")]
    _, door = canned(dict.fromkeys(places, said))
    answers = [door.afterwards(what, "r-1") for what in AFTERWARDS]
    answers += [door.pay(what) for what in PAID]
    for answer in answers:
        assert (answer.status, answer.json["error"]) == (500, "fal_auth_failed")
        assert answer.json["status"] == 500
        assert "canary0account" not in f"{answer.headers} {answer.body!r}"
        assert "the owner" in answer.json["hint"] or "The owner" in answer.json["hint"]
    assert "fal refused the key" in capfd.readouterr().err


@pytest.mark.parametrize("reset", [True, False])
def test_a_fal_that_hangs_up_is_an_error_that_may_be_asked_again(canned: Canned, *, reset: bool):
    _, door = canned({(method, PLACE + end): HangUp(reset) for method, end in AFTERWARDS.values()})
    for what in AFTERWARDS:
        answer = door.afterwards(what, "r-1")
        assert (answer.status, answer.json["error"]) == (502, "fal_failed")
        assert answer.json["retryable"] is True
        assert "could not be reached" in answer.json["detail"]


@pytest.mark.parametrize("what", ["status", "result", "cancel"])
def test_a_slow_fal_is_not_waited_for_past_the_answers_time(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    door = Door(instance(fal, tmp_path, FAL_IMAGE_MAX_WAIT_S="1"), form)
    mine = door.submitted()
    fal.fault("slow", on=what, seconds=30)
    answer = door.afterwards(what, mine)
    assert (answer.status, answer.json["error"]) == (502, "fal_failed")

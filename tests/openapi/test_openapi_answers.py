"""Real answers of every sort, each held against the document by the instance itself."""

import json
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.web import Headers, Platform, Request, Response
from support import pictures
from support.clocks import Time
from support.conforming import Contract, conforming
from support.entrypoints import request as a_request
from support.instances import CAT, Answer, Calendar, Instance, Postbox, read
from support.proxy_calls import AFTERWARDS, FORMS, PAID, Door
from support.values import replace

Start = Callable[..., Instance]
NOBODYS = "0" * 26
SMALL = {**CAT, "image_size": {"width": 64, "height": 64}}


def asked(
    one: Instance, link: str, *, method: str = "GET", body: bytes = b"", **told: str
) -> Answer:
    """A request to a signed address, as whoever got it makes it."""
    address = urlsplit(link)
    headers = Headers((name.replace("_", "-"), value) for name, value in told.items())
    query = tuple(parse_qsl(address.query))
    return read(
        one.app(Request(method, address.path, Platform("wsgi", "r-1"), query, headers, body))
    )


def test_a_picture_and_what_may_be_asked_about_it(start: Start, contract: Contract):
    one = start(FAL_IMAGE_RATE_LIMIT="60/m")
    job = one.generate({**SMALL, "num_images": 2}).json
    assert job["state"] == "done"
    file_id = job["fileID"]
    assert one.job(job["jobId"])["fileID"] == file_id
    assert one.ask("GET", f"/jobs/{job['jobId']}/events").status == 200
    assert one.ask("POST", "/links", {"fileID": file_id, "maxAge": 60}).status == 200
    several = one.ask("POST", "/links", {"fileIDs": [file_id, "file:///nobodys.png"]})
    assert [file["error"] for file in several.json["fileList"]] == [None, "not_found"]
    assert asked(one, job["tempFileURL"]).status == 200
    assert one.ask("DELETE", f"/jobs/{job['jobId']}").json["error"] == "job_finished"
    assert ("GET", "/files/{key}", 200) in contract.seen


def test_a_picture_with_an_original_and_a_thumbnail(start: Start):
    wish = {"resize": {"width": 32}, "thumbnail": {"width": 8, "height": 8}}
    (image,) = start().generate({**SMALL, "transforms": wish}).json["images"]
    assert (image["original"]["width"], image["thumbnail"]["width"]) == (64, 8)


def test_the_same_picture_again(start: Start):
    one = start()
    answers = [one.generate({**SMALL, "reuse": True}).json for _ in range(2)]
    assert [answer["cached"] for answer in answers] == [False, True]


def test_a_job_that_goes_on(start: Start):
    with Emulator(run_s=30, clock=Time()) as slow:
        one = start(at=slow)
        job = one.submitted(SMALL)
        assert one.job(job["jobId"])["state"] == "submitted"
        assert one.ask("DELETE", f"/jobs/{job['jobId']}").status in (200, 202)


def test_an_input_picture(start: Start):
    one, picture = start(), pictures.png()
    wanted = {"contentType": "image/png", "bytes": len(picture)}
    offer = one.ask("POST", "/uploads", wanted).json["upload"]
    assert asked(
        one, offer["url"], method="PUT", body=picture, content_type="image/png"
    ).status == (200)
    short = asked(one, offer["url"], method="PUT", body=picture[1:], content_type="image/png")
    assert short.status == 404


def test_many_pictures(start: Start):
    calendar = Calendar()
    one = start(seams=Seams(now=calendar))
    rows = [{**SMALL, "rowId": "a"}, {"prompt": "", "rowId": 2}, 7]
    begun = one.ask("POST", "/batches", {"rows": rows}, idempotency_key="k-1")
    batch = begun.json["batchId"]
    while (seen := one.ask("GET", f"/batches/{batch}")).json["state"] == "running":
        calendar.forward(seconds=61)
        one.tick()
    assert seen.json["counts"]["failed"] == 2
    assert one.ask("DELETE", f"/batches/{batch}").status == 200
    assert one.ask("POST", f"/batches/{batch}/continue").status == 200
    again = one.ask("POST", "/batches", {"rows": [{}]}, idempotency_key="k-1")
    assert again.json["error"] == "idempotency_conflict"


def test_many_pictures_that_go_on(start: Start):
    with Emulator(run_s=30, clock=Time()) as slow:
        one = start(at=slow)
        begun = one.ask("POST", "/batches", {"rows": [SMALL] * 3, "window": 1})
        assert begun.status == 202
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/continue")):
            assert one.ask(method, f"/batches/{begun.json['batchId']}{path}").status in (200, 202)


def test_what_there_is_and_what_it_costs(start: Start):
    one = start()
    one.tick()
    bodies = [SMALL, {**SMALL, "model": "fal-ai/flux/nobodys"}, {**SMALL, "model": "fal-ai/flux"}]
    assert [one.ask("POST", "/estimate", body).status for body in bodies] == [200] * 3
    for path in ("/models", "/health", "/openapi.json", "/", "/v1/models"):
        assert one.ask("GET", path).status == 200


def test_a_ticket_and_what_it_opens(start: Start):
    one = start()
    limits = {"maxImages": 1, "maxUsd": 0.5, "uses": 9, "models": ["fal-ai/**"], "user": "ann"}
    ticket = one.ask("POST", "/tickets", limits).json["ticket"]
    assert one.generate(SMALL, key=ticket).status == 200
    assert one.generate(SMALL, key=ticket).json["remaining"] == {"images": 0}
    assert one.ask("POST", "/tickets", {}, key=ticket).status == 401


def test_what_fal_says_of_a_job(fal: Emulator, start: Start):
    with Postbox(fal) as box:
        one = start(FAL_IMAGE_PUBLIC_URL=box.url)
        one.submitted(SMALL)
        webhook = box.next()
        assert one.deliver(webhook).status == 200
        forged = Request(webhook.method, f"{webhook.path}x", webhook.platform)
        assert one.deliver(forged).status == 401


# Refusals.


@pytest.mark.parametrize(
    ("method", "path", "body", "told", "status"),
    [
        ("POST", "/generate", {}, {}, 400),
        ("POST", "/generate", {**CAT, "maxAge": 0}, {}, 400),
        ("POST", "/generate", {**CAT, "transforms": {"crop": {"x": 1}}}, {}, 400),
        ("POST", "/generate", {**CAT, "num_images": 0}, {}, 400),
        ("POST", "/generate", CAT, {"content_type": "text/plain"}, 415),
        ("POST", "/generate", CAT, {"idempotency_key": ""}, 400),
        ("POST", "/generate", CAT, {"authorization": "Bearer nobodys"}, 401),
        ("POST", "/generate", {**CAT, "model": "fal-ai/minimax/video"}, {}, 403),
        ("POST", "/generate", {**CAT, "prompt": "x" * 7_000_000}, {}, 413),
        ("POST", "/generate", {**CAT, "image_url": "file:///nobodys.png"}, {}, 404),
        ("POST", "/generate", CAT, {"cookie": "x" * 40_000}, 431),
        ("GET", f"/jobs/{NOBODYS}", None, {}, 404),
        ("GET", f"/jobs/{'x' * 9000}", None, {}, 414),
        ("DELETE", f"/jobs/{NOBODYS}", None, {}, 404),
        ("GET", f"/batches/{NOBODYS}", None, {}, 404),
        ("POST", "/batches", {"prompt": "a cat"}, {}, 400),
        ("POST", "/batches", {"file": "file:///nobodys.jsonl"}, {}, 404),
        ("POST", "/links", {"fileIDs": []}, {}, 400),
        ("POST", "/links", {"fileID": "file:///nobodys.png"}, {}, 404),
        ("POST", "/uploads", {"contentType": "text/html", "bytes": 1}, {}, 400),
        ("POST", "/estimate", {**CAT, "model": "fal-ai/minimax/video"}, {}, 403),
        ("POST", "/tickets", {"maxImage": 1}, {}, 400),
        ("GET", "/files/nobodys.png", None, {}, 404),
        ("POST", "/webhooks/fal/x/y", {}, {}, 401),
        ("GET", "/nowhere", None, {}, 404),
        ("PUT", "/generate", None, {}, 405),
        ("POST", "/v1/images/generations", {"prompt": ""}, {}, 400),
        ("POST", "/v1/images/generations", {"prompt": "a cat", "n": 99}, {}, 400),
        ("POST", "/v1/images/edits", {"prompt": "a cat"}, {}, 400),
        ("POST", "/api/fal/proxy", CAT, {"x_fal_target_url": "https://fal.evil.example/x"}, 412),
    ],
)
def test_a_refusal_is_described(
    start: Start, method: str, path: str, body: object, told: dict[str, str], status: int
):
    answer = start().ask(method, path, body, **told)
    assert answer.status == status, answer.body


@pytest.mark.parametrize("kind", ["503", "lost", "502-nginx"])
def test_a_submit_that_goes_wrong_is_described(fal: Emulator, start: Start, kind: str):
    fal.fault(kind, on="submit", times=9)
    one = start(FAL_IMAGE_MAX_WAIT_S="2")
    assert one.generate(SMALL).status in (202, 502)
    assert one.ask("POST", "/v1/images/generations", {"prompt": "a cat"}).status in (424, 502)


@pytest.mark.parametrize("kind", ["error", "null-payload", "no-images", "black", "expired"])
def test_a_result_that_goes_wrong_is_described(fal: Emulator, start: Start, kind: str):
    one = start()
    for path in ("/generate", "/v1/images/generations"):
        fal.fault(kind, on="result")
        job = one.ask("POST", path, SMALL)
        assert job.status in (200, 424, 502)
    if kind == "error":
        fal.fault(kind, on="result")
        shown = one.job(one.submitted(SMALL)["jobId"])
        assert shown["error"]["error"] == "fal_failed"


@pytest.mark.parametrize("what", PAID)
@pytest.mark.parametrize("form", FORMS)
def test_fals_addresses_are_described(start: Start, what: str, form: str):
    door = Door(start(), "header" if form == "header" else "path")
    assert door.pay(what).status == 200
    request_id = door.submitted()
    for step in AFTERWARDS:
        assert door.afterwards(step, request_id).status < 500
    assert door.afterwards("result", NOBODYS).status == 404


def test_pictures_in_openais_dialect_are_described(start: Start):
    one = start()
    body = {"prompt": "a cat", "size": "64x64", "response_format": "b64_json"}
    made = one.ask("POST", "/v1/images/generations", body)
    assert made.status == 200, made.body
    file_id = made.json["job"]["fileID"]
    edited = one.ask("POST", "/v1/images/edits", {"prompt": "a dog", "image": file_id})
    assert edited.status == 200, edited.body


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"FAL_IMAGE_DAILY_BUDGET_USD": "0.000001"}, 402),
        ({"FAL_IMAGE_DATABASE_URL": None}, 501),
        ({"FAL_IMAGE_TYPO": "1"}, 500),
    ],
)
@pytest.mark.parametrize("path", ["/generate", "/v1/images/generations"])
def test_what_the_owner_set_is_described(
    start: Start, settings: dict[str, str | None], status: int, path: str
):
    one = start(**settings)
    answer = one.ask("POST", path, SMALL, idempotency_key="k-1")
    assert answer.status == status, answer.body
    assert one.ask("GET", "/health").status == 200


@pytest.mark.parametrize("path", ["/generate", "/v1/images/generations", "/batches"])
def test_too_many_requests_are_described(start: Start, path: str):
    one, wanted = start(FAL_IMAGE_RATE_LIMIT="1/h"), a_request("POST", path, SMALL)
    platforms = [Platform("wsgi", f"r-{number}") for number in range(2)]
    answers = [read(one.app(replace(wanted, platform=platform))) for platform in platforms]
    assert answers[1].status == 429, answers[1].body


# The checker itself.


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, {"status": "ok", "version": "1", "extra": 1}, "extra"),
        (200, {"status": "ok"}, "version"),
        (200, {"status": "great", "version": "1"}, "great"),
        (418, {}, "not described"),
        (500, {"error": "internal"}, "content"),
    ],
)
def test_an_answer_that_is_not_as_described_is_told(
    contract: Contract, status: int, body: object, words: str
):
    headers = {"content-type": "application/json", "x-request-id": "r-1"}
    if words == "content":
        words = "is none of"
    with pytest.raises(AssertionError, match=words):
        contract.check("GET", "/health", status, headers, json.dumps(body).encode())


def test_a_header_that_is_missing_is_told(contract: Contract):
    with pytest.raises(AssertionError, match="X-Request-Id is missing"):
        contract.check("GET", "/health", 200, {"content-type": "application/json"}, b"{}")


def test_an_app_that_answers_otherwise_is_found_out(contract: Contract):
    strange = conforming(lambda asked: Response(200, b"{}"), contract)
    with pytest.raises(AssertionError):
        strange(a_request("GET", "/health"))

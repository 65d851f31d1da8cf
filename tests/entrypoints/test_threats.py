"""What strangers and greedy callers try, at the real functions: rows of docs/security.md."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.web import Headers, Request
from support.connects import watched
from support.doors import DOORS, Send, behind
from support.entrypoints import request as a_request
from support.instances import CAT, OTHER_KEY, Answer
from support.values import replace

Configure = Callable[..., None]
METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"
SPLIT = "x\r\nset-cookie: a=b\r\n\r\n<script>"


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asking(send: Send) -> Callable[..., Answer]:
    """Requests with ids of their own, as a gateway gives them."""
    numbers = itertools.count()

    def ask(method: str, path: str, body: object = None, **shown: str) -> Answer:
        request = a_request(method, path, body, **shown)  # type: ignore[arg-type]
        platform = replace(request.platform, request_id=f"r-{next(numbers)}")
        return send(replace(request, platform=platform))

    return ask


def test_a_used_up_ticket_stays_used_up_and_its_next_picture_costs_nothing(
    with_database: Configure, fal: Emulator, door: str
):
    with_database(FAL_IMAGE_RATE_LIMIT="off")
    ask = asking(behind(door))
    ticket = ask("POST", "/tickets", {"maxImages": 2, "user": "ann"}).json["ticket"]
    statuses = [ask("POST", "/generate", CAT, key=ticket).status for _ in range(4)]
    assert statuses == [200, 200, 402, 402]
    assert fal.calls["submit"] == 2
    again = asking(behind(door))  # another instance of the function
    refused = again("POST", "/generate", CAT, key=ticket)
    assert (refused.status, refused.json["error"]) == (402, "budget_exceeded")


def test_a_ticket_is_for_pictures_and_not_for_what_a_key_opens(
    with_database: Configure, fal: Emulator, door: str
):
    with_database()
    ask = asking(behind(door))
    ticket = ask("POST", "/tickets", {"user": "ann"}).json["ticket"]
    assert ask("POST", "/tickets", {}, key=ticket).status == 401
    assert ask("POST", "/batches", {"rows": [CAT]}, key=ticket).status == 401
    assert fal.calls["submit"] == 0


def test_nobody_sees_what_is_anothers(with_database: Configure, door: str):
    with_database(FAL_IMAGE_RATE_LIMIT="off")
    ask = asking(behind(door))
    ann, bob = (ask("POST", "/tickets", {"user": name}).json["ticket"] for name in ("ann", "bob"))
    job = ask("POST", "/generate", CAT, key=ann).json
    batch_id = ask("POST", "/batches", {"rows": [CAT]}).json["batchId"]
    assert ask("GET", f"/jobs/{job['jobId']}", key=ann).status == 200
    for key in (bob, OTHER_KEY):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            assert ask(method, f"/jobs/{job['jobId']}{path}", key=key).status == 404
        assert ask("POST", "/links", {"fileID": job["fileID"]}, key=key).status == 404
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/continue")):
        assert ask(method, f"/batches/{batch_id}{path}", key=OTHER_KEY).status == 404


def test_a_flood_ends_at_the_rate_and_polls_do_not_count(
    with_database: Configure, fal: Emulator, door: str
):
    with_database(FAL_IMAGE_RATE_LIMIT="3/h")
    ask = asking(behind(door))
    answers = [ask("POST", "/generate", CAT) for _ in range(8)]
    taken = [answer for answer in answers if answer.status == 200]
    assert 3 <= len(taken) <= 6  # the hour may end within the test
    assert {answer.status for answer in answers} == {200, 429}
    assert fal.calls["submit"] == len(taken)
    refused = answers[-1]
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json["error"] == "rate_limited"
    for _ in range(8):
        assert ask("GET", f"/jobs/{taken[0].json['jobId']}").status == 200


@pytest.mark.parametrize(
    "key",
    [
        "../outside.png",
        "ai-images/../../outside.png",
        "ai-images/2026-11-21/../../../outside.png",
        "ai-images/%2e%2e/%2e%2e/outside.png",
        "..\\outside.png",
        "/etc/passwd",
        "ai-images/2026-11-21/a-0.png\x00.txt",
        "",
    ],
)
def test_no_id_and_no_path_leads_out_of_the_storage(
    configured: Configure, pictures: Path, door: str, key: str
):
    configured()
    pictures.mkdir()
    pictures.parent.joinpath("outside.png").write_bytes(b"canary of the house")
    send = behind(door)
    for file_id in (f"file:///{key}", f"{pictures.as_uri()}/{key}", key):
        answer = send(a_request("POST", "/links", {"fileID": file_id}))
        assert answer.status in (400, 404), file_id
        assert b"tempFileURL" not in answer.body
    link = (("exp", "9999999999"), ("sig", "a" * 43))
    answer = send(a_request("GET", f"/files/{key}", query=link, key=None))
    assert answer.status == 404
    assert b"canary" not in answer.body


def test_an_input_address_is_never_fetched_by_us(configured: Configure, fal: Emulator, door: str):
    configured()
    send = behind(door)
    body = CAT | {"model": "fal-ai/flux/dev/image-to-image"}  # type: ignore[operator]
    with watched(but=urlsplit(fal.url).port or 0) as reached:
        for url in (METADATA, "http://localhost:6379/", "file:///etc/passwd", "gopher://10.0.0.1/"):
            fal.fault("503", on="submit")  # or it would look there itself, as fal does
            answer = send(a_request("POST", "/generate", {**body, "image_url": url}))
            assert answer.status >= 400, url
            assert b"root:" not in answer.body
    assert reached == []


@pytest.mark.parametrize(
    "name", ["origin", "prefer", "idempotency-key", "x-fal-target-url", "x-request-id", "accept"]
)
def test_no_value_of_a_caller_splits_an_answer(
    with_database: Configure, fal: Emulator, door: str, name: str
):
    with_database(FAL_IMAGE_CORS_ORIGINS="https://shop.example")
    send = behind(door)
    for method, path in (
        ("POST", "/generate"),
        ("OPTIONS", "/generate"),
        ("POST", "/api/fal/proxy"),
        ("GET", "/nowhere\r\nset-cookie: a=b"),
    ):
        plain = a_request(method, path, CAT if method == "POST" else None)
        pairs = [*plain.headers, (name, SPLIT)]
        request = Request(method, path, plain.platform, (), Headers(pairs), plain.body)
        answer = send(request)
        assert "set-cookie" not in answer.headers
        assert not any("\r" in text or "\n" in text for text in answer.headers.values())


def test_a_mistake_of_the_owner_closes_everything_that_spends(
    with_database: Configure, fal: Emulator, door: str
):
    mistakes = {
        "FAL_IMAGE_API_KEY": "web=abc",  # a name that does not exist
        "FAL_IMAGE_API_KEYS": "web=not-a-digest",
        "FAL_IMAGE_DAILY_BUDGET_USD": "five",
        "FAL_IMAGE_RATE_LIMIT": "many",
        "FAL_IMAGE_TRUST": "everybody",
        "FAL_IMAGE_ALLOW_ANONYMOUS": "perhaps",
        "FAL_IMAGE_MODELS": "",
    }
    for name, value in mistakes.items():
        with_database(**{name: value})
        answer = behind(door)(a_request("POST", "/generate", CAT, key="k-nobodys"))
        assert answer.status == (500 if value else 401), name
        if value:
            assert json.loads(answer.body)["error"] == "misconfigured"
            assert name in answer.json["detail"]
            assert value not in answer.json["detail"]
    assert fal.calls["submit"] == 0

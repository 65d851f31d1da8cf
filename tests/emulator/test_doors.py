"""Which host a call is for, who may call, and what browsers are told."""

from __future__ import annotations

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import CDN, QUEUE, REST, RUN, SCHNELL, ask, submit


def test_the_host_header_chooses_the_host_of_fal(emulator: Emulator) -> None:
    run = ask(emulator, "POST", f"/{SCHNELL}", {"prompt": "cat"}, headers={"host": "fal.run"})
    queued = ask(
        emulator, "POST", f"/{SCHNELL}", {"prompt": "cat"}, headers={"host": "queue.fal.run:443"}
    )

    assert "images" in run.json
    assert queued.json["status_url"].startswith(f"{emulator.url}/queue.fal.run/")


def test_a_target_url_header_chooses_host_path_and_query(emulator: Emulator) -> None:
    target = {"x-fal-target-url": f"{QUEUE}/{SCHNELL}?fal_webhook=https%3A%2F%2Fme.example%2Fx"}

    reply = ask(emulator, "POST", "/api/fal/proxy", {"prompt": "cat"}, headers=target)

    assert reply.json["status"] == "IN_QUEUE"
    assert emulator.ledger[0].webhook_url == "https://me.example/x"


@pytest.mark.parametrize(
    "url", ["https://fal.run.evil.example/x", "https://example.com", "not a url", "//"]
)
def test_a_target_url_of_another_host_reaches_nothing(emulator: Emulator, url: str) -> None:
    reply = ask(emulator, "POST", "/", {"prompt": "cat"}, headers={"x-fal-target-url": url})

    assert reply.status == 404
    assert emulator.ledger == []


def test_links_name_the_host_by_which_the_caller_came(emulator: Emulator) -> None:
    named = emulator.url.removeprefix("http://").replace("127.0.0.1", "localhost")

    taken = submit(emulator, headers={"host": named})

    assert taken["status_url"].startswith(f"http://{named}/queue.fal.run/")


@pytest.mark.parametrize(
    "host", ["v3b.fal.media", "fal.media", "any.fal.media", "rest.alpha.fal.ai"]
)
def test_other_names_of_a_host_reach_the_same_service(emulator: Emulator, host: str) -> None:
    reply = ask(emulator, "GET", f"https://{host}/nothing")

    assert reply.json["detail"] in {"File not found", "Not Found"}


def test_the_rest_of_the_platform_api_is_not_imitated_and_says_so(emulator: Emulator) -> None:
    reply = ask(emulator, "GET", "https://api.fal.ai/v1/models")

    assert reply.status == 404
    assert "not imitate" in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("authorization", "status", "words"),
    [
        (None, 401, 'Cannot access application "fal-ai/flux"'),
        ("Key no-colon", 401, "Invalid Key Authorization header format"),
        ("Key :secret", 401, "Invalid Key Authorization header format"),
        ("Bearer id:secret", 401, "Invalid Key Authorization header format"),
        ("Key revoked:secret", 401, "No user found for Key ID and Secret"),
        ("Key locked:secret", 403, "User is locked. Reason: Exhausted balance."),
        ("Key any:thing", 200, "IN_QUEUE"),
    ],
)
def test_a_key_is_checked_as_fal_checks_it(
    emulator: Emulator, authorization: str | None, status: int, words: str
) -> None:
    headers = {"authorization": authorization} if authorization else {}
    url = f"{QUEUE}/{SCHNELL}"

    reply = ask(emulator, "POST", url, {"prompt": "cat"}, key=None, headers=headers)

    assert reply.status == status
    assert words in reply.body.decode().replace('\\"', '"')
    assert len(emulator.ledger) == (status == 200)


@pytest.mark.parametrize("tail", ["status_url", "response_url", "cancel_url"])
def test_every_queue_call_needs_a_key(emulator: Emulator, tail: str) -> None:
    method = "PUT" if tail == "cancel_url" else "GET"

    assert ask(emulator, method, submit(emulator)[tail], key=None).status == 401


def test_without_a_key_the_rest_host_asks_for_one(emulator: Emulator) -> None:
    reply = ask(emulator, "POST", f"{REST}/tokens/", {}, key=None)

    assert (reply.status, reply.json) == (401, {"detail": "Authorization header is required"})


def test_keys_can_be_revoked_locked_or_not_needed() -> None:
    url, body = f"{RUN}/{SCHNELL}", {"prompt": "cat"}
    with Emulator(revoked_key_ids={"old"}, locked_key_ids={"poor"}) as emulator:
        statuses = [
            ask(emulator, "POST", url, body, key=f"{name}:x").status
            for name in ("old", "poor", "revoked")
        ]
    with Emulator(require_key=False) as open_emulator:
        open_status = ask(open_emulator, "POST", url, body, key=None).status

    assert statuses == [401, 403, 200]
    assert open_status == 200


def test_a_browser_may_send_fals_headers_from_anywhere_and_read_them(emulator: Emulator) -> None:
    asked = "authorization, content-type, x-fal-queue-priority"
    preflight = ask(
        emulator,
        "OPTIONS",
        f"{QUEUE}/{SCHNELL}",
        key=None,
        headers={"origin": "https://me.example", "access-control-request-headers": asked},
    )
    reply = ask(emulator, "POST", f"{QUEUE}/{SCHNELL}", {"prompt": "cat"})

    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-headers"] == asked
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "x-fal-request-id" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", f"{QUEUE}/{SCHNELL}"),
        ("POST", f"{QUEUE}/fal-ai/flux/requests/x/status"),
        ("GET", f"{REST}/tokens/"),
    ],
)
def test_a_wrong_method_is_405(emulator: Emulator, method: str, url: str) -> None:
    assert ask(emulator, method, url).status == 405


@pytest.mark.parametrize(
    "url",
    [
        f"{QUEUE}/",
        f"{QUEUE}/just-one",
        f"{QUEUE}/fal-ai/flux/requests",
        f"{QUEUE}/fal-ai/flux/requests/x/other",
        f"{RUN}/",
        f"{REST}/other",
        f"{CDN}/files/upload",
        "/_emulator/other",
        "/favicon.ico",
    ],
)
def test_a_path_that_fal_does_not_have_is_404(emulator: Emulator, url: str) -> None:
    method = "GET" if url.startswith((QUEUE + "/fal-ai", CDN, "/")) else "POST"

    assert ask(emulator, method, url).status == 404


def test_every_answer_of_a_model_host_has_a_request_id(emulator: Emulator) -> None:
    for url in (f"{QUEUE}/fal-ai/no-such", f"{RUN}/fal-ai/no-such", f"{RUN}/"):
        assert ask(emulator, "POST", url, {}).headers["x-fal-request-id"]

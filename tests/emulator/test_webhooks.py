from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from email.message import Message
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fal_image.dev.emulator import Emulator
from support import pictures
from support.clocks import Time
from support.emulator import REST, ask, finish, submit
from support.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def hooked(emulator: Emulator, url: str, **arguments: Any) -> dict[str, str]:
    return submit(emulator, query=f"?fal_webhook={quote(url, safe='')}", **arguments)


def published_key(emulator: Emulator) -> Ed25519PublicKey:
    reply = ask(emulator, "GET", f"{REST}/.well-known/jwks.json", key=None)
    [key] = reply.json["keys"]
    assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))


def signed_message(headers: Message, body: bytes) -> bytes:
    names = ("Request-Id", "User-Id", "Timestamp")
    lines = [str(headers[f"X-Fal-Webhook-{name}"]) for name in names]
    return "\n".join([*lines, hashlib.sha256(body).hexdigest()]).encode()


def test_a_finished_job_is_told_with_a_signature_that_the_published_key_verifies(
    emulator: Emulator, receiver: Receiver
) -> None:
    taken = hooked(emulator, receiver.url)
    headers, body = receiver.got.get(timeout=5)
    message = signed_message(headers, body)
    signature = bytes.fromhex(headers["X-Fal-Webhook-Signature"])
    key = published_key(emulator)

    key.verify(signature, message)
    with pytest.raises(InvalidSignature):
        key.verify(signature, message + b"x")
    assert key.public_bytes_raw() == emulator.public_key
    assert headers["X-Fal-Webhook-Request-Id"] == taken["request_id"]
    assert headers["content-type"] == "application/json"


def test_the_payload_of_a_good_job_is_its_output(emulator: Emulator, receiver: Receiver) -> None:
    taken = hooked(emulator, receiver.url)
    _, body = receiver.next()

    assert body == {
        "request_id": taken["request_id"],
        "gateway_request_id": taken["request_id"],
        "status": "OK",
        "payload": finish(emulator, taken).json,
    }


def test_the_payload_of_a_failed_job_is_its_error(emulator: Emulator, receiver: Receiver) -> None:
    taken = hooked(emulator, receiver.url, num_images=9)
    _, body = receiver.next()

    assert body["status"] == "ERROR"
    assert body["error"] == "Invalid status code: 422"
    assert body["payload"] == finish(emulator, taken).json


def test_a_payload_that_is_not_json_is_null_and_still_ok(
    emulator: Emulator, receiver: Receiver
) -> None:
    emulator.fault("null-payload", on="result")
    hooked(emulator, receiver.url)
    _, body = receiver.next()

    assert (body["status"], body["payload"]) == ("OK", None)
    assert "not JSON serializable" in body["payload_error"]


def test_a_webhook_is_repeated_until_it_is_taken() -> None:
    receiver = Receiver(500, 503)
    with Emulator(webhook_backoff_s=0.01) as emulator:
        hooked(emulator, receiver.url)
        bodies = [receiver.next()[1] for _ in range(3)]
    receiver.close()

    assert bodies[0] == bodies[1] == bodies[2]
    assert emulator.ledger[0].webhook_answers == (500, 503, 200)


def test_a_webhook_for_a_host_with_a_detour_is_taken_there_under_its_own_name(
    receiver: Receiver,
) -> None:
    detours: dict[str, str] = {}
    with Emulator(detours=detours) as emulator:
        detours["pictures.example.com"] = receiver.url.partition("/hook")[0]
        taken = hooked(emulator, "https://pictures.example.com/hook?mine=1")
        headers, body = receiver.next()

    assert headers["host"] == "pictures.example.com"
    assert body["request_id"] == taken["request_id"]


def test_a_redirect_is_not_followed_and_not_repeated() -> None:
    receiver = Receiver(302)
    with Emulator(webhook_backoff_s=0.0) as emulator:
        hooked(emulator, receiver.url)
        hooked(emulator, receiver.url)
        for _ in range(2):
            receiver.next()
    receiver.close()

    assert sorted(entry.webhook_answers for entry in emulator.ledger) == [(200,), (302,)]


def test_a_cancelled_job_is_told_at_once(working: Emulator, receiver: Receiver) -> None:
    taken = hooked(working, receiver.url)
    ask(working, "PUT", taken["cancel_url"])
    _, body = receiver.next()

    assert (body["status"], body["error"]) == ("ERROR", "Invalid status code: 499")


def test_a_clock_that_is_moved_by_hand_moves_what_waits(receiver: Receiver) -> None:
    clock = Time()
    picture = base64.b64encode(pictures.png()).decode()
    with Emulator(queue_s=60, run_s=60, clock=clock) as emulator:
        url = f"data:image/png;base64,{picture}"
        hooked(emulator, receiver.url, model="fal-ai/flux/dev/image-to-image", image_url=url)
        assert receiver.got.empty()
        clock.sleep(120)
        assert receiver.next()[1]["status"] == "OK"


# Faults


def verdict(emulator: Emulator, got: tuple[Message, bytes]) -> str:
    """What a receiver that checks the signature thinks of a webhook."""
    headers, body = got
    try:
        signature = bytes.fromhex(headers["X-Fal-Webhook-Signature"])
        published_key(emulator).verify(signature, signed_message(headers, body))
    except InvalidSignature:
        return "bad signature"
    if headers["X-Fal-Webhook-User-Id"] != "fal-emulator-user":
        return "another user"
    skew_s = int(headers["X-Fal-Webhook-Timestamp"]) - time.time()
    return "good" if abs(skew_s) < 300 else "another time"


@pytest.mark.parametrize(
    ("kind", "options", "first"),
    [
        ("forged", {}, "bad signature"),
        ("forged", {"what": "signature"}, "bad signature"),
        ("forged", {"what": "body"}, "bad signature"),
        ("forged", {"what": "key"}, "bad signature"),
        ("forged", {"what": "user"}, "another user"),
        ("skewed", {}, "another time"),
        ("skewed", {"seconds": 301}, "another time"),
    ],
)
def test_a_forged_webhook_that_is_refused_is_followed_by_the_genuine_one(
    kind: str, options: dict[str, Any], first: str
) -> None:
    receiver = Receiver(401)
    with Emulator(webhook_backoff_s=0.01) as emulator:
        emulator.fault(kind, on="webhook", **options)
        taken = hooked(emulator, receiver.url)
        got = [receiver.got.get(timeout=5) for _ in range(2)]
        verdicts = [verdict(emulator, one) for one in got]
        genuine = ask(emulator, "GET", taken["response_url"]).json
    receiver.close()

    assert verdicts == [first, "good"]
    assert {headers["X-Fal-Webhook-Request-Id"] for headers, _ in got} == {taken["request_id"]}
    payloads = [json.loads(body)["payload"] for _, body in got]
    assert (payloads[0] == genuine) is (options.get("what") != "body")
    assert payloads[1] == genuine
    assert emulator.ledger[0].webhook_answers == (401, 200)


def test_a_forged_webhook_that_is_taken_is_the_only_one() -> None:
    receiver = Receiver()
    with Emulator(webhook_backoff_s=0.0) as emulator:
        emulator.fault("forged", on="webhook", what="body")
        hooked(emulator, receiver.url)
        hooked(emulator, receiver.url)
        bodies = [receiver.next()[1] for _ in range(2)]
    receiver.close()

    assert [entry.webhook_answers for entry in emulator.ledger] == [(200,), (200,)]
    assert sum("forged" in json.dumps(body["payload"]) for body in bodies) == 1


def test_a_webhook_can_come_more_than_once(emulator: Emulator, receiver: Receiver) -> None:
    emulator.fault("duplicate", on="webhook", copies=3)
    hooked(emulator, receiver.url)
    got = [receiver.got.get(timeout=5) for _ in range(3)]

    assert len({body for _, body in got}) == 1
    assert {verdict(emulator, one) for one in got} == {"good"}


def test_a_webhook_can_come_late(receiver: Receiver) -> None:
    with Emulator() as emulator:
        emulator.fault("late", on="webhook", seconds=3600)
        taken = hooked(emulator, receiver.url)
        assert finish(emulator, taken).status == 200
    assert receiver.got.empty()

    with Emulator() as emulator:
        emulator.fault("late", on="webhook", seconds=0.01)
        hooked(emulator, receiver.url)
        assert verdict(emulator, receiver.got.get(timeout=5)) == "good"


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://me.example/", "http://[::1", "http://h:port/", "http://a b/"]
)
def test_a_webhook_that_is_not_a_web_address_is_given_up(url: str) -> None:
    with Emulator() as emulator:
        finish(emulator, hooked(emulator, url))
        wait_until_answered(emulator)

    assert emulator.ledger[0].webhook_answers == ("not a web address",)


def test_a_receiver_that_is_not_there_does_not_keep_the_emulator_from_stopping() -> None:
    closed = Receiver()
    closed.close()
    with Emulator(webhook_backoff_s=3600) as emulator:
        finish(emulator, hooked(emulator, closed.url))

    assert len(emulator.ledger[0].webhook_answers) <= 1


def test_no_webhook_is_sent_for_a_job_that_never_ends(receiver: Receiver) -> None:
    with Emulator(run_s=3600) as emulator:
        hooked(emulator, receiver.url)

    assert receiver.got.empty()


def test_one_connection_tells_of_one_job_after_the_other(emulator: Emulator) -> None:
    with Receiver(keeps_open=True) as receiver:
        for _ in range(4):
            hooked(emulator, receiver.url)
            receiver.next()
            wait_until_answered(emulator)
        assert receiver.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_opened_again(emulator: Emulator) -> None:
    for connections in (1, 2):
        with Receiver(keeps_open=True) as receiver:
            for _ in range(connections):
                hooked(emulator, receiver.url)
                receiver.next()
                wait_until_answered(emulator)
                receiver.hang_up()
            assert receiver.connections == connections
    assert all(entry.webhook_answers == (200,) for entry in emulator.ledger)


def wait_until_answered(emulator: Emulator) -> None:
    gives_up_at = time.monotonic() + 5
    while not all(entry.webhook_answers for entry in emulator.ledger):
        assert time.monotonic() < gives_up_at
        time.sleep(0.005)

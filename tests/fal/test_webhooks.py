import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.dev.emulator.webhooks import STRANGER_ID, USER_ID, Signer
from fal_image.errors import AppError, FalRejected, JwksUnavailable, Unauthorized
from fal_image.fal import refusals
from fal_image.fal.webhooks import Delivery, Verifier, check_token, parse_keys, token
from fal_image.web import Headers
from fal_image.wire import Wire
from support.emulator import finish, submit
from support.peer import RESET, Peer, answer
from support.receiver import Receiver

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
NOON_S = int(NOON.timestamp())
REQUEST_ID = "764cabcf-b745-4b3e-ae38-1200304cf45b"
OUTPUT = {"images": [{"url": "https://v3.fal.media/files/a/b.png"}], "seed": 7}
SIGNER = Signer()

SIGNATURE, USER, TIMESTAMP, REQUEST = (
    f"X-Fal-Webhook-{name}" for name in ("Signature", "User-Id", "Timestamp", "Request-Id")
)


class Wall:
    """A wall clock that only a test moves."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


def letter(**fields: object) -> bytes:
    """The body of a delivery."""
    whole = {"request_id": REQUEST_ID, "gateway_request_id": REQUEST_ID, "status": "OK"}
    return json.dumps(whole | {"payload": OUTPUT} | fields).encode()


def published(*signers: Signer) -> bytes:
    """The answer with the public keys of these."""
    sets: list[dict[str, Any]] = [signer.jwks() for signer in signers]
    return answer(200, {"keys": [key for one in sets for key in one["keys"]]})


def verifier(url: str, now: Callable[[], datetime], user_id: str | None = None) -> Verifier:
    return Verifier(wire=Wire(emulator_url=url), now=now, clock=time.monotonic, user_id=user_id)


def verify(one: Verifier, headers: Any, body: bytes) -> Delivery:
    pairs = headers.items() if hasattr(headers, "items") else headers
    return one.verify(Headers(pairs), body, ends_at=time.monotonic() + 5)


def signed(body: bytes, signer: Signer = SIGNER, at_s: int = NOON_S, **more: str) -> dict[str, str]:
    return signer.headers(more.pop("request_id", REQUEST_ID), body, at_s, **more)


def is_refused(one: Verifier, headers: Any, body: bytes) -> bool:
    try:
        verify(one, headers, body)
    except Unauthorized:
        return True
    return False


@pytest.fixture
def peer() -> Iterator[Peer]:
    """fal, as far as it publishes the key of SIGNER."""
    with Peer([published(SIGNER)]) as running:
        yield running


# From the emulator's own hand


def delivered(
    emulator: Emulator, receiver: Receiver, user_id: str | None = None, **arguments: Any
) -> tuple[dict[str, str], Verifier]:
    """A job whose webhook goes to the receiver, and who shall believe it."""
    taken = submit(emulator, query=f"?fal_webhook={quote(receiver.url, safe='')}", **arguments)
    return taken, verifier(emulator.url, lambda: datetime.now(timezone.utc), user_id)


def test_a_delivery_of_a_good_job_brings_its_output():
    with Emulator() as emulator, Receiver() as receiver:
        taken, one = delivered(emulator, receiver, USER_ID)
        delivery = verify(one, *receiver.got.get(timeout=5))
        result = finish(emulator, taken).json
    assert delivery == Delivery(taken["request_id"], True, result)
    assert delivery.has_payload


def test_a_delivery_of_a_failed_job_brings_the_error_that_its_result_would():
    with Emulator() as emulator, Receiver() as receiver:
        taken, one = delivered(emulator, receiver, num_images=9)
        delivery = verify(one, *receiver.got.get(timeout=5))
    assert not delivery.is_ok
    assert delivery.refusal
    error = refusals.explain(delivery.refusal, "fal-ai/flux/schnell", request_id="r")
    assert isinstance(error, FalRejected)
    assert "num_images" in json.dumps(error.extensions["falErrors"])


def test_a_delivery_of_a_cancelled_job_says_so():
    with Emulator(run_s=3600) as emulator, Receiver() as receiver:
        taken, one = delivered(emulator, receiver)
        Wire(emulator_url=emulator.url).call(
            "PUT",
            taken["cancel_url"].replace(f"{emulator.url}/", "https://"),
            key="id:secret",
            timeout_s=5,
        )
        refusal = verify(one, *receiver.got.get(timeout=5)).refusal
    assert refusal
    assert refusal.status == 499


def test_an_output_that_is_not_json_is_to_be_read_from_the_queue():
    with Emulator() as emulator, Receiver() as receiver:
        emulator.fault("null-payload", on="result")
        taken, one = delivered(emulator, receiver)
        delivery = verify(one, *receiver.got.get(timeout=5))
    assert delivery == Delivery(taken["request_id"], is_ok=True)
    assert not delivery.has_payload


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("forged", {"what": "signature"}),
        ("forged", {"what": "body"}),
        ("forged", {"what": "key"}),
        ("forged", {"what": "user"}),
        ("skewed", {"seconds": 302}),
        ("skewed", {"seconds": -302}),
    ],
)
def test_a_forged_delivery_is_refused_and_the_genuine_one_after_it_is_not(
    kind: str, options: dict[str, Any]
):
    with Emulator(webhook_backoff_s=0.01) as emulator, Receiver(401) as receiver:
        emulator.fault(kind, on="webhook", **options)
        _, one = delivered(emulator, receiver, USER_ID)
        assert is_refused(one, *receiver.got.get(timeout=5))
        assert verify(one, *receiver.got.get(timeout=5)).is_ok


def test_a_repeated_delivery_is_as_genuine_as_the_first_and_the_keys_are_read_once():
    with Emulator() as emulator, Receiver() as receiver:
        emulator.fault("duplicate", on="webhook", copies=4)
        _, one = delivered(emulator, receiver)
        deliveries = [verify(one, *receiver.got.get(timeout=5)) for _ in range(4)]
        assert emulator.calls["jwks"] == 1
    assert deliveries[1:] == deliveries[:-1]


# Forged


def flipped(text: str) -> str:
    return f"{int(text[0], 16) ^ 1:x}{text[1:]}"


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != name}


GOOD = signed(letter())
FORGED: dict[str, Any] = {
    "no header at all": {},
    "a bit of the signature": GOOD | {SIGNATURE: flipped(GOOD[SIGNATURE])},
    "a bit of the request's id": GOOD | {REQUEST: flipped(REQUEST_ID)},
    "a bit of the time": GOOD | {TIMESTAMP: str(NOON_S ^ 1)},
    "another user": GOOD | {USER: STRANGER_ID},
    "upper-case hex": GOOD | {SIGNATURE: GOOD[SIGNATURE].upper()},
    "half a signature": GOOD | {SIGNATURE: GOOD[SIGNATURE][:64]},
    "a longer signature": GOOD | {SIGNATURE: GOOD[SIGNATURE] + "00"},
    "a signature that is no hex": GOOD | {SIGNATURE: "z" * 128},
    "base64 instead of hex": GOOD
    | {SIGNATURE: base64.b64encode(bytes.fromhex(GOOD[SIGNATURE])).decode()},
    "another key": signed(letter(), Signer()),
    "a word for the time": GOOD | {TIMESTAMP: "now"},
    "a fraction of a second": GOOD | {TIMESTAMP: f"{NOON_S}.0"},
    "digits of another script": GOOD | {TIMESTAMP: str(NOON_S).replace("1", "١")},
    "a line too many": GOOD | {USER: f"{USER_ID}\n"},
    "an empty id": signed(letter(), request_id=""),
    "another request in the body": signed(letter(), request_id="another"),
    **{f"without {name}": without(GOOD, name) for name in GOOD},
    **{f"twice {name}": [*GOOD.items(), (name.lower(), GOOD[name])] for name in GOOD},
    **{f"blank {name}": GOOD | {name: ""} for name in GOOD},
    **{f"joined {name}": GOOD | {name: f"{GOOD[name]}, {GOOD[name]}"} for name in GOOD},
}


def test_what_the_forgeries_are_made_from_is_genuine(peer: Peer):
    one = verifier(peer.url, Wall(), USER_ID)
    assert verify(one, GOOD, letter()) == Delivery(REQUEST_ID, True, OUTPUT)
    assert verify(one, {name.lower(): GOOD[name] for name in GOOD}, letter()).is_ok


@pytest.mark.parametrize("what", FORGED)
def test_a_forgery_is_refused_without_saying_why(what: str, peer: Peer):
    with pytest.raises(Unauthorized) as refused:
        verify(verifier(peer.url, Wall()), FORGED[what], letter())
    assert refused.value.detail == "The webhook is not fal's"
    assert refused.value.hint == "Only fal calls this address."


def test_every_bit_of_the_body_is_signed(peer: Peer):
    one, body = verifier(peer.url, Wall()), letter()
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 1
        assert is_refused(one, GOOD, bytes(changed))
    assert is_refused(one, GOOD, body + b" ")
    assert not is_refused(one, GOOD, body)


@pytest.mark.parametrize("skew_s", [-300, -1, 0, 299, 300])
def test_a_delivery_may_be_five_minutes_off(skew_s: int, peer: Peer):
    body = letter()
    assert verify(verifier(peer.url, Wall()), signed(body, at_s=NOON_S + skew_s), body).is_ok


@pytest.mark.parametrize("skew_s", [-86400, -301, 301])
def test_a_delivery_may_not_be_further_off(skew_s: int, peer: Peer):
    body = letter()
    assert is_refused(verifier(peer.url, Wall()), signed(body, at_s=NOON_S + skew_s), body)
    assert peer.requests == []


def test_another_user_of_fals_is_refused_once_ours_is_pinned(peer: Peer):
    body = letter()
    headers = signed(body, user_id=STRANGER_ID)
    assert verify(verifier(peer.url, Wall()), headers, body).is_ok
    assert is_refused(verifier(peer.url, Wall(), USER_ID), headers, body)


def test_the_owner_finds_the_reason_of_a_refusal_in_the_log(
    peer: Peer, caplog: pytest.LogCaptureFixture
):
    body = letter()
    with caplog.at_level(logging.WARNING, "fal_image"):
        is_refused(verifier(peer.url, Wall(), USER_ID), signed(body, user_id="canary"), body)
    assert "FAL_IMAGE_WEBHOOK_USER_ID" in caplog.text
    assert "canary" not in caplog.text


# What a genuine body says


def said(**fields: object) -> Delivery:
    return said_raw(letter(**fields))


def said_raw(body: bytes) -> Delivery:
    with Peer([published(SIGNER)]) as peer:
        return verify(verifier(peer.url, Wall()), signed(body), body)


def error_of(delivery: Delivery) -> AppError:
    assert delivery.refusal
    return refusals.explain(delivery.refusal, "fal-ai/flux/schnell", request_id=REQUEST_ID)


def test_an_empty_output_is_an_output():
    assert said(payload={}).has_payload


def test_a_retried_request_is_still_the_one_it_was():
    assert said(gateway_request_id="another").request_id == REQUEST_ID


@pytest.mark.parametrize("fields", [{"payload": None}, {"payload_error": "not serializable"}])
def test_an_ok_without_a_payload_is_no_failure(fields: dict[str, object]):
    assert said(**fields) == Delivery(REQUEST_ID, is_ok=True)


def test_an_error_is_explained_as_the_queue_would():
    payload = {"detail": "runner died", "error_type": "runner_disconnected"}
    error = error_of(said(status="ERROR", error="Invalid status code: 503", payload=payload))
    assert "runner died" in error.detail
    assert error.retryable
    assert error.extensions == {
        "upstreamStatus": 503,
        "falRequestId": REQUEST_ID,
        "falErrorType": "runner_disconnected",
        "falMessage": "runner died",
    }


@pytest.mark.parametrize("payload", [None, [], "text", {"detail": None, "error_type": 5}])
def test_an_error_without_a_reason_is_an_error(payload: object):
    error = error_of(said(status="ERROR", error="Invalid status code: 500", payload=payload))
    assert error.code == "fal_failed"


STRANGE: list[dict[str, object]] = [
    {"status": "DONE"},
    {"status": None},
    {"status": "ERROR", "error": "it broke"},
    {"status": "ERROR", "error": "Invalid status code: 9000"},
    {"status": "ERROR"},
    {"request_id": None},
    {"request_id": 5},
]


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b"null", b"\xff\xfe", b"[" * 5000, *(letter(**s) for s in STRANGE)],
)
def test_a_genuine_body_of_another_shape_is_left_to_the_queue(
    body: bytes, caplog: pytest.LogCaptureFixture
):
    assert said_raw(body) == Delivery(REQUEST_ID)
    assert "shape we do not know" in caplog.text


# Keys


def test_any_of_fals_keys_may_have_signed():
    signers, body = [Signer(), Signer(), SIGNER], letter()
    with Peer([published(*signers)]) as peer:
        one = verifier(peer.url, Wall())
        for signer in signers:
            assert verify(one, signed(body, signer), body).is_ok
        assert len(peer.requests) == 1


def test_the_keys_are_read_without_ours_from_fals_own_host(peer: Peer):
    verify(verifier(peer.url, Wall()), GOOD, letter())
    assert peer.paths == ["/rest.fal.ai/.well-known/jwks.json"]
    assert b"authorization" not in peer.requests[0].lower()


def test_keys_of_other_kinds_are_skipped_and_padding_makes_no_difference():
    x = base64.urlsafe_b64encode(SIGNER.public_key).decode()
    good = {"kty": "OKP", "crv": "Ed25519", "x": x}
    listed = [
        None,
        "text",
        {},
        good | {"x": None},
        good | {"x": "AAAA"},
        good | {"x": "?" * 43},
        good | {"x": "é" * 43},
        good | {"crv": "X25519"},
        {"kty": "RSA", "n": "AAAA", "e": "AQAB"},
        good,
        good | {"x": x.rstrip("="), "use": "sig", "kid": "2026"},
    ]
    keys = parse_keys(json.dumps({"keys": listed}).encode())
    assert keys == (SIGNER.public_key, SIGNER.public_key)


def test_a_key_that_fal_began_to_use_is_found_by_reading_once_more():
    wall, new, body = Wall(), Signer(), letter()
    with Peer([published(SIGNER), published(SIGNER, new)]) as peer:
        one = verifier(peer.url, wall)
        assert verify(one, GOOD, body).is_ok
        wall.pass_by(minutes=1)
        assert verify(one, signed(body, new), body).is_ok
        assert verify(one, GOOD, body).is_ok
        assert len(peer.requests) == 2


def test_a_key_that_fal_took_back_is_forgotten_with_the_next_reading():
    wall, body = Wall(), letter()
    with Peer([published(SIGNER), published(Signer())]) as peer:
        one = verifier(peer.url, wall)
        assert verify(one, GOOD, body).is_ok
        wall.pass_by(hours=24)
        assert is_refused(one, signed(body, at_s=int(wall.now.timestamp())), body)
        assert len(peer.requests) == 2


def test_garbage_makes_us_ask_fal_once_a_minute_at_most(peer: Peer):
    wall, body = Wall(), letter()
    one, stranger = verifier(peer.url, wall), Signer()
    assert verify(one, GOOD, body).is_ok
    for second in range(180):
        assert is_refused(one, signed(body, stranger, at_s=NOON_S + second), body)
        wall.pass_by(seconds=1)
    assert len(peer.requests) == 1 + 2


def test_what_does_not_look_like_fals_never_makes_us_ask(peer: Peer):
    one = verifier(peer.url, Wall(), USER_ID)
    for headers in (
        {},
        without(GOOD, SIGNATURE),
        GOOD | {TIMESTAMP: "1"},
        GOOD | {SIGNATURE: GOOD[SIGNATURE].upper()},
        GOOD | {USER: STRANGER_ID},
    ):
        assert is_refused(one, headers, letter())
    assert peer.requests == []


UNREADABLE = {
    "an error": answer(503, {"detail": "busy"}),
    "a redirect": answer(302, location="https://rest.fal.ai/other"),
    "no JSON": answer(200, "<html>"),
    "no keys": answer(200, {"keys": []}),
    "keys that are no list": answer(200, {"keys": "none"}),
    "too much": answer(200, b" " * 65537),
    "a reset": RESET,
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_without_keys_fal_is_asked_to_come_again(what: str):
    with Peer([UNREADABLE[what], published(SIGNER)]) as peer:
        wall = Wall()
        one = verifier(peer.url, wall)
        with pytest.raises(JwksUnavailable) as unavailable:
            verify(one, GOOD, letter())
        assert (unavailable.value.status, unavailable.value.retryable) == (503, True)
        with pytest.raises(JwksUnavailable):
            verify(one, GOOD, letter())
        assert len(peer.requests) == 1
        wall.pass_by(seconds=5)
        assert verify(one, GOOD, letter()).is_ok
        assert len(peer.requests) == 2


@pytest.mark.parametrize("what", UNREADABLE)
def test_keys_we_have_are_good_for_a_day_without_fal(what: str):
    with Peer([published(SIGNER), UNREADABLE[what]]) as peer:
        wall, body = Wall(), letter()
        one = verifier(peer.url, wall)
        assert verify(one, GOOD, body).is_ok
        wall.pass_by(hours=23, minutes=59)
        now_s = int(wall.now.timestamp())
        assert is_refused(one, signed(body, Signer(), at_s=now_s), body)
        assert verify(one, signed(body, at_s=now_s), body).is_ok
        wall.pass_by(minutes=1)
        with pytest.raises(JwksUnavailable):
            verify(one, signed(body, at_s=now_s), body)


def test_no_time_is_no_reason_to_wait_before_the_next_try(peer: Peer):
    one = verifier(peer.url, Wall())
    with pytest.raises(JwksUnavailable):
        one.verify(Headers(GOOD.items()), letter(), ends_at=time.monotonic())
    assert peer.requests == []
    assert verify(one, GOOD, letter()).is_ok


def test_many_first_deliveries_at_once_read_the_keys_once(peer: Peer):
    one, body = verifier(peer.url, Wall()), letter()
    start, verdicts = threading.Barrier(16), []

    def deliver() -> None:
        start.wait()
        verdicts.append(verify(one, GOOD, body).is_ok)

    threads = [threading.Thread(target=deliver) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 16
    assert len(peer.requests) == 1


# The token in a job's webhook URL

OLD, NEW = "o" * 32, "n" * 32
JOB = "01jd7t3v8qk6w2m4x9b5c0n7ar"


def test_a_token_opens_its_job_and_no_other():
    made = token((NEW,), JOB)
    assert len(made) == 26
    assert check_token((NEW,), JOB, made)
    assert not check_token((NEW,), JOB[:-1] + "s", made)
    assert not check_token((OLD,), JOB, made)


def test_a_token_of_the_old_secret_is_good_during_a_rotation():
    assert token((NEW, OLD), JOB) == token((NEW,), JOB)
    assert check_token((NEW, OLD), JOB, token((OLD,), JOB))
    assert not check_token((NEW,), JOB, token((OLD,), JOB))


@pytest.mark.parametrize("shown", ["", "?" * 26, "é" * 26, "\udcff" * 26, "0" * 5000])
def test_anything_else_is_no_token(shown: str):
    assert not check_token((NEW, OLD), JOB, shown)
    assert not check_token((), JOB, shown)


def test_a_token_is_shown_whole_and_as_it_was_made():
    made = token((NEW,), JOB)
    for wrong in (made[:-1], made + "0", made.upper(), f" {made}"):
        assert not check_token((NEW,), JOB, wrong)

import json
import logging
import socket
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from fal_image.errors import InvalidInput
from fal_image.notices import Notices, signing_secret
from fal_image.wire import Wire
from support.peer import RESET, Peer, answer

HOST = "hooks.example.com"
URL = f"https://{HOST}/fal?canary=1"
OLD, NEW = "old-secret-" * 3, "new-secret-" * 3
FINISHED = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def notices(url: str | None = None, **given: Any) -> Notices:
    """Those of an owner who allows HOST; `url` is where it really is."""
    options: dict[str, Any] = {
        "wire": Wire(detours={HOST: url} if url else {}),
        "secrets": (NEW,),
        "hosts": (HOST, "*.example.org"),
        "now": lambda: datetime.now(timezone.utc),
    }
    return Notices(**(options | given))


def send(one: Notices, **given: Any) -> bool:
    options: dict[str, Any] = {
        "url": URL,
        "message_id": "01jd7t3v8qk6w2m4x9b5c0n7ar",
        "event_type": "job.done",
        "occurred_at": FINISHED,
        "data": {"jobId": "01jd7t3v8qk6w2m4x9b5c0n7ar", "prompt": "eine Katze, 猫, \ud83d"},
        "timeout_s": 5.0,
    }
    options |= given
    return one.send(**options)


def received(request: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
    }, body


def delivered(**given: Any) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a notice as they arrive."""
    options = {name: given.pop(name) for name in ("secrets", "now") if name in given}
    with Peer([answer(204)]) as peer:
        assert send(notices(peer.url, **options), **given)
        [request] = peer.requests
    return received(request)


def opens(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a receiver that was given this secret believes the notice."""
    try:
        Webhook(signing_secret(secret)).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def test_a_notice_is_one_that_the_standards_own_library_reads():
    headers, body = delivered()
    event = Webhook(signing_secret(NEW)).verify(body, headers)
    assert event["type"] == "job.done"
    assert event["timestamp"] == "2026-11-21T12:00:00.000Z"
    assert event["data"]["jobId"] == headers["webhook-id"]
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers


def test_a_notice_without_a_time_is_of_now():
    _, body = delivered(occurred_at=None, now=lambda: FINISHED + timedelta(seconds=1.5))
    assert json.loads(body)["timestamp"] == "2026-11-21T12:00:01.500Z"


def test_every_byte_of_a_notice_is_signed():
    headers, body = delivered()
    assert opens(NEW, headers, body)
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 1
        assert not opens(NEW, headers, bytes(changed))
    assert not opens(NEW, headers | {"webhook-id": "another"}, body)
    later = str(int(headers["webhook-timestamp"]) + 1)
    assert not opens(NEW, headers | {"webhook-timestamp": later}, body)


def test_during_a_rotation_a_receiver_may_know_either_secret():
    headers, body = delivered(secrets=(NEW, OLD))
    assert opens(NEW, headers, body)
    assert opens(OLD, headers, body)
    assert not opens("another-secret-" * 3, headers, body)
    assert not opens(OLD, *delivered(secrets=(NEW,)))


def test_a_repeated_notice_has_the_same_id_and_body_and_a_fresh_time():
    times = [datetime(2026, 11, 21, 13, tzinfo=timezone.utc)]
    first, body = delivered(now=lambda: times[-1])
    times.append(times[0] + timedelta(hours=5))
    second, same = delivered(now=lambda: times[-1])
    assert (first["webhook-id"], body) == (second["webhook-id"], same)
    aged_s = int(second["webhook-timestamp"]) - int(first["webhook-timestamp"])
    assert aged_s == 5 * 3600


def test_what_a_receiver_is_given_is_not_the_owners_secret():
    assert signing_secret(NEW).startswith("whsec_")
    assert signing_secret(NEW) == signing_secret(NEW) != signing_secret(OLD)
    assert NEW not in signing_secret(NEW)
    assert NEW not in repr(notices())


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_receiver_takes_a_notice_with_a_2xx(status: int):
    with Peer([answer(status, b"")]) as peer:
        assert send(notices(peer.url))


@pytest.mark.parametrize(
    "script",
    [
        answer(302, location=f"https://{HOST}/other"),
        answer(308, location="https://evil.com/"),
        answer(400),
        answer(410),
        answer(500, b"x" * 1000),
        RESET,
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200",
    ],
)
def test_any_other_answer_is_no_and_never_an_error(script: bytes, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "fal_image"), Peer([script]) as peer:
        assert not send(notices(peer.url), timeout_s=0.3)
        assert len(peer.requests) == 1
    assert HOST in caplog.text
    assert "canary" not in caplog.text
    assert "Katze" not in caplog.text


def test_a_receiver_that_says_nothing_is_left_when_the_time_is_up():
    started_at = time.monotonic()
    with Peer([b""]) as peer:
        assert not send(notices(peer.url), timeout_s=0.2)
    assert time.monotonic() - started_at < 2


def test_a_receiver_that_is_not_there_is_no_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not send(notices(f"http://127.0.0.1:{port}"))


def test_without_time_nothing_is_sent():
    with Peer([answer()]) as peer:
        assert not send(notices(peer.url), timeout_s=0.0)
    assert peer.requests == []


def test_a_receiver_on_a_private_address_is_not_told(caplog: pytest.LogCaptureFixture):
    assert not send(notices(hosts=("*.localhost",)), url="https://hooks.localhost/")
    assert "private" in caplog.text or "resolve" in caplog.text


def test_a_host_that_is_not_allowed_any_more_is_not_told():
    with Peer([answer()]) as peer:
        assert not send(notices(peer.url, hosts=()))
    assert peer.requests == []


@pytest.mark.parametrize(
    "url",
    [URL, f"https://{HOST}", "https://a.b.example.org/x?y=z%20", f"https://{HOST}/{'a' * 900}"],
)
def test_a_url_on_an_allowed_host_may_be_told(url: str):
    assert notices().check(url) == url


@pytest.mark.parametrize(
    ("url", "word"),
    [
        (None, "string"),
        (5, "string"),
        (["https://hooks.example.com/"], "string"),
        (f"https://{HOST}/{'a' * 2000}", "2000"),
        ("", "https://"),
        ("hooks.example.com", "https://"),
        (f"http://{HOST}/", "https://"),
        (f"ftp://{HOST}/", "https://"),
        (f"https://user@{HOST}/", "user"),
        (f"https://user:password@{HOST}/", "user"),
        (f"https://{HOST}:8443/", "port"),
        (f"https://{HOST}:443/", "port"),
        (f"https://{HOST}/#part", "fragment"),
        (f"https://{HOST.upper()}/", "lower case"),
        (f"https://{HOST}./", "public"),
        (f"https://{HOST}/a b", "https://"),
        (f"https://{HOST}/\r\nhost: evil", "https://"),
        (f"https://evil.com\\@{HOST}/", "https://"),
        ("https://127.0.0.1/", "public"),
        ("https://[::1]/", "public"),
        ("https://localhost/", "public"),
        ("https://evil.com/", "FAL_IMAGE_WEBHOOK_HOSTS"),
        (f"https://{HOST}.evil.com/", "FAL_IMAGE_WEBHOOK_HOSTS"),
        ("https://evilhooks.example.com/", "FAL_IMAGE_WEBHOOK_HOSTS"),
        ("https://example.org/", "FAL_IMAGE_WEBHOOK_HOSTS"),
    ],
)
def test_any_other_url_is_refused_by_the_name_of_its_field(url: object, word: str):
    with pytest.raises(InvalidInput, match=word) as refused:
        notices().check(url)
    [field] = json.loads(json.dumps(refused.value.extensions["fields"]))
    assert field["field"] == "webhookUrl"
    assert word in field["message"]


def test_without_hosts_no_url_may_be_told():
    with pytest.raises(InvalidInput, match="FAL_IMAGE_WEBHOOK_HOSTS"):
        notices(hosts=()).check(URL)

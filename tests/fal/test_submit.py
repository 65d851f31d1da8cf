"""One intent, one bill: how many submits fal sees, whatever happens to the answer."""

import socket

import fal_client
import httpx
import pytest

from fal_image.errors import AppError, FalAuthFailed, FalFailed, FalRejected, SubmitUnknown
from fal_image.fal.client import SUBMIT_TRIES, Fal, request_url, status_url
from fal_image.wire import Wire
from support.clocks import Time
from support.peer import RESET, Peer, answer

MODEL = "fal-ai/flux/schnell"
TAKEN = answer(200, {"request_id": "r-1", "status": "IN_QUEUE"})
NGINX = "<html><center>nginx</center></html>"


def fal(url: str, time: Time, key: str | None = "id:secret") -> Fal:
    return Fal(Wire(emulator_url=url, clock=time), key, time, time.sleep)


def submit(peer: Peer, time: Time | None = None, left_s: float = 2.0, model: str = MODEL) -> str:
    time = time or Time()
    return fal(peer.url, time).submit(model, {"prompt": "cat"}, ends_at=time() + left_s).request_id


def test_a_taken_job_is_submitted_once():
    with Peer([TAKEN]) as peer:
        assert submit(peer) == "r-1"
    assert peer.paths == ["/queue.fal.run/fal-ai/flux/schnell"]
    assert peer.requests[0].endswith(b'{"prompt":"cat"}')


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(RESET, id="reset before the answer"),
        pytest.param(answer(200, '{"request_id": "r', declared=999), id="answer cut in its body"),
        pytest.param(answer(408, {"detail": "timeout"}), id="408"),
        pytest.param(answer(409, {"detail": "conflict"}), id="409"),
        pytest.param(answer(502, NGINX, content_type="text/html"), id="nginx 502"),
        pytest.param(answer(504, NGINX, content_type="text/html"), id="nginx 504"),
        pytest.param(answer(503, NGINX, content_type="text/html"), id="nginx 503"),
        pytest.param(answer(200, {"status": "IN_QUEUE"}), id="2xx without request_id"),
        pytest.param(answer(200, "not json"), id="2xx without json"),
        pytest.param(answer(500, "oops"), id="500 without detail"),
        pytest.param(answer(307, location="https://queue.fal.run/x"), id="redirect"),
    ],
)
def test_when_fal_may_have_taken_the_job_it_sees_one_submit(script: bytes):
    with Peer([script, TAKEN]) as peer, pytest.raises(SubmitUnknown) as failed:
        submit(peer)
    assert len(peer.requests) == 1
    assert not failed.value.retryable


def test_no_answer_in_time_is_one_submit_too():
    with Peer([b""]) as peer, pytest.raises(SubmitUnknown):
        submit(peer, left_s=0.3)
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(answer(503, {"detail": "no runner"}), FalFailed, id="JSON 503"),
        pytest.param(answer(500, {"detail": "oops"}), FalFailed, id="JSON 500"),
        pytest.param(answer(404, {"detail": "Application not found"}), FalFailed, id="404"),
        pytest.param(answer(401, {"detail": "No user found"}), FalAuthFailed, id="401"),
        pytest.param(answer(403, {"detail": "User is locked"}), FalAuthFailed, id="403"),
        pytest.param(answer(422, {"detail": [{"msg": "no"}]}), FalRejected, id="422"),
    ],
)
def test_a_refusal_is_one_submit_and_safe_to_send_again(script: bytes, error: type[AppError]):
    with Peer([script, TAKEN]) as peer, pytest.raises(error) as failed:
        submit(peer)
    assert len(peer.requests) == 1
    assert failed.value.retryable


def test_429_is_submitted_again_on_our_clock_until_fal_takes_it():
    busy = answer(429, {"detail": "slow down"})
    time = Time()
    with Peer([busy, busy, TAKEN]) as peer:
        assert submit(peer, time) == "r-1"
    assert len(peer.requests) == 3
    assert time.slept == [0.25, 0.5]


def test_429_gives_up_after_a_bounded_number_of_submits():
    with Peer([answer(429, {"detail": "slow down"})]) as peer, pytest.raises(FalFailed) as failed:
        submit(peer, left_s=60)
    assert len(peer.requests) == SUBMIT_TRIES
    assert failed.value.retryable


def test_429_is_not_waited_for_beyond_the_deadline():
    busy = answer(429, {"detail": "slow down"}, retry_after="30")
    with Peer([busy, TAKEN]) as peer, pytest.raises(FalFailed):
        submit(peer, left_s=5)
    assert len(peer.requests) == 1


def test_a_refused_connection_is_tried_again_and_named_as_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    time = Time()
    with pytest.raises(FalFailed) as failed:
        fal(f"http://127.0.0.1:{port}", time).submit(MODEL, {}, ends_at=time() + 60)
    assert len(time.slept) == SUBMIT_TRIES - 1
    assert failed.value.retryable
    assert "internet" in str(failed.value.hint)


def test_a_misspelt_model_is_answered_with_the_nearest_one():
    missing = answer(404, {"detail": 'Application "flux-schnell" not found'})
    with Peer([missing]) as peer, pytest.raises(FalFailed) as failed:
        submit(peer, model="fal-ai/flux-schnell")
    assert "fal-ai/flux/schnell" in str(failed.value.hint)


def test_fals_words_about_the_owners_account_are_not_for_the_caller():
    locked = answer(403, {"detail": "User is locked. Reason: Exhausted balance. canary"})
    with Peer([locked]) as peer, pytest.raises(FalAuthFailed) as failed:
        submit(peer)
    assert "canary" not in failed.value.detail + str(failed.value.extensions)
    assert "billing" in str(failed.value.hint)


def test_without_a_key_nothing_is_sent():
    time = Time()
    with Peer([TAKEN]) as peer, pytest.raises(FalAuthFailed):
        fal(peer.url, time, key=None).submit(MODEL, {}, ends_at=time() + 5)
    assert peer.requests == []


WEBHOOK = "https://pictures.example.com/webhooks/fal/j/t?a=b&c=d e"
SUBMITS = [
    pytest.param(MODEL, {"prompt": "cat"}, None, {}, id="plain"),
    pytest.param(
        MODEL, {"prompt": '猫 "é" \u2028', "n": [1, 2.5, None, True]}, None, {}, id="text"
    ),
    pytest.param(MODEL, {"prompt": "cat"}, WEBHOOK, {}, id="webhook"),
    pytest.param(MODEL, {}, None, {"x-fal-queue-priority": "low"}, id="wishes for the queue"),
    pytest.param("workflows/acme/cats/deep/er", {"a": {"b": {}}}, None, {}, id="namespace"),
]


@pytest.mark.parametrize(("model", "arguments", "webhook_url", "wishes"), SUBMITS)
def test_a_submit_is_what_fal_client_would_send(
    model: str, arguments: dict[str, object], webhook_url: str | None, wishes: dict[str, str]
):
    theirs, client = official_client()
    client.submit(model, arguments, webhook_url=webhook_url, headers=wishes)
    time = Time()
    with Peer([TAKEN]) as peer:
        fal(peer.url, time).submit(
            model, arguments, ends_at=time() + 5, webhook_url=webhook_url, headers=wishes
        )
    line, ours, body = parts_of(peer.requests[0])
    assert line == f"POST /{str(theirs[0].url).removeprefix('https://')} HTTP/1.1"
    assert body == theirs[0].content
    for name in ("content-type", "content-length", *wishes):
        assert ours[name] == theirs[0].headers[name]


@pytest.mark.parametrize("model", [MODEL, "fal-ai/flux", "workflows/acme/cats/deep/er"])
def test_a_request_lies_where_fal_client_looks_for_it(model: str):
    _, client = official_client()
    handle = client.get_handle(model, "r-1")
    assert request_url(model, "r-1") == handle.response_url
    assert status_url(model, "r-1") == handle.status_url


def test_the_seam_in_fal_client_is_where_we_expect_it():
    """A cancel goes through fal-client; a release that moves its client must not pass unseen."""
    asked, client = official_client()
    client.cancel(MODEL, "r-1")
    assert [(request.method, str(request.url)) for request in asked] == [
        ("PUT", "https://queue.fal.run/fal-ai/flux/requests/r-1/cancel")
    ]


def official_client() -> tuple[list[httpx.Request], fal_client.SyncClient]:
    """A fal-client that reaches nobody, and what it has asked."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        urls = {"response_url": "", "status_url": "", "cancel_url": ""}
        return httpx.Response(200, json={"request_id": "r-1", **urls})

    client = fal_client.SyncClient(key="id:secret")
    client.__dict__["_client"] = httpx.Client(transport=httpx.MockTransport(handle))
    return asked, client


def parts_of(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.partition(": ") for field in fields)
    return line, {name.lower(): value for name, _, value in pairs}, body

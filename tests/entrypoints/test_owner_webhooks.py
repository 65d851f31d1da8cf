"""`webhookUrl`: whoever asked is told when a job is over, once, signed, and again if need be."""

import json
import queue
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.notices import signing_secret
from support.instances import CAT, SECRET, Calendar, Instance, Postbox, instance, kept
from support.receiver import Receiver

HOST = "hooks.example.com"
ORDER = {**CAT, "webhookUrl": f"https://{HOST}/pictures?shop=1"}


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def box(fal: Emulator) -> Iterator[Postbox]:
    with Postbox(fal) as postbox:
        yield postbox


@pytest.fixture
def start(
    fal: Emulator, box: Postbox, calendar: Calendar, tmp_path: Path
) -> Callable[..., Instance]:
    """An instance that may tell HOST, which is really at `address`."""

    def apply(address: str, **bent: str | None) -> Instance:
        settings: dict[str, str | None] = {
            "FAL_IMAGE_WEBHOOK_HOSTS": HOST,
            "FAL_IMAGE_PUBLIC_URL": box.url,
        }
        seams = Seams(now=calendar, detours={HOST: address.partition("/hook")[0]})
        return instance(fal, tmp_path, seams=seams, **(settings | bent))

    return apply


Start = Callable[..., Instance]


def opened(receiver: Receiver) -> tuple[Message, Any]:
    """The next notice, if it is one that the standard's own library believes."""
    headers, body = receiver.got.get(timeout=5)
    given = {name.lower(): value for name, value in headers.items()}
    return headers, Webhook(signing_secret(SECRET)).verify(body, given)


def is_silent(receiver: Receiver) -> bool:
    try:
        receiver.got.get_nowait()
    except queue.Empty:
        return True
    return False


def test_fals_webhook_tells_the_owner_at_once_and_nobody_does_again(
    start: Start, box: Postbox, fal: Emulator, calendar: Calendar, tmp_path: Path
):
    with Receiver() as receiver:
        one = start(receiver.url)
        job_id = one.submitted(ORDER)["jobId"]
        webhook = box.next()
        assert one.deliver(webhook).status == 200
        headers, notice = opened(receiver)
        assert headers["webhook-id"] == job_id
        assert "authorization" not in headers
        assert notice["type"] == "job.done"
        assert notice["data"]["jobId"] == job_id
        assert notice["data"]["images"][0]["tempFileURL"]
        assert notice["timestamp"] == notice["data"]["finishedAt"]

        assert one.deliver(webhook).status == 200
        for _ in range(3):
            calendar.forward(hours=1)
            one.tick()
            one.job(job_id)
        assert is_silent(receiver)
    assert "webhookUrl" not in json.dumps(fal.ledger[0].input)
    assert kept(tmp_path, job_id).due_at is None


def test_a_request_that_waits_leaves_the_telling_to_the_sweep(start: Start, calendar: Calendar):
    with Receiver() as receiver:
        one = start(receiver.url)
        job = one.generate(ORDER).json
        assert job["state"] == "done"
        assert is_silent(receiver)
        assert one.tick()["jobs"] == 1
        headers, notice = opened(receiver)
        assert headers["webhook-id"] == job["jobId"]
        assert notice["data"]["images"][0]["sha256"] == job["images"][0]["sha256"]
        assert one.tick()["jobs"] == 0


@pytest.mark.parametrize(
    ("kind", "on", "told"),
    [("error", "result", "fal_failed"), ("500", "submit", "fal_failed")],
)
def test_a_failed_job_is_told_too(start: Start, fal: Emulator, kind: str, on: str, told: str):
    fal.fault(kind, on=on)
    with Receiver() as receiver:
        one = start(receiver.url)
        job_id = one.generate(ORDER).json["jobId"]
        one.tick()
        headers, notice = opened(receiver)
    assert (notice["type"], headers["webhook-id"]) == ("job.failed", job_id)
    assert notice["data"]["error"]["error"] == told


def test_a_job_whose_fate_stays_open_is_told_when_it_is_given_up(
    start: Start, fal: Emulator, calendar: Calendar
):
    fal.fault("lost", on="submit")
    with Receiver() as receiver:
        one = start(receiver.url)
        one.generate(ORDER)
        calendar.forward(hours=2)
        one.tick()
        assert is_silent(receiver)
        calendar.forward(minutes=16)
        one.tick()
        _, notice = receiver.next()
    assert notice["type"] == "job.unknown"
    assert notice["data"]["error"]["hint"]


def test_a_notice_is_sent_again_with_growing_pauses_under_the_same_id(
    start: Start, calendar: Calendar
):
    with Receiver(500, 404, 302, 503) as receiver:
        one = start(receiver.url)
        job_id = one.generate(ORDER).json["jobId"]
        heard: list[tuple[int, str, str]] = []
        for minute in range(20):
            one.tick()
            while not receiver.got.empty():
                headers, notice = receiver.next()
                heard.append((minute, headers["webhook-id"], notice["timestamp"]))
            calendar.forward(minutes=1)
    assert [minute for minute, _, _ in heard] == [0, 1, 3, 7, 15]
    assert {(told, at) for _, told, at in heard} == {(job_id, heard[0][2])}


def test_a_receiver_that_never_takes_it_is_given_up_after_a_day(
    start: Start, calendar: Calendar, tmp_path: Path
):
    with Receiver(*[500] * 100) as receiver:
        one = start(receiver.url)
        job_id = one.generate(ORDER).json["jobId"]
        ended = calendar()
        last = ended
        for _ in range(27 * 4):
            one.tick()
            if not receiver.got.empty():
                receiver.next()
                last = calendar()
            calendar.forward(minutes=15)
    assert timedelta(hours=22) < last - ended <= timedelta(hours=24)
    assert kept(tmp_path, job_id).due_at is None
    assert kept(tmp_path, job_id).body["state"] == "done"
    assert kept(tmp_path, job_id).expires_at is not None


def test_a_receiver_that_hangs_delays_neither_the_job_nor_fal(
    start: Start, box: Postbox, tmp_path: Path
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = start(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert one.generate(ORDER, prefer="wait=9").status == 200
        assert time.monotonic() - began < 3
        box.next()
        job_id = one.submitted(ORDER)["jobId"]
        assert one.deliver(box.next()).status == 200
        assert time.monotonic() - began < 14
    assert kept(tmp_path, job_id).body["state"] == "done"
    assert one.job(job_id)["state"] == "done"


def test_hosts_that_are_no_longer_allowed_hear_nothing(start: Start, calendar: Calendar):
    with Receiver() as receiver:
        job_id = start(receiver.url).generate(ORDER).json["jobId"]
        stricter = start(receiver.url, FAL_IMAGE_WEBHOOK_HOSTS=None)
        stricter.tick()
        assert is_silent(receiver)
        assert stricter.job(job_id)["state"] == "done"


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example.com/",
        f"http://{HOST}/",
        f"https://{HOST}.evil.example/",
        f"https://user@{HOST}/",
        f"https://{HOST}:8443/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "file:///etc/passwd",
        "",
        7,
        ["https://hooks.example.com/"],
        f"https://{HOST}/{'x' * 2000}",
    ],
)
def test_other_addresses_are_refused_before_any_money(start: Start, fal: Emulator, url: object):
    one = start("http://127.0.0.1:9")
    answer = one.generate({**CAT, "webhookUrl": url})
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert answer.json["fields"][0]["field"] == "webhookUrl"
    assert fal.calls.total() == 0


def test_without_hosts_the_refusal_names_the_setting(start: Start, fal: Emulator):
    one = start("http://127.0.0.1:9", FAL_IMAGE_WEBHOOK_HOSTS=None)
    answer = one.generate(ORDER)
    assert answer.status == 400
    assert "FAL_IMAGE_WEBHOOK_HOSTS" in answer.json["detail"]
    assert fal.calls.total() == 0


def test_another_webhook_url_is_another_input_under_a_key(start: Start, fal: Emulator):
    one = start("http://127.0.0.1:9")
    assert one.generate(ORDER, idempotency_key="k").status == 200
    assert one.generate(CAT, idempotency_key="k").status == 422
    assert len(fal.ledger) == 1

"""fal calls in: what is kept, what is refused, and what becomes of the job."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.fal import webhooks
from fal_image.web import Headers, Request
from support.breakable import breakable_database, breakable_storage
from support.clocks import Time
from support.instances import CAT, SECRET, Calendar, Instance, Postbox, instance, kept, serving
from support.values import replace


@pytest.fixture
def box(fal: Emulator) -> Iterator[Postbox]:
    with Postbox(fal) as postbox:
        yield postbox


@pytest.fixture
def start(fal: Emulator, box: Postbox, tmp_path: Path) -> Callable[..., Instance]:
    """An instance whose webhooks end up in `box`; its seams are keywords in lower case."""

    def apply(**given: Any) -> Instance:
        bent = {name: given.pop(name) for name in list(given) if name.isupper()}
        settings = {"FAL_IMAGE_PUBLIC_URL": box.url} | bent
        return instance(fal, tmp_path, seams=Seams(**given), **settings)

    return apply


Start = Callable[..., Instance]


def test_a_webhook_alone_finishes_a_job(start: Start, box: Postbox, fal: Emulator, tmp_path: Path):
    one = start()
    job_id = one.submitted({**CAT, "num_images": 3})["jobId"]
    answer = one.deliver(box.next())
    assert (answer.status, answer.json) == (200, {"jobId": job_id})
    assert kept(tmp_path, job_id).body["state"] == "done"
    assert (fal.calls["status"], fal.calls["result"]) == (0, 1)  # for the units that fal bills
    job = one.job(job_id)
    assert [image["index"] for image in job["images"]] == [0, 1, 2]
    assert job["seed"] == 7
    assert len(fal.ledger) == 1


def test_fal_reaches_a_server_and_need_not_call_twice(tmp_path: Path):
    pause = threading.Event()
    with Emulator(run_s=0.2) as slow:
        with serving(slow, tmp_path) as server:
            job = server.http("POST", "/generate", CAT, prefer="respond-async").json
            while not slow.ledger[0].webhook_answers:
                pause.wait(0.02)
        assert slow.ledger[0].webhook_answers == (200,)
    assert slow.ledger[0].webhook_url == (
        f"{server.url}/webhooks/fal/{job['jobId']}/{webhooks.token((SECRET,), job['jobId'])}"
    )
    assert kept(tmp_path, job["jobId"]).body["state"] == "done"


@pytest.mark.parametrize("what", ["signature", "body", "key"])
def test_forged_webhooks_are_refused_and_the_genuine_one_is_taken(tmp_path: Path, what: str):
    with Emulator(webhook_backoff_s=0.01) as fal, Postbox(fal, 401) as box:
        fal.fault("forged", on="webhook", what=what)
        one = instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=box.url)
        job_id = one.submitted()["jobId"]
        before = kept(tmp_path, job_id)
        refused = one.deliver(box.next())
        assert (refused.status, refused.json["error"]) == (401, "unauthorized")
        assert kept(tmp_path, job_id) == before
        assert one.deliver(box.next()).status == 200
    assert kept(tmp_path, job_id).body["state"] == "done"


def with_path(webhook: Request, job_id: str, token: str) -> Request:
    return replace(webhook, path=f"/webhooks/fal/{job_id}/{token}")


def with_header(webhook: Request, name: str, value: str | None) -> Request:
    given = {**dict(webhook.headers), name: value}
    return replace(
        webhook, headers=Headers((name, text) for name, text in given.items() if text is not None)
    )


def flipped(text: str) -> str:
    return text[:-1] + ("1" if text[-1] == "0" else "0")


FORGERIES: dict[str, Callable[[Request], Request]] = {
    "one letter of the token": lambda hook: replace(hook, path=flipped(hook.path)),
    "the token of another job": lambda hook: with_path(
        hook, hook.path.split("/")[3], webhooks.token((SECRET,), "0" * 26)
    ),
    "a token by another secret": lambda hook: with_path(
        hook, hook.path.split("/")[3], webhooks.token(("z" * 40,), hook.path.split("/")[3])
    ),
    "another byte": lambda hook: replace(hook, body=hook.body + b" "),
    "another user": lambda hook: with_header(hook, "x-fal-webhook-user-id", "mallory"),
    "another time": lambda hook: with_header(
        hook, "x-fal-webhook-timestamp", str(int(time.time()) + 1)
    ),
    "another request": lambda hook: with_header(hook, "x-fal-webhook-request-id", "r-0"),
    "another signature": lambda hook: with_header(hook, "x-fal-webhook-signature", "00" * 64),
    "no signature": lambda hook: with_header(hook, "x-fal-webhook-signature", None),
}


@pytest.mark.parametrize("forgery", sorted(FORGERIES))
def test_whatever_is_forged_is_refused_and_changes_nothing(
    start: Start, box: Postbox, fal: Emulator, tmp_path: Path, forgery: str
):
    one = start()
    job_id = one.submitted()["jobId"]
    before = kept(tmp_path, job_id)
    genuine = box.next()
    refused = one.deliver(FORGERIES[forgery](genuine))
    assert (refused.status, refused.json["error"]) == (401, "unauthorized")
    assert kept(tmp_path, job_id) == before
    assert one.deliver(genuine).status == 200


def test_a_genuine_webhook_at_another_jobs_address_is_refused(
    start: Start, box: Postbox, tmp_path: Path
):
    one = start()
    victim = one.submitted()["jobId"]
    box.next()
    one.submitted({"prompt": "a dog"})
    before = kept(tmp_path, victim)
    moved = with_path(box.next(), victim, webhooks.token((SECRET,), victim))
    assert one.deliver(moved).status == 401
    assert kept(tmp_path, victim) == before


def test_an_old_webhook_is_refused(start: Start, box: Postbox, tmp_path: Path):
    calendar = Calendar()
    one = start(now=calendar)
    job_id = one.submitted()["jobId"]
    before = kept(tmp_path, job_id)
    calendar.forward(seconds=302)
    assert one.deliver(box.next()).status == 401
    assert kept(tmp_path, job_id) == before


@pytest.mark.parametrize(("pinned", "status"), [("fal-emulator-user", 200), ("someone-else", 401)])
def test_only_the_pinned_user_is_believed(start: Start, box: Postbox, pinned: str, status: int):
    one = start(FAL_IMAGE_WEBHOOK_USER_ID=pinned)
    one.submitted()
    assert one.deliver(box.next()).status == status


def test_addresses_outlive_a_rotation_of_the_secret(start: Start, box: Postbox, tmp_path: Path):
    job_id = start().submitted()["jobId"]
    rotated = start(FAL_IMAGE_SECRET=f"{'n' * 40},{SECRET}")
    assert rotated.deliver(box.next()).status == 200
    assert kept(tmp_path, job_id).body["state"] == "done"


def test_without_fals_keys_a_webhook_must_come_again(
    start: Start, box: Postbox, fal: Emulator, tmp_path: Path
):
    calendar = Calendar()
    one = start(now=calendar)
    fal.fault("500", on="jwks", times=1)
    job_id = one.submitted()["jobId"]
    before = kept(tmp_path, job_id)
    webhook = box.next()
    answer = one.deliver(webhook)
    assert (answer.status, answer.json["error"]) == (503, "jwks_unavailable")
    assert kept(tmp_path, job_id) == before
    calendar.forward(seconds=6)
    assert one.deliver(webhook).status == 200
    assert kept(tmp_path, job_id).body["state"] == "done"


@pytest.mark.parametrize("broken", [(), ("replace_if",)])
def test_without_the_database_a_webhook_must_come_again(
    start: Start, box: Postbox, tmp_path: Path, broken: tuple[str, ...]
):
    database = breakable_database(*broken)
    one = start(database=database.around)
    job_id = one.submitted()["jobId"]
    webhook = box.next()
    database.is_broken = True
    answer = one.deliver(webhook)
    assert (answer.status, answer.json["error"]) == (503, "database_unavailable")
    database.mend()
    assert one.deliver(webhook).status == 200
    assert kept(tmp_path, job_id).body["state"] == "done"


def test_what_a_webhook_says_is_kept_although_the_copy_fails(
    start: Start, box: Postbox, fal: Emulator, tmp_path: Path
):
    storage, calendar = breakable_storage("put"), Calendar()
    one = start(storage=storage.around, now=calendar)
    job_id = one.submitted()["jobId"]
    storage.is_broken = True
    assert one.deliver(box.next()).status == 200
    body = kept(tmp_path, job_id).body
    assert body["state"] == "storing"
    assert "https://v3.fal.media/" in str(body["outcome"])
    waiting = one.job(job_id)
    assert waiting["error"] is None
    assert [warning["code"] for warning in waiting["warnings"]] == ["upload_failed"]

    storage.mend()
    calendar.forward(minutes=2)
    assert one.tick()["jobs"] == 1
    done = one.job(job_id)
    assert (done["state"], done["warnings"]) == ("done", [])
    assert (fal.calls["result"], len(fal.ledger)) == (1, 1)


def test_the_answer_does_not_wait_for_a_storage_that_hangs(
    start: Start, box: Postbox, tmp_path: Path
):
    storage = breakable_storage("put")
    one = start(storage=storage.around, FAL_IMAGE_MAX_WAIT_S="1")
    job_id = one.submitted()["jobId"]
    storage.hang()
    began = time.monotonic()
    try:
        assert one.deliver(box.next()).status == 200
        assert time.monotonic() - began < 5
        assert kept(tmp_path, job_id).body["state"] == "storing"
    finally:
        storage.mend()
    assert one.job(job_id)["state"] == "done"


def test_five_webhooks_are_one_copy(start: Start, box: Postbox, fal: Emulator, tmp_path: Path):
    storage = breakable_storage()
    one = start(storage=storage.around)
    job_id = one.submitted({**CAT, "num_images": 2})["jobId"]
    webhook = box.next()
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(one.deliver, [webhook] * 5))
    assert [answer.status for answer in answers] == [200] * 5
    assert kept(tmp_path, job_id).body["state"] == "done"
    assert storage.calls["put"] == 4  # each picture and its manifest
    assert fal.calls["file"] == 2
    before = kept(tmp_path, job_id)
    assert one.deliver(webhook).status == 200
    assert kept(tmp_path, job_id) == before


def test_a_webhook_may_be_faster_than_the_answer_to_the_submit(
    start: Start, box: Postbox, fal: Emulator, tmp_path: Path
):
    fal.fault("slow", on="submit", seconds=1.0)
    one = start()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(one.generate, prefer="respond-async")
        webhook = box.next()
        assert not asking.done()
        assert one.deliver(webhook).status == 200
        answer = asking.result()
    assert (answer.status, answer.json["state"]) == (200, "done")
    assert answer.json["falRequestId"] == fal.ledger[0].request_id
    assert len(fal.ledger) == 1


def test_a_webhook_without_its_payload_sends_us_to_the_queue(
    start: Start, box: Postbox, fal: Emulator, tmp_path: Path
):
    fal.fault("null-payload", on="result")
    one = start()
    job_id = one.submitted()["jobId"]
    assert one.deliver(box.next()).status == 200
    assert fal.calls["result"] == 1
    job = one.job(job_id)
    assert (job["state"], job["error"]["error"]) == ("failed", "no_image_returned")


def test_a_webhook_that_tells_of_an_error_fails_the_job_by_name(
    start: Start, box: Postbox, fal: Emulator
):
    fal.fault("error", on="result")
    one = start()
    job_id = one.submitted()["jobId"]
    assert one.deliver(box.next()).status == 200
    job = one.job(job_id)
    assert (job["state"], job["error"]["falErrorType"]) == ("failed", "runner_disconnected")
    assert fal.calls["status"] == 0


def test_a_webhook_of_a_job_that_is_gone_is_told_so(start: Start, box: Postbox):
    one = start()
    one.submitted()
    gone = "0" * 26
    answer = one.deliver(with_path(box.next(), gone, webhooks.token((SECRET,), gone)))
    assert (answer.status, answer.json["error"]) == (404, "not_found")


def test_a_picture_that_was_given_up_is_taken_when_it_comes_after_all(tmp_path: Path):
    calendar, hand = Calendar(), Time()
    with Emulator(run_s=5000, clock=hand) as fal, Postbox(fal) as box:
        fal.fault("cancel-race", on="cancel")
        one = instance(fal, tmp_path, seams=Seams(now=calendar), FAL_IMAGE_PUBLIC_URL=box.url)
        job_id = one.submitted()["jobId"]
        calendar.forward(hours=1, seconds=1)
        late = one.job(job_id)
        assert (late["state"], late["error"]["error"]) == ("failed", "job_timeout")
        assert fal.calls["cancel"] == 1
        calendar.ahead = timedelta()  # fal's signature is of now
        hand.now_s += 5000
        assert one.deliver(box.next()).status == 200
        job = one.job(job_id)
        assert (job["state"], job["error"]) == ("done", None)

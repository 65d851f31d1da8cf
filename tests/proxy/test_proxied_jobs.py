"""What is paid for through the proxy is a job like any other: known to fal's webhook, counted in
the budget, bound to the models that its owner allows."""

import base64
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support import pictures
from support.emulator import QUEUE, RUN, SCHNELL
from support.entrypoints import KEY_SHA256
from support.instances import CAT, OTHER_KEY, Postbox, instance, kept
from support.proxy_calls import (
    AFTERWARDS,
    FLUX,
    PAID,
    Door,
    Form,
    job_id_of,
    spent_usd,
)
from support.receiver import Receiver

PRICE = 0.003  # of a CAT
BUDGET = "0.004"  # one CAT and no other
HOST = "hooks.example.com"
TIGHT: Any = {"FAL_IMAGE_DAILY_BUDGET_USD": BUDGET}


# A proxied submit is a job.


def test_fals_webhook_finishes_the_job_of_a_proxied_submit(
    fal: Emulator, tmp_path: Path, form: Form
):
    with Postbox(fal) as box:
        settings: Any = TIGHT | {"FAL_IMAGE_PUBLIC_URL": box.url}
        one = instance(fal, tmp_path, **settings)
        request_id = Door(one, form).submitted()
        [entry] = fal.ledger
        assert entry.request_id == request_id
        assert (entry.model, entry.via) == (SCHNELL, "queue")
        assert str(entry.webhook_url).startswith(f"{box.url}/webhooks/fal/")
        job_id = job_id_of(fal)
        assert kept(tmp_path, job_id).body["state"] == "submitted"
        assert spent_usd(tmp_path) == PRICE

        assert one.deliver(box.next()).status == 200
    document = kept(tmp_path, job_id)
    assert (document.body["state"], document.due_at) == ("done", None)
    job = one.job(job_id)
    assert (job["falRequestId"], job["prompt"]) == (request_id, CAT["prompt"])
    assert one.ask("GET", f"/jobs/{job_id}", key=OTHER_KEY).status == 404


def test_without_anything_else_the_sweep_finishes_it(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    Door(one).submitted()
    job = one.job(job_id_of(fal))
    assert job["state"] == "done"
    assert one.tick()["jobs"] == 0


@pytest.mark.parametrize("what", PAID)
def test_what_a_model_gets_is_what_its_caller_sent(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    """The recipe's default size is our own dialect's, and so is leaving `sync_mode` out."""
    given: dict[str, object] = {**CAT, "sync_mode": True, "novel": "x"}
    method, url, body = PAID[what]
    sent = (f"{url}&sync_mode=true&novel=x", None) if body is None else (url, given)
    answer = Door(instance(fal, tmp_path), form).ask(method, *sent)
    assert answer.status == 200
    [entry] = fal.ledger
    assert entry.input == given
    if what.startswith("run"):
        assert answer.json["images"][0]["url"].startswith("data:image/")


@pytest.mark.parametrize("what", PAID)
def test_who_asks_is_who_pays(fal: Emulator, tmp_path: Path, form: Form, what: str):
    one = instance(fal, tmp_path, **TIGHT)
    assert Door(one, form).pay(what, key=OTHER_KEY).status == 200
    assert spent_usd(tmp_path, "other") == PRICE
    assert spent_usd(tmp_path, "web") == 0


# Which models.


@pytest.mark.parametrize("what", PAID)
def test_other_models_are_refused_in_every_way(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    one = instance(fal, tmp_path, FAL_IMAGE_MODELS="fal-ai/flux/dev,fal-ai/flux/*/redux")
    answer = Door(one, form).pay(what)
    assert (answer.status, answer.json["error"]) == (403, "model_not_allowed")
    assert SCHNELL in answer.json["detail"]
    assert fal.calls.total() == 0


@pytest.mark.parametrize("what", AFTERWARDS)
def test_a_model_that_is_no_longer_allowed_is_out_of_reach(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    mine = Door(instance(fal, tmp_path), form).submitted()
    before = fal.calls
    stricter = Door(instance(fal, tmp_path, FAL_IMAGE_MODELS="fal-ai/flux/dev"), form)
    answer = stricter.afterwards(what, mine)
    assert (answer.status, answer.json["error"]) == (403, "model_not_allowed")
    assert stricter.afterwards(what, mine, key=OTHER_KEY).status == 404
    assert fal.calls == before


@pytest.mark.parametrize("what", AFTERWARDS)
def test_without_a_database_the_app_must_have_some_model_that_is_allowed(
    fal: Emulator, tmp_path: Path, what: str
):
    settings: Any = {
        "FAL_IMAGE_DATABASE_URL": None,
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        "FAL_IMAGE_MODELS": "fal-ai/flux-2/**,fal-ai/flux/schnell",
    }
    door = Door(instance(fal, tmp_path, **settings))
    mine = door.submitted()
    before = fal.calls
    for app in ("fal-ai/flux-pro", "fal-ai/fast-sdxl", "somebody/flux", "workflows/fal-ai/flux"):
        assert door.afterwards(what, mine, app=app).status == 403
    assert fal.calls == before
    assert door.afterwards(what, mine).status in {200, 202, 400}


# Money.


@pytest.mark.parametrize("what", PAID)
def test_what_does_not_fit_the_budget_is_402_and_nothing_is_sent(
    fal: Emulator, tmp_path: Path, form: Form, what: str
):
    door = Door(instance(fal, tmp_path, **TIGHT), form)
    assert door.pay(what).status == 200
    before = fal.calls
    answer = door.pay(what)
    assert (answer.status, answer.json["error"]) == (402, "budget_exceeded")
    assert answer.json["remainingUsd"] == pytest.approx(0.001)
    assert answer.json["resetsAt"].endswith("T00:00:00.000Z")
    assert "0.001 USD are left" in answer.json["detail"]
    assert fal.calls == before
    assert spent_usd(tmp_path) == PRICE
    assert door.pay(what, key=OTHER_KEY).status == 200


@pytest.mark.parametrize("what", PAID)
def test_what_fal_refused_is_given_back(fal: Emulator, tmp_path: Path, form: Form, what: str):
    door = Door(instance(fal, tmp_path, **TIGHT), form)
    fal.fault("500", on="run-stream" if what == "stream" else "submit")
    assert door.pay(what).status == 500
    assert spent_usd(tmp_path) == 0
    assert door.pay(what).status == 200
    assert len(fal.ledger) == 1


@pytest.mark.parametrize("what", PAID)
@pytest.mark.parametrize("kind", ["lost", "502-nginx", "409"])
def test_what_fal_may_have_taken_stays_put_aside(
    fal: Emulator, tmp_path: Path, form: Form, what: str, kind: str
):
    door = Door(instance(fal, tmp_path, **TIGHT), form)
    fal.fault(kind, on="run-stream" if what == "stream" else "submit")
    answer = door.pay(what)
    assert (answer.status, answer.json["error"]) == (500, "submit_unknown")
    assert answer.headers["x-fal-error-type"] == "submit_unknown"
    assert answer.json["retryable"] is False
    assert kept(tmp_path, answer.json["jobId"]).body["state"] == "unknown"
    assert spent_usd(tmp_path) == PRICE
    assert fal.calls.total() == 1


def test_the_units_that_fal_billed_take_the_place_of_what_was_put_aside(
    fal: Emulator, tmp_path: Path, form: Form
):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="1")
    photo = base64.b64encode(pictures.png(width=512, height=512)).decode()
    edit = {"prompt": "at night", "image_urls": [f"data:image/png;base64,{photo}"]}
    door = Door(one, form)
    request_id = door.submitted(edit, model="fal-ai/flux-2/edit")
    put_aside = spent_usd(tmp_path)
    assert door.afterwards("follow", request_id, app="fal-ai/flux-2").status == 200
    result = door.afterwards("result", request_id, app="fal-ai/flux-2")
    assert result.headers["x-fal-billable-units"] == str(fal.ledger[0].billable_units)
    cost = one.job(job_id_of(fal))["cost"]
    assert 0 < cost["actual"] < cost["estimate"] == put_aside
    assert spent_usd(tmp_path) == cost["actual"]


def test_a_cancelled_request_is_given_back(tmp_path: Path, form: Form):
    with Emulator(queue_s=60) as fal:
        door = Door(instance(fal, tmp_path, **TIGHT), form)
        mine = door.submitted()
        assert spent_usd(tmp_path) == PRICE
        door.afterwards("cancel", mine)
        assert door.afterwards("result", mine).status == 499
        assert spent_usd(tmp_path) == 0


def test_a_failure_of_fals_is_given_back(fal: Emulator, tmp_path: Path, form: Form):
    fal.fault("error", on="result", status=500, error_type="internal_error", detail="Broken")
    door = Door(instance(fal, tmp_path, **TIGHT), form)
    mine = door.submitted()
    assert door.afterwards("result", mine).status == 500
    assert spent_usd(tmp_path) == 0


# `fal_webhook`.


@pytest.mark.parametrize(
    "url",
    [
        f"https://{HOST}.evil.example/",
        "https://elsewhere.example.com/",
        f"http://{HOST}/",
        f"https://user@{HOST}/",
        f"https://{HOST}:8443/",
        f"https://{HOST}/%23",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::1]/",
        "file:///etc/passwd",
        f"https://{HOST}/#x",
        f"HTTPS://{HOST}/",
        "",
    ],
)
def test_a_webhook_elsewhere_is_refused_before_any_money(
    fal: Emulator, tmp_path: Path, form: Form, url: str
):
    settings: Any = TIGHT | {"FAL_IMAGE_WEBHOOK_HOSTS": "hooks.example.net"}
    door = Door(instance(fal, tmp_path, **settings), form)
    quoted = url.replace("%", "%25").replace("#", "%23").replace("[", "%5B").replace("]", "%5D")
    answer = door.submit(query=f"?fal_webhook={quoted}")
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert answer.json["fields"][0]["field"] == "fal_webhook"
    assert "fal_webhook" in answer.json["detail"]
    assert fal.calls.total() == 0
    assert spent_usd(tmp_path) == 0


@pytest.mark.parametrize("what", ["run", "stream"])
def test_only_a_submit_has_a_webhook(fal: Emulator, tmp_path: Path, form: Form, what: str):
    method, url, body = PAID[what]
    door = Door(instance(fal, tmp_path, FAL_IMAGE_WEBHOOK_HOSTS=HOST), form)
    answer = door.ask(method, f"{url}?fal_webhook=https://{HOST}/", body)
    assert (answer.status, answer.json["error"]) == (412, "target_refused")
    assert fal.calls.total() == 0


def test_an_allowed_webhook_is_told_by_us_and_fal_still_tells_us(
    fal: Emulator, tmp_path: Path, form: Form
):
    with Receiver() as receiver, Postbox(fal) as box:
        one = instance(
            fal,
            tmp_path,
            seams=Seams(detours={HOST: receiver.url.partition("/hook")[0]}),
            FAL_IMAGE_PUBLIC_URL=box.url,
            FAL_IMAGE_WEBHOOK_HOSTS=HOST,
        )
        request_id = Door(one, form).submitted(query=f"?fal_webhook=https://{HOST}/done")
        assert str(fal.ledger[0].webhook_url).startswith(f"{box.url}/webhooks/fal/")
        assert one.deliver(box.next()).status == 200
        headers, notice = receiver.next()
    assert headers["webhook-id"] == notice["data"]["jobId"] == job_id_of(fal)
    assert notice["type"] == "job.done"
    assert notice["data"]["falRequestId"] == request_id


def test_the_answer_of_a_submit_is_fals(fal: Emulator, tmp_path: Path):
    answer = Door(instance(fal, tmp_path)).submit()
    request_id = fal.ledger[0].request_id
    place = f"{QUEUE}/{FLUX}/requests/{request_id}"
    assert answer.json == {
        "status": "IN_QUEUE",
        "request_id": request_id,
        "status_url": f"{place}/status",
        "response_url": place,
        "cancel_url": f"{place}/cancel",
        "queue_position": 0,
    }
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-fal-request-id"] == request_id


def test_what_the_catalog_knows_to_be_wrong_is_refused_before_money(
    fal: Emulator, tmp_path: Path, form: Form
):
    door = Door(instance(fal, tmp_path, **TIGHT), form)
    for url in (f"{QUEUE}/{SCHNELL}", f"{RUN}/{SCHNELL}", f"{RUN}/{SCHNELL}/stream"):
        answer = door.ask("POST", url, {"prompt": "a cat", "num_images": 9})
        assert answer.status == 422
        assert [problem["loc"] for problem in answer.json["detail"]] == [["body", "num_images"]]
    assert fal.calls.total() == 0
    assert spent_usd(tmp_path) == 0

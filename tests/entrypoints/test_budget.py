"""What each caller may spend in a day: put aside before fal is asked, settled when it has ended."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support import pictures
from support.databases import SqliteRig
from support.entrypoints import THROUGH, request
from support.instances import (
    CAT,
    NOWHERE,
    OTHER_KEY,
    Answer,
    Calendar,
    Instance,
    instance,
    read,
    serving,
)

Configure = Callable[..., None]
PRICE = 0.003  # of a CAT
EVENING = datetime(2026, 11, 21, 23, 59, tzinfo=timezone.utc)


def assert_refused(answer: Answer, remaining_usd: float) -> None:
    assert (answer.status, answer.json["error"]) == (402, "budget_exceeded")
    assert answer.json["remainingUsd"] == pytest.approx(remaining_usd)
    assert answer.json["resetsAt"].endswith("T00:00:00.000Z")
    assert answer.json["hint"]
    assert answer.json["retryable"] is True


def spent(directory: Path, caller: str = "web") -> float:
    """What a caller has spent and reserved today, in USD."""
    database = SqliteRig(directory / "jobs.db").open()
    return database.total(f"spent:{caller}:{datetime.now(timezone.utc):%Y-%m-%d}") / 1_000_000


@pytest.mark.parametrize("cloud", sorted(THROUGH))
def test_what_does_not_fit_is_refused_before_anything_is_sent(
    configured: Configure, fal: Emulator, tmp_path: Path, cloud: str
):
    configured(
        FAL_IMAGE_DATABASE_URL=f"sqlite://{tmp_path}/jobs.db",
        FAL_IMAGE_PUBLIC_URL=NOWHERE,
        FAL_IMAGE_DAILY_BUDGET_USD="0.01",
    )
    answers = [read(THROUGH[cloud](request(body=CAT))) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 402]
    assert_refused(answers[-1], 0.001)
    assert len(fal.ledger) == 3


def test_the_last_picture_may_spend_the_last_micro_dollar(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="0.006")
    assert [one.generate().status for _ in range(3)] == [200, 200, 402]
    assert spent(tmp_path) == 2 * PRICE


def test_each_caller_has_a_budget(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="0.003")
    assert [one.generate().status for _ in range(2)] == [200, 402]
    assert [one.generate(key=OTHER_KEY).status for _ in range(2)] == [200, 402]


def test_a_budget_without_a_database_is_refused_and_not_ignored(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="5", FAL_IMAGE_DATABASE_URL=None)
    answer = one.generate()
    assert (answer.status, answer.json["error"]) == (500, "misconfigured")
    assert "FAL_IMAGE_DAILY_BUDGET_USD" in answer.json["detail"]
    assert fal.calls.total() == 0


@pytest.mark.parametrize(
    ("kind", "on"),
    [("500", "submit"), ("503", "submit"), ("error", "result")],
)
def test_what_fal_did_not_do_is_given_back(fal: Emulator, tmp_path: Path, kind: str, on: str):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="0.003")
    fal.fault(kind, on=on)
    assert one.generate().status == 502
    assert spent(tmp_path) == 0
    assert one.generate().status == 200


def test_what_is_cancelled_in_time_is_given_back(tmp_path: Path):
    with Emulator(queue_s=60) as fal:
        one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="0.003")
        job_id = one.submitted()["jobId"]
        assert spent(tmp_path) == PRICE
        one.ask("DELETE", f"/jobs/{job_id}")
        assert one.job(job_id)["state"] == "cancelled"
        assert spent(tmp_path) == 0


def test_what_fal_billed_takes_the_place_of_what_was_put_aside(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="1")
    photo = base64.b64encode(pictures.png(width=512, height=512)).decode()
    order = {
        "prompt": "at night",
        "model": "fal-ai/flux-2/edit",
        "image_urls": [f"data:image/png;base64,{photo}"],
    }
    cost = one.generate(order).json["cost"]
    assert 0 < cost["actual"] < cost["estimate"]
    assert spent(tmp_path) == cost["actual"]


def test_a_lost_submit_stays_put_aside_until_it_is_given_up(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar), FAL_IMAGE_DAILY_BUDGET_USD="0.003")
    fal.fault("lost", on="submit")
    job_id = one.generate().json["jobId"]
    assert one.generate().status == 402
    calendar.forward(hours=2, minutes=14)
    assert one.tick()["jobs"] == 0
    calendar.forward(minutes=2)
    assert one.tick()["jobs"] == 1
    given_up = one.job(job_id)
    assert (given_up["state"], bool(given_up["finishedAt"])) == ("unknown", True)
    assert spent(tmp_path) == PRICE
    assert one.tick()["jobs"] == 0


def test_a_key_that_is_sent_again_takes_nothing_more(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="0.003")
    statuses = [one.generate(idempotency_key="k").status for _ in range(3)]
    assert statuses == [200, 200, 200]
    assert spent(tmp_path) == PRICE


def assert_never_more_than_fits(ask: Callable[[], Answer], fal: Emulator) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = [one.result() for one in [pool.submit(ask) for _ in range(16)]]
    assert sorted(answer.status for answer in answers) == [200] * 5 + [402] * 11
    assert len(fal.ledger) == 5


def test_sixteen_at_once_do_not_spend_more(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="0.017") as server:
        assert_never_more_than_fits(lambda: server.http("POST", "/generate", CAT), fal)


def test_two_instances_do_not_spend_more(fal: Emulator, tmp_path: Path):
    settings: Any = {"FAL_IMAGE_DAILY_BUDGET_USD": "0.017"}
    pair = [instance(fal, tmp_path, **settings) for _ in range(2)]
    turns = iter(pair * 8)
    assert_never_more_than_fits(lambda: next(turns).generate(), fal)


@pytest.mark.parametrize(
    "order",
    [
        {"model": "fal-ai/unheard-of"},
        {"model": "fal-ai/flux/dev/image-to-image", "image_url": "https://example.com/a.png"},
    ],
)
def test_a_price_that_nobody_knows_fits_no_budget(
    fal: Emulator, tmp_path: Path, order: dict[str, object]
):
    settings: Any = {"FAL_IMAGE_MODELS": "**", "FAL_IMAGE_DAILY_BUDGET_USD": "5"}
    answer = instance(fal, tmp_path, **settings).generate({**CAT, **order})
    assert_refused(answer, 5)
    assert "GET /models" in answer.json["hint"]
    assert fal.calls["submit"] == 0


class Evening:
    """Minutes before midnight, UTC."""

    def __init__(self) -> None:
        self.at = EVENING

    def __call__(self) -> datetime:
        return self.at


def test_a_new_day_has_a_new_budget_and_old_jobs_are_settled_in_theirs(tmp_path: Path):
    evening = Evening()
    with Emulator(queue_s=60) as fal:
        one = instance(fal, tmp_path, seams=Seams(now=evening), FAL_IMAGE_DAILY_BUDGET_USD="0.003")
        yesterdays = one.submitted()["jobId"]
        refused = one.generate()
        assert_refused(refused, 0)
        assert refused.json["resetsAt"] == "2026-11-22T00:00:00.000Z"

        evening.at += timedelta(minutes=2)
        assert one.submitted()
        assert_refused(one.generate(), 0)
        one.ask("DELETE", f"/jobs/{yesterdays}")
        assert one.job(yesterdays)["state"] == "cancelled"
        assert_refused(one.generate(), 0)
    database: Any = SqliteRig(tmp_path / "jobs.db").open()
    assert database.total("spent:web:2026-11-21") == 0
    assert database.total("spent:web:2026-11-22") == 3000


def test_without_a_budget_nothing_is_counted(fal: Emulator, tmp_path: Path):
    one: Instance = instance(fal, tmp_path, FAL_IMAGE_MODELS="**")
    assert one.generate().status == 200
    assert spent(tmp_path) == 0


def test_input_that_cannot_be_kept_or_walked_through_puts_nothing_aside(
    fal: Emulator, tmp_path: Path
):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="1")
    assert one.generate({**CAT, "note": "x" * 200_000}).status == 413
    nested: object = "deep"
    for _ in range(600):
        nested = [nested]
    assert one.generate({**CAT, "nested": nested}).json["error"] == "invalid_json"
    assert spent(tmp_path) == 0
    assert fal.ledger == []

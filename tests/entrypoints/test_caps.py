"""Caps that hold: by caller, by ticket and in all, on every database, however many ask at once."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.database.base import Database
from fal_image.dev.emulator import Emulator
from support import databases, pictures, storages
from support.breakable import breakable_storage
from support.clocks import utc_now
from support.databases import Rig, SqliteRig
from support.entrypoints import KEY
from support.instances import (
    CAT,
    OTHER_KEY,
    Answer,
    Calendar,
    Instance,
    Postbox,
    instance,
    kept,
)
from support.proxy_calls import PAID, Door

pytestmark = pytest.mark.timeout(60)  # moto is slow, on a machine that may be busy

PRICE = 3_000  # micro-USD, of a CAT
IMAGES, ASKED = 100, 300
AT_ONCE = 16  # calls to a database: the servers that stand in for clouds drop what is more


@pytest.fixture(params=[name for name in databases.RIGS if name != "memory"])
def rig(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    for name, value in storages.AWS_ENVIRON.items():
        monkeypatch.setenv(name, value)
    start = databases.RIGS[request.param]
    with start(tmp_path / "data", lambda: str(request.getfixturevalue("moto"))) as rig:
        yield rig


@pytest.fixture
def busy() -> Iterator[Emulator]:
    """fal, which takes what it is sent and gets to none of it."""
    with Emulator(queue_s=3600) as fal:
        yield fal


class Crowded:
    """A database that few can ask at once."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._inner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with self._places:
                return method(*arguments, **named)

        return call


def house(fal: Emulator, directory: Path, rig: Rig, **bent: str) -> Instance:
    """An instance in front of the rig's database."""
    crowded: Any = Crowded
    seams = Seams(
        detours=json.loads(rig.environ.get("FAKE_CLOUDBASE", "{}")),
        database=(lambda opened: opened) if isinstance(rig, SqliteRig) else crowded,
    )
    settings = {"FAL_IMAGE_DATABASE_URL": rig.url, **rig.environ, **bent}
    return instance(fal, directory, seams=seams, **settings)


def today() -> str:
    return f"{utc_now():%Y-%m-%d}"


def ask_at_once(one: Instance, credentials: list[str]) -> list[Answer]:
    """A submit for each credential, all from threads that start together."""
    gate = threading.Barrier(len(credentials))

    def ask(key: str) -> Answer:
        gate.wait(timeout=15)
        return one.generate(key=key, prefer="respond-async")

    with ThreadPoolExecutor(len(credentials)) as pool:
        return list(pool.map(ask, credentials))


def assert_exactly_full(
    answers: list[Answer], fal: Emulator, database: Database, full: Mapping[str, int]
) -> None:
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {202: IMAGES, 402: ASKED - IMAGES}
    assert len(fal.ledger) == IMAGES
    assert {counter: database.total(counter) for counter in full} == full


def test_of_300_at_once_a_callers_budget_lets_100_through(busy: Emulator, tmp_path: Path, rig: Rig):
    one = house(busy, tmp_path, rig, FAL_IMAGE_DAILY_BUDGET_USD="0.3")
    answers = ask_at_once(one, [KEY] * ASKED)
    assert_exactly_full(answers, busy, rig.open(), {f"spent:web:{today()}": IMAGES * PRICE})


@pytest.mark.long
def test_of_300_at_once_the_budget_of_all_callers_lets_100_through(
    busy: Emulator, tmp_path: Path, rig: Rig
):
    one = house(busy, tmp_path, rig, FAL_IMAGE_TOTAL_DAILY_BUDGET_USD="0.3")
    answers = ask_at_once(one, [KEY, OTHER_KEY] * (ASKED // 2))
    assert_exactly_full(answers, busy, rig.open(), {f"total:{today()}": IMAGES * PRICE})


@pytest.mark.long
def test_of_300_at_once_a_ticket_for_100_pictures_lets_100_through(
    busy: Emulator, tmp_path: Path, rig: Rig
):
    one = house(busy, tmp_path, rig)
    minted = one.ask("POST", "/tickets", {"maxImages": IMAGES}).json
    answers = ask_at_once(one, [minted["ticket"]] * ASKED)
    assert_exactly_full(answers, busy, rig.open(), {f"ticket:{minted['id']}:images": IMAGES})


@pytest.mark.long
@pytest.mark.parametrize("rig", ["sqlite", "cloudbase"], indirect=True)
def test_of_300_at_once_the_refused_leave_nothing_in_the_other_caps(
    busy: Emulator, tmp_path: Path, rig: Rig
):
    budgets = {"FAL_IMAGE_TOTAL_DAILY_BUDGET_USD": "9", "FAL_IMAGE_DAILY_BUDGET_USD": "9"}
    one = house(busy, tmp_path, rig, **budgets)
    limits = {"maxUsd": 9, "maxImages": 1000, "uses": IMAGES}
    minted = one.ask("POST", "/tickets", limits).json
    answers = ask_at_once(one, [minted["ticket"]] * ASKED)
    money = {f"spent:web:{today()}", f"total:{today()}", f"ticket:{minted['id']}:usd_micro"}
    full = dict.fromkeys(money, IMAGES * PRICE)
    full |= {f"ticket:{minted['id']}:{of}": IMAGES for of in ("images", "uses")}
    assert_exactly_full(answers, busy, rig.open(), full)


@pytest.mark.parametrize("rig", ["sqlite", "cloudbase"], indirect=True)
def test_of_16_writers_of_one_version_one_wins(rig: Rig):
    handles = [rig.open() for _ in range(16)]
    for version in range(1, 6):
        if version == 1:
            assert handles[0].create("job:1", {"by": None})
        gate = threading.Barrier(16)

        def write(number: int, version: int = version, gate: threading.Barrier = gate) -> bool:
            gate.wait(timeout=15)
            return handles[number].replace_if("job:1", version, {"by": number})

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(write, range(16)))
        assert won.count(True) == 1
        found = handles[0].get("job:1")
        assert found is not None
        assert (found.version, found.body) == (version + 1, {"by": won.index(True)})


@pytest.mark.parametrize("rig", ["sqlite", "cloudbase"], indirect=True)
def test_of_16_takers_of_the_last_place_one_gets_it(rig: Rig):
    handles = [rig.open() for _ in range(16)]
    ends_at = datetime(2999, 1, 1, tzinfo=timezone.utc)
    for place in range(1, 6):
        gate = threading.Barrier(16)

        def take(number: int, place: int = place, gate: threading.Barrier = gate) -> bool:
            gate.wait(timeout=15)
            key = f"{place}-{number}"
            return handles[number].take("total:x", key, 1, place, expires_at=ends_at)

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(take, range(16))).count(True) == 1
        assert handles[0].total("total:x") == place


# What was put aside, once it is known what was spent.


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def box(fal: Emulator) -> Iterator[Postbox]:
    with Postbox(fal) as postbox:
        yield postbox


def edit() -> dict[str, object]:
    """What is put aside for the largest picture that it may be given, and costs less."""
    photo = base64.b64encode(pictures.png(width=512, height=512)).decode()
    urls = [f"data:image/png;base64,{photo}"]
    return {"prompt": "at night", "model": "fal-ai/flux-2/edit", "image_urls": urls}


def capped(fal: Emulator, directory: Path, box: Postbox, **given: Any) -> Instance:
    """An instance with a budget, whose webhooks end up in `box`; seams are in lower case."""
    bent = {name: given.pop(name) for name in list(given) if name.isupper()}
    budgets = {"FAL_IMAGE_DAILY_BUDGET_USD": "1", "FAL_IMAGE_TOTAL_DAILY_BUDGET_USD": "1"}
    settings: Any = {"FAL_IMAGE_PUBLIC_URL": box.url, **budgets, **bent}
    return instance(fal, directory, seams=Seams(**given), **settings)


def spent(directory: Path, counter: str = "spent:web") -> int:
    return SqliteRig(directory / "jobs.db").open().total(f"{counter}:{today()}")


def test_a_job_that_a_webhook_finishes_costs_what_fal_bills(
    fal: Emulator, tmp_path: Path, box: Postbox
):
    one = capped(fal, tmp_path, box)
    waited_for = one.generate(edit()).json["cost"]
    box.next()
    before = spent(tmp_path)
    job_id = one.submitted(edit())["jobId"]
    assert one.deliver(box.next()).status == 200
    assert fal.calls["result"] == 2  # once a job
    cost = one.job(job_id)["cost"]
    assert cost == waited_for
    assert 0 < cost["actual"] < cost["estimate"]
    assert cost["billableUnits"] == fal.ledger[-1].billable_units
    assert spent(tmp_path) - before == round(cost["actual"] * 1_000_000)
    assert spent(tmp_path, "total") == spent(tmp_path)


@pytest.mark.parametrize("kind", ["500", "429", "reset", "502-nginx", "expired"])
def test_units_that_fal_does_not_say_fail_no_job(
    fal: Emulator, tmp_path: Path, box: Postbox, kind: str
):
    one = capped(fal, tmp_path, box)
    job_id = one.submitted(edit())["jobId"]
    fal.fault(kind, on="result", times=20)
    assert one.deliver(box.next()).status == 200
    job = one.job(job_id)
    assert (job["state"], job["warnings"]) == ("done", [])
    assert (job["cost"]["actual"], job["cost"]["billableUnits"]) == (None, None)
    assert spent(tmp_path) == round(job["cost"]["estimate"] * 1_000_000)


def test_units_are_kept_while_the_storage_is_down_for_longer_than_fal_remembers(
    fal: Emulator, tmp_path: Path, box: Postbox
):
    storage, calendar = breakable_storage("put"), Calendar()
    one = capped(fal, tmp_path, box, storage=storage.around, now=calendar)
    job_id = one.submitted(edit())["jobId"]
    storage.is_broken = True
    assert one.deliver(box.next()).status == 200
    asked = fal.calls["result"]
    assert kept(tmp_path, job_id).body["state"] == "storing"
    fal.fault("expired", on="result", times=20)
    calendar.forward(hours=25)
    one.tick()
    assert fal.calls["result"] == asked
    job = one.job(job_id)
    assert (job["state"], job["error"]["error"]) == ("failed", "upload_failed")
    assert job["cost"]["billableUnits"] == fal.ledger[-1].billable_units
    assert spent(tmp_path) == round(job["cost"]["actual"] * 1_000_000)
    assert 0 < job["cost"]["actual"] < job["cost"]["estimate"]


def test_a_picture_that_can_never_be_copied_was_paid_for(
    fal: Emulator, tmp_path: Path, box: Postbox
):
    one = capped(fal, tmp_path, box)
    ticket = one.ask("POST", "/tickets", {"maxImages": 1, "uses": 9, "maxUsd": 1}).json
    fal.fault("mistyped", on="file", times=20)
    job_id = one.submitted(edit(), key=ticket["ticket"])["jobId"]
    assert one.deliver(box.next()).status == 200
    job = one.job(job_id)
    assert job["state"] == "failed"
    assert 0 < job["cost"]["actual"] < job["cost"]["estimate"]
    assert spent(tmp_path) == round(job["cost"]["actual"] * 1_000_000)
    answer = one.generate(key=ticket["ticket"])
    assert (answer.status, answer.json["remaining"]) == (402, {"images": 0})


@pytest.mark.parametrize("status", [500, 422])
def test_what_a_webhook_says_fal_failed_at_is_given_back(
    fal: Emulator, tmp_path: Path, box: Postbox, status: int
):
    one = capped(fal, tmp_path, box)
    given = one.ask("POST", "/tickets", {"maxImages": 1, "uses": 1}).json
    fal.fault("error", on="result", status=status)
    job_id = one.submitted(key=given["ticket"])["jobId"]
    assert spent(tmp_path) == PRICE
    assert one.deliver(box.next()).status == 200
    job = one.job(job_id)
    assert (job["state"], job["cost"]["actual"]) == ("failed", 0)
    assert (spent(tmp_path), spent(tmp_path, "total")) == (0, 0)
    assert one.submitted(key=given["ticket"])
    assert fal.calls["result"] == (status == 422)  # only a refused input may have been billed


def test_what_is_given_up_stays_spent(tmp_path: Path):
    calendar = Calendar()
    with Emulator(queue_s=10**6) as fal, Postbox(fal) as box:
        one = capped(fal, tmp_path, box, now=calendar)
        job_id = one.submitted()["jobId"]
        fal.fault("cancel-race", on="cancel")
        calendar.forward(hours=1, seconds=1)
        one.tick()
        assert one.job(job_id)["error"]["error"] == "job_timeout"
    database = SqliteRig(tmp_path / "jobs.db").open()
    day = f"{utc_now():%Y-%m-%d}"
    assert database.total(f"total:{day}") == PRICE


@pytest.mark.parametrize(
    ("setting", "statuses", "counted"),
    [("refuse", [402, 402], 0), ("allow", [202, 202], 0), ("0.25", [202, 402], 250_000)],
)
def test_a_price_that_nobody_knows_does_what_the_owner_says(
    busy: Emulator, tmp_path: Path, setting: str, statuses: list[int], counted: int
):
    budget: Any = {"FAL_IMAGE_TOTAL_DAILY_BUDGET_USD": "0.4"}
    one = instance(busy, tmp_path, FAL_IMAGE_UNKNOWN_PRICE=setting, **budget)
    order = {
        **CAT,
        "model": "fal-ai/flux/dev/image-to-image",
        "image_url": "https://example.com/a.png",
    }
    answers = [one.generate(order, prefer="respond-async") for _ in range(2)]
    assert [answer.status for answer in answers] == statuses
    assert spent(tmp_path, "total") == counted
    for answer in answers:
        if answer.status == 202:
            assert answer.json["cost"]["estimate"] is None


# What each cap says when it is full.
SAYS: dict[str, tuple[dict[str, Any], dict[str, object], dict[str, object]]] = {
    "of the caller": ({"FAL_IMAGE_DAILY_BUDGET_USD": "0.004"}, {}, {"remainingUsd": 0.001}),
    "of all": ({"FAL_IMAGE_TOTAL_DAILY_BUDGET_USD": "0.004"}, {}, {"remainingUsd": 0.001}),
    "of a ticket's money": ({}, {"maxUsd": 0.004}, {"remainingUsd": 0.001}),
    "of its pictures": ({}, {"maxImages": 1}, {"remaining": {"images": 0}}),
    "of its uses": ({}, {"uses": 1}, {"remaining": {"uses": 0}}),
}


@pytest.mark.parametrize("name", SAYS)
def test_who_is_refused_hears_what_is_left_and_when_there_is_more(
    fal: Emulator, tmp_path: Path, name: str
):
    budgets, limits, said = SAYS[name]
    one = instance(fal, tmp_path, **budgets)
    key = one.ask("POST", "/tickets", limits).json["ticket"] if limits else KEY
    assert one.generate(key=key).status == 200
    answer = one.generate(key=key)
    assert (answer.status, answer.json["error"]) == (402, "budget_exceeded")
    assert {name: answer.json[name] for name in said} == said
    assert ("remaining" in answer.json) != ("remainingUsd" in answer.json)
    tomorrow = utc_now() + timedelta(days=1)
    assert answer.json["resetsAt"] in (
        [None] if limits else [f"{at:%Y-%m-%d}T00:00:00.000Z" for at in (utc_now(), tomorrow)]
    )
    assert len(fal.ledger) == 1


def test_a_proxied_call_is_told_the_same_in_json(fal: Emulator, tmp_path: Path):
    door = Door(instance(fal, tmp_path, FAL_IMAGE_TOTAL_DAILY_BUDGET_USD="0.004"))
    assert door.pay("run").status == 200
    for what in PAID:
        answer = door.pay(what)
        assert (answer.status, answer.json["remainingUsd"]) == (402, 0.001)
        assert answer.headers["content-type"] == "application/json"
    assert len(fal.ledger) == 1


def test_a_row_of_a_batch_that_fits_no_more_is_a_failed_row(fal: Emulator, tmp_path: Path):
    with Emulator(queue_s=3600) as busy:
        one = instance(busy, tmp_path, FAL_IMAGE_TOTAL_DAILY_BUDGET_USD="0.007")
        batch = one.ask("POST", "/batches", {"rows": [CAT] * 3, "window": 3}).json
        assert (batch["counts"]["running"], batch["counts"]["failed"]) == (2, 1)
        assert "budget_exceeded" in json.dumps(batch["errors"])
        assert len(busy.ledger) == 2


class Interrupted:
    """A database in which somebody else comes first, just before a job's document is made."""

    def __init__(self, opened: Any, first: Callable[[], Any]) -> None:
        self._opened = opened
        self._first: Callable[[], Any] | None = first

    def create(self, id: str, body: Mapping[str, object], **times: Any) -> bool:
        first = self._first
        if id.startswith("job:") and first is not None:
            self._first = None
            first()
        made: bool = self._opened.create(id, body, **times)
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)


def twins(fal: Emulator, directory: Path, first: Mapping[str, Any], **second: Any) -> list[Answer]:
    """What two requests with one Idempotency-Key are answered that are at it at once: the second
    is through before the first has made its document."""
    caps: dict[str, Any] = {
        "FAL_IMAGE_DAILY_BUDGET_USD": "1",
        "FAL_IMAGE_TOTAL_DAILY_BUDGET_USD": "1",
    }
    answers: list[Answer] = []
    other = instance(fal, directory, **caps)

    def meanwhile() -> None:
        answers.append(other.generate(idempotency_key="one", **second))

    seams = Seams(database=lambda opened: Interrupted(opened, meanwhile))
    one = instance(fal, directory, seams=seams, **caps)
    return [one.generate(idempotency_key="one", **first), *answers]


def test_twins_of_another_size_do_not_share_what_was_put_aside(fal: Emulator, tmp_path: Path):
    small, large = {"prompt": "a cat"}, {"prompt": "a cat", "num_images": 4}
    late, soon = twins(fal, tmp_path, {"body": small}, body=large)
    assert (late.status, soon.status) == (422, 200)
    assert len(fal.ledger) == 1
    assert spent(tmp_path) == 4 * 3000
    assert spent(tmp_path, "total") == 4 * 3000


def test_a_twin_with_another_ticket_gives_back_only_its_own(fal: Emulator, tmp_path: Path):
    minting = instance(fal, tmp_path)
    good = minting.ask("POST", "/tickets", {"user": "ann"}).json["ticket"]
    poor = minting.ask("POST", "/tickets", {"user": "ann", "maxImages": 1}).json["ticket"]
    four = {"prompt": "a cat", "num_images": 4}
    done, refused = twins(fal, tmp_path, {"body": four, "key": good}, body=four, key=poor)
    assert (done.status, refused.status) == (200, 402)
    assert spent(tmp_path) == 4 * 3000
    assert spent(tmp_path, "total") == 4 * 3000

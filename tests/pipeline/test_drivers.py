"""Each driver alone on the same half-done job, in every state, ends in the same document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from fal_image.errors import JobTimeout, SubmitUnknown, UploadFailed
from fal_image.fal.webhooks import token
from fal_image.generate import Wish
from fal_image.generate.records import PREFIX
from fal_image.inputs import Order
from fal_image.jobs import Fault, Job, Lease, Outcome, Source
from fal_image.jobs.documents import to_document
from fal_image.jobs.states import due_at
from support import world
from support.fake_fal import MODEL, NEVER_S, Fate, Taken
from support.values import replace
from support.world import CALLER, PUBLIC_URL, SECRET, SWEEP, World

KEY = "the one intent"
RESERVED = 2 * 3000
ARGUMENTS = {"prompt": "a calico cat", "num_images": 2}
LATE = Fault.of(JobTimeout("fal did not finish within an hour"))
LOST = Fault.of(SubmitUnknown("fal's answer to the submit was lost"))
FULL = Fault.of(UploadFailed("the storage did not take the picture"))
FAILED = Outcome("error", billable_units=0.0, fault=Fault("fal_failed", "no luck"))
OUTCOMES = {
    "ok": None,  # made from what fal says
    "error": FAILED,
    "cancelled": Outcome("cancelled", billable_units=0.0),
}

# A document without what tells the ways apart: when things happened, how often somebody looked, and
# the units that fal bills, which only its result names.
ASIDE = {"version", "updated_at", "finished_at", "begun_at", "asked_at", "timings_ms", "lease"}


@dataclass(frozen=True)
class Case:
    """A job as it was left, what fal knows of it, how much later it is, and how it must end.

    `by_webhook` is how it ends when fal's webhook comes; None: there is no webhook, because fal has
    not finished or never took the job. `waits` is how it ends for the one who asks again with its
    Idempotency-Key, where that is another end.
    """

    fields: Mapping[str, Any]
    end: str
    by_webhook: str | None = None
    fate: Fate | None = Fate()
    outcome: str | None = None
    later_s: float = 130.0
    waits: str | None = None
    is_cancelled: bool = False


def submitted(end: str, **known: Any) -> Case:
    fields = {"state": "submitted", **known.pop("fields", {})}
    return Case(fields, end, **known)


RUNNING = Fate(runs_s=NEVER_S)
CASES = {
    "new": Case({"state": "new"}, "done", None, None),
    "new and cancelled": Case(
        {"state": "cancelled", "cancel_requested": True}, "cancelled", None, None
    ),
    "submitting, the lease is over, fal took it": Case(
        {"state": "submitting", "lease_s": 120.0, "known": False}, "unknown", "done"
    ),
    "submitting, the lease is over, fal did not take it": Case(
        {"state": "submitting", "lease_s": 120.0, "known": False}, "unknown", None, None
    ),
    "submitting under a lease": Case(
        {"state": "submitting", "lease_s": 600.0, "known": False}, "submitting", "done"
    ),
    "submitted, fal has finished": submitted("done", by_webhook="done"),
    "submitted, fal has failed": submitted(
        "failed", by_webhook="failed", fate=Fate(ending="error")
    ),
    "submitted, fal has cancelled": submitted(
        "cancelled", by_webhook="cancelled", fate=RUNNING, is_cancelled=True
    ),
    "submitted, fal is at work": submitted("submitted", fate=RUNNING),
    "submitted, cancel requested, fal is at work": submitted(
        "cancelled", fate=RUNNING, fields={"cancel_requested": True}, waits="submitted"
    ),
    "submitted with its pictures": submitted("done", by_webhook="done", outcome="ok"),
    "submitted with an error": submitted(
        "failed", by_webhook="failed", outcome="error", fate=Fate(ending="error")
    ),
    "submitted and cancelled": submitted(
        "cancelled", by_webhook="cancelled", outcome="cancelled", fate=RUNNING, is_cancelled=True
    ),
    "submitted for an hour, fal is at work": submitted(
        "failed", fate=replace(RUNNING, is_stubborn=True), later_s=3601, waits="submitted"
    ),
    "submitted for an hour, fal has finished": submitted("done", by_webhook="done", later_s=3601),
    "storing, the lease is over": Case(
        {"state": "storing", "lease_s": 120.0}, "done", "done", outcome="ok"
    ),
    "storing under a lease": Case(
        {"state": "storing", "lease_s": 600.0}, "storing", "storing", outcome="ok"
    ),
    "storing, paused and due": Case(
        {"state": "storing", "fault": FULL, "copy_tries": 1, "retry_s": 60.0},
        "done",
        "done",
        outcome="ok",
    ),
    "storing, paused and not due": Case(
        {"state": "storing", "fault": FULL, "copy_tries": 1, "retry_s": 600.0},
        "storing",
        "storing",
        outcome="ok",
    ),
    "unknown": Case({"state": "unknown", "fault": LOST, "known": False}, "unknown", "done"),
    "unknown for 2 h 15 min": Case(
        {"state": "unknown", "fault": LOST, "known": False}, "unknown", "done", later_s=8101
    ),
    "unknown and settled": Case(
        {"state": "unknown", "fault": LOST, "known": False, "settled": True}, "unknown", "done"
    ),
    "failed by time-out": Case({"state": "failed", "fault": LATE}, "failed", "done"),
    "failed by time-out, and fal finished": Case(
        {"state": "failed", "fault": LATE, "settled": True}, "done", "done", outcome="ok"
    ),
    "failed": Case(
        {"state": "failed", "fault": FAILED.fault, "settled": True},
        "failed",
        "failed",
        Fate(ending="error"),
        outcome="error",
    ),
    "done": Case({"state": "done", "settled": True}, "done", "done", outcome="ok"),
}


@dataclass
class Half:
    """The world of one half-done job."""

    case: Case
    world: World = field(default_factory=World)
    taken: Taken | None = None

    def __post_init__(self) -> None:
        app = self.world.instance()
        self.job_id = app.intended_id(KEY)
        generator = app.services.generator
        wish = Wish(caller=CALLER, job_id=self.job_id, public_url=PUBLIC_URL)
        job = generator.queue(generator.checked(Order(MODEL, ARGUMENTS)), wish)
        if self.case.fate is not None:
            self._submit(self.case.fate)
        self._leave(job)
        self.world.pass_s(self.case.later_s)

    def _submit(self, fate: Fate) -> None:
        """What fal knows of the job; the app that told it is long gone."""
        fal, steps = self.world.fal, self.world.instance().services.generator.steps
        fal.fates.append(fate)
        hook = f"{PUBLIC_URL}/webhooks/fal/{self.job_id}/{token((SECRET,), self.job_id)}"
        steps.fal.submit(MODEL, dict(ARGUMENTS), ends_at=self.world.time() + 9, webhook_url=hook)
        self.taken = fal.taken[0]
        if self.case.is_cancelled:
            self.taken.cancelled_at = self.world.time()

    def _leave(self, job: Job) -> None:
        given, now = dict(self.case.fields), self.world.now()
        lease_s, retry_s = given.pop("lease_s", None), given.pop("retry_s", None)
        is_known = given.pop("known", self.taken is not None)
        left = replace(
            job,
            begun_at=None if given["state"] == "new" else now,
            lease=Lease("dead", now + timedelta(seconds=lease_s)) if lease_s else None,
            retry_at=now + timedelta(seconds=retry_s) if retry_s else None,
            fal_request_id=self.taken.request_id if self.taken and is_known else None,
            outcome=self._outcome(),
            finished_at=now if given["state"] in ("failed", "cancelled", "done") else None,
            **given,
        )
        if left.settled:
            self._settle(left)
        assert self.world.database
        assert self.world.database.replace_if(
            PREFIX + job.job_id, job.version, to_document(left), due_at=due_at(left)
        )

    def _settle(self, left: Job) -> None:
        ledger = self.world.instance().services.generator.steps.ledger
        if left.outcome is not None and left.outcome.kind != "ok":
            ledger.give_back(left.job_id, left.reservations)
        else:
            ledger.settle(left.job_id, left.reservations, None)

    def _outcome(self) -> Outcome | None:
        if self.case.outcome != "ok":
            return OUTCOMES[self.case.outcome] if self.case.outcome else None
        assert self.taken
        urls = [one["url"] for one in self.world.fal.result(self.taken)[1]["images"]]
        return Outcome("ok", tuple(Source(n, url, False) for n, url in enumerate(urls)), seed=7)

    def hear(self) -> int:
        assert self.taken
        return self.world.instance().ask(world.webhook(self.world.fal.delivery(self.taken))).status

    def ended(self) -> dict[str, Any]:
        """All that is left in the end: the document, the money, the pictures."""
        job = self.world.instance().job(self.job_id)
        assert self.world.database
        (reservation,) = job.reservations
        document = {name: value for name, value in to_document(job).items() if name not in ASIDE}
        return _without_source({"state": "submitting", **document}) | {
            "spent": self.world.database.total(reservation.counter),
            "pictures": dict(self.world.storage.objects),
            "stored": sorted(self.world.storage.created),
            "submits": self.world.fal.submits,
        }


def _without_source(document: dict[str, Any]) -> dict[str, Any]:
    """A webhook does not tell how long fal worked, and what it told was not read from fal."""
    outcome = dict(document.get("outcome") or {})
    for name in ("is_read", "timings_ms"):
        outcome.pop(name, None)
    return document | {"outcome": outcome}


DRIVERS: dict[str, Callable[[Half], object]] = {
    "the one who waits": lambda half: half.world.instance().ask(
        world.order(key=KEY, num_images=ARGUMENTS["num_images"])
    ),
    "a poll": lambda half: half.world.instance().ask(world.poll(half.job_id)),
    "a sweep": lambda half: half.world.instance().ask(SWEEP),
    "a queue's message": lambda half: half.world.instance().ask(world.message(half.job_id)),
    "a webhook": lambda half: half.hear(),
}


def alone(case: Case, driver: str) -> dict[str, Any]:
    half = Half(case)
    DRIVERS[driver](half)
    return half.ended()


@pytest.mark.parametrize("name", CASES)
def test_each_driver_alone_ends_in_the_same_document(name: str):
    case = CASES[name]
    ends = {driver: alone(case, driver) for driver in DRIVERS if driver != "a webhook"}
    assert {end["state"] for driver, end in ends.items() if driver != "the one who waits"} == {
        case.end
    }
    if case.waits is not None:
        assert ends.pop("the one who waits")["state"] == case.waits
    first, *rest = ends.values()
    for end in rest:
        assert end == first
    assert first["submits"] <= 1


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].by_webhook])
def test_a_webhook_alone_ends_where_the_others_do(name: str):
    case = CASES[name]
    by_webhook = alone(case, "a webhook")
    assert by_webhook["state"] == case.by_webhook
    for driver in DRIVERS:  # the others first, and then the evidence
        half = Half(case)
        DRIVERS[driver](half)
        assert half.hear() == 200
        assert half.ended() == by_webhook


@pytest.mark.parametrize("name", CASES)
def test_what_is_done_stays_so_whoever_comes_again(name: str):
    half = Half(CASES[name])
    for driver in DRIVERS:
        if driver != "a webhook" or CASES[name].by_webhook:
            DRIVERS[driver](half)
    end = half.ended()
    for driver in DRIVERS:
        if driver != "a webhook" or CASES[name].by_webhook:
            DRIVERS[driver](half)
    assert half.ended() == end

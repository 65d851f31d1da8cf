"""Polls, webhooks, sweeps, cancellations, crashes and time in any order, several jobs at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from fal_image.generate import Wish
from fal_image.generate.records import PREFIX
from fal_image.inputs import Order
from fal_image.jobs import Job
from support import world
from support.effects import Crash, Effects
from support.fake_fal import MODEL, NEVER_S, Delivery, Fate, Taken
from support.values import replace
from support.world import CALLER, PUBLIC_URL, SWEEP, Ask, Instance, Said, World

JOBS = 4
PRICE_USD_MICRO = 3000
COSTS = {"done", "unknown"}
REPAID = {429, 503, 504}  # clients send again what was answered so

FATES = st.sampled_from(
    [
        Fate(),
        Fate(ending="error"),
        Fate(runs_s=600.0),
        Fate(runs_s=600.0, ending="error"),
        Fate(runs_s=600.0, is_stubborn=True),
        Fate(runs_s=5000.0),
        Fate(runs_s=5000.0, is_stubborn=True),
        Fate(runs_s=NEVER_S),
        Fate(runs_s=NEVER_S, is_stubborn=True),
        Fate("lost"),
        Fate("lost", runs_s=600.0),
        Fate("lost", runs_s=600.0, ending="error"),
        Fate("lost", runs_s=NEVER_S),
        Fate("dropped"),
        Fate("unsent"),
        Fate("busy"),
        Fate("refused"),
    ]
)
# After which of its effects a driver dies; most do not.
LASTS = st.sampled_from([None] * 10 + [1, 2, 3, 4, 5, 6, 7, 8, 10, 12])
LIVES_S = st.sampled_from([None, 30.0, 12.0])
PAUSES_S = st.sampled_from([1.0, 10.0, 50.0, 130.0, 400.0, 2700.0])


@dataclass(frozen=True)
class Intent:
    """What one caller wants once, however often it is sent."""

    key: str
    job_id: str
    arguments: dict[str, Any]

    @property
    def price(self) -> int:
        return int(self.arguments["num_images"]) * PRICE_USD_MICRO

    def order(self, prefer: str | None) -> Ask:
        return world.order(key=self.key, prefer=prefer, **self.arguments)


class AnyOrder(RuleBasedStateMachine):
    intents = Bundle("intents")

    @initialize(webhooks_work=st.booleans())
    def begin(self, webhooks_work: bool) -> None:
        self.webhooks_work = webhooks_work
        self.world = World(max_wait_s=5)
        self.onlooker = self.world.instance()
        self.all: dict[str, Intent] = {}
        self.reserved_for_nothing: set[str] = set()
        self.given_up: set[str] = set()
        self.ends: dict[str, str] = {}

    @precondition(lambda self: len(self.all) < JOBS)
    @rule(
        target=intents,
        fate=FATES,
        images=st.integers(1, 2),
        prefer=st.sampled_from([None, "respond-async"]),
        last=LASTS,
        lives_s=LIVES_S,
    )
    def order(
        self, fate: Fate, images: int, prefer: str | None, last: int | None, lives_s: float | None
    ) -> Intent:
        intent = self._intent(images)
        self._order(intent, fate, prefer, last, lives_s)
        return intent

    @precondition(lambda self: len(self.all) < JOBS)
    @rule(target=intents, images=st.integers(1, 2))
    def keep(self, images: int) -> Intent:
        """A job that nobody has begun yet."""
        intent = self._intent(images)
        generator = self.onlooker.services.generator
        wish = Wish(caller=CALLER, job_id=intent.job_id, public_url=PUBLIC_URL)
        arguments = {"prompt": "a calico cat", **intent.arguments}
        generator.queue(generator.checked(Order(MODEL, arguments)), wish)
        return intent

    @rule(intent=intents, fate=FATES, prefer=st.sampled_from([None, "respond-async"]), last=LASTS)
    def order_again(self, intent: Intent, fate: Fate, prefer: str | None, last: int | None) -> None:
        self._order(intent, fate, prefer, last, None)

    @rule(intent=intents, last=LASTS, lives_s=LIVES_S)
    def poll(self, intent: Intent, last: int | None, lives_s: float | None) -> None:
        self._ask(world.poll(intent.job_id), last, lives_s)

    @rule(intent=intents, last=LASTS)
    def cancel(self, intent: Intent, last: int | None) -> None:
        self._ask(world.cancel(intent.job_id), last)

    @rule(fate=FATES, last=LASTS, lives_s=LIVES_S)
    def sweep(self, fate: Fate, last: int | None, lives_s: float | None) -> None:
        self._with(fate, lambda: self._ask(SWEEP, last, lives_s))

    @rule(intent=intents, fate=FATES, last=LASTS)
    def message(self, intent: Intent, fate: Fate, last: int | None) -> None:
        self._with(fate, lambda: self._ask(world.message(intent.job_id), last))

    @rule(intent=intents, copies=st.integers(1, 5), last=LASTS, lives_s=LIVES_S)
    def webhook(self, intent: Intent, copies: int, last: int | None, lives_s: float | None) -> None:
        """Some copies of what fal says, the first of which may kill who hears it."""
        for one in self._ended(intent):
            delivery = self.world.fal.delivery(one)
            self._ask(world.webhook(delivery), last, lives_s)
            for _ in range(copies - 1):
                assert self._ask(world.webhook(delivery)).status == 200

    @rule(how=st.sampled_from(["body", "old", "path", "request"]))
    def forged(self, how: str) -> None:
        """What fal did not say, or not to this address: it changes nothing."""
        before = self._documents()
        for intent, other in product(self.all.values(), repeat=2):
            for one in self._ended(intent):
                delivery = self._forged(self.world.fal.delivery(one), other, how)
                if delivery is not None:
                    assert self._ask(world.webhook(delivery)).status == 401
        assert self._documents() == before

    @rule(seconds=PAUSES_S)
    def pass_time(self, seconds: float) -> None:
        self.world.pass_s(seconds)

    @rule(is_down=st.booleans())
    def storage(self, is_down: bool) -> None:
        self.world.storage.is_down = is_down

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.storage.is_down = False
        database = self.world.database
        assert database
        for _ in range(2):  # the second time for those that ended meanwhile
            self._hear_all()
            self.world.sweep_until_nothing_is_due(database)
            self._look()
            self.world.pass_s(2 * 3600.0)
        for intent in self.all.values():
            self._check_end(intent)
        if self.all:
            self._check_money()

    def _hear_all(self) -> None:
        for intent in self.all.values() if self.webhooks_work else ():
            for one in self._ended(intent):
                assert self._ask(world.webhook(self.world.fal.delivery(one))).status == 200

    def _check_end(self, intent: Intent) -> None:
        """Paid once at most; what fal made and we can know of is stored, once, and whole."""
        taken, job = self.world.fal.of_job(intent.job_id), self._job(intent)
        keys = [key for key in self.world.storage.pictures if intent.job_id in key]
        assert len(taken) <= 1
        if job is None:
            assert (taken, keys) == ([], [])
            return
        assert job.settled
        assert job.lease is None
        assert job.state == self._end(job, taken)
        assert sorted(keys) == sorted(image.file_id.split("///")[1] for image in job.images)
        if job.state == "done":
            assert len(keys) == taken[0].images
            for image in job.images:
                url = f"https://v3.fal.media/files/{taken[0].request_id}/{image.index}.png"
                stored = self.world.storage.objects[image.file_id.split("///")[1]]
                assert stored == self.world.fal.content(url)

    def _end(self, job: Job, taken: list[Taken]) -> str:
        """How it must have ended by what fal did, and by whether we could hear of it."""
        if not taken:
            assert job.state in ("unknown", "failed", "cancelled")
            return job.state
        if job.fal_request_id is None:
            assert not self.webhooks_work or self.world.fal.state(taken[0]) == "working"
            return "unknown"
        if job.fault is not None and job.fault.code == "job_timeout":
            assert not self.webhooks_work or self.world.fal.state(taken[0]) != "ok"
            return "failed"
        ends = {"ok": "done", "error": "failed", "cancelled": "cancelled"}
        return ends[self.world.fal.state(taken[0])]

    def _check_money(self) -> None:
        database, fal = self.world.database, self.world.fal
        assert database
        days = {f"{world.NOON + timedelta(days=n):%Y-%m-%d}" for n in range(3)}
        spent = sum(database.total(f"spent:{CALLER}:{day}") for day in days)
        least, most = map(sum, zip(*map(self._spent, self.all.values()), strict=True))
        billed = sum(fal.billed_units(one) for one in fal.taken) * PRICE_USD_MICRO
        assert max(least, billed) <= spent <= most

    def _spent(self, intent: Intent) -> tuple[int, int]:
        """The least and the most that is counted for it in the end."""
        job = self._job(intent)
        if job is None:
            price = intent.price if intent.job_id in self.reserved_for_nothing else 0
            return price, price
        if job.state == "unknown" and not self.world.fal.of_job(intent.job_id):
            return 0, intent.price  # who was refused may have died between the money and the word
        price = intent.price if job.state in COSTS or intent.job_id in self.given_up else 0
        return price, price

    def _intent(self, images: int) -> Intent:
        key, arguments = f"intent {len(self.all)}", {"num_images": images}
        intent = Intent(key, self.onlooker.intended_id(key), arguments)
        self.all[intent.job_id] = intent
        return intent

    def _order(
        self,
        intent: Intent,
        fate: Fate,
        prefer: str | None,
        last: int | None,
        lives_s: float | None,
    ) -> None:
        effects = Effects(last)
        said = self._with(fate, lambda: self._ask(intent.order(prefer), last, lives_s, effects))
        if effects.names == ["take"]:
            self.reserved_for_nothing.add(intent.job_id)
        if said.status in REPAID:
            assert not self.world.fal.of_job(intent.job_id)

    def _with(self, fate: Fate, act: Any) -> Said:
        """Submits that happen meanwhile have this fate."""
        self.world.fal.fates = [fate] * 5
        said: Said = act()
        self.world.fal.fates = []
        return said

    def _ask(
        self,
        ask: Ask,
        last: int | None = None,
        lives_s: float | None = None,
        effects: Effects | None = None,
    ) -> Said:
        instance = self._instance(effects or Effects(last), lives_s)
        try:
            said = instance.ask(ask)
        except Crash:
            said = Said(0, {})
        assert said.json.get("error") != "internal", said
        self._look()
        return said

    def _instance(self, effects: Effects | None = None, lives_s: float | None = None) -> Instance:
        return self.world.instance(effects, lives_s=lives_s)

    def _look(self) -> None:
        """What must hold at any time: one submit a job, and nothing that is done is undone."""
        for intent in self.all.values():
            assert len(self.world.fal.of_job(intent.job_id)) <= 1
            job = self._job(intent)
            if job is None:
                continue
            is_late = job.fault is not None and job.fault.code == "job_timeout"
            if job.settled and (job.state == "unknown" or is_late):
                self.given_up.add(intent.job_id)
            assert self.ends.get(intent.job_id, job.state) == job.state
            if job.state in ("done", "cancelled"):
                self.ends[intent.job_id] = job.state

    def _job(self, intent: Intent) -> Job | None:
        return self.onlooker.services.generator.steps.records.find(intent.job_id)

    def _documents(self) -> list[object]:
        assert self.world.database
        return [self.world.database.get(PREFIX + job_id) for job_id in self.all]

    def _ended(self, intent: Intent) -> list[Taken]:
        """What fal took of this job and has something to say of."""
        fal = self.world.fal
        return [one for one in fal.of_job(intent.job_id) if fal.state(one) != "working"]

    def _forged(self, delivery: Delivery, other: Intent, how: str) -> Delivery | None:
        if how == "body":
            return replace(delivery, body=delivery.body.replace(b"7", b"8", 1) + b" ")
        if how == "old":
            late = int(delivery.headers["X-Fal-Webhook-Timestamp"]) - 301
            request_id = delivery.headers["X-Fal-Webhook-Request-Id"]
            headers = self.world.fal.signer.headers(request_id, delivery.body, late)
            return replace(delivery, headers=headers)
        if other.job_id in delivery.path:
            return None
        if how == "path":
            token = delivery.path.rpartition("/")[2]
            return replace(delivery, path=f"/webhooks/fal/{other.job_id}/{token}")
        (known,) = self.world.fal.of_job(other.job_id)[:1] or (None,)
        job = self._job(other)
        if known is None or job is None or job.fal_request_id is None:
            return None  # only of a job whose request we know can we tell
        return replace(delivery, path=urlsplit(known.webhook_url or "").path)


TestAnyOrder = pytest.mark.timeout(120)(AnyOrder.TestCase)  # hundreds of stories, some shrunk
TestAnyOrder.settings = settings(
    max_examples=150,
    stateful_step_count=25,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)

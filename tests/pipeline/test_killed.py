"""Killed after every single effect in turn: nothing is lost, and nothing is paid twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fal_image.dev.emulator import Emulator, Entry
from fal_image.generate import Wish
from fal_image.inputs import Order
from fal_image.jobs import Job
from support import clocks, databases, emulator, killing, storages, world
from support.fake_fal import Delivery
from support.killing import Killer, Ran
from support.receiver import Receiver
from support.world import CALLER, SWEEP, Ask, Instance

pytestmark = pytest.mark.timeout(60)  # a process for each effect, on a machine that may be busy

IMAGES = 3
PRICE_USD_MICRO = 3000  # of an image: one megapixel at most
RESERVED = IMAGES * PRICE_USD_MICRO
LEASE_IS_OVER_S = 125.0
ARGUMENTS = {"num_images": IMAGES, "image_size": {"width": 64, "height": 64}, "seed": 7}
# The timer's minutes, and the hours until an unknown job is given up.
MINUTES_S = (LEASE_IS_OVER_S, *(LEASE_IS_OVER_S + 60 * n for n in range(1, 5)))
HOURS_S = (2 * 3600, 2 * 3600 + 20 * 60, 2 * 3600 + 21 * 60)


@dataclass
class House:
    """What all the scenes of a test are played in, and its app, which nobody kills. `ahead_s` is
    how much later than the machine's clock it is there."""

    fal: Emulator
    receiver: Receiver
    rig: databases.Rig
    directory: Path
    ahead_s: float = 0.0

    def __post_init__(self) -> None:
        self.instance = killing.instance(self.environ, now=self.now)
        self.database = self.instance.services.drivers.database()

    def now(self) -> datetime:
        return clocks.utc_now() + timedelta(seconds=self.ahead_s)

    @property
    def environ(self) -> dict[str, str]:
        return {
            **self.rig.environ,
            "FAL_KEY": emulator.KEY,
            "FAL_IMAGE_EMULATOR_URL": self.fal.url,
            "FAL_IMAGE_STORAGE_URL": self.directory.as_uri(),
            "FAL_IMAGE_DATABASE_URL": self.rig.url,
            "FAL_IMAGE_PUBLIC_URL": self.receiver.url.removesuffix("/hook?mine=1"),
            "FAL_IMAGE_SECRET": world.SECRET,
            "FAL_IMAGE_ALLOW_ANONYMOUS": "1",
            "FAL_IMAGE_DAILY_BUDGET_USD": "9",
            "FAL_IMAGE_RATE_LIMIT": "off",
            "FAL_IMAGE_LOG_LEVEL": "ERROR",
        }

    def spent(self) -> int:
        days = (clocks.utc_now() - timedelta(days=ago) for ago in (0, 1))  # it may be midnight
        return sum(self.database.total(f"spent:{CALLER}:{day:%Y-%m-%d}") for day in days)


@dataclass
class Stage:
    """The world of one job, which is the intent number `number` of its caller."""

    house: House
    number: int
    delivery: Delivery | None = None

    def __post_init__(self) -> None:
        self.spent_before = self.house.spent()
        self.key = f"intent {self.number}"
        self.job_id = self.instance.intended_id(self.key)

    @property
    def instance(self) -> Instance:
        return self.house.instance

    @property
    def entries(self) -> list[Entry]:
        """What fal took of this job, and bills."""
        return [one for one in self.house.fal.ledger if self.job_id in (one.webhook_url or "")]

    @property
    def job(self) -> Job | None:
        return self.instance.services.generator.steps.records.find(self.job_id)

    @property
    def spent(self) -> int:
        return self.house.spent() - self.spent_before

    def order(self, prefer: str | None = None) -> Ask:
        return world.order(key=self.key, prefer=prefer, **ARGUMENTS)

    def is_anything_due(self) -> bool:
        return world.is_anything_due(self.house.database, self.house.now())

    def webhook(self) -> Delivery | None:
        """What fal sends when the job has ended; None if fal never took it."""
        if self.delivery is None and self.entries:
            headers, body = self.house.receiver.got.get(timeout=5)
            kept = {name: value for name, value in headers.items() if name.startswith("X-Fal-")}
            path = urlsplit(self.entries[0].webhook_url or "").path
            assert json.loads(body)["request_id"] == self.entries[0].request_id
            self.delivery = Delivery(path, kept, body)
        return self.delivery

    def hear(self) -> None:
        delivery = self.webhook()
        if delivery is not None:
            assert self.instance.ask(world.webhook(delivery)).status == 200

    def sweep(self, *aheads_s: float) -> None:
        """The timer, at these times from now on, until nothing is due or will be."""
        for ahead_s in aheads_s:
            if not self.is_anything_due():
                break
            self.house.ahead_s = ahead_s
            assert self.instance.ask(SWEEP).json["failed"] == 0
        self.house.ahead_s = 0.0

    def stored(self) -> dict[str, bytes]:
        """Everything that is stored under this job's name."""
        files = self.house.directory.rglob(f"*{self.job_id}*")
        start = self.house.directory
        return {path.relative_to(start).as_posix(): path.read_bytes() for path in files}

    def pictures_at_fal(self) -> list[bytes]:
        url = f"{emulator.QUEUE}/fal-ai/flux/requests/{self.entries[0].request_id}"
        fal = self.house.fal
        result = emulator.ask(fal, "GET", url).json
        return [emulator.ask(fal, "GET", one["url"]).body for one in result["images"]]


@dataclass(frozen=True)
class Scene:
    """An invocation that is killed, and what came before it. `ahead_s`: how much later it is."""

    prepare: Callable[[Stage], None]
    ask: Callable[[Stage], Ask]
    ahead_s: float = 0.0


def nothing(stage: Stage) -> None:
    pass


def submit(stage: Stage) -> None:
    assert stage.instance.ask(stage.order("respond-async")).status == 202


def keep(stage: Stage) -> None:
    """A job that nobody has begun."""
    public_url = stage.house.environ["FAL_IMAGE_PUBLIC_URL"]
    wish = Wish(caller=CALLER, job_id=stage.job_id, public_url=public_url)
    generator = stage.instance.services.generator
    arguments = {"prompt": "a calico cat", **ARGUMENTS}
    generator.queue(generator.checked(Order(emulator.SCHNELL, arguments)), wish)


def delivered(stage: Stage) -> Ask:
    delivery = stage.webhook()
    assert delivery
    return world.webhook(delivery)


POLLED, BEGUN, ASKED = "a poll", "a sweep that begins", "a sweep that asks"
CANCELLED = "a cancellation"
SCENES = {
    "a request that waits": Scene(nothing, lambda stage: stage.order()),
    "a request that does not wait": Scene(nothing, lambda stage: stage.order("respond-async")),
    "a webhook": Scene(submit, delivered),
    POLLED: Scene(submit, lambda stage: world.poll(stage.job_id)),
    BEGUN: Scene(keep, lambda stage: SWEEP, ahead_s=31),
    ASKED: Scene(submit, lambda stage: SWEEP, ahead_s=46),
    CANCELLED: Scene(submit, lambda stage: world.cancel(stage.job_id)),
}
QUEUES_S = {CANCELLED: 3600.0}  # what is cancelled must not have ended before


def plan(*, without: set[str]) -> list[tuple[str, str]]:
    """Databases and scenes. moto is slow: on DynamoDB each scene is played in one of the tests."""
    everywhere = [("sqlite", name) for name in SCENES]
    return everywhere + [("dynamodb", name) for name in SCENES if name not in without]


@pytest.fixture(autouse=True)
def _aws_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in storages.AWS_ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with Killer(storages.AWS_ENVIRON) as program:
        yield program


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> databases.Rig:
    if request.node.callspec.params["database"] == "sqlite":
        return databases.SqliteRig(tmp_path / "jobs.db")
    return databases.DynamodbRig(request.getfixturevalue("moto"))


@pytest.fixture
def house(
    request: pytest.FixtureRequest, receiver: Receiver, rig: databases.Rig, tmp_path: Path
) -> Iterator[House]:
    with Emulator(queue_s=QUEUES_S.get(request.node.callspec.params["name"], 0.0)) as fal:
        yield House(fal, receiver, rig, tmp_path / "pictures")


def played(house: House, scene: Scene, killer: Killer) -> Iterator[tuple[Stage, Ran]]:
    """The scene, killed after its first effect, then after its second, and so on."""
    whole = run(house, scene, killer, 0, None)[1]
    assert whole.signal is None
    assert "failed" not in whole.effects
    for last in range(1, len(whole.effects) + 1):
        stage, ran = run(house, scene, killer, last, last)
        assert (ran.signal, len(ran.effects)) == (signal.SIGKILL, last), ran
        yield stage, ran


def run(
    house: House, scene: Scene, killer: Killer, number: int, last: int | None
) -> tuple[Stage, Ran]:
    while not house.receiver.got.empty():
        house.receiver.got.get()
    stage = Stage(house, number)
    scene.prepare(stage)
    ask = scene.ask(stage)
    return stage, killer.run(house.environ, ask, last=last, ahead_s=scene.ahead_s)


def check_over(stage: Stage, state: str) -> None:
    """The job is over in this state, paid for at most once, settled, and never looked at again."""
    job = stage.job
    assert job
    assert (job.state, job.settled, job.lease) == (state, True, None)
    assert len(stage.entries) == (0 if state == "unknown" and not stage.entries else 1)
    assert not stage.is_anything_due()
    assert stage.spent == (0 if state == "cancelled" else RESERVED)
    if state != "done":
        assert stage.stored() == {}
        return
    assert stage.entries[0].billable_units == IMAGES
    prefix = f"ai-images/{job.created_at:%Y-%m-%d}/{job.job_id}"
    expected = stage.pictures_at_fal()
    keys = {f"{prefix}-{n}.jpg": content for n, content in enumerate(expected)}
    stored = stage.stored()
    manifests = {
        key.replace(".jpg", ".json"): json.loads(stored.pop(key.replace(".jpg", ".json")))
        for key in keys
    }
    assert stored == keys
    assert {one["jobId"] for one in manifests.values()} == {job.job_id}
    assert [image.file_id for image in job.images] == [f"file:///{key}" for key in keys]
    assert [image.sha256 for image in job.images] == [storages.sha256(one) for one in expected]


def check_again(stage: Stage) -> None:
    """The same intent once more, and fal has been paid once."""
    again = stage.instance.ask(stage.order())
    job = stage.job
    assert job
    assert (again.json["jobId"], again.json["state"]) == (stage.job_id, job.state)
    assert len(stage.entries) <= 1
    assert stage.spent == (0 if job.state == "cancelled" else RESERVED)


def check_end(stage: Stage, name: str) -> None:
    """How the scene's job must have ended by now."""
    end = "cancelled" if name == CANCELLED else "done" if stage.entries else "unknown"
    check_over(stage, end)


@pytest.mark.long
@pytest.mark.parametrize(("database", "name"), plan(without={ASKED, BEGUN}))
def test_killed_anywhere_and_heard_of_at_once(
    database: str, name: str, house: House, killer: Killer
):
    for stage, ran in played(house, SCENES[name], killer):
        if name != CANCELLED or "fal cancel" in ran.effects:
            stage.hear()
        stage.sweep(*MINUTES_S, *HOURS_S)
        if stage.job is None:
            assert ran.effects == ("take",)
        else:
            check_end(stage, name)
        check_again(stage)


@pytest.mark.long
@pytest.mark.parametrize(("database", "name"), plan(without={POLLED, CANCELLED}))
def test_killed_anywhere_and_heard_of_late_or_never(
    database: str, name: str, house: House, killer: Killer
):
    for stage, ran in played(house, SCENES[name], killer):
        stage.sweep(*MINUTES_S)
        if stage.job is None:  # what was reserved stays so until the day ends, or the caller comes
            assert (ran.effects, stage.spent) == (("take",), RESERVED)
            check_again(stage)
            continue
        began = {"create submitting", "write submitting"} & set(ran.effects)
        if began and "write submitted" not in ran.effects:
            assert (stage.job.state, stage.job.settled) == ("unknown", False)
            assert stage.spent == RESERVED
            stage.sweep(*HOURS_S)
            check_over(stage, "unknown")
            stage.hear()
            stage.sweep(*MINUTES_S)
        check_end(stage, name)
        check_again(stage)

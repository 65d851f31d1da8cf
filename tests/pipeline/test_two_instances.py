"""Two instances at the same jobs at once: each job is paid for and copied by one of them."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fal_image.generate import Wish
from fal_image.inputs import Order
from support import databases, storages, world
from support.fake_fal import MODEL
from support.world import CALLER, PUBLIC_URL, SWEEP, Instance, World

pytestmark = pytest.mark.timeout(60)  # thousands of writes, each of them on the disk


@pytest.fixture(params=[("sqlite", 500), ("dynamodb", 40)], ids=lambda given: f"{given[0]}")
def rig_and_jobs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[databases.Rig, int]:
    name, jobs = request.param
    for variable, value in storages.AWS_ENVIRON.items():
        monkeypatch.setenv(variable, value)
    if name == "sqlite":
        return databases.SqliteRig(tmp_path / "jobs.db"), jobs
    return databases.DynamodbRig(request.getfixturevalue("moto")), jobs


def keep(instance: Instance, job_ids: list[str]) -> None:
    """Jobs that nobody has begun; their documents are written side by side."""
    generator = instance.services.generator
    order = generator.checked(Order(MODEL, {"prompt": "a calico cat"}))

    def one(job_id: str) -> None:
        generator.queue(order, Wish(caller=CALLER, job_id=job_id, public_url=PUBLIC_URL))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, job_ids))


def swept_at_once(instances: list[Instance]) -> list[int]:
    """How many jobs each of them looked at."""
    ready = threading.Barrier(len(instances))

    def one(instance: Instance) -> int:
        ready.wait()
        swept = instance.ask(SWEEP).json
        assert (swept["failed"], swept["isComplete"]) == (0, True), swept
        return int(swept["jobs"])

    with ThreadPoolExecutor(len(instances)) as pool:
        return list(pool.map(one, instances))


@pytest.mark.long
def test_two_instances_submit_and_copy_each_job_once(rig_and_jobs: tuple[databases.Rig, int]):
    rig, count = rig_and_jobs
    shared = World(rig.url, None, rig.environ, budget_usd_micro=10**9)
    job_ids = [f"{number:026d}" for number in range(count)]
    first, second = shared.instance(), shared.instance()
    keep(first, job_ids)
    shared.pass_s(31)

    with world.errors_logged() as errors:
        looked_at = swept_at_once([first, second])

    assert errors == []
    assert min(looked_at) > 0
    assert (shared.fal.submits, len(shared.fal.taken)) == (count, count)
    assert Counter(one.job_id for one in shared.fal.taken) == Counter(job_ids)
    assert len(shared.storage.pictures) == count
    assert len(shared.storage.created) == len(shared.storage.objects) == 2 * count  # manifests
    jobs = shared.instance().services.generator.steps.records.find_many(job_ids)
    assert [(job.job_id, job.state, job.settled) for job in jobs] == [
        (job_id, "done", True) for job_id in job_ids
    ]
    database = first.services.drivers.database()
    assert database.total(f"spent:{CALLER}:{world.NOON:%Y-%m-%d}") == 3000 * count
    assert not world.is_anything_due(database, shared.now())

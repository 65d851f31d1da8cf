"""Jobs through SQS: webhooks and sweeps only put them into the queue, its consumers drive them."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from fal_image.app import Seams, compose
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.settings import load as load_settings
from support import storages
from support.breakable import breakable_storage
from support.entrypoints import load, through_aws
from support.events import sqs_message
from support.instances import CAT, Calendar, Instance, Postbox, environment, instance, kept, read

Configure = Callable[..., None]


class Queue:
    """A queue of its own on moto, and its owner's view of it."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        self.client: Any = boto3.client("sqs", endpoint_url=endpoint_url)
        name = f"jobs-{id(self)}"
        self.url = str(self.client.create_queue(QueueName=name)["QueueUrl"])

    def __len__(self) -> int:
        names = ["ApproximateNumberOfMessages"]
        told = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return int(told["Attributes"][names[0]])

    def take(self) -> list[str]:
        """The bodies of at most ten messages, which are then deleted."""
        got = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10)
        for message in got.get("Messages", []):
            self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in got.get("Messages", [])]


@pytest.fixture
def queue(moto: str, monkeypatch: pytest.MonkeyPatch) -> Queue:
    for name, value in storages.AWS_ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    return Queue(moto)


@pytest.fixture
def box(fal: Emulator) -> Iterator[Postbox]:
    with Postbox(fal) as postbox:
        yield postbox


def consumed(*messages: object) -> Any:
    """What the AWS function reports on a batch of messages."""
    records = [
        sqs_message(f"m-{number}", body if isinstance(body, str) else json.dumps(body))
        for number, body in enumerate(messages)
    ]
    context = platforms.LambdaContext("l-1", clock=lambda: 0.0)
    failures = load("aws")({"Records": records}, context)["batchItemFailures"]
    return [failure["itemIdentifier"] for failure in failures]


def queued(queue: Queue) -> dict[str, Any]:
    return {
        "FAL_IMAGE_QUEUE_URL": queue.url,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": queue.endpoint_url,
    }


def test_a_webhook_only_records_and_queues_and_the_consumer_copies(
    configure: Configure, queue: Queue, fal: Emulator, box: Postbox, tmp_path: Path
):
    settings = environment(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=box.url)
    configure(**settings, **queued(queue), **storages.AWS_ENVIRON)
    job_id = instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=box.url).submitted()["jobId"]
    assert read(through_aws(box.next())).status == 200
    body = kept(tmp_path, job_id).body
    assert (body["state"], "outcome" in body, "lease" in body) == ("submitted", True, False)
    assert fal.calls["file"] == 0
    assert len(queue) == 1

    (message,) = queue.take()
    assert json.loads(message) == {"jobId": job_id}
    assert consumed(message) == []
    assert kept(tmp_path, job_id).body["state"] == "done"
    assert len(queue) == 0


def test_a_sweep_queues_what_is_due_and_consumers_send_nothing(
    configure: Configure, queue: Queue, fal: Emulator, tmp_path: Path
):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar), **queued(queue))
    jobs = [one.submitted({**CAT, "seed": seed})["jobId"] for seed in range(12)]
    calendar.forward(minutes=1)
    assert one.tick()["jobs"] == 12
    assert fal.calls["status"] == 0
    assert len(queue) == 12

    configure(**environment(fal, tmp_path), **queued(queue), **storages.AWS_ENVIRON)
    taken = [*queue.take(), *queue.take()]
    assert {json.loads(message)["jobId"] for message in taken} == set(jobs)
    assert consumed(*taken) == []
    assert {kept(tmp_path, job_id).body["state"] for job_id in jobs} == {"done"}
    assert len(queue) == 0
    assert len(fal.ledger) == 12


def test_messages_come_again_one_by_one(configured: Configure, fal: Emulator, tmp_path: Path):
    settings = environment(fal, tmp_path)
    configured(**settings)
    jobs = [instance(fal, tmp_path).submitted()["jobId"] for _ in range(2)]
    failed = consumed(
        {"jobId": jobs[0]},
        {"jobId": "0" * 26},
        "{",
        {"jobId": 7},
        {"prompt": "a cat"},
        [],
        {"jobId": "../meta:sweep"},
        {"jobId": jobs[1]},
    )
    assert failed == ["m-1", "m-2", "m-3", "m-4", "m-5", "m-6"]
    assert {kept(tmp_path, job_id).body["state"] for job_id in jobs} == {"done"}
    assert len(fal.ledger) == 2


def test_a_message_of_a_finished_job_is_done_with(
    configured: Configure, fal: Emulator, tmp_path: Path
):
    configured(**environment(fal, tmp_path))
    job_id = instance(fal, tmp_path).generate().json["jobId"]
    before = kept(tmp_path, job_id)
    assert consumed({"jobId": job_id}, {"jobId": job_id}) == []
    assert kept(tmp_path, job_id) == before


def test_without_a_database_a_message_comes_again(configured: Configure):
    assert consumed({"jobId": "0" * 26}) == ["m-0"]


@pytest.fixture
def without_queue(
    queue: Queue, fal: Emulator, box: Postbox, tmp_path: Path
) -> tuple[Instance, Calendar]:
    """An instance whose queue is gone."""
    calendar = Calendar()
    queue.client.delete_queue(QueueUrl=queue.url)
    settings = queued(queue) | {"FAL_IMAGE_PUBLIC_URL": box.url}
    return instance(fal, tmp_path, seams=Seams(now=calendar), **settings), calendar


def test_a_webhook_that_cannot_queue_copies_itself(
    without_queue: tuple[Instance, Calendar], box: Postbox, tmp_path: Path
):
    one, _ = without_queue
    job_id = one.submitted()["jobId"]
    assert one.deliver(box.next()).status == 200
    assert kept(tmp_path, job_id).body["state"] == "done"


def test_a_sweep_that_cannot_queue_drives_itself(
    without_queue: tuple[Instance, Calendar], tmp_path: Path
):
    one, calendar = without_queue
    job_id = one.submitted()["jobId"]
    calendar.forward(minutes=1)
    assert one.tick()["jobs"] == 1
    assert kept(tmp_path, job_id).body["state"] == "done"


def test_a_consumer_whose_copy_fails_leaves_the_job_to_the_sweep(
    queue: Queue, fal: Emulator, tmp_path: Path
):
    storage, calendar = breakable_storage("put"), Calendar()
    one = instance(
        fal, tmp_path, seams=Seams(storage=storage.around, now=calendar), **queued(queue)
    )
    job_id = one.submitted()["jobId"]
    storage.is_broken = True
    one.job(job_id)
    assert kept(tmp_path, job_id).body["state"] == "storing"
    storage.mend()
    calendar.ahead += timedelta(minutes=5)
    one.tick()
    assert len(queue) == 1


def test_a_queue_without_a_region_is_a_problem_at_start_and_not_in_every_sweep(
    fal: Emulator, tmp_path: Path
):
    url = "https://queue.example.com/123456789012/jobs"
    settings = load_settings(environment(fal, tmp_path, FAL_IMAGE_QUEUE_URL=url))
    (problem,) = compose(settings, environ={}).settings.problems
    assert problem.startswith("AWS_REGION")

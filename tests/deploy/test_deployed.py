"""The whole product as an owner gets it: `scripts/deploy aws`, then its own public address.

AWS is MiniStack (tests/support/ministack.py says what it does not do as AWS), fal is the emulator,
and callers reach https://<id>.lambda-url.<region>.on.aws as anybody would, but for the name, which
leads to this machine. Everything that the function may do it may by the role that serverless.yml
gives it, over TLS. Only the schedule's minute and the seconds of a link that dies are waited for:
they are another program's clock.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fal_image.dev.emulator import Emulator, Entry
from support.deployed import Deployed, Project, eventually, found, project, settings
from support.entrypoints import KEY
from support.ministack import MiniStack

pytestmark = [
    pytest.mark.long,
    pytest.mark.needs("deploy tools"),
    pytest.mark.needs("node >= 20"),
    pytest.mark.timeout(300),
]

STAGE = "dev"
DEPLOY = ("scripts/deploy", "aws")
ROWS = 50
CURL = {"prompt": "a calico cat at sunset", "image_size": "landscape_16_9"}
LATER = {"prefer": "respond-async"}


@dataclass(frozen=True)
class Cloud:
    """What was deployed, from what, with which fal; and a job whose webhook got lost, which the
    schedule has had time for since."""

    deployed: Deployed
    project: Project
    fal: Emulator
    unheard: str

    def submit_of(self, job: dict[str, Any]) -> Entry:
        [entry] = [one for one in self.fal.ledger if one.request_id == job["falRequestId"]]
        return entry

    def done(self, job_id: str, within_s: float) -> dict[str, Any]:
        """The job's document once it is done. The function is not asked: that would drive it."""

        def look() -> dict[str, Any] | None:
            document = self.deployed.document(f"job:{job_id}")
            return document if document["state"] == "done" else None

        return eventually(look, within_s)

    def there_is(self) -> dict[str, list[str]]:
        """Everything that a deploy makes first, or that costs money."""
        client = self.deployed.stack.client
        stacks = client("cloudformation").describe_stacks()["Stacks"]
        return {
            "stacks": sorted(one["StackName"] for one in stacks),
            "buckets": sorted(one["Name"] for one in client("s3").list_buckets()["Buckets"]),
            "tables": sorted(client("dynamodb").list_tables()["TableNames"]),
            "queues": sorted(client("sqs").list_queues().get("QueueUrls", [])),
            "functions": sorted(
                one["FunctionName"] for one in client("lambda").list_functions()["Functions"]
            ),
        }


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("deployed")
    aws = folder / "aws"
    aws.mkdir()
    detours: dict[str, str] = {}
    with (
        MiniStack(aws) as stack,
        Emulator(run_s=0.2, webhook_backoff_s=0.2, detours=detours) as fal,
        pytest.MonkeyPatch.context() as environ,
    ):
        environ.setenv("SSL_CERT_FILE", str(stack.ca))  # fal trusts the function's certificate
        copy = project(folder, stack)
        said = copy.run(*DEPLOY, **settings(fal))
        assert said.returncode == 0, said.stdout
        deployed = found(copy, STAGE)
        assert f"https://{deployed.host}/" in said.stdout
        detours[deployed.host] = stack.url
        deployed.let_it_send_as_on_aws()
        fal.fault("late", on="webhook", seconds=3600)
        unheard = deployed.ask("POST", "/generate", {"prompt": "a lost letter"}, LATER)
        assert unheard.status == 202, (unheard.body, deployed.lines)
        yield Cloud(deployed, copy, fal, unheard.json["jobId"])


@pytest.mark.needs("curl")
def test_the_recipes_curl_gets_a_picture_that_lies_in_the_deployed_bucket(cloud: Cloud):
    address, port = cloud.deployed.host, cloud.deployed.stack.port
    said = subprocess.run(
        ["curl", "-sS", "--fail-with-body", "-X", "POST", f"https://{address}/"]
        + ["--connect-to", f"{address}:443:127.0.0.1:{port}", "--noproxy", "*"]
        + ["--cacert", str(cloud.deployed.stack.ca)]
        + ["-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {KEY}"]
        + ["-d", json.dumps(CURL)],
        capture_output=True,
        encoding="utf-8",
    )
    assert said.returncode == 0, (said.stdout, said.stderr, cloud.deployed.lines)
    job = json.loads(said.stdout)
    bucket = cloud.deployed.outputs["Bucket"]
    key = job["fileID"].removeprefix(f"s3://{bucket}/")
    assert key.startswith("ai-images/")
    linked = cloud.deployed.ask("GET", job["tempFileURL"])
    assert (linked.status, linked.headers["content-type"]) == (200, "image/jpeg")
    assert hashlib.sha256(linked.body).hexdigest() == job["images"][0]["sha256"]
    assert cloud.deployed.stored(key) == linked.body


def test_fals_webhook_ends_a_job_that_nobody_asks_after(cloud: Cloud):
    answer = cloud.deployed.ask("POST", "/generate", CURL, LATER)
    assert answer.status == 202
    address = f"https://{cloud.deployed.host}"
    assert answer.headers["location"] == f"{address}/jobs/{answer.json['jobId']}"
    cloud.done(answer.json["jobId"], within_s=30)
    submit = cloud.submit_of(answer.json)
    assert (submit.webhook_url or "").startswith(f"{address}/webhooks/fal/")
    assert submit.webhook_answers[-1] == 200
    job = cloud.deployed.ask("GET", answer.headers["location"]).json
    assert job["state"] == "done"
    assert cloud.deployed.ask("GET", job["tempFileURL"]).status == 200


def test_a_batch_travels_through_the_queue_and_every_row_is_paid_once(cloud: Cloud):
    prompts = [f"cat number {place}" for place in range(ROWS)]
    rows = [{"rowId": f"r{place}", "prompt": prompt} for place, prompt in enumerate(prompts)]
    answer = cloud.deployed.ask("POST", "/batches", {"rows": rows, "window": 8})
    assert answer.status == 202
    target = f"/batches/{answer.json['batchId']}"

    def over() -> dict[str, Any] | None:
        batch: dict[str, Any] = cloud.deployed.ask("GET", target).json
        return batch if batch["resultsUrl"] and batch["state"] == "done" else None

    batch = eventually(over, within_s=90)
    counts = {"total": ROWS, "done": ROWS} | dict.fromkeys(
        ("pending", "running", "failed", "unknown", "cancelled"), 0
    )
    assert batch["counts"] == counts
    paid = [one.input["prompt"] for one in cloud.fal.ledger if isinstance(one.input, dict)]
    assert sorted(prompt for prompt in paid if prompt in prompts) == sorted(prompts)
    results = cloud.deployed.ask("GET", batch["resultsUrl"]).body.splitlines()
    lines = [json.loads(line) for line in results]
    assert [line["rowId"] for line in lines] == [row["rowId"] for row in rows]
    assert {line["state"] for line in lines} == {"done"}
    asked = [line for line in cloud.deployed.lines if line.get("route") == "queue"]
    assert {line["jobId"] for line in lines} <= {line["jobId"] for line in asked}
    assert cloud.deployed.dead_letters == 0


def test_a_job_whose_webhook_gets_lost_is_ended_by_the_schedule(cloud: Cloud):
    job = cloud.done(cloud.unheard, within_s=150)
    submit = cloud.submit_of(cloud.deployed.ask("GET", f"/jobs/{cloud.unheard}").json)
    assert submit.webhook_answers == ()
    assert job["images"]
    sweep = cloud.deployed.document("meta:sweep")
    assert sweep["isComplete"]
    assert sweep["failed"] == 0


def test_a_dead_link_is_refused_by_s3_and_renewed_by_its_file_id(cloud: Cloud):
    file_id = cloud.deployed.ask("POST", "/generate", CURL).json["fileID"]

    def link(life_s: int) -> str:
        answer = cloud.deployed.ask("POST", "/links", {"fileIDs": [file_id], "maxAge": life_s})
        url: str = answer.json["fileList"][0]["tempFileURL"]
        return url

    short = link(3)
    assert cloud.deployed.ask("GET", short).status == 200

    def refused() -> bytes | None:
        answer = cloud.deployed.ask("GET", short)
        return answer.body if answer.status == 403 else None

    assert b"Request has expired" in eventually(refused, within_s=10)
    assert cloud.deployed.ask("GET", link(60)).status == 200


@pytest.mark.parametrize(
    ("command", "setting", "value"),
    [
        (DEPLOY, "FAL_IMAGE_SECRET", None),
        (("osls", "deploy"), "FAL_IMAGE_MAX_WAIT_S", "soon"),
    ],
)
def test_nothing_is_made_with_a_setting_missing_or_wrong(
    cloud: Cloud, command: tuple[str, ...], setting: str, value: str | None
):
    before = cloud.there_is()
    said = cloud.project.run(
        *command, "--stage", "never", **settings(cloud.fal, **{setting: value})
    )
    assert said.returncode != 0
    assert setting in said.stdout
    assert cloud.there_is() == before


def test_who_has_no_right_to_a_picture_does_not_get_it(cloud: Cloud):
    """So much for this AWS: it does ask roles and signatures, else the others prove little."""
    job = cloud.deployed.ask("POST", "/generate", CURL).json
    link, bucket = job["tempFileURL"], cloud.deployed.outputs["Bucket"]
    forged = link[:-1] + ("1" if link[-1] == "0" else "0")
    assert cloud.deployed.ask("GET", link).status == 200
    assert cloud.deployed.ask("GET", forged).status == 403
    assert cloud.deployed.ask("GET", link.partition("?")[0]).status == 403
    stranger = cloud.deployed.stack.stranger("s3")
    with pytest.raises(ClientError, match="AccessDenied"):
        stranger.get_object(Bucket=bucket, Key=job["fileID"].removeprefix(f"s3://{bucket}/"))


def test_removing_the_stack_leaves_the_pictures_and_the_jobs(cloud: Cloud):
    before = cloud.there_is()
    stage, environment = ("--stage", "brief"), settings(cloud.fal)
    said = cloud.project.run(*DEPLOY, *stage, **environment)
    assert said.returncode == 0, said.stdout
    brief = found(cloud.project, "brief")
    picture = brief.ask("POST", "/generate", CURL)
    assert picture.status == 200
    key = picture.json["fileID"].removeprefix(f"s3://{brief.outputs['Bucket']}/")

    said = cloud.project.run("osls", "remove", *stage, **environment)
    assert said.returncode == 0, said.stdout
    after = cloud.there_is()
    assert brief.stored(key)
    kept = {"buckets": [brief.outputs["Bucket"]], "tables": [brief.outputs["Table"]]}
    assert {
        what: [name for name in names if name not in before[what]] for what, names in after.items()
    } == {"stacks": [], "queues": [], "functions": [], **kept}

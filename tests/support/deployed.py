"""This project deployed for real, by its own script and AWS's own command line, to MiniStack.

Refuses to know what a deployed function answers.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from scripts import setup

from fal_image.dev.emulator import Emulator

from .emulator import Reply
from .entrypoints import FAL_KEY, KEY, KEY_SHA256, ROOT
from .front import HOST
from .ministack import TOOLS, MiniStack
from .unpacked import target_here

SERVICE = "fal-image"
PARTS = ("functions", "scripts", "shared", "serverless.yml", "pyproject.toml", "requirements.lock")
DEPLOYS_WITHIN_S = 120

Found = TypeVar("Found")


def settings(fal: Emulator, **changes: str | None) -> dict[str, str]:
    """What whoever deploys has in the shell; None leaves a setting out."""
    whole: dict[str, str | None] = {
        "FAL_KEY": FAL_KEY,
        "FAL_IMAGE_SECRET": "canary0signing0secret0of0this0test",
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        "FAL_IMAGE_EMULATOR_URL": fal.url,
        "FAL_IMAGE_RATE_LIMIT": "1000/m",
        **changes,
    }
    return {name: text for name, text in whole.items() if text is not None}


@dataclass(frozen=True)
class Project:
    """A copy of this project's files in a folder, so that nothing of a developer's own gets in,
    an `.env` least of all, and nobody's package is written over. It has this `.venv`."""

    folder: Path
    home: Path
    stack: MiniStack

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program for the function of the Python at hand, in a shell with this environment
        and nothing else of ours."""
        return subprocess.run(
            [*command, *_parameters()],
            cwd=self.folder,
            env={
                "PATH": f"{TOOLS / 'node_modules' / '.bin'}:{os.environ['PATH']}",
                "HOME": str(self.home),
                **_pip_settings(),
                **self.stack.shell,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=DEPLOYS_WITHIN_S,
        )


@dataclass(frozen=True)
class Deployed:
    """The stack of one stage, and how its callers reach it: through its own public address, which
    leads to this machine."""

    stack: MiniStack
    stage: str
    outputs: Mapping[str, str]
    resources: Mapping[
        str, str
    ]  # the names that CloudFormation made up, by those in serverless.yml
    context: ssl.SSLContext = field(repr=False)

    @property
    def host(self) -> str:
        host = urlsplit(self.outputs["ApiLambdaFunctionUrl"]).hostname
        assert host
        return host

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One call of an owner of an API key; `target` may also be a whole address of this stack's
        or of S3's."""
        parts = urlsplit(target)
        host = parts.netloc or self.host
        connection = http.client.HTTPSConnection(
            HOST, self.stack.port, timeout=60, context=self.context
        )
        is_ours = host == self.host
        shown = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        try:
            connection.request(
                method,
                parts._replace(scheme="", netloc="").geturl(),
                None if body is None else json.dumps(body),
                {"host": host, **(shown if is_ours else {}), **(headers or {})},
            )
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def stored(self, key: str) -> bytes:
        """An object of the stack's bucket, as its owner reads it."""
        got = self.stack.client("s3").get_object(Bucket=self.outputs["Bucket"], Key=key)
        content: bytes = got["Body"].read()
        return content

    @property
    def dead_letters(self) -> int:
        """How many messages were given up."""
        told = self.stack.client("sqs").get_queue_attributes(
            QueueUrl=self.outputs["DeadLetters"], AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(told["Attributes"]["ApproximateNumberOfMessages"])

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What the function has logged so far, by whoever it was called."""
        return [json.loads(line) for line in self.stack.log.splitlines() if line[:1] == "{"]

    def let_it_send_as_on_aws(self) -> None:
        """Let the function send batches to whom its role lets it send messages: to AWS that is one
        right (SQS guide, actions defined by Amazon SQS), to MiniStack two."""
        iam, role = self.stack.client("iam"), self.resources["IamRoleLambdaExecution"]
        written = [
            iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        ]
        batches = [
            {**one, "Action": "sqs:SendMessageBatch"}
            for one in itertools.chain(*written)
            if "sqs:SendMessage" in one["Action"]
        ]
        assert batches, "the role may send nothing"
        iam.put_role_policy(
            RoleName=role,
            PolicyName="sends-batches",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": batches}),
        )

    def document(self, id: str) -> dict[str, Any]:
        """A document of the stack's table, as it lies there: nothing is asked of the function."""
        got = self.stack.client("dynamodb").get_item(
            TableName=self.outputs["Table"], Key={"id": {"S": id}}, ConsistentRead=True
        )
        body: dict[str, Any] = json.loads(got["Item"]["body"]["S"])
        return body


def project(folder: Path, stack: MiniStack) -> Project:
    there = folder / "project"
    for part in PARTS:
        source, copy = ROOT / part, there / part
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copy2(source, copy)
    _lend_venv(there / ".venv")
    home = folder / "home"
    home.mkdir()
    return Project(there, home, stack)


def found(project: Project, stage: str) -> Deployed:
    """What was deployed as this stage, as CloudFormation tells it."""
    stack = project.stack
    cloudformation = stack.client("cloudformation")
    name = f"{SERVICE}-{stage}"
    described = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    listed = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    return Deployed(
        stack=stack,
        stage=stage,
        outputs={one["OutputKey"]: one["OutputValue"] for one in described["Outputs"]},
        resources={one["LogicalResourceId"]: one["PhysicalResourceId"] for one in listed},
        context=ssl.create_default_context(cafile=str(stack.ca)),
    )


def eventually(look: Callable[[], Found | None], within_s: float) -> Found:
    """What a look finds in the end; things happen meanwhile in processes of their own."""
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        if (seen := look()) is not None:
            return seen
        time.sleep(0.2)
    raise AssertionError(f"nothing was seen within {within_s} s")


def _parameters() -> list[str]:
    here = target_here("aws")
    chosen = {"runtime": f"python{here.python}", "architecture": here.arch}
    return [word for name, value in chosen.items() for word in ("--param", f"{name}={value}")]


def _pip_settings() -> dict[str, str]:
    """How this machine reaches its index, for the package's wheels."""
    kept = {name: text for name, text in os.environ.items() if name in setup.PIP_SETTINGS_KEPT}
    return {"PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip"), **kept}


def _lend_venv(copy: Path) -> None:
    """The packages of this `.venv`, with a stamp that scripts/setup finds in order."""
    copy.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (copy / part).symlink_to(setup.VENV / part)
    stamp = {**setup.wanted_stamp(tests=False), "location": str(copy)}
    (copy / setup.STAMP.name).write_text(json.dumps(stamp), encoding="utf-8")

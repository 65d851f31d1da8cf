"""AWS on this machine, as far as MiniStack imitates it: a program of its own, on loopback only.

It enforces more than it does by default: TLS, signatures, and IAM. The root key deploys, and a
function gets a session of its execution role and may do what that role's policies say.

What it does not do as AWS: it asks for sqs:SendMessageBatch where AWS asks for sqs:SendMessage; for
the rights of a queue's consumer it does not ask at all; it answers GET /health itself, whatever the
host; functions are processes of its own Python, so a package for another Python does not load;
nobody limits their memory, and nothing freezes them between invocations; alarms and log retention
are noted, and that is all. As root it also listens on port 443.

Refuses to know what is deployed.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3.session
from botocore.config import Config

from .entrypoints import ROOT
from .front import HOST, certified

TOOLS = ROOT / "tests" / "deploy" / "tools"
REGION = "eu-west-1"
KEY = "test"  # of the root user, and its secret too
STARTS_WITHIN_S = 20
FUNCTION_URLS = f"*.lambda-url.{REGION}.on.aws"


class MiniStack:
    """A context manager; `directory` is its home, and holds its log."""

    def __init__(self, directory: Path) -> None:
        self._home = directory
        self._log = directory / "ministack.log"
        self._chain = certified(directory, FUNCTION_URLS)
        self.ca = directory / "authority.pem"
        self.port = _free_port()
        self.url = f"https://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        """What it and the functions wrote, for who wants to know why a test failed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def shell(self) -> dict[str, str]:
        """What a program of AWS's needs to find it, as root."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.ca),
            "NODE_EXTRA_CA_CERTS": str(self.ca),
            "SLS_AWS_MONITORING_FREQUENCY": "500",  # ms between looks at a stack; else 5 s
        }

    def client(self, service: str) -> Any:
        """The root user's client, which asks once."""
        return self._client(service, KEY, KEY)

    def stranger(self, service: str) -> Any:
        """The client of a new user of the same account, whom nobody has allowed anything."""
        iam = self.client("iam")
        name = f"stranger-{secrets.token_hex(4)}"
        iam.create_user(UserName=name)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return self._client(service, made["AccessKeyId"], made["SecretAccessKey"])

    def _client(self, service: str, key: str, secret: str) -> Any:
        session = boto3.session.Session(key, secret, region_name=REGION)
        config = Config(retries={"total_max_attempts": 1})
        return session.client(service, endpoint_url=self.url, verify=str(self.ca), config=config)

    def __enter__(self) -> MiniStack:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [TOOLS / ".venv" / "bin" / "ministack"],
                env=self._environment(),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its functions end with it
            )
        try:
            self._await_health()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):  # it has died by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _environment(self) -> dict[str, str]:
        """Functions inherit it, so nothing else of this shell is in it."""
        scratch = self._home / "tmp"
        scratch.mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "TMPDIR": str(scratch),
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_CA_BUNDLE": str(self.ca),
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self.port),
            "IOT_MTLS_ENABLED": "0",
            "LAMBDA_EXECUTOR": "local",
            "MINISTACK_REGION": REGION,
            "MINISTACK_SSL_CERT": str(self._chain),
            "MINISTACK_SSL_KEY": str(self._chain),
            "SFTP_ENABLED": "0",
            "USE_SSL": "1",
        }

    def _await_health(self) -> None:
        context = ssl.create_default_context(cafile=str(self.ca))
        ends_at = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < ends_at and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/_ministack/health", context=context):
                    return
            except urllib.error.URLError:
                time.sleep(0.1)
        raise AssertionError(f"MiniStack did not start:\n{self.log}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])

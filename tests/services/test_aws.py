"""One signed call of AWS's JSON services: its address, whose keys, how often."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from fal_image.aws import ATTEMPTS, AwsError, AwsService, Protocol
from fal_image.sqs import SqsQueue
from support.front import Front
from support.listening import listening

PROTOCOL = Protocol("dynamodb", "DynamoDB_20120810", "1.0")
OWN = {"AWS_ACCESS_KEY_ID": "AKIDOWN", "AWS_SECRET_ACCESS_KEY": "secret"}


@dataclass
class Service:
    """Answers each call with what is next in `answers`, then with {}; notes their headers."""

    url: str = ""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    tunnels: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[Service]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                service.asked.append({name.lower(): value for name, value in self.headers.items()})
                status, content = service.answers.pop(0) if service.answers else (200, b"{}")
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_CONNECT(self) -> None:
                service.tunnels.append(self.path)
                self.send_error(403)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests look at `asked`."""

        with listening(Handler) as self.url:
            yield self


@pytest.fixture
def service() -> Iterator[Service]:
    with Service().serving() as service:
        yield service


def calling(
    service: Service,
    environ: Mapping[str, str] = OWN,
    naps: list[float] | None = None,
    *,
    url: str | None = None,
) -> Callable[[], dict[str, Any]]:
    asked = AwsService(
        PROTOCOL,
        region="eu-central-1",
        endpoint_url=url or service.url,
        read_timeout_s=5,
        sleep=(naps if naps is not None else []).append,
        environ=environ,
    )
    return lambda: asked.call("GetItem", {"a": 1})


def test_the_keys_of_the_environment_are_read_at_each_call(service: Service):
    environ = {**OWN, "AWS_SESSION_TOKEN": "first"}
    call = calling(service, environ)
    call()
    environ |= {"AWS_ACCESS_KEY_ID": "AKIDNEXT", "AWS_SESSION_TOKEN": "second"}
    call()
    first, second = service.asked
    assert "Credential=AKIDOWN/" in first["authorization"]
    assert first["x-amz-security-token"] == "first"
    assert "Credential=AKIDNEXT/" in second["authorization"]
    assert second["x-amz-security-token"] == "second"


def test_without_keys_in_the_environment_those_of_the_profile_are_used(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    profile = tmp_path / "credentials"
    profile.write_text("[default]\naws_access_key_id=AKIDFILE\naws_secret_access_key=s\n", "utf-8")
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    calling(service, {})()
    (asked,) = service.asked
    assert "Credential=AKIDFILE/" in asked["authorization"]


def test_without_keys_and_without_botocore_it_is_told_what_to_install():
    program = """
import sys
sys.modules["botocore"] = None  # as if it were not installed
from fal_image.aws import AwsError, Credentials
try:
    Credentials({}).current()
except AwsError as error:
    print(error, error.may_pass)
"""
    environ = {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.check_output([sys.executable, "-c", program], env=environ, encoding="utf-8")
    assert "no AWS credentials in the environment" in said
    assert "pip install boto3 False" in said


def test_what_keeps_botocore_from_credentials_is_an_error_of_ours(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    token = tmp_path / "token"
    token.write_text("a.web.token", "utf-8")
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/fal-image")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    refusal = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
    service.answers = [(403, refusal)]
    with pytest.raises(AwsError, match=r"no AWS credentials: ClientError: .*AccessDenied"):
        calling(service, {})()
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(AwsError, match="no AWS credentials: FileNotFoundError"):
        calling(service, {})()


def test_a_queue_that_fails_is_left_alone(service: Service, monkeypatch: pytest.MonkeyPatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"
    queue = SqsQueue(url, region="eu-central-1", endpoint_url=service.url)
    refused = json.dumps({"Failed": [{"Id": "3"}]}).encode()
    service.answers = [(200, refused), (403, b"{}")]
    jobs = [str(number) for number in range(35)]
    assert queue.send(jobs) == ["3", *jobs[10:]]
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("sqs.eu-central-1.amazonaws.com", "eu-central-1"),
        ("sqs-fips.us-east-2.amazonaws.com", "us-east-2"),
        ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("sqs.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        ("sqs.eu-west-1.api.aws", "eu-west-1"),
        ("queue.example.com", "us-east-1"),
    ],
)
def test_a_queue_is_called_in_the_region_of_its_address(
    service: Service, monkeypatch: pytest.MonkeyPatch, host: str, region: str
):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    url = f"https://{host}/123456789012/jobs"
    SqsQueue(url, region="us-east-1", endpoint_url=service.url).send(["a"])
    assert f"/{region}/sqs/aws4_request" in service.asked[0]["authorization"]


@pytest.mark.parametrize("switch", [None, "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"])
@pytest.mark.parametrize(
    "region", ["eu-central-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"]
)
@pytest.mark.parametrize("name", ["dynamodb", "sqs", "ssm"])
def test_a_service_is_called_where_botocore_calls_it(
    name: str,
    region: str,
    switch: str | None,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
):
    if switch:
        monkeypatch.setenv(switch, "true")
    client = botocore.session.get_session().create_client(name, region_name=region)
    monkeypatch.setenv("HTTPS_PROXY", service.url)  # which is told whom to connect to, and does not
    monkeypatch.delenv("NO_PROXY", raising=False)
    asked = AwsService(
        Protocol(name, "", "1.0"),
        region=region,
        endpoint_url=None,
        read_timeout_s=5,
        sleep=lambda seconds: None,
        environ={**OWN, switch or "": "true"},
    )
    with pytest.raises(AwsError):
        asked.call("GetItem", {})
    assert {f"https://{host}" for host in service.tunnels} == {f"{client.meta.endpoint_url}:443"}


def test_a_key_that_no_header_can_carry_is_not_tried_again_and_not_told(service: Service):
    with pytest.raises(AwsError, match="InvalidHeader") as caught:
        calling(service, {**OWN, "AWS_SESSION_TOKEN": "canary\ntoken"})()
    assert not caught.value.may_pass
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "said", "times"),
    [
        (500, {"__type": "x#InternalServerError"}, ATTEMPTS),
        (503, {}, ATTEMPTS),
        (400, {"__type": "x#ThrottlingException"}, ATTEMPTS),
        (400, {"__type": "x#ValidationException"}, 1),
        (403, {"__type": "x#AccessDeniedException"}, 1),
    ],
)
def test_only_what_may_pass_is_sent_again(
    service: Service, status: int, said: dict[str, str], times: int
):
    naps: list[float] = []
    service.answers = [(status, json.dumps(said).encode())] * ATTEMPTS
    with pytest.raises(AwsError) as caught:
        calling(service, naps=naps)()
    assert (len(service.asked), len(naps)) == (times, times - 1)
    assert (caught.value.status, caught.value.may_pass) == (status, times > 1)
    assert caught.value.asked_again == (times > 1)


@pytest.mark.parametrize("content", [b"", b"<html>busy</html>", b"[1]", b"\xff"])
def test_an_answer_that_is_no_json_object_is_refused(service: Service, content: bytes):
    service.answers = [(200, content)] * ATTEMPTS
    with pytest.raises(AwsError, match="HTTP 200: no JSON object"):
        calling(service)()


def test_a_redirect_is_not_followed_with_the_signature(service: Service):
    service.answers = [(307, b"{}")]
    with pytest.raises(AwsError, match="HTTP 307"):
        calling(service)()
    assert len(service.asked) == 1


def test_a_server_is_believed_by_the_authorities_that_the_environment_names(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with Front(tmp_path) as front:
        front.to(service.url)
        with pytest.raises(AwsError, match="CERTIFICATE_VERIFY_FAILED|unable to get local issuer"):
            calling(service, url=front.url)()
        trusting = {**OWN, "AWS_CA_BUNDLE": str(front.ca)}
        assert calling(service, trusting, url=front.url)() == {}
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(front.ca))
        assert calling(service, url=front.url)() == {}

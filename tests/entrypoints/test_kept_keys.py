"""fal's key in a file or in Parameter Store, at a real entrypoint: what works, and what is told."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from fal_image.dev.emulator import Emulator
from fal_image.dev.platforms import LambdaContext, function_url_event, read_lambda_reply
from support import storages
from support.entrypoints import FAL_KEY, NOON, load, request
from support.instances import NOWHERE, Answer, ask, read

Configure = Callable[..., None]
NAME = "/fal-image/fal-key"
AWS = {**storages.AWS_ENVIRON, "AWS_REGION": "eu-central-1"}


@pytest.fixture
def kept(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a value into the parameter, encrypted."""
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    client: Any = boto3.client("ssm", endpoint_url=moto, region_name="eu-central-1")

    def put(value: str) -> None:
        client.put_parameter(Name=NAME, Value=value, Type="SecureString", Overwrite=True)

    yield put
    client.close()


def asked(main: Callable[[object, object], dict[str, Any]]) -> Answer:
    event = function_url_event(request(body={"prompt": "a cat"}), at=NOON)
    return read(
        read_lambda_reply(
            main(event, LambdaContext("lambda-1", timeout_s=60, clock=time.monotonic))
        )
    )


def in_parameter(configured: Configure, endpoint: str, **bent: str | None) -> None:
    settings: dict[str, str | None] = {
        **AWS,
        "FAL_KEY": None,
        "FAL_KEY_SSM_PARAM": NAME,
        "AWS_ENDPOINT_URL_SSM": endpoint,
    }
    configured(**(settings | bent))


def test_a_key_in_a_file_pays(configured: Configure, fal: Emulator, tmp_path: Path, cloud: str):
    path = tmp_path / "fal-key"
    path.write_text(f"{FAL_KEY}\n", encoding="utf-8")
    configured(FAL_KEY=None, FAL_KEY_FILE=str(path))
    assert ask(cloud, body={"prompt": "a cat"}).status == 200
    path.unlink()
    answer = ask(cloud, body={"prompt": "a cat"})
    assert (answer.status, answer.json["error"]) == (500, "misconfigured")
    assert "FAL_KEY_FILE" in answer.json["detail"]
    assert str(tmp_path) not in answer.json["detail"]


def test_a_file_that_others_may_read_is_warned_of_in_the_log(
    configured: Configure, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path = tmp_path / "fal-key"
    path.write_text(FAL_KEY, encoding="utf-8")
    path.chmod(0o644)
    configured(FAL_KEY=None, FAL_KEY_FILE=str(path))
    load("aws")
    assert '"level": "WARNING", "message": "FAL_KEY_FILE: ' in capfd.readouterr().err


def test_a_key_in_parameter_store_pays_and_is_read_once(
    configured: Configure, kept: Callable[[str], None], moto: str
):
    kept(FAL_KEY)
    in_parameter(configured, moto)
    main = load("aws")
    kept("revoked:canary0secret")
    assert [asked(main).status for _ in range(2)] == [200, 200]
    assert asked(load("aws")).json["error"] == "fal_auth_failed"


def test_a_parameter_that_is_missing_or_no_key_is_named_and_its_value_is_not(
    configured: Configure,
    kept: Callable[[str], None],
    moto: str,
    capfd: pytest.CaptureFixture[str],
):
    kept("canary0no0key")
    for bent in ({}, {"FAL_KEY_SSM_PARAM": "/canary/nothing"}):
        in_parameter(configured, moto, **bent)
        answer = asked(load("aws"))
        assert (answer.status, answer.json["error"]) == (500, "misconfigured")
        assert "FAL_KEY_SSM_PARAM: " in answer.json["detail"]
        assert "canary" not in str(answer.json)
    captured = capfd.readouterr()
    assert "canary" not in captured.err + captured.out


def test_a_start_without_an_answer_of_parameter_store_is_made_good_by_a_later_request(
    configured: Configure,
    kept: Callable[[str], None],
    moto: str,
    monkeypatch: pytest.MonkeyPatch,
):
    kept(FAL_KEY)
    in_parameter(configured, NOWHERE)
    main = load("aws")
    answer = asked(main)
    assert (answer.status, answer.json["error"]) == (500, "misconfigured")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", moto)
    assert asked(main).status == 200


def test_without_credentials_for_aws_the_parameter_is_a_problem(
    configured: Configure, kept: Callable[[str], None], moto: str
):
    in_parameter(configured, moto, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    answer = asked(load("aws"))
    assert answer.json["detail"].endswith("neither in the environment nor elsewhere")

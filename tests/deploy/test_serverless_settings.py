"""What the plugin of serverless.yml asks before anything is made, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from scripts.deploying import aws
from scripts.deploying.__main__ import main

FROM_THE_FILE: Mapping[str, object] = {
    "FAL_IMAGE_STORAGE_URL": {"Fn::Sub": ["s3://${Name}/ai-images", {"Name": {"Ref": "Bucket"}}]},
    "FAL_IMAGE_DATABASE_URL": {"Fn::Sub": ["dynamodb://${Name}", {"Name": {"Ref": "Table"}}]},
    "FAL_IMAGE_QUEUE_URL": {"Ref": "Jobs"},
}
GIVEN = {
    "FAL_KEY": "key-id:canary-of-the-key",
    "FAL_IMAGE_SECRET": "canary-of-the-secret-with-32-characters",
    "FAL_IMAGE_API_KEYS": f"web={'a' * 64}",
}


def problems(
    *parameters: str,
    without: Sequence[str] = (),
    endpoint: str = "",
    **given: str,
) -> list[str]:
    environment = {**FROM_THE_FILE, **GIVEN, **given}
    for name in without:
        del environment[name]
    return list(aws.problems(environment, parameters, {"AWS_ENDPOINT_URL": endpoint}))


def named(said: Sequence[str]) -> set[str]:
    return {one.partition(":")[0] for one in said}


def test_what_a_first_deployment_needs_is_enough():
    assert problems() == []


def test_the_key_may_be_in_parameter_store():
    assert problems(without=["FAL_KEY"], FAL_KEY_SSM_PARAM="/fal-image/fal-key") == []


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_missing_is_named(name: str):
    assert named(problems(without=[name])) == {name}


@pytest.mark.parametrize("text", ["0", " "])
def test_to_forbid_strangers_is_not_to_say_who_may_call(text: str):
    said = problems(without=["FAL_IMAGE_API_KEYS"], FAL_IMAGE_ALLOW_ANONYMOUS=text)
    assert named(said) == {"FAL_IMAGE_API_KEYS"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FAL_IMAGE_SECRET", "canary-too-short"),
        ("FAL_IMAGE_API_KEYS", "canary"),
        ("FAL_IMAGE_MAX_WAIT_S", "soon"),
        ("FAL_IMAGE_MAX_WAIT", "55"),
        ("FAL_KEY", "canary key"),
        ("FAL_KEY_SSM_PARAM", "/both/ways"),
        ("FAL_IMAGE_CORS_ORIGINS", "*"),
        ("FAL_IMAGE_CORS_ORIGINS", "https://a.example, https://b.example"),
        ("FAL_IMAGE_CORS_ORIGINS", "https://a.example,"),
        ("FAL_IMAGE_CORS_ORIGINS", ","),
        ("FAL_IMAGE_EMULATOR_URL", "http://127.0.0.1:4567"),
        ("FAL_IMAGE_BASE_PATH", "/" + "x" * 4000),
    ],
)
def test_what_cannot_be_is_named_without_its_value(name: str, text: str):
    said = problems(**{name: text})
    assert named(said) == {name}
    assert "canary" not in "".join(said)


def test_every_problem_is_told_at_once():
    said = problems(without=["FAL_KEY", "FAL_IMAGE_API_KEYS"], FAL_IMAGE_MAX_WAIT_S="x")
    assert named(said) == {"FAL_KEY", "FAL_IMAGE_API_KEYS", "FAL_IMAGE_MAX_WAIT_S"}


@pytest.mark.parametrize(
    ("endpoint", "names"),
    [("https://127.0.0.1:4566", set()), ("https://aws.example", {"FAL_IMAGE_EMULATOR_URL"})],
)
def test_a_cloud_on_this_machine_may_have_the_emulator_as_fal(endpoint: str, names: set[str]):
    said = problems(endpoint=endpoint, FAL_IMAGE_EMULATOR_URL="http://127.0.0.1:4567")
    assert named(said) == names


@pytest.mark.parametrize(
    "parameter",
    [
        "bucket=my-pictures",
        "table=My_Jobs",
        "maximumConcurrency=2",
        "maximumConcurrency=1000",
        "alarmTopicArn=arn:aws-cn:sns:cn-north-1:123456789012:alarms",
        "runtime=python3.14",
        "architecture=x86_64",
    ],
)
def test_a_parameter_of_the_file_may_be_given(parameter: str):
    assert problems(parameter) == []


@pytest.mark.parametrize(
    "parameter",
    [
        "buckt=my-pictures",
        "bucket=My_Pictures",
        "bucket=",
        "table=my jobs",
        "maximumConcurrency=1",
        "maximumConcurrency=1001",
        "alarmTopicArn=alarms",
        "runtime=nodejs22.x",
        "architecture=arm",
    ],
)
def test_a_parameter_that_cannot_be_is_named(parameter: str):
    (said,) = problems(parameter)
    assert said.startswith(f"--param {parameter.partition('=')[0]}: ")


def test_an_existing_bucket_with_dots_that_no_bucket_has_is_refused():
    environment = {**FROM_THE_FILE, **GIVEN}
    environment["FAL_IMAGE_STORAGE_URL"] = {"Fn::Sub": ["s3://${Name}", {"Name": "a..b"}]}
    (said,) = aws.problems(environment, ["bucket=a..b"], {})
    assert said.startswith("FAL_IMAGE_STORAGE_URL: ")


@pytest.mark.parametrize("arguments", [[], ["azure"], ["--check"]])
def test_an_unknown_cloud_gets_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    assert "aws|cloudbase|cloudbase-http" in capsys.readouterr().err

"""What the doctor finds of a Lambda function, as AWS tells of it."""

import socket
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fal_image.doctor.lambda_function import URL_RIGHTS
from fal_image.seams import Seams
from support.deployments import AWS_TOLD, asked_from, examined
from support.examined import environment
from support.fake_lambda import OPEN_URL, SCHEDULE, FakeLambda, allowing, lambda_function

QUEUE_URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"
QUEUE_ARN = "arn:aws:sqs:eu-central-1:123456789012:jobs"
URL = {"AuthType": "NONE", "FunctionUrl": "https://x.lambda-url.eu-central-1.on.aws/"}


def aws(told: dict[str, str] | None = None, **changes: Any) -> FakeLambda:
    """A Lambda with one function that is well but for the changes of its configuration."""
    variables = {"Variables": AWS_TOLD if told is None else told}
    said = lambda_function(**{"Environment": variables, **changes})
    return FakeLambda(said, url=URL, statements=[*OPEN_URL, SCHEDULE])


def flipped(text: str, at: int) -> str:
    other = "0" if text[at] != "0" else "1"
    return text[:at] + other + text[at + 1 :]


def test_a_function_that_is_well_is_told_of_by_questions_alone():
    cloud = aws()
    found = examined(cloud)
    assert found.of("ok") == [
        f"function.{word}"
        for word in ("state", "runtime", "timeout", "memory", "environment", "network")
        + ("concurrency", "url", "sweep")
    ]
    assert len(found.all) == 9
    assert {ask.method for ask in cloud.asked} == {"GET"}
    assert "canary" not in repr(found.all)


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"Timeout": 3}, "failed", "ended after 3 s"),
        ({"Timeout": 60}, "ok", "60 s"),
        ({"Timeout": 60, "settings": {"FAL_IMAGE_MAX_WAIT_S": "110"}}, "warning", "110 s"),
        (
            {"Timeout": 60, "settings": {"FAL_IMAGE_DEFAULT_MODEL": "fal-ai/flux-pro"}},
            "warning",
            "",
        ),
    ],
)
def test_the_time_out_of_a_lambda_function_is_judged(
    changes: dict[str, Any], verdict: str, said: str
):
    told = {**AWS_TOLD, **changes.pop("settings", {})}
    found = examined(aws(told, **changes))["function.timeout"]
    assert (found.verdict, said in found.said) == (verdict, True)
    if verdict == "failed":
        assert "timeout: 60 in serverless.yml" in str(found.fix)
        assert "--function-name fal-image-api --timeout 60`" in str(found.fix)


@pytest.mark.parametrize(("memory_mb", "verdict"), [(128, "failed"), (256, "warning"), (512, "ok")])
def test_the_memory_of_a_lambda_function_is_judged(memory_mb: int, verdict: str):
    found = examined(aws(MemorySize=memory_mb))["function.memory"]
    assert found.verdict == verdict
    assert ("--memory-size 512`" in str(found.fix)) == (verdict != "ok")


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"State": "Failed", "StateReason": "no image"}, "failed", "no image"),
        ({"State": "Pending"}, "warning", "being changed"),
        ({"State": "Inactive"}, "warning", "sleeps"),
        ({"LastUpdateStatus": "InProgress"}, "warning", "being changed"),
        (
            {"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "bad role"},
            "failed",
            "the one before runs: bad role",
        ),
    ],
)
def test_a_lambda_function_that_is_not_active_is_found(
    changes: dict[str, Any], verdict: str, said: str
):
    found = examined(aws(**changes))["function.state"]
    assert (found.verdict, said in found.said) == (verdict, True)


@pytest.mark.parametrize(
    ("runtime", "today", "verdict"),
    [
        ("python3.13", "2026-11-21", "ok"),
        ("python3.13", "2029-06-30", "warning"),
        ("python3.10", "2026-10-30", "ok"),
        ("python3.10", "2026-10-31", "warning"),
        ("python3.15", "2026-11-21", "ok"),
        ("python3.9", "2026-11-21", "failed"),
        ("nodejs24.x", "2026-11-21", "failed"),
    ],
)
def test_a_runtime_without_support_is_found(runtime: str, today: str, verdict: str):
    now = datetime.fromisoformat(f"{today}T12:00:00+00:00")
    found = examined(aws(Runtime=runtime), None, now)["function.runtime"]
    assert (found.verdict, runtime in found.said) == (verdict, True)


def test_an_image_brings_its_own_runtime():
    cloud = aws(PackageType="Image")
    said = {name: value for name, value in cloud.configuration.items() if name != "Runtime"}
    found = examined(replace(cloud, configuration=said))
    assert "function.runtime" not in found.by_check
    assert found["function.state"].verdict == "ok"


def test_variables_that_lambda_cannot_read_are_found_and_the_rest_is_judged():
    error = {"ErrorCode": "AccessDeniedException", "Message": "canary"}
    found = examined(aws(Environment={"Error": error}))
    assert (found["function.environment"].verdict, found["function.timeout"].verdict) == (
        "failed",
        "ok",
    )
    assert "kms:Decrypt" in str(found["function.environment"].fix)
    assert "canary" not in repr(found.all)


def test_a_key_in_the_parameter_store_is_a_key():
    told = {**AWS_TOLD, "FAL_KEY": "", "FAL_KEY_SSM_PARAM": "/fal-image/fal-key"}
    assert examined(aws(told))["function.environment"].verdict == "ok"
    found = examined(aws({**told, "FAL_KEY_SSM_PARAM": ""}))["function.environment"]
    assert (found.verdict, "FAL_KEY is not set" in found.said) == ("failed", True)


def test_a_function_in_a_vpc_needs_a_way_out():
    found = examined(aws(VpcConfig={"SubnetIds": ["subnet-1"]}))["function.network"]
    assert (found.verdict, "NAT gateway" in found.said) == ("warning", True)


def test_a_function_that_is_switched_off_is_found():
    found = examined(replace(aws(), reserved=0))["function.concurrency"]
    assert (found.verdict, "delete-function-concurrency" in str(found.fix)) == ("failed", True)
    assert examined(replace(aws(), reserved=5))["function.concurrency"].said.endswith("5 at once")


@pytest.mark.parametrize(
    ("statements", "lacking"),
    [
        ([], ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"]),
        (OPEN_URL[:1], ["lambda:InvokeFunction"]),
        (OPEN_URL[1:], ["lambda:InvokeFunctionUrl"]),
        ([OPEN_URL[0], SCHEDULE], ["lambda:InvokeFunction"]),
        ([OPEN_URL[0], {**OPEN_URL[1], "Effect": "Deny"}], ["lambda:InvokeFunction"]),
        (
            [OPEN_URL[0], allowing("lambda:InvokeFunction", StringEquals={"aws:x": "o-1"})],
            ["lambda:InvokeFunction"],
        ),
        (
            [
                allowing(
                    "lambda:InvokeFunctionUrl",
                    StringNotEquals={"lambda:FunctionUrlAuthType": "NONE"},
                ),
                OPEN_URL[1],
            ],
            ["lambda:InvokeFunctionUrl"],
        ),
        ([allowing("lambda:*", {"AWS": "*"})], []),
        ([allowing("lambda:*", {"AWS": "123456789012"})], list(URL_RIGHTS)),
        (OPEN_URL, []),
    ],
)
def test_a_url_that_lacks_a_permission_is_found(statements: Any, lacking: list[str]):
    found = examined(replace(aws(), statements=statements))["function.url"]
    assert found.verdict == ("failed" if lacking else "ok")
    assert found.said.endswith(f"its policy lacks {' and '.join(lacking)}") == bool(lacking)
    if lacking:
        assert f"--action {lacking[0]} --principal '*'" in str(found.fix)


def test_a_url_for_signed_calls_keeps_fals_webhooks_out():
    signed = replace(aws(), url={"AuthType": "AWS_IAM"})
    assert examined(signed)["function.url"].verdict == "warning"
    no_jobs = replace(aws({**AWS_TOLD, "FAL_IMAGE_DATABASE_URL": ""}), url={"AuthType": "AWS_IAM"})
    assert examined(no_jobs)["function.url"].verdict == "ok"


def test_a_function_behind_a_gateway_has_no_url():
    assert examined(replace(aws(), url=None))["function.url"].verdict == "skipped"


def test_a_function_that_no_schedule_may_call_is_found():
    found = examined(replace(aws(), statements=OPEN_URL))["function.sweep"]
    assert (found.verdict, "rate(1 minute)" in str(found.fix)) == ("warning", True)


@pytest.mark.parametrize(
    ("states", "verdict", "said"),
    [
        ([], "failed", "no function reads the queue jobs"),
        (["Disabled"], "failed", "switched off"),
        (["Disabled", "Enabled"], "ok", "is read"),
        (["Updating"], "ok", "is read"),
    ],
)
def test_a_queue_that_nobody_reads_is_found(states: list[str], verdict: str, said: str):
    readers = [
        {"UUID": f"u-{at}", "State": state, "EventSourceArn": QUEUE_ARN}
        for at, state in enumerate(states)
    ]
    elsewhere = {"UUID": "u", "State": "Enabled", "EventSourceArn": f"{QUEUE_ARN}-of-others"}
    cloud = aws({**AWS_TOLD, "FAL_IMAGE_QUEUE_URL": QUEUE_URL})
    found = examined(replace(cloud, mappings=[*readers, elsewhere]))["function.queue"]
    assert (found.verdict, said in found.said) == (verdict, True)
    assert ("--uuid u-0 --enabled" in str(found.fix)) == (states == ["Disabled"])


def test_what_the_credentials_may_not_ask_is_named_and_the_rest_is_found():
    denied = frozenset({"GetPolicy", "GetFunctionConcurrency"})
    found = examined(replace(aws(), denied=denied))
    assert found.of("skipped") == ["function.concurrency", "function.url", "function.sweep"]
    assert "lambda:GetPolicy" in str(found["function.url"].fix)
    assert "function.timeout" in found.of("ok")


def test_credentials_that_may_ask_nothing_are_no_failure():
    found = examined(replace(aws(), denied=frozenset({"GetFunctionConfiguration"})))["function"]
    assert (found.verdict, "lambda:GetFunctionConfiguration" in str(found.fix)) == ("skipped", True)


def test_a_function_of_another_name_is_not_there():
    found = examined(aws(), "fal-image-dev-api")["function"]
    assert (found.verdict, "fal-image-dev-api in eu-central-1" in found.said) == ("failed", True)
    assert "--function NAME" in str(found.fix)


def test_inside_lambda_the_function_knows_its_own_name():
    cloud = aws()
    assert examined(cloud, "", AWS_LAMBDA_FUNCTION_NAME="fal-image-api").of("ok")


def test_without_a_name_nothing_is_asked():
    environ = environment(FAL_IMAGE_STORAGE_URL="s3://pictures", AWS_REGION="eu-central-1")
    found = asked_from(environ, None, Seams())["function"]
    assert (found.verdict, "fal-image doctor --function NAME" in str(found.fix)) == (
        "skipped",
        True,
    )


def test_on_a_machine_of_ones_own_there_is_no_function(tmp_path: Any):
    environ = environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    assert asked_from(environ, None, Seams())["function"].verdict == "skipped"


def test_credentials_that_aws_does_not_know_are_a_failure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    found = examined(aws())["function"]
    assert (found.verdict, "InvalidSignatureException" in found.said) == ("failed", True)


def test_without_credentials_nothing_is_asked(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    cloud = aws()
    found = examined(cloud)["function"]
    assert (found.verdict, "`aws configure`" in str(found.fix)) == ("skipped", True)
    assert cloud.asked == []


def test_a_lambda_that_nobody_answers_for_is_no_failure_of_the_function():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    found = examined(aws(), AWS_ENDPOINT_URL_LAMBDA=url)["function"]
    assert (found.verdict, "not heard" in found.said) == ("skipped", True)


def test_one_flipped_byte_of_a_question_is_refused():
    cloud = aws({**AWS_TOLD, "FAL_IMAGE_QUEUE_URL": QUEUE_URL})
    examined(cloud)
    for ask in list(cloud.asked):
        assert cloud.answer(ask)[0] == 200
        for name in ("authorization", "host", "x-amz-date", "x-amz-security-token"):
            for at in range(len(ask.headers[name])):
                broken = {**ask.headers, name: flipped(ask.headers[name], at)}
                assert cloud.answer(replace(ask, headers=broken))[0] == 403, broken[name]
        assert cloud.answer(replace(ask, target=f"{ask.target}?x=1"))[0] == 403
        assert cloud.answer(replace(ask, body=b"x"))[0] == 403
    late = datetime.now(timezone.utc) + timedelta(minutes=6)
    assert replace(cloud, clock=lambda: late).answer(cloud.asked[0])[0] == 403

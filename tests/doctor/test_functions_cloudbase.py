"""What the doctor finds of a CloudBase function, as SCF tells of it."""

import socket
from dataclasses import replace
from typing import Any

import pytest

from fal_image.doctor.scf_function import API_HOST
from fal_image.seams import Seams
from support.deployments import CLOUDBASE_TOLD, HTTP_NAME, NAME, asked_from, examined, scf
from support.examined import environment
from support.fake_cos import ENVIRON
from support.fake_scf import FakeScf

pytestmark = pytest.mark.filterwarnings(
    "ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning"
)


def flipped(text: str, at: int) -> str:
    other = "0" if text[at] != "0" else "1"
    return text[:at] + other + text[at + 1 :]


def told(**changes: str) -> dict[str, str]:
    return CLOUDBASE_TOLD | changes


def test_a_function_that_is_well_is_told_of_in_one_call():
    cloud = scf()
    found = examined(cloud)
    assert found.of("ok") == [
        f"function.{word}"
        for word in ("state", "runtime", "timeout", "memory", "environment", "network", "sweep")
    ]
    assert len(found.all) == 7
    assert [ask.headers["x-tc-action"] for ask in cloud.asked] == ["GetFunction", "GetFunction"]
    assert b'"ShowCode": "FALSE"' in cloud.asked[0].body


@pytest.mark.parametrize(
    ("timeout_s", "settings", "verdict", "said"),
    [
        (3, {}, "failed", "ended after 3 s"),
        (59, {}, "failed", "ended after 59 s"),
        (60, {}, "ok", "fal-ai/flux/schnell and a wait of 55 s"),
        (60, {"FAL_IMAGE_MAX_WAIT_S": "56"}, "warning", "FAL_IMAGE_MAX_WAIT_S"),
        (61, {"FAL_IMAGE_MAX_WAIT_S": "56"}, "ok", "a wait of 56 s"),
        (60, {"FAL_IMAGE_DEFAULT_MODEL": "fal-ai/flux-pro"}, "warning", "120 s or more"),
        (119, {"FAL_IMAGE_DEFAULT_MODEL": "fal-ai/flux-kontext/dev"}, "warning", "flux-kontext"),
        (120, {"FAL_IMAGE_DEFAULT_MODEL": "fal-ai/flux-pro/v1.1-ultra"}, "ok", "enough"),
        (60, {"FAL_IMAGE_DEFAULT_MODEL": "fal-ai/flux/dev"}, "ok", "enough"),
        (900, {"FAL_IMAGE_MAX_WAIT_S": "900"}, "ok", "a wait of 900 s"),
    ],
)
def test_the_time_out_is_held_against_the_model_and_the_wait_of_the_function(
    timeout_s: int, settings: dict[str, str], verdict: str, said: str
):
    found = examined(scf(told(**settings), Timeout=timeout_s))["function.timeout"]
    assert (found.verdict, said in found.said) == (verdict, True)


def test_the_fix_of_a_time_out_names_the_setting_and_the_command():
    model = "fal-ai/flux-pro/kontext"
    found = examined(scf(told(FAL_IMAGE_DEFAULT_MODEL=model), Timeout=10))["function.timeout"]
    assert '"timeout": 120' in str(found.fix)
    assert "`scripts/deploy cloudbase`" in str(found.fix)
    assert "Function Config, Timeout" in str(found.fix)


@pytest.mark.parametrize(
    ("memory_mb", "verdict"),
    [(128, "failed"), (256, "warning"), (384, "warning"), (512, "ok"), (1024, "ok")],
)
def test_memory_is_judged_by_what_large_pictures_take(memory_mb: int, verdict: str):
    found = examined(scf(MemorySize=memory_mb))["function.memory"]
    assert found.verdict == verdict
    assert ('"memorySize": 512' in str(found.fix)) == (verdict != "ok")


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"PublicNetConfig": {"PublicNetStatus": "DISABLE"}}, "failed", "EAI_AGAIN"),
        ({"PublicNetConfig": None}, "skipped", "does not say"),
        ({"VpcConfig": {"VpcId": "vpc-1", "SubnetId": "subnet-1"}}, "warning", "NAT gateway"),
        ({"VpcConfig": None}, "ok", "public network"),
    ],
)
def test_a_function_without_a_way_out_is_found(changes: dict[str, Any], verdict: str, said: str):
    found = examined(scf(**changes))["function.network"]
    assert (found.verdict, said in found.said) == (verdict, True)


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        (
            {"Status": "UpdateFailed", "StatusReasons": [{"ErrorMessage": "no zip"}]},
            "failed",
            "zip",
        ),
        (
            {"Status": "CreateFailed", "StatusReasons": None, "StatusDesc": ""},
            "failed",
            "no reason",
        ),
        ({"Status": "Updating"}, "warning", "Updating"),
        ({"AvailableStatus": "InsufficientBalance"}, "failed", "owes money"),
        ({"AvailableStatus": None}, "ok", "active"),
    ],
)
def test_a_function_that_is_not_active_is_found(changes: dict[str, Any], verdict: str, said: str):
    found = examined(scf(**changes))["function.state"]
    assert (found.verdict, said in found.said) == (verdict, True)


@pytest.mark.parametrize(
    ("runtime", "verdict"),
    [
        ("Python3.10", "ok"),
        ("Python3.11", "ok"),
        ("Python3.9", "failed"),
        ("Nodejs18.15", "failed"),
        ("CustomImage", "ok"),
    ],
)
def test_a_runtime_that_the_package_does_not_run_on_is_found(runtime: str, verdict: str):
    found = examined(scf(Runtime=runtime))["function.runtime"]
    assert (found.verdict, runtime in found.said) == (verdict, True)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (told(FAL_KEY=""), "FAL_KEY is not set"),
        (told(FAL_KEY="your-fal-key-here: canary"), "FAL_KEY:"),
        (told(FAL_IMAGE_SECRET=""), "FAL_IMAGE_SECRET is not set"),
        (told(FAL_IMAGE_SECRET="canary"), "FAL_IMAGE_SECRET:"),
        (told(FAL_IMAGE_STORAGE_URL=""), "FAL_IMAGE_STORAGE_URL is not set"),
        (told(FAL_IMAGE_API_KEYS="canary"), "FAL_IMAGE_API_KEYS:"),
        (told(FAL_IMAGE_MAX_WAITS="5"), "FAL_IMAGE_MAX_WAITS: there is no such setting"),
        ({}, "FAL_KEY is not set; FAL_IMAGE_STORAGE_URL is not set"),
    ],
)
def test_variables_the_function_would_refuse_are_named_and_their_values_are_not(
    variables: dict[str, str], said: str
):
    found = examined(scf(variables))
    finding = found["function.environment"]
    assert (finding.verdict, said in finding.said) == ("failed", True)
    assert '"envVariables"' in str(finding.fix)
    assert "canary" not in repr(found.all)


def test_no_finding_repeats_a_value_of_the_function():
    found = examined(scf(Status="UpdateFailed", Timeout=3, MemorySize=64), FAL_IMAGE_FLAGGED="keep")
    assert "canary" not in repr(found.all)


def test_a_setting_that_was_not_deployed_is_a_warning_that_names_it():
    found = examined(
        scf(told(FAL_IMAGE_LOG_LEVEL="INFO")),
        FAL_IMAGE_LOG_LEVEL="DEBUG",
        FAL_IMAGE_FLAGGED="refuse",
        FAL_IMAGE_PUBLIC_URL="https://pictures.example.com",
        FAL_IMAGE_TOKEN="mine",
    )["function.environment"]
    assert found.verdict == "warning"
    assert found.said.endswith("set here: FAL_IMAGE_FLAGGED")


@pytest.mark.parametrize(
    ("triggers", "verdict"),
    [
        (None, "warning"),
        ([{"Type": "timer", "Enable": 0}], "warning"),
        ([{"Type": "cos", "Enable": 1}], "warning"),
        ([{"Type": "cos", "Enable": 1}, {"Type": "timer", "Enable": 1}], "ok"),
    ],
)
def test_jobs_that_nobody_sweeps_are_found(triggers: Any, verdict: str):
    found = examined(scf(Triggers=triggers))["function.sweep"]
    assert found.verdict == verdict
    assert (f"`tcb fn trigger create {NAME} -e my-env`" in str(found.fix)) == (verdict != "ok")


def test_without_a_database_there_is_nothing_to_sweep():
    found = examined(scf(told(FAL_IMAGE_DATABASE_URL=""), Triggers=[]))
    assert "function.sweep" not in found.by_check


def test_both_functions_of_the_file_are_examined_when_both_are_there():
    cloud = scf()
    other = scf(told(CLOUDBASE_APIKEY="canary"), HTTP_NAME, Type="HTTP", Timeout=10, Triggers=None)
    found = examined(replace(cloud, functions={**cloud.functions, **other.functions}))
    first, second = found.by_check["function.timeout"]
    assert (first.verdict, second.verdict) == ("ok", "failed")
    assert second.said.startswith(HTTP_NAME)
    assert "`scripts/deploy cloudbase-http`" in str(second.fix)
    assert found["function.keys"].verdict == "ok"
    assert [one.verdict for one in found.by_check["function.sweep"]] == ["ok", "skipped"]


@pytest.mark.parametrize(
    ("changes", "found_as"),
    [
        ({}, "warning"),
        ({"TCB_SECRET_ID": "canary", "TCB_SECRET_KEY": "canary"}, "ok"),
        ({"FAL_IMAGE_STORAGE_URL": "s3://b", "FAL_IMAGE_DATABASE_URL": ""}, None),
    ],
)
def test_an_http_function_with_nothing_but_the_keys_of_scf_is_found(
    changes: dict[str, str], found_as: str | None
):
    found = examined(scf(told(**changes), Type="HTTP"))
    assert [one.verdict for one in found.by_check["function.keys"]] == [found_as] * bool(found_as)


def test_a_named_function_is_the_only_one_that_is_asked_about():
    cloud = scf(name="mine")
    assert examined(cloud, "mine")["function.state"].said == "mine is active"
    assert len(cloud.asked) == 1


def test_a_named_function_that_is_not_there_is_a_failure():
    found = examined(scf(), "another")["function"]
    assert (found.verdict, "no function another in ap-shanghai" in found.said) == ("failed", True)


def test_before_the_first_deployment_the_function_is_not_missed():
    found = examined(scf(name="something-else"))["function"]
    assert (found.verdict, f"{NAME} or {HTTP_NAME}" in found.said) == ("skipped", True)
    assert "`scripts/deploy cloudbase`" in str(found.fix)


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"TENCENTCLOUD_SECRETKEY": "wrong"}, "failed", "AuthFailure.SignatureFailure"),
        ({"TENCENTCLOUD_SECRETID": "nobody"}, "failed", "AuthFailure.SecretIdNotFound"),
        ({"TENCENTCLOUD_SESSIONTOKEN": "old"}, "failed", "AuthFailure.TokenFailure"),
        (
            {"TENCENTCLOUD_REGION": "ap-guangzhou"},
            "failed",
            "no environment my-env in ap-guangzhou",
        ),
        ({"TENCENTCLOUD_SECRETID": "", "CLOUDBASE_APIKEY": "x"}, "skipped", "CLOUDBASE_APIKEY"),
    ],
)
def test_a_question_that_is_refused_says_what_to_set(
    changes: dict[str, str], verdict: str, said: str
):
    found = examined(scf(), **changes)
    assert [one.check for one in found.all] == ["function"]
    assert (found["function"].verdict, said in found["function"].said) == (verdict, True)
    assert found["function"].fix
    assert ENVIRON["TENCENTCLOUD_SECRETKEY"] not in repr(found.all)


def test_the_owners_own_keys_go_before_those_of_the_platform():
    found = examined(
        scf(),
        TCB_SECRET_ID=ENVIRON["TENCENTCLOUD_SECRETID"],
        TCB_SECRET_KEY="wrong, and without a token",
    )
    assert "AuthFailure" in found["function"].said


def test_keys_that_may_not_ask_are_no_failure():
    found = examined(replace(scf(), may_ask=False))["function"]
    assert (found.verdict, "scf:GetFunction" in str(found.fix)) == ("skipped", True)


def test_the_region_may_stand_in_the_storage_url():
    found = examined(
        replace(scf(), region="ap-singapore"),
        FAL_IMAGE_STORAGE_URL="cloudbase://my-env/ai-images?region=ap-singapore",
    )
    assert found["function.state"].verdict == "ok"


def test_a_function_on_another_storage_is_found_by_its_namespace():
    found = examined(
        scf(),
        FAL_IMAGE_STORAGE_URL="cos://pictures-1250000000?region=ap-beijing",
        SCF_NAMESPACE="my-env",
    )
    assert found["function.state"].verdict == "ok"


def test_an_api_that_nobody_answers_for_is_no_failure_of_the_function():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environ = environment(**ENVIRON, FAL_IMAGE_STORAGE_URL="cloudbase://my-env/ai-images")
    seams = Seams(detours={API_HOST: f"http://127.0.0.1:{port}"})
    found = asked_from(environ, None, seams)
    assert (found["function"].verdict, "not heard" in found["function"].said) == ("skipped", True)


def test_one_flipped_byte_of_the_question_is_refused():
    cloud: FakeScf = scf()
    examined(cloud)
    ask = cloud.asked[0]
    assert b"Error" not in cloud.answer(ask)[2]
    for name in ("authorization", "host", "content-type", "x-tc-token"):
        for at in range(len(ask.headers[name])):
            broken = replace(ask, headers={**ask.headers, name: flipped(ask.headers[name], at)})
            assert b"AuthFailure" in cloud.answer(broken)[2], broken.headers[name]
    body = ask.body.decode()
    for at in range(len(body)):
        broken = replace(ask, body=flipped(body, at).encode())
        assert b"AuthFailure.SignatureFailure" in cloud.answer(broken)[2]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-tc-action", "DeleteFunction", b"InvalidAction"),
        ("x-tc-version", "2017-03-12", b"NoSuchVersion"),
        ("x-tc-region", "", b"MissingParameter"),
        ("x-tc-timestamp", "1700000000", b"AuthFailure.SignatureExpire"),
    ],
)
def test_another_question_than_ours_is_refused(name: str, value: str, code: bytes):
    cloud = scf()
    examined(cloud)
    ask = cloud.asked[0]
    assert code in cloud.answer(replace(ask, headers={**ask.headers, name: value}))[2]

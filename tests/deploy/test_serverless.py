"""The template that the real osls makes of serverless.yml, and the code that it is for."""

from __future__ import annotations

import ast
import importlib
import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from fal_image import storage
from fal_image.database.dynamodb import TTL_ATTRIBUTE, table_definition
from fal_image.events.aws import classify
from fal_image.settings import Settings
from fal_image.storage.s3 import S3Storage
from support import osls
from support.tiny_project import ROOT

pytestmark = [
    pytest.mark.needs("deploy tools"),
    pytest.mark.long,
    pytest.mark.timeout(90),  # osls and cfn-lint take seconds on a machine with nothing else to do
]

CALLS_OF = {
    "s3": "storage/s3.py",
    "dynamodb": "database/dynamodb.py",
    "sqs": "sqs.py",
    "ssm": "ssm.py",
}
# AWS service authorization reference: calls whose permission has another name.
ACTIONS = {"s3:HeadObject": "s3:GetObject", "sqs:SendMessageBatch": "sqs:SendMessage"}
# What only `fal-image doctor` does, which is no part of a function's package.
OF_AN_EXAMINATION = {"s3:DeleteObject"}


def properties(template: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][name]["Properties"]
    return found


def of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: one["Properties"]
        for name, one in template["Resources"].items()
        if one["Type"] == f"AWS::{kind}"
    }


def variables(template: dict[str, Any]) -> dict[str, str]:
    given = properties(template, "ApiLambdaFunction")["Environment"]["Variables"]
    return {name: osls.text(value) for name, value in given.items()}


def test_cfn_lint_has_nothing_against_a_first_deployment(made: dict[str, Any], tmp_path: Path):
    assert osls.linted(made, tmp_path) == ""


def test_cfn_lint_has_nothing_against_what_leaves_out_bucket_and_table(
    given: dict[str, Any], tmp_path: Path
):
    assert osls.linted(given, tmp_path) == ""


def test_the_function_is_the_handler_on_arm64_with_time_for_the_longest_wait(made: dict[str, Any]):
    function = properties(made, "ApiLambdaFunction")
    module, _, name = function["Handler"].replace("/", ".").rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
    assert function["Timeout"] > Settings().max_wait_s


def test_runtime_and_architecture_are_parameters(given: dict[str, Any]):
    function = properties(given, "ApiLambdaFunction")
    assert (function["Runtime"], function["Architectures"]) == ("python3.11", ["x86_64"])


def test_everybody_may_call_the_url_which_takes_two_permissions(made: dict[str, Any]):
    (url,) = of_type(made, "Lambda::Url").values()
    assert url["AuthType"] == "NONE"
    assert "Cors" not in url, "the function answers preflights itself"
    public = [
        one for one in of_type(made, "Lambda::Permission").values() if one["Principal"] == "*"
    ]
    keys = ("Action", "FunctionUrlAuthType", "InvokedViaFunctionUrl")
    assert sorted([one.get(key) for key in keys] for one in public) == [
        ["lambda:InvokeFunction", None, True],
        ["lambda:InvokeFunctionUrl", "NONE", None],
    ]


def test_the_function_is_told_where_everything_is(made: dict[str, Any]):
    assert variables(made) == {
        "FAL_IMAGE_STORAGE_URL": "s3://<Bucket>/ai-images",
        "FAL_IMAGE_DATABASE_URL": "dynamodb://<Table>",
        "FAL_IMAGE_QUEUE_URL": "<Jobs>",
        **osls.GIVEN,
    }


def test_a_bucket_and_a_table_that_are_there_are_used_and_not_made(given: dict[str, Any]):
    assert of_type(given, "S3::Bucket").keys() == {"ServerlessDeploymentBucket"}
    assert of_type(given, "DynamoDB::Table") == {}
    assert variables(given) == {
        "FAL_IMAGE_STORAGE_URL": "s3://my-pictures/ai-images",
        "FAL_IMAGE_DATABASE_URL": "dynamodb://my-jobs",
        "FAL_IMAGE_QUEUE_URL": "<Jobs>",
        "FAL_KEY_SSM_PARAM": "/fal-image/fal-key",
        "FAL_IMAGE_SECRET": osls.SECRET,
        "FAL_IMAGE_ALLOW_ANONYMOUS": "1",
        "FAL_IMAGE_CORS_ORIGINS": "https://a.example,https://b.example",
    }
    may_touch = "".join(resource for _, resource in osls.statements(given))
    assert "<Bucket>" not in may_touch
    assert "<Table>" not in may_touch
    assert {"my-pictures", "my-jobs"} <= set(re.findall(r"my-\w+", may_touch))


def calls(service: str) -> set[str]:
    """The operations of a service that our module for it names, as itself or as boto3's method."""
    module = ast.parse((ROOT / "shared" / "fal_image" / CALLS_OF[service]).read_text("utf-8"))
    named = {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}
    named |= {str(node.value) for node in ast.walk(module) if isinstance(node, ast.Constant)}
    model = botocore.session.get_session().get_service_model(service)
    return {name for name in model.operation_names if {name, xform_name(name)} & named}


def test_the_function_may_do_what_its_code_does_and_nothing_else(given: dict[str, Any]):
    """S3 says 404 only to who may list; the log and reading the queue are osls's additions."""
    called = {f"{service}:{call}" for service in CALLS_OF for call in calls(service)}
    assert called >= OF_AN_EXAMINATION
    needed = called - OF_AN_EXAMINATION
    may_do = {action for actions, _ in osls.statements(given) for action in actions}
    assert may_do == {ACTIONS.get(action, action) for action in needed} | {
        "s3:ListBucket",
        *("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:TagResource"),
        *("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
    }


def test_only_an_examination_deletes():
    package = ROOT / "shared" / "fal_image"
    deleting = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "delete"
    }
    assert deleting == {"doctor/storage.py"}


def test_each_right_is_on_one_thing(given: dict[str, Any]):
    parsed = storage.parse(variables(given)["FAL_IMAGE_STORAGE_URL"])
    of_account = "${AWS::Region}:${AWS::AccountId}"
    rights = [
        (set(actions), resource)
        for actions, resource in osls.statements(given)
        if not actions[0].startswith("logs:")
    ]
    assert rights == [
        (
            {"s3:GetObject", "s3:PutObject"},
            f"arn:${{AWS::Partition}}:s3:::my-pictures/{parsed.prefix}/*",
        ),
        ({"s3:ListBucket"}, "arn:${AWS::Partition}:s3:::my-pictures"),
        (
            {f"dynamodb:{name}Item" for name in ("Get", "BatchGet", "Put", "Update")},
            f"arn:${{AWS::Partition}}:dynamodb:{of_account}:table/my-jobs",
        ),
        (
            {"dynamodb:Query"},
            f"arn:${{AWS::Partition}}:dynamodb:{of_account}:table/my-jobs/index/due",
        ),
        ({"sqs:SendMessage"}, "Jobs.Arn"),
        (
            {"ssm:GetParameter"},
            f"arn:${{AWS::Partition}}:ssm:{of_account}:parameter/fal-image/fal-key",
        ),
        ({"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}, "Jobs.Arn"),
    ]


def test_a_key_in_the_environment_needs_no_right_to_read_parameters(made: dict[str, Any]):
    assert not [actions for actions, _ in osls.statements(made) if "ssm" in actions[0]]


def test_a_parameter_that_is_named_by_its_arn_is_the_one_that_may_be_read(tmp_path: Path):
    arn = "arn:aws:ssm:us-east-1:123456789012:parameter/shared/fal-key"
    given = {**osls.GIVEN, "FAL_KEY": "", "FAL_KEY_SSM_PARAM": arn}
    ran = osls.run(tmp_path, "package", **given)
    assert ran.template is not None, ran.said
    assert (["ssm:GetParameter"], arn) in list(osls.statements(ran.template))


def test_the_table_is_the_one_that_the_code_works_on(made: dict[str, Any]):
    ours = properties(made, "Table")
    wanted = table_definition("any")
    del wanted["TableName"]
    assert {name: ours.get(name) for name in wanted} == wanted
    assert ours["TimeToLiveSpecification"] == {"AttributeName": TTL_ATTRIBUTE, "Enabled": True}
    assert ours["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_the_bucket_is_private_and_takes_no_plain_http(made: dict[str, Any]):
    bucket = properties(made, "Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    policy = properties(made, "BucketPolicy")
    assert policy["Bucket"] == {"Ref": "Bucket"}
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert [osls.text(one) for one in statement["Resource"]] == ["Bucket.Arn", "${Bucket.Arn}/*"]


def test_uploads_expire_and_pictures_do_not(made: dict[str, Any]):
    parsed = storage.parse(variables(made)["FAL_IMAGE_STORAGE_URL"].replace("<Bucket>", "bucket"))
    rules = properties(made, "Bucket")["LifecycleConfiguration"]["Rules"]
    expiring = [one for one in rules if "ExpirationInDays" in one]
    assert [one["Prefix"] for one in expiring] == [f"{parsed.prefix}/uploads/"]
    assert {one["Status"] for one in rules} == {"Enabled"}
    unfinished = [one["AbortIncompleteMultipartUpload"] for one in rules if one not in expiring]
    assert unfinished == [{"DaysAfterInitiation": 1}]


def test_pages_may_put_what_an_upload_link_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    origins = "https://a.example,https://b.example"
    ran = osls.run(tmp_path, "package", **osls.GIVEN, FAL_IMAGE_CORS_ORIGINS=origins)
    assert ran.template is not None, ran.said
    (rule,) = properties(osls.settled(ran.template), "Bucket")["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == {"Fn::Split": [",", origins]}
    assert "PUT" in rule["AllowedMethods"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = S3Storage(
        "bucket",
        prefix="ai-images",
        region="us-east-1",
        endpoint_url=None,
        now=lambda: datetime.now(timezone.utc),
    )
    link = bucket.upload_link("ai-images/a.png", content_type="image/png", bytes=1, ttl_s=60)
    assert set(rule["AllowedHeaders"]) == set(link.headers)


def test_without_origins_no_page_gets_into_the_bucket(made: dict[str, Any]):
    assert "CorsConfiguration" not in properties(made, "Bucket")


def test_pictures_and_jobs_outlive_the_stack(made: dict[str, Any]):
    for name in ("Bucket", "Table"):
        resource = made["Resources"][name]
        assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resource["UpdateReplacePolicy"] == "Retain"


def test_every_minute_comes_what_the_code_takes_for_a_sweep(made: dict[str, Any]):
    (rule,) = of_type(made, "Events::Rule").values()
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED")
    (target,) = rule["Targets"]
    assert classify(json.loads(target["Input"])) == "timer"


def test_the_queue_gives_a_job_back_only_when_its_function_is_surely_over(made: dict[str, Any]):
    """AWS Lambda guide, "Using Lambda with Amazon SQS": six times the time-out, five attempts."""
    queue = properties(made, "Jobs")
    assert queue["VisibilityTimeout"] >= 6 * properties(made, "ApiLambdaFunction")["Timeout"]
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetters", "Arn"]},
        "maxReceiveCount": 5,
    }


def test_the_function_reports_failed_messages_as_it_never_fails_itself(made: dict[str, Any]):
    (mapping,) = of_type(made, "Lambda::EventSourceMapping").values()
    assert mapping["EventSourceArn"] == {"Fn::GetAtt": ["Jobs", "Arn"]}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 10}


def test_how_many_jobs_at_once_is_a_parameter(given: dict[str, Any]):
    (mapping,) = of_type(given, "Lambda::EventSourceMapping").values()
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}


def test_alarms_watch_dead_letters_and_errors(made: dict[str, Any], given: dict[str, Any]):
    alarms = of_type(made, "CloudWatch::Alarm")
    watched = {
        one["MetricName"]: [osls.text(dimension["Value"]) for dimension in one["Dimensions"]]
        for one in alarms.values()
    }
    assert watched == {
        "ApproximateNumberOfMessagesVisible": ["DeadLetters.QueueName"],
        "Url5xxCount": ["<ApiLambdaFunction>"],
    }
    assert [one["AlarmActions"] for one in alarms.values()] == [[], []]
    told = [one["AlarmActions"] for one in of_type(given, "CloudWatch::Alarm").values()]
    assert told == [["arn:aws:sns:us-east-1:123456789012:alarms"]] * 2


def test_logs_are_not_kept_for_ever(made: dict[str, Any]):
    (group,) = of_type(made, "Logs::LogGroup").values()
    assert group["RetentionInDays"] == 30


def test_no_two_stacks_share_a_name(made: dict[str, Any], given: dict[str, Any]):
    for kind in ("S3::Bucket", "DynamoDB::Table", "SQS::Queue", "CloudWatch::Alarm"):
        for one in of_type(made, kind).values():
            assert not {"BucketName", "TableName", "QueueName", "AlarmName"} & one.keys()
    assert properties(made, "ApiLambdaFunction")["FunctionName"] == "fal-image-dev-api"
    assert properties(given, "ApiLambdaFunction")["FunctionName"] == "fal-image-prod-api"


def test_a_deployment_says_where_everything_is(made: dict[str, Any], given: dict[str, Any]):
    def outputs(template: dict[str, Any]) -> dict[str, str]:
        return {name: osls.text(one["Value"]) for name, one in template["Outputs"].items()}

    assert (
        outputs(made).items()
        >= {
            "ApiLambdaFunctionUrl": "ApiLambdaFunctionUrl.FunctionUrl",
            "Bucket": "<Bucket>",
            "Table": "<Table>",
            "Queue": "<Jobs>",
            "DeadLetters": "<DeadLetters>",
        }.items()
    )
    assert outputs(given).items() >= {"Bucket": "my-pictures", "Table": "my-jobs"}.items()

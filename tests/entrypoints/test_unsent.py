"""Timers and queues at the real functions, which have no database."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.dev.platforms import LambdaContext, cloudbase_context
from support.entrypoints import load
from support.events import frozen, published, sqs_message

Configure = Callable[..., None]


def invoke(cloud: str, event: object) -> dict[str, Any]:
    is_aws = cloud == "aws"
    context: object = LambdaContext("r-1", clock=frozen) if is_aws else cloudbase_context("r-1")
    return load(cloud)(event, context)


def log_line(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    lines = capfd.readouterr().err.splitlines()
    (line,) = [json.loads(line) for line in lines if '"route"' in line]
    return line  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("cloud", "name"),
    [
        ("aws", "aws_schedule"),
        ("aws", "aws_scheduler"),
        ("aws", "aws_schedule_input"),
        ("cloudbase", "cloudbase_timer"),
    ],
)
def test_a_timer_finds_nothing_to_sweep_and_says_so_in_the_log(
    configured: Configure, fal: Emulator, capfd: pytest.CaptureFixture[str], cloud: str, name: str
):
    assert invoke(cloud, published(name)) == {"swept": 0}
    line = log_line(capfd)
    assert (line["route"], line["status"], line["caller"]) == ("timer", 200, None)
    assert line["detail"] == "nothing to sweep without a database"
    assert fal.calls.total() == 0


def test_a_message_needs_a_database_and_stays_in_the_queue(
    configured: Configure, fal: Emulator, capfd: pytest.CaptureFixture[str]
):
    answer = invoke("aws", {"Records": [sqs_message("m-1")]})
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
    line = log_line(capfd)
    assert (line["route"], line["status"], line["error"]) == ("queue", 501, "database_required")
    assert line["requestId"] == "m-1"
    assert fal.calls.total() == 0


def test_events_that_nobody_sent_are_no_way_around_wrong_settings(configured: Configure):
    configured(FAL_IMAGE_STORAGE="typo")
    assert invoke("aws", published("aws_schedule"))["error"] == "misconfigured"


def test_a_forged_timer_does_nothing_but_sweep(configured: Configure, fal: Emulator):
    forged = published("cloudbase_timer") | {"prompt": "a cat", "route": "POST /generate"}
    assert invoke("cloudbase", forged) == {"swept": 0}
    assert fal.ledger == []


def test_a_call_from_a_mini_program_needs_a_key_although_wechat_names_the_user(
    configured: Configure, fal: Emulator
):
    context = cloudbase_context("r-1", variables={"WX_OPENID": "oUser"})
    answer = load("cloudbase")(published("cloudbase_wechat_call"), context)
    assert (answer["error"], answer["status"]) == ("unauthorized", 401)
    assert fal.ledger == []


def test_a_call_in_the_shape_of_http_is_refused_like_one_without(
    configured: Configure, fal: Emulator
):
    answer = invoke("cloudbase", published("cloudbase_http_shaped_call"))
    assert answer["statusCode"] == 401
    assert fal.ledger == []

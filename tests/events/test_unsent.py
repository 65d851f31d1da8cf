"""Timers and queues: events that no caller sent."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fal_image.dev.platforms import LambdaContext
from fal_image.events import aws
from fal_image.web import Request, Response, json_response
from support.events import Recorder, frozen, published, sqs_message


def invoke(event: object, app: Any) -> dict[str, Any]:
    context = LambdaContext("lambda-id", timeout_s=60.0, clock=frozen)
    return aws.handle(event, context, app, clock=frozen, new_id=lambda: "new-id")


def failures(*records: object, app: Any) -> list[str]:
    """The ids that SQS will deliver again."""
    reply = invoke({"Records": list(records)}, app)
    assert list(reply) == ["batchItemFailures"]
    assert all(list(one) == ["itemIdentifier"] for one in reply["batchItemFailures"])
    return [one["itemIdentifier"] for one in reply["batchItemFailures"]]


@pytest.mark.parametrize("name", ["aws_schedule", "aws_scheduler", "aws_schedule_input"])
def test_a_schedule_is_a_request_that_nobody_sent_and_answers_the_bodys_object(name: str) -> None:
    app = Recorder(json_response(200, {"swept": 3}))
    assert invoke(published(name), app) == {"swept": 3}
    platform = app.request.platform
    assert (platform.name, platform.caller, platform.client_ip) == ("timer", None, None)
    assert (platform.request_id, platform.ends_at) == ("lambda-id", frozen() + 60.0)
    assert (platform.gateway_s, platform.public_url) == (None, None)
    assert (app.request.path, app.request.body) == ("/timer", b"")


@pytest.mark.parametrize(
    "event", [{"job": "sweep", "x": 1}, {"job": "other"}, {"route": "GET /x", "job": "sweep"}]
)
def test_only_the_exact_input_of_a_schedule_is_one(event: object) -> None:
    app = Recorder()
    invoke(event, app)
    assert (app.request.platform.name, app.request.platform.caller) == ("direct", "iam")


def test_the_published_message_becomes_a_request_that_nobody_sent() -> None:
    app = Recorder()
    assert invoke(published("aws_sqs"), app) == {"batchItemFailures": []}
    platform = app.request.platform
    assert (platform.name, platform.caller) == ("queue", None)
    assert platform.request_id == "059f36b4-87a3-44ab-83d2-661975830a7d"
    assert platform.ends_at == frozen() + 60.0
    assert (app.request.path, app.request.body) == ("/queue", b"Test message.")


def test_each_message_of_a_batch_is_a_request_of_its_own_and_fails_by_itself() -> None:
    def app(request: Request) -> Response:
        if b"raise" in request.body:
            raise RuntimeError("broken")
        return json_response(int(request.body), {})

    bodies = {"a": "200", "b": "501", "c": "raise", "d": "399", "e": "400", "f": "202"}
    records = [sqs_message(name, body) for name, body in bodies.items()]
    assert failures(*records, app=app) == ["b", "c", "e"]


def test_an_error_in_the_middle_of_a_body_fails_the_message() -> None:
    def chunks() -> Any:
        yield b"x"
        raise OSError("lost")

    assert failures(sqs_message("a"), app=lambda _: Response(200, chunks())) == ["a"]


@pytest.mark.parametrize(
    "bent", [{"body": None}, {"body": 5}, {"body": {}}, {"eventSource": "aws:kinesis"}]
)
def test_a_malformed_message_fails_alone_and_leaves_a_log_line(
    bent: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    app = Recorder()
    with caplog.at_level(logging.WARNING, logger="fal_image"):
        found = failures(sqs_message("good"), sqs_message("bad") | bent, app=app)
    assert found == ["bad"]
    assert app.request.platform.request_id == "good"
    (record,) = caplog.records
    assert record.__dict__["fields"]["requestId"] == "bad"


@pytest.mark.parametrize("record", [None, [], "x", {}, {"messageId": 7, "body": "{}"}])
def test_a_message_that_cannot_be_named_fails_the_batch(record: object) -> None:
    # AWS Lambda guide, partial batch responses: an empty name is a failure of the whole batch.
    assert failures(sqs_message("good"), record, app=Recorder()) == [""]


@pytest.mark.parametrize("name", ["aws_schedule", "aws_sqs"])
def test_an_event_that_came_through_no_gateway_cannot_name_one(name: str) -> None:
    context = {"requestId": "chosen", "domainName": "evil.example.com", "http": {"sourceIp": "::1"}}
    app = Recorder()
    event = published(name) | {"requestContext": context}
    for record in event.get("Records", []):
        record.pop("messageId")
    invoke(event, app)
    platform = app.request.platform
    assert platform.request_id == "lambda-id"
    assert (platform.public_url, platform.client_ip, platform.caller) == (None, None, None)


def test_a_body_that_is_no_utf8_reaches_the_app_as_it_is() -> None:
    app = Recorder()
    assert failures(sqs_message("a", "\ud800"), app=app) == []
    with pytest.raises(UnicodeDecodeError):
        app.request.body.decode()

"""REST APIs (payload format 1.0) and load balancers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fal_image.dev.platforms import REST_API_HOST, LambdaContext
from fal_image.events import aws
from fal_image.web import Request, Response, json_response
from support.events import Recorder, alb_event, frozen, published, rest_event

COOKIES = (("Vary", "Origin"), ("set-cookie", "a=1"), ("Set-Cookie", "b=2"))


def invoke(event: object, app: Any = None) -> dict[str, Any]:
    context = LambdaContext("lambda-id", timeout_s=60.0, clock=frozen)
    return aws.handle(event, context, app or Recorder(), clock=frozen, new_id=lambda: "new-id")


def received(event: object) -> Request:
    app = Recorder()
    invoke(event, app)
    return app.request


def test_the_published_rest_event_becomes_a_request() -> None:
    request = received(published("aws_rest_api"))
    assert (request.method, request.path) == ("GET", "/my/path")
    assert request.query == (
        ("parameter1", "value1"),
        ("parameter1", "value2"),
        ("parameter2", "value"),
    )
    assert request.headers.get_all("Header2") == ["value1", "value2"]
    assert request.body == b"Hello from Lambda!"
    platform = request.platform
    assert (platform.name, platform.request_id) == ("aws", "id=")
    assert (platform.client_ip, platform.gateway_s) == ("192.168.0.1", 28.0)
    assert platform.public_url == "https://id.execute-api.us-east-1.amazonaws.com/prod"
    assert platform.ends_at == frozen() + 60.0


def test_the_published_balancer_event_becomes_a_request() -> None:
    request = received(published("aws_alb"))
    assert (request.method, request.path, request.body) == ("GET", "/", b"")
    assert request.query == (("parameter1", "value1"),)
    platform = request.platform
    assert (platform.name, platform.client_ip, platform.gateway_s) == ("aws", "72.21.198.66", 55.0)
    assert platform.public_url is None


def test_the_published_balancer_event_with_lists_becomes_a_request() -> None:
    request = received(published("aws_alb_lists"))
    assert request.query == (("myKey", "val1"), ("myKey", "val2"))
    assert request.headers.get_all("cookie") == ["name1=value1", "name2=value2"]
    assert request.platform.client_ip == "72.21.198.66"


def test_a_rest_path_is_decoded_and_has_no_stage() -> None:
    assert received(rest_event(path="/图 1%", stage="dev")).path == "/图 1%"
    event = rest_event(path="/dev/x", stage="dev")  # a route that begins like the stage
    assert received(event).path == "/dev/x"


def test_a_rest_api_knows_its_address_with_the_stage_and_a_custom_domain_without() -> None:
    event = rest_event(stage="dev")
    assert received(event).platform.public_url == f"https://{REST_API_HOST}/dev"
    event["requestContext"]["domainName"] = "img.example.com"
    assert received(event).platform.public_url == "https://img.example.com"


@pytest.mark.parametrize(
    ("stage", "sent", "path"),
    [
        ("dev", "/dev/a b/%2F", "/a b/%2F"),  # decoded already, once
        ("dev", "/device", "/device"),
        ("$default", "/a%2Fb", "/a%2Fb"),
    ],
)
def test_an_http_api_with_format_1_has_decoded_the_path_and_left_the_stage_in(
    stage: str, sent: str, path: str
) -> None:
    event = rest_event({"version": "1.0", "path": sent}, stage=stage)
    event["requestContext"]["path"] = sent
    assert received(event).path == path


def test_a_rest_event_that_an_emulator_marks_as_format_1_keeps_its_path() -> None:
    event = rest_event({"version": "1.0"}, path="/dev/x", stage="dev")
    assert event["requestContext"]["path"] == "/dev/dev/x"
    assert received(event).path == "/dev/x"


def test_a_balancer_decodes_nothing_so_it_is_done_here_once() -> None:
    query = (("a b", "x&y=1"), ("plus", "1+1"), ("percent", "%2F"), ("图", "图"))
    for has_lists in (True, False):
        request = received(alb_event(has_lists=has_lists, path="/图 1%", query=query))
        assert (request.path, request.query) == ("/图 1%", query)


def test_only_lists_keep_repeated_keys_and_headers() -> None:
    headers, query = (("x-a", "1"), ("x-a", "2")), (("a", "1"), ("a", "2"))
    for event in (
        rest_event(headers=headers, query=query),
        alb_event(has_lists=True, headers=headers, query=query),
    ):
        request = received(event)
        assert (request.headers.get_all("x-a"), request.query) == (["1", "2"], query)
    request = received(alb_event(headers=headers, query=query))
    assert (request.headers.get_all("x-a"), request.query) == (["2"], (("a", "2"),))


@pytest.mark.parametrize("has_lists", [True, False])
def test_the_balancers_own_word_on_the_client_is_the_last_one(has_lists: bool) -> None:
    forged = (("x-forwarded-for", "10.0.0.1, 10.0.0.2"),)
    event = alb_event(has_lists=has_lists, headers=forged, client_ip="203.0.113.9")
    assert received(event).platform.client_ip == "203.0.113.9"


def test_a_balancers_trace_id_is_its_callers_choice_and_is_not_taken_for_a_request_id() -> None:
    event = alb_event(headers=(("x-amzn-trace-id", "Root=1-chosen"),))
    assert received(event).platform.request_id == "lambda-id"


@pytest.mark.parametrize("name", ["aws_rest_api", "aws_alb", "aws_alb_lists"])
@pytest.mark.parametrize("nothing", [None, {}, "", 5, [], {"x": None}])
def test_members_that_are_null_or_of_another_type_are_tolerated(name: str, nothing: object) -> None:
    bare = dict.fromkeys(
        (
            "headers",
            "multiValueHeaders",
            "queryStringParameters",
            "multiValueQueryStringParameters",
            "pathParameters",
        ),
        nothing,
    )
    request = received(published(name) | bare | {"body": None, "path": nothing})
    assert (request.query, list(request.headers), request.body) == ((), [], b"")
    assert request.path == "/"


def test_a_rest_answer_has_every_header_in_one_place() -> None:
    reply = invoke(rest_event(), lambda _: Response(200, b"\x89PNG", COOKIES))
    assert reply == {
        "statusCode": 200,
        "headers": {"vary": "Origin"},
        "multiValueHeaders": {"set-cookie": ["a=1", "b=2"]},
        "body": "iVBORw==",
        "isBase64Encoded": True,
    }


def test_a_balancer_that_sends_lists_is_answered_with_lists() -> None:
    answer = Response(204, b"", COOKIES)
    assert invoke(alb_event(has_lists=True), lambda _: answer) == {
        "statusCode": 204,
        "statusDescription": "204 No Content",
        "multiValueHeaders": {"vary": ["Origin"], "set-cookie": ["a=1", "b=2"]},
        "body": "",
        "isBase64Encoded": False,
    }
    reply = invoke(alb_event(), lambda _: answer)
    assert reply["headers"]["vary"] == "Origin"
    assert "multiValueHeaders" not in reply


def test_a_status_without_a_name_is_described_nevertheless() -> None:
    reply = invoke(alb_event(), lambda _: json_response(299, {}))
    assert reply["statusDescription"] == "299 Unknown"


@pytest.mark.parametrize("event", [rest_event(), alb_event(), alb_event(has_lists=True)])
def test_malformed_base64_is_answered_in_the_senders_form(event: dict[str, Any]) -> None:
    reply = invoke(event | {"body": "e3", "isBase64Encoded": True})
    assert reply["statusCode"] == 400
    assert json.loads(reply["body"])["error"] == "invalid_json"
    assert ("statusDescription" in reply) is ("elb" in event["requestContext"])

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from fal_image.dev.platforms import HTTP_API_HOST, LambdaContext
from fal_image.events import aws
from fal_image.web import Request, Response
from support.events import DATA, Recorder, frozen, function_url_event, http_api_event, published

TOPIC = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "hello"}}]}
OBJECT_CREATED = {"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {}}}


def invoke(event: object, app: Any = None, *, timeout_s: float = 60.0) -> dict[str, Any]:
    context = LambdaContext("lambda-id", timeout_s=timeout_s, clock=frozen)
    app = app or Recorder()
    return aws.handle(event, context, app, clock=frozen, new_id=lambda: "new-id")


def received(event: object, *, timeout_s: float = 60.0) -> Request:
    app = Recorder()
    invoke(event, app, timeout_s=timeout_s)
    return app.request


def test_the_published_function_url_event_becomes_a_request() -> None:
    request = received(published("aws_function_url"))
    assert (request.method, request.path, request.body) == (
        "POST",
        "/my/path",
        b"Hello from client!",
    )
    assert request.query == (
        ("parameter1", "value1"),
        ("parameter1", "value2"),
        ("parameter2", "value"),
    )
    assert request.headers.get("Header2") == "value1,value2"
    assert request.headers.get("cookie") == "cookie1; cookie2"
    platform = request.platform
    assert (platform.name, platform.request_id, platform.client_ip) == (
        "aws",
        "id",
        "123.123.123.123",
    )
    assert platform.public_url == "https://url-id.lambda-url.us-west-2.on.aws"
    assert (platform.gateway_s, platform.caller) == (None, None)


def test_the_published_browser_event_has_no_body_and_no_query() -> None:
    request = received(published("aws_function_url_browser"))
    assert (request.method, request.path, request.query, request.body) == ("GET", "/", (), b"")


def test_the_published_http_api_event_becomes_a_request_with_a_gateway_limit() -> None:
    request = received(published("aws_http_api"))
    assert request.path == "/my/path"
    assert request.headers.get("cookie") == "cookie1; cookie2"
    assert request.platform.gateway_s == 29.0
    assert request.platform.client_ip == "192.168.0.1"
    assert request.platform.public_url == "https://id.execute-api.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (published("aws_function_url"), "function_url"),
        (published("aws_http_api"), "http_api"),
        (published("aws_rest_api"), "rest"),
        (published("aws_rest_api") | {"version": "1.0"}, "rest"),
        (published("aws_alb"), "alb"),
        (published("aws_alb_lists"), "alb"),
        (published("aws_lattice"), "other_gateway"),
        ({"raw_path": "/", "method": "POST", "body": "{}"}, "other_gateway"),
        ({"requestContext": {"connectionId": "c"}}, "other_gateway"),
        ({"requestContext": None}, "other_gateway"),
        (published("aws_sqs"), "queue"),
        (TOPIC, "other_records"),
        ({"Records": []}, "other_records"),
        (published("aws_schedule"), "timer"),
        (published("aws_scheduler"), "timer"),
        (published("aws_schedule_input"), "timer"),
        (OBJECT_CREATED, "other_eventbridge"),
        ({"job": "sweep", "prompt": "a cat"}, "direct"),
        ({"prompt": "a cat"}, "direct"),
        ({"version": "2.0"}, "direct"),
        ({}, "direct"),
        ([], "direct"),
        (None, "direct"),
    ],
)
def test_an_event_is_known_by_its_context_and_never_by_its_version(
    event: object, kind: str
) -> None:
    assert aws.classify(event) == kind


def test_a_gateway_that_is_not_served_gets_a_clear_http_answer() -> None:
    app = Recorder()
    reply = invoke(published("aws_lattice"), app)
    assert not app.requests
    assert reply["statusCode"] == 400
    problem = json.loads(reply["body"])
    assert problem["error"] == "invalid_input"
    assert "Function URL" in problem["hint"]


@pytest.mark.parametrize("event", [TOPIC, OBJECT_CREATED])
def test_an_event_that_is_no_schedule_and_no_queue_gets_a_clear_object_and_one_log_line(
    event: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = Recorder()
    with caplog.at_level(logging.WARNING, logger="fal_image"):
        reply = invoke(event, app)
    assert not app.requests
    assert (reply["error"], reply["status"]) == ("invalid_input", 400)
    assert reply["requestId"] == "lambda-id"
    (record,) = caplog.records
    assert record.__dict__["fields"]["error"] == "invalid_input"


@pytest.mark.parametrize(
    "name",
    [path.stem for path in DATA.glob("aws_*") if "requestContext" in path.read_text("utf-8")],
)
def test_no_event_of_a_gateway_passes_for_a_direct_call_of_iam(name: str) -> None:
    event, context = published(name), LambdaContext("lambda-id", clock=frozen)
    kind = aws.classify(event)
    platform = aws.platform_of(event, context, kind, clock=frozen, new_id=lambda: "new-id")
    assert (platform.name, platform.caller) == ("aws", None)


def test_a_function_url_path_is_decoded_and_an_http_api_path_is_decoded_already() -> None:
    assert received(function_url_event(path="/a b/100%")).path == "/a b/100%"
    assert received(http_api_event(path="/a b/%2F")).path == "/a b/%2F"


def test_a_named_stage_is_cut_from_the_path_and_put_into_the_public_url() -> None:
    request = received(http_api_event(stage="dev", path="/generate"))
    assert request.path == "/generate"
    assert request.platform.public_url == f"https://{HTTP_API_HOST}/dev"
    assert received(http_api_event({"rawPath": "/device"}, stage="dev")).path == "/device"
    assert received(http_api_event({"rawPath": "/dev"}, stage="dev")).path == "/"


def test_a_custom_domain_has_no_stage_in_its_public_url() -> None:
    event = http_api_event(stage="dev")
    event["requestContext"]["domainName"] = "img.example.com"
    assert received(event).platform.public_url == "https://img.example.com"


@pytest.mark.parametrize("domain", [None, "", 5, "evil.com/x", "a b", "<url-id>.lambda-url.x"])
def test_a_strange_domain_gives_no_public_url(domain: object) -> None:
    event = function_url_event()
    event["requestContext"]["domainName"] = domain
    assert received(event).platform.public_url is None


def test_the_public_url_never_comes_from_the_host_header() -> None:
    event = function_url_event({"headers": {"host": "evil.example.com"}})
    assert "evil" not in str(received(event).platform.public_url)


def test_the_invocation_ends_when_lambda_says_so() -> None:
    assert received(function_url_event(), timeout_s=60.0).platform.ends_at == frozen() + 60.0


@pytest.mark.parametrize("context", [None, {}, object()])
def test_an_unknown_context_leaves_the_end_open(context: object) -> None:
    app = Recorder()
    aws.handle({"prompt": "x"}, context, app, clock=frozen, new_id=lambda: "new-id")
    assert (app.request.platform.ends_at, app.request.platform.request_id) == (None, "new-id")


@pytest.mark.parametrize("request_id", [None, 7, "", "a b", "a\r\nb", "x" * 129, "图"])
def test_a_strange_request_id_is_replaced_by_lambdas_own(request_id: object) -> None:
    event = function_url_event()
    event["requestContext"]["requestId"] = request_id
    assert received(event).platform.request_id == "lambda-id"


def test_bodies_arrive_byte_for_byte() -> None:
    picture = bytes(range(256))
    headers = (("content-type", "image/png"),)
    event = function_url_event(body=picture, headers=headers)
    assert event["isBase64Encoded"] is True
    assert received(event).body == picture
    assert received(function_url_event(body="图".encode())).body == "图".encode()


@pytest.mark.parametrize("body", ["e", "====", "图", "e\nyJ9", "eyJ9 "])
def test_malformed_base64_is_invalid_json(body: str) -> None:
    app = Recorder()
    reply = invoke(function_url_event({"body": body, "isBase64Encoded": True}), app)
    assert not app.requests
    assert reply["statusCode"] == 400
    problem = json.loads(reply["body"])
    assert problem["error"] == "invalid_json"
    assert "base64" in problem["detail"]


@pytest.mark.parametrize("body", [None, ""])
def test_a_null_body_is_an_empty_one(body: object) -> None:
    assert received(function_url_event({"body": body})).body == b""


def test_null_dicts_and_scalars_of_other_types_are_tolerated() -> None:
    nothing = {"headers": None, "queryStringParameters": None, "cookies": None}
    request = received(function_url_event({**nothing, "rawQueryString": None}))
    assert (request.query, list(request.headers)) == ((), [])
    headers: dict[str, object] = {
        "content-length": 5,
        "x-flag": True,
        "x-none": None,
        "x-dict": {},
        "x": ["a", 2],
    }
    request = received(function_url_event({"headers": headers}))
    assert list(request.headers) == [
        ("content-length", "5"),
        ("x-flag", "true"),
        ("x", "a"),
        ("x", "2"),
    ]


def test_a_hand_made_event_may_carry_its_query_as_a_dict_only() -> None:
    event = function_url_event({"rawQueryString": "", "queryStringParameters": {"a": "1"}})
    assert received(event).query == (("a", "1"),)


def test_lone_surrogates_are_replaced_where_utf8_is_needed() -> None:
    event = function_url_event({"headers": {"x-a": "\ud800"}, "rawPath": "/\ud800"})
    request = received(event)
    assert (request.path, request.headers.get("x-a")) == ("/?", "?")


@pytest.mark.parametrize(
    ("content_type", "body", "text", "is_base64"),
    [
        ("application/json", b"{}", "{}", False),
        ("application/problem+json; charset=utf-8", b"{}", "{}", False),
        ("text/event-stream", b"data: 1\n\n", "data: 1\n\n", False),
        ("text/html", "图".encode(), "图", False),
        ("image/svg+xml", b"<svg/>", base64.b64encode(b"<svg/>").decode(), True),
        ("image/png", b"\x89PNG", base64.b64encode(b"\x89PNG").decode(), True),
        ("text/plain", b"\xff", base64.b64encode(b"\xff").decode(), True),
        ("application/octet-stream", b"", "", False),
    ],
)
def test_text_goes_out_as_text_and_the_rest_as_base64(
    content_type: str, body: bytes, text: str, is_base64: bool
) -> None:
    event = function_url_event()
    reply = invoke(event, lambda _: Response(200, body, (("Content-Type", content_type),)))
    assert (reply["body"], reply["isBase64Encoded"]) == (text, is_base64)
    assert reply["headers"] == {"content-type": content_type}


def test_repeated_headers_are_joined_and_cookies_are_listed() -> None:
    headers = (("Vary", "Origin"), ("vary", "Accept"), ("set-cookie", "a=1"), ("Set-Cookie", "b=2"))
    reply = invoke(function_url_event(), lambda _: Response(204, b"", headers))
    assert reply["headers"] == {"vary": "Origin, Accept"}
    assert reply["cookies"] == ["a=1", "b=2"]
    assert "cookies" not in invoke(function_url_event(), lambda _: Response(204))


def test_an_iterator_body_is_sent_whole() -> None:
    body = iter([b"data: 1\n\n", b"data: 2\n\n"])
    reply = invoke(
        function_url_event(),
        lambda _: Response(200, body, (("content-type", "text/event-stream"),)),
    )
    assert reply["body"] == "data: 1\n\ndata: 2\n\n"


def test_an_error_that_escapes_the_app_is_one_internal_problem_and_one_line_without_contents(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(request: Request) -> Response:
        raise KeyError(request.body.decode())

    with caplog.at_level(logging.DEBUG, logger="fal_image"):
        reply = invoke(function_url_event(body=b'{"prompt":"canary"}'), broken)
    assert reply["statusCode"] == 500
    assert json.loads(reply["body"])["error"] == "internal"
    (record,) = caplog.records
    assert "canary" not in reply["body"] + str(record.__dict__)
    assert "test_aws.py" in record.__dict__["fields"]["at"]


def test_an_error_in_the_middle_of_a_body_is_an_internal_problem() -> None:
    def chunks() -> Any:
        yield b"data: 1\n\n"
        raise OSError("lost")

    reply = invoke(function_url_event(), lambda _: Response(200, chunks()))
    assert reply["statusCode"] == 500

"""The development server's events are genuine, and nothing is lost on the way there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fal_image.dev.platforms import (
    DISGUISES,
    LambdaContext,
    read_cloudbase_reply,
    read_lambda_reply,
)
from fal_image.web import App, Response, json_response
from support.events import (
    Recorder,
    a_request,
    cloudbase_event,
    function_url_event,
    http_api_event,
    published,
)

PICTURE = bytes(range(256))


def members(value: Any, *, leaves_out: frozenset[str] = frozenset()) -> set[str]:
    """Every path of names in an object, without what hangs below `leaves_out`."""
    found = set()
    for name, item in value.items():
        found.add(name)
        if isinstance(item, dict) and name not in leaves_out:
            found |= {f"{name}.{below}" for below in members(item, leaves_out=leaves_out)}
    return found


OPEN = frozenset({"headers", "multiValueHeaders", "queryStringParameters"})


def test_our_function_url_event_has_the_published_members() -> None:
    ours = members(function_url_event(method="GET", path="/", body=b""), leaves_out=OPEN)
    assert ours == members(published("aws_function_url_browser"), leaves_out=OPEN)


def test_our_http_api_event_has_no_member_that_is_not_published() -> None:
    event = http_api_event(query=(("a", "1"),), headers=(("cookie", "c=1"),))
    assert members(event, leaves_out=OPEN) < members(published("aws_http_api"), leaves_out=OPEN)


def test_our_cloudbase_event_has_the_published_members() -> None:
    ours = members(cloudbase_event(), leaves_out=OPEN)
    assert ours == members(published("cloudbase_http"), leaves_out=OPEN)


@pytest.mark.parametrize("name", sorted(DISGUISES))
def test_a_request_survives_the_way_there(name: str) -> None:
    app = Recorder()
    query = (("a", "1"), ("b", "x y&z"))
    headers = (("content-type", "image/png"), ("x-a", "1"), ("cookie", "c=1; d=2"))
    sent = a_request(method="PUT", path="/files/图 1%", query=query, headers=headers, body=PICTURE)
    DISGUISES[name](app)(sent)
    got = app.request
    assert (got.method, got.path, got.query, got.body) == ("PUT", "/files/图 1%", query, PICTURE)
    assert {pair: pair in list(got.headers) for pair in headers} == dict.fromkeys(headers, True)
    assert got.platform.client_ip == "203.0.113.7"


@pytest.mark.parametrize("name", sorted(DISGUISES))
@pytest.mark.parametrize(
    "response",
    [
        json_response(202, {"prompt": "图"}, ("location", "/jobs/1")),
        Response(200, PICTURE, (("content-type", "image/png"),)),
        Response(204, b"", (("allow", "GET"),)),
    ],
)
def test_an_answer_survives_the_way_back(name: str, response: Response) -> None:
    def app(_request: object) -> Response:
        return response

    served: App = DISGUISES[name](app)
    assert served(a_request()) == response


def test_a_function_url_repeats_cookies_and_an_http_api_does_not() -> None:
    headers = (("cookie", "a=1; b=2"),)
    assert function_url_event(headers=headers)["headers"]["cookie"] == "a=1; b=2"
    assert "cookie" not in http_api_event(headers=headers)["headers"]
    assert http_api_event(headers=headers)["cookies"] == ["a=1", "b=2"]


def test_bodies_of_unknown_type_arrive_as_base64() -> None:
    form = (("content-type", "application/x-www-form-urlencoded"),)
    assert function_url_event(headers=form, body=b"a=1")["isBase64Encoded"] is True
    assert function_url_event(headers=(), body=b"a=1")["isBase64Encoded"] is True
    assert function_url_event(body=b"\xff")["isBase64Encoded"] is True


def test_a_lambda_context_counts_down_on_the_given_clock() -> None:
    now_s = 100.0
    context = LambdaContext("id", timeout_s=2.0, clock=lambda: now_s)
    assert context.get_remaining_time_in_millis() == 2000
    now_s = 101.5
    assert context.get_remaining_time_in_millis() == 500
    now_s = 200.0
    assert context.get_remaining_time_in_millis() == 0


def test_a_lambda_value_without_status_is_itself_the_answer() -> None:
    response = read_lambda_reply({"jobId": "j-1"})
    assert (response.status, json.loads(response.read())) == (200, {"jobId": "j-1"})


@pytest.mark.parametrize(
    "reply",
    [
        {"statusCode": "200"},
        {"statusCode": True},
        {"statusCode": 200, "body": {}},
        {"statusCode": 200, "headers": {"a": 1}},
        {"statusCode": 200, "body": "a", "isBase64Encoded": True},
    ],
)
def test_a_malformed_reply_is_what_it_would_be_in_the_cloud(reply: dict[str, Any]) -> None:
    assert read_lambda_reply(reply).status == 502
    with pytest.raises(ValueError, match="does not say"):
        read_cloudbase_reply(reply)


def test_cloudbase_turns_other_values_into_text_or_json() -> None:
    assert read_cloudbase_reply("hello").body == b"hello"
    assert read_cloudbase_reply({"a": 1}).body == b'{"a":1}'


@pytest.mark.parametrize("value", [None, [], True])
def test_a_value_that_cloudbase_does_not_document_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match="does not say"):
        read_cloudbase_reply(value)

from __future__ import annotations

import json
from typing import Any

import pytest

from fal_image.dev.platforms import cloudbase_context
from fal_image.events import cloudbase
from fal_image.web import Request, Response
from support.events import Recorder, cloudbase_event, frozen, published


def invoke(event: object, app: Any = None, *, context: object = None) -> dict[str, Any]:
    context = cloudbase_context("scf-id", timeout_s=60.0) if context is None else context
    app = app or Recorder()
    return cloudbase.handle(event, context, app, clock=frozen, new_id=lambda: "new-id")


def received(event: object, *, context: object = None) -> Request:
    app = Recorder()
    invoke(event, app, context=context)
    return app.request


def test_the_published_event_becomes_a_request() -> None:
    request = received(published("cloudbase_http"))
    assert (request.method, request.path, request.query, request.body) == ("GET", "/", (), b"")
    assert request.headers.get_all("host") == ["env-id.service.tcloudbase.com"]
    platform = request.platform
    assert platform.request_id == "scf-id"
    assert (platform.name, platform.gateway_s, platform.caller) == ("cloudbase", 55.0, None)
    assert platform.public_url is None


def test_the_published_post_without_context_and_query_becomes_a_request() -> None:
    request = received(published("cloudbase_http_post"))
    assert json.loads(request.body) == {"a": 1, "b": 2}
    assert (request.query, request.platform.request_id) == ((), "scf-id")


def test_the_time_limit_counts_from_the_start_of_the_invocation() -> None:
    assert received(cloudbase_event()).platform.ends_at == frozen() + 60.0


@pytest.mark.parametrize("limit", [None, "60000", True, 0, -5, float("inf"), float("nan")])
def test_a_strange_time_limit_leaves_the_end_open(limit: object) -> None:
    request = received(cloudbase_event(), context={"time_limit_in_ms": limit})
    assert request.platform.ends_at is None


@pytest.mark.parametrize("context", [None, [], "x", object()])
def test_an_unknown_context_is_tolerated(context: object) -> None:
    app = Recorder()
    cloudbase.handle({"prompt": "x"}, context, app, clock=frozen, new_id=lambda: "new-id")
    assert (app.request.platform.request_id, app.request.platform.ends_at) == ("new-id", None)


def test_repeated_headers_come_from_the_list_and_count_once() -> None:
    several = {"x-a": ["1", "2"]}
    event = cloudbase_event({"headers": {"X-A": "2", "x-b": "3"}, "multiValueHeaders": several})
    request = received(event)
    assert request.headers.get_all("x-a") == ["1", "2"]
    assert request.headers.get_all("x-b") == ["3"]


def test_a_path_is_percent_decoded() -> None:
    assert received(cloudbase_event({"path": "/jobs/%E5%9B%BE"})).path == "/jobs/图"


@pytest.mark.parametrize("flag", [True, "true", "TRUE"])
def test_base64_may_be_announced_as_text(flag: object) -> None:
    assert received(cloudbase_event({"body": "e30=", "isBase64Encoded": flag})).body == b"{}"


@pytest.mark.parametrize("flag", [False, "false", None, 1, {}])
def test_a_body_is_not_decoded_unasked(flag: object) -> None:
    assert received(cloudbase_event({"body": "e30=", "isBase64Encoded": flag})).body == b"e30="


def test_malformed_base64_is_invalid_json() -> None:
    reply = invoke(cloudbase_event({"body": "e3", "isBase64Encoded": True}))
    assert reply["statusCode"] == 400
    assert json.loads(reply["body"])["error"] == "invalid_json"


def test_a_body_that_is_an_object_already_is_its_json() -> None:
    assert json.loads(received(cloudbase_event({"body": {"prompt": "x"}})).body) == {"prompt": "x"}


def test_null_headers_do_not_turn_http_into_a_direct_call() -> None:
    assert "statusCode" in invoke(cloudbase_event({"headers": None, "multiValueHeaders": None}))


def test_the_client_is_who_the_platform_names() -> None:
    context = cloudbase_context("scf-id", client_ip="203.0.113.9")
    event = cloudbase_event({"headers": {"x-forwarded-for": "198.51.100.1"}})
    assert received(event, context=context).platform.client_ip == "203.0.113.9"


@pytest.mark.parametrize(
    "environment", [None, "", "{", "[]", 5, '{"TCB_SOURCE_IP": 5}', "[" * 9999]
)
def test_without_a_named_client_the_nearest_hop_counts(environment: object) -> None:
    headers = {"x-forwarded-for": "10.0.0.1, 198.51.100.1"}
    event = cloudbase_event({"headers": headers, "multiValueHeaders": None})
    request = received(event, context={"environment": environment})
    assert request.platform.client_ip == "198.51.100.1"


def test_a_timer_is_a_request_that_nobody_sent_and_its_message_is_not_read() -> None:
    event = published("cloudbase_timer") | {"route": "POST /generate", "prompt": "x"}
    request = received(event)
    assert (request.platform.name, request.platform.caller) == ("timer", None)
    assert (request.path, request.body) == ("/timer", b"")
    assert (request.query, list(request.headers)) == ((), [])


def test_a_call_from_wechat_loses_what_wechat_adds_and_grants_nothing() -> None:
    request = received(published("cloudbase_wechat_call"))
    assert (request.method, request.path) == ("POST", "/generate")
    assert json.loads(request.body) == {"prompt": "a calico cat"}
    assert (request.platform.name, request.platform.caller) == ("direct", None)
    assert (request.platform.gateway_s, request.platform.request_id) == (None, "scf-id")


@pytest.mark.parametrize("name", ["WX_OPENID", "TCB_UUID"])
def test_who_calls_is_in_the_invocations_environment_and_is_not_granted_anything(name: str) -> None:
    context = cloudbase_context("scf-id", variables={name: "somebody"})
    request = received(published("cloudbase_web_call"), context=context)
    assert request.platform.environment[name] == "somebody"
    assert request.platform.caller is None


def test_a_call_in_the_shape_of_http_gains_nothing_by_it() -> None:
    context = cloudbase_context("scf-id", client_ip="203.0.113.9")
    platform = received(published("cloudbase_http_shaped_call"), context=context).platform
    assert platform.caller is None
    assert platform.public_url is None
    assert platform.request_id == "scf-id"  # a chosen one could pass for a request already counted
    assert platform.client_ip == "203.0.113.9"
    assert "oSomebodyElse" not in platform.environment.values()


@pytest.mark.parametrize(
    ("facts", "environment"),
    [
        ({"environment": '{"A":"1","B":"x=y;z"}'}, {"A": "1", "B": "x=y;z"}),
        ({"environment": {"A": "1"}}, {"A": "1"}),
        ({"environment": '{"A":1,"B":null,"C":["x"],"D":"yes"}'}, {"D": "yes"}),
        ({"environ": "A=1;B=x=y;C="}, {"A": "1", "B": "x=y", "C": ""}),
        ({"environ": ";;=1;A"}, {}),
        ({"environment": '{"A":"1"}', "environ": "A=2;B=3"}, {"A": "1"}),
        ({"environment": "{}", "environ": "A=2"}, {}),
        ({"environment": "not json", "environ": "A=2"}, {"A": "2"}),
        ({"environment": "[]", "environ": 5}, {}),
        ({"environment": "[" * 9999}, {}),
        ({"environment": '{"\\ud800":"\\ud800"}'}, {"?": "?"}),
        ({}, {}),
    ],
)
def test_the_environment_is_read_in_the_new_form_and_else_in_the_old(
    facts: dict[str, object], environment: dict[str, str]
) -> None:
    assert received({"prompt": "x"}, context=facts).platform.environment == environment


def test_a_value_of_the_old_form_cannot_pose_as_a_variable_of_its_own() -> None:
    facts = {"environ": "NICKNAME=me;WX_OPENID=victim;WX_OPENID=me"}
    assert "WX_OPENID" not in received({"prompt": "x"}, context=facts).platform.environment


@pytest.mark.parametrize("body", [{"prompt": "x"}, '{"prompt": "x"}'])
def test_a_call_may_hold_its_prompt_in_a_body(body: object) -> None:
    event = {"body": body, "headers": {"x-api-key": "k"}, "userInfo": {}}
    request = received(event)
    assert request.path == "/generate"
    assert json.loads(request.body) == {"prompt": "x"}
    assert request.headers.get("x-api-key") == "k"


def test_a_call_with_route_is_taken_as_it_is() -> None:
    request = received({"route": "GET /models", "userInfo": {"openId": "o"}})
    assert (request.method, request.path, request.body) == ("GET", "/models", b"")


def test_the_answer_is_an_integrated_response_with_one_string_per_header() -> None:
    headers = (("Vary", "Origin"), ("vary", "Accept"), ("content-type", "image/png"))
    reply = cloudbase.reply(Response(200, b"\x89PNG", headers))
    assert reply == {
        "statusCode": 200,
        "headers": {"vary": "Origin, Accept", "content-type": "image/png"},
        "body": "iVBORw==",
        "isBase64Encoded": True,
    }


def test_an_error_that_escapes_the_app_is_an_internal_problem() -> None:
    def broken(_request: Request) -> Response:
        raise RuntimeError("secret")

    reply = invoke(cloudbase_event(), broken)
    assert reply["statusCode"] == 500
    assert json.loads(reply["body"])["error"] == "internal"
    assert "secret" not in reply["body"]

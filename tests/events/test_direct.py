from __future__ import annotations

import json
from typing import Any

import pytest

from fal_image.dev.platforms import LambdaContext
from fal_image.events import aws, direct
from fal_image.web import Request, Response, json_response
from support.events import Recorder, frozen


def invoke(event: object, app: Any = None) -> dict[str, Any]:
    context = LambdaContext("lambda-id", timeout_s=60.0, clock=frozen)
    return aws.handle(event, context, app or Recorder(), clock=frozen)


def received(event: object) -> Request:
    app = Recorder()
    invoke(event, app)
    return app.request


def test_an_event_without_route_is_the_body_of_generate() -> None:
    request = received({"prompt": "a calico cat", "image_size": {"width": 512, "height": 512}})
    assert (request.method, request.path, request.query) == ("POST", "/generate", ())
    assert json.loads(request.body) == {
        "prompt": "a calico cat",
        "image_size": {"width": 512, "height": 512},
    }
    assert request.headers.get("content-type") == "application/json"


def test_a_direct_call_on_lambda_is_the_caller_iam_without_a_gateway() -> None:
    platform = received({}).platform
    assert (platform.name, platform.caller, platform.request_id) == ("direct", "iam", "lambda-id")
    assert (platform.gateway_s, platform.public_url, platform.client_ip) == (None, None, None)
    assert platform.ends_at == frozen() + 60.0


def test_a_route_names_method_path_query_headers_and_body() -> None:
    request = received(
        {
            "route": "get /jobs/J-1",
            "headers": {"Authorization": "Bearer k", "Content-Type": "application/json; x=1"},
            "query": {"a": [1, "2"], "b": ""},
            "body": {"maxAge": 60},
        }
    )
    assert (request.method, request.path) == ("GET", "/jobs/J-1")
    assert request.query == (("a", "1"), ("a", "2"), ("b", ""))
    assert request.headers.get("authorization") == "Bearer k"
    assert request.headers.get_all("content-type") == ["application/json; x=1"]
    assert json.loads(request.body) == {"maxAge": 60}


def test_a_route_alone_has_an_empty_body() -> None:
    assert received({"route": "GET /health"}).body == b""


def test_a_body_may_be_json_text() -> None:
    assert received({"route": "POST /generate", "body": '{"prompt":"x"}'}).body == b'{"prompt":"x"}'


@pytest.mark.parametrize("route", [None, 7, "", "POST", "/generate", "POST generate", "G T /x", {}])
def test_a_route_that_cannot_be_read_names_its_field(route: object) -> None:
    app = Recorder()
    reply = invoke({"route": route}, app)
    assert not app.requests
    assert (reply["error"], reply["fields"][0]["field"]) == ("invalid_input", "route")


@pytest.mark.parametrize(
    "event", [None, [], "text", 7, True, {"prompt": float("nan")}, {"a": b"x"}]
)
def test_what_is_not_a_json_object_is_invalid_json(event: object) -> None:
    app = Recorder()
    reply = invoke(event, app)
    assert not app.requests
    assert (reply["error"], reply["status"]) == ("invalid_json", 400)


def test_the_answer_is_the_object_in_the_body() -> None:
    assert invoke({}, lambda _: json_response(200, {"jobId": "j-1"})) == {"jobId": "j-1"}


def test_an_answer_that_is_no_json_object_is_wrapped() -> None:
    assert direct.reply(Response(204)) == {}
    assert direct.reply(json_response(200, [1])) == {
        "contentType": "application/json",
        "body": "[1]",
        "isBase64Encoded": False,
    }
    png = Response(200, b"\x89PNG", (("content-type", "image/png"),))
    assert direct.reply(png) == {
        "contentType": "image/png",
        "body": "iVBORw==",
        "isBase64Encoded": True,
    }

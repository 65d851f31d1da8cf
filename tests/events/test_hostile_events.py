"""Whatever arrives, a cloud gets a well-formed answer back."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from fal_image.dev.platforms import LambdaContext, cloudbase_context
from fal_image.events import aws, cloudbase
from support import fuzz
from support.events import echo, frozen

COUNT = 2000

CONTEXTS: tuple[object, ...] = (
    None,
    {},
    LambdaContext("lambda-id", clock=frozen),
    cloudbase_context("scf-id"),
    {"time_limit_in_ms": "x", "environment": "{", "request_id": 5},
    {"environment": '{"\\ud800":"\\ud800","A":5}', "environ": 7},
    {"environment": None, "environ": "A=1;A=2;=;B;\ud800=\ud800"},
)


@pytest.mark.parametrize("platform", [aws, cloudbase])
def test_no_event_raises_and_every_reply_is_well_formed(platform: Any) -> None:
    statuses, kinds = set(), set()
    for number, event in enumerate(fuzz.events(seed=20261121, count=COUNT)):
        reply = platform.handle(event, CONTEXTS[number % len(CONTEXTS)], echo, clock=frozen)
        kinds.add(platform.classify(event))
        assert_well_formed(reply, is_http=answers_http(platform.classify(event)))
        statuses.add(reply.get("statusCode", reply.get("status", 200)))
    assert statuses == {200, 400}
    assert kinds == set(get_args(platform.Kind))


def test_the_same_seed_gives_the_same_events() -> None:
    first, second = (json.dumps(list(fuzz.events(seed=7, count=50))) for _ in range(2))
    assert first == second


def answers_http(kind: str) -> bool:
    return kind in {"function_url", "http_api", "rest", "alb", "other_gateway", "http"}


def assert_well_formed(reply: object, *, is_http: bool) -> None:
    assert isinstance(reply, dict)
    json.dumps(reply, allow_nan=False).encode()
    if not is_http:
        return
    assert 100 <= reply["statusCode"] <= 599
    assert isinstance(reply["body"], str)
    assert isinstance(reply["isBase64Encoded"], bool)
    single, lists = reply.get("headers", {}), reply.get("multiValueHeaders", {})
    assert single.keys().isdisjoint(lists)
    values = [*single.values(), *(value for several in lists.values() for value in several)]
    assert values
    assert all(isinstance(value, str) for value in values)

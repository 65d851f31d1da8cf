from __future__ import annotations

import json
import logging

import pytest

from fal_image.events.startup import built_once
from fal_image.web import App, Request
from support.events import Recorder, a_request


def test_the_app_is_built_before_the_first_request_and_only_once() -> None:
    built: list[App] = []

    def build() -> App:
        built.append(Recorder())
        return built[-1]

    app = built_once(build)
    assert len(built) == 1
    app(a_request())
    app(a_request())
    assert len(built) == 1


def test_as_long_as_building_fails_the_owner_is_told_in_the_log_and_a_stranger_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def build() -> App:
        raise RuntimeError("canary-key")

    with caplog.at_level(logging.DEBUG, logger="fal_image"):
        response = built_once(build)(a_request())
    problem = json.loads(response.read())
    assert (response.status, problem["error"], problem["requestId"]) == (
        500,
        "misconfigured",
        "r-1",
    )
    assert "canary-key" not in str(problem)
    assert "RuntimeError" in caplog.text


def test_a_missing_module_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def build() -> App:
        raise ModuleNotFoundError("No module named 'msgspec'")

    built_once(build)
    assert "msgspec" in caplog.text


def test_building_is_tried_again_at_the_next_request() -> None:
    outcomes: list[App | Exception] = [OSError("not yet"), Recorder()]

    def build() -> App:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    app = built_once(build)
    request: Request = a_request()
    assert app(request).status == 200

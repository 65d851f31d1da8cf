"""The unpacked package of the event function, by the handler and the timer of cloudbaserc.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripts.packaging.build import build

from fal_image.dev.emulator import Emulator
from fal_image.dev.platforms import cloudbase_context, cloudbase_event
from support.cloudbaserc import EVENT, config
from support.entrypoints import FAL_KEY, KEY_SHA256, request
from support.events import published
from support.unpacked import run_alone, target_here

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

FUNCTION = config()["functions"][EVENT]
MODULE, HANDLER = FUNCTION["handler"].split(".")

ANSWER_EACH = f"""
import json
from {MODULE} import {HANDLER}
print(json.dumps([{HANDLER}(event, context) for event, context in json.load(sys.stdin)]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(target_here("cloudbase"), tmp_path_factory.mktemp("built")).tree


def answers(tree: Path, data: Path, *events: dict[str, Any]) -> list[Any]:
    """What one instance answers, event by event."""
    variables = {
        name: value
        for name, value in FUNCTION["envVariables"].items()
        if "{{" not in value  # what this project itself decides
    }
    with Emulator() as fal:
        environ = {
            **variables,
            "FAL_KEY": FAL_KEY,
            "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
            "FAL_IMAGE_SECRET": "canary0signing0secret0of0this0test",
            "FAL_IMAGE_STORAGE_URL": (data / "pictures").as_uri(),
            "FAL_IMAGE_DATABASE_URL": f"sqlite://{data}/jobs.db",
            "FAL_IMAGE_PUBLIC_URL": "https://pictures-3gabc.service.tcloudbase.com/fal-image-gen",
            "FAL_IMAGE_EMULATOR_URL": fal.url,
        }
        given = [[event, cloudbase_context("scf-1")] for event in events]
        answered: list[Any] = run_alone(ANSWER_EACH, tree, environ=environ, given=given)
    return answered


def test_the_timer_sweeps_and_health_tells_of_it(tree: Path, tmp_path: Path):
    (timer,) = FUNCTION["triggers"]
    tick = {**published("cloudbase_timer"), "TriggerName": timer["name"], "Message": ""}
    health = cloudbase_event(request("GET", "/health", key=None))
    swept, told = answers(tree, tmp_path, tick, health)
    assert (swept["failed"], swept["isComplete"]) == (0, True)
    assert told["statusCode"] == 200
    assert '"lastSweep":{' in told["body"].replace(" ", "")


def test_a_request_is_answered_whether_cloudbase_cuts_the_route_off_or_not(
    tree: Path, tmp_path: Path
):
    paths = ("/", FUNCTION["path"])
    events = [cloudbase_event(request("POST", path, {"prompt": "a cat"})) for path in paths]
    for answer in answers(tree, tmp_path, *events):
        assert answer["statusCode"] == 200, answer["body"]
        assert '"done"' in answer["body"]

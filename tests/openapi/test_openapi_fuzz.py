"""Schemathesis reads the document and tries what it allows and what it does not, with the emulator
behind the app. The same examples every time, and nothing of them is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from fal_image.dev.emulator import Emulator
from fal_image.events.wsgi import wsgi_app
from support.entrypoints import KEY
from support.instances import instance

PHASES = ("examples", "coverage", "fuzzing", "stateful")

# A refusal may also say that an address at fal, or the request's size, is not right.
REFUSED = [400, 401, 403, 404, 405, 412, 413, 414, 415, 422, 431]

CHECKS: Mapping[str, Any] = {
    "negative_data_rejection": {"expected-statuses": REFUSED},
    "positive_data_acceptance": {"enabled": False},  # ids are nobody's, models differ in ranges
    "ignored_auth": {"enabled": False},  # of WSGI it cannot ask that; the entrances' tests do
    "use_after_free": {"enabled": False},  # a job and a batch are stopped by DELETE, not deleted
}

# What goes on to a model as it is, and rows that fail one by one: wrong data is taken on purpose.
TAKES_ANYTHING = ("generate", "generateAtRoot", "estimate", "startBatch", "openaiGenerate")


def config(examples: int, *phases: str) -> SchemathesisConfig:
    generation = {
        "deterministic": True,
        "database": "none",
        "max-examples": examples,
        "no-shrink": True,
    }
    lenient = {"negative_data_rejection": {"enabled": False}}
    return SchemathesisConfig.from_dict(
        {
            "seed": 7,
            "headers": {"Authorization": f"Bearer {KEY}"},
            "generation": generation,
            "phases": {name: {"enabled": name in phases} for name in PHASES},
            "checks": dict(CHECKS),
            "operations": [
                {"include-operation-id": name, "checks": lenient} for name in TAKES_ANYTHING
            ],
        }
    )


def tried(fal: Emulator, directory: Path, wanted: SchemathesisConfig) -> tuple[int, list[str]]:
    """How many requests were made, and whatever is wrong with the answers."""
    one = instance(fal, directory, FAL_IMAGE_DAILY_BUDGET_USD="1000", FAL_IMAGE_LOG_LEVEL="ERROR")
    schema = schemathesis.openapi.from_wsgi("/openapi.json", wsgi_app(one.app), config=wanted)
    count, wrong = 0, list[str]()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            count += len(event.recorder.cases)
            wrong += failures(event)
        elif isinstance(event, events.NonFatalError):
            wrong.append(f"{event.label}: {event.value}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return count, wrong


def failures(event: events.ScenarioFinished) -> Iterator[str]:
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                failure, case = check.failure_info.failure, event.recorder.cases[case_id].value
                yield f"{failure.title}: {failure.message}\n{case.as_curl_command()}"


@pytest.mark.timeout(60)
def test_random_requests_get_the_answers_that_are_described(fal: Emulator, tmp_path: Path):
    count, wrong = tried(fal, tmp_path, config(2, "examples", "fuzzing"))
    assert wrong == []
    assert count > 50


@pytest.mark.long
@pytest.mark.timeout(300)
def test_every_corner_of_the_document_gets_the_answers_that_are_described(
    fal: Emulator, tmp_path: Path
):
    count, wrong = tried(fal, tmp_path, config(20, *PHASES))
    assert wrong == []
    assert count > 3000

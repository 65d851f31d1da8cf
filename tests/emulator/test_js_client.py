"""The unmodified @fal-ai/client in Node; the programs that use it are in tests/node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import ask

PROGRAMS = Path(__file__).resolve().parents[1] / "node"
STATES = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]

pytestmark = pytest.mark.needs("node >= 20")


@pytest.fixture
def fal() -> Iterator[Emulator]:
    """fal with enough delay for a program to see a job at work."""
    with Emulator(queue_s=0.1, run_s=0.4) as emulator:
        yield emulator


def node(program: str, emulator: Emulator) -> Any:
    """What a program of tests/node reports."""
    done = subprocess.run(
        ["node", PROGRAMS / program, emulator.url],
        capture_output=True,
        encoding="utf-8",
        timeout=15,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_run(emulator: Emulator) -> None:
    result = node("run.mjs", emulator)

    assert result["data"]["seed"] == 7
    assert result["requestId"] == emulator.ledger[0].request_id


def test_subscribe_by_polling_and_by_stream(fal: Emulator) -> None:
    seen = node("subscribe.mjs", fal)

    for mode in ("polling", "streaming"):
        assert seen[mode]["states"] in (STATES, STATES[1:])
        assert seen[mode]["logs"] == ["25%", "50%", "75%", "100%"]
        assert seen[mode]["result"]["data"]["seed"] == 7
        assert seen[mode]["result"]["requestId"] in {entry.request_id for entry in fal.ledger}
    assert len(fal.ledger) == 2


def test_every_call_of_the_queue(fal: Emulator) -> None:
    seen = node("queue.mjs", fal)
    taken, other = fal.ledger

    assert seen["submitted"]["request_id"] == seen["result"]["requestId"] == taken.request_id
    assert seen["early"] == {"detail": "Request is still in progress"}
    assert list(dict.fromkeys(seen["events"])) in (STATES, STATES[1:])
    assert len(seen["status"]["logs"]) == 4
    assert seen["cancelled"] == 499
    assert seen["late"] == {"status": "ALREADY_COMPLETED"}
    assert other.is_cancelled


def test_stream(emulator: Emulator) -> None:
    seen = node("stream.mjs", emulator)

    assert len(set(seen["events"])) == 4
    assert seen["done"]["images"][0]["url"] == seen["events"][-1]


def test_uploads_small_large_and_automatic(emulator: Emulator) -> None:
    seen = node("upload.mjs", emulator)
    [edit] = emulator.ledger
    assert isinstance(edit.input, dict)

    assert ask(emulator, "GET", seen["url"], key=None).body == b"small file"
    large = ask(emulator, "GET", seen["largeUrl"], key=None)
    assert (len(large.body), large.body[-8:]) == (seen["largeBytes"], b"athe end")
    assert ask(emulator, "GET", edit.input["image_url"], key=None).body.startswith(b"\x89PNG")
    assert seen["automatic"] == 1


def test_bad_input_is_a_validation_error_and_an_unknown_model_is_not(emulator: Emulator) -> None:
    seen = node("errors.mjs", emulator)

    for call in ("run", "subscribe"):
        assert seen[call]["isValidation"]
        assert seen[call]["status"] == 422
        assert seen[call]["fieldErrors"][0]["loc"] == ["body", "num_images"]
        assert seen[call]["requestId"]
    assert seen["unknown"]["status"] == 404
    assert not seen["unknown"]["isValidation"]
    assert seen["unknown"]["body"] == {"detail": 'Application "no-such-model" not found'}


def test_proxy_url_sends_everything_to_one_address(emulator: Emulator) -> None:
    seen = node("proxy.mjs", emulator)

    assert seen["run"]["seed"] == seen["subscribe"]["seed"] == 7
    assert [entry.via for entry in emulator.ledger] == ["run", "queue"]

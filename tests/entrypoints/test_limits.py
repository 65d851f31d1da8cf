"""The owner's limits on one request, through the entrances that take our own dialect."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.entrypoints import THROUGH, request
from support.instances import CAT, instance, read

Configure = Callable[..., None]

BEYOND: dict[str, tuple[dict[str, Any], str]] = {
    "pictures": ({"model": "fal-ai/flux-new", "num_images": "5"}, "num_images"),
    "megapixels": ({"image_size": {"width": 4096, "height": 2048}}, "image_size"),
    "steps": ({"model": "fal-ai/flux-pro", "num_inference_steps": 51}, "num_inference_steps"),
    "prompt": ({"prompt": "x" * 4001}, "prompt"),
    "checker": ({"enable_safety_checker": False}, "enable_safety_checker"),
    "tolerance": (
        {"model": "fal-ai/flux-pro/v1.1", "safety_tolerance": "6"},
        "safety_tolerance",
    ),
}


@pytest.mark.parametrize("cloud", sorted(THROUGH))
@pytest.mark.parametrize("beyond", sorted(BEYOND))
def test_what_is_beyond_a_limit_is_refused_before_money(
    configured: Configure, fal: Emulator, cloud: str, beyond: str
):
    arguments, field = BEYOND[beyond]
    answer = read(THROUGH[cloud](request(body={**CAT, **arguments})))
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert [one["field"] for one in answer.json["fields"]] == [field]
    assert answer.json["retryable"] is True
    assert fal.calls.total() == 0


@pytest.mark.parametrize(
    ("setting", "value", "arguments"),
    [
        ("FAL_IMAGE_MAX_IMAGES", "1", {"num_images": 2}),
        ("FAL_IMAGE_MAX_MEGAPIXELS", "1", {"image_size": {"width": 1025, "height": 1024}}),
        ("FAL_IMAGE_MAX_STEPS", "3", {"num_inference_steps": 4}),
        ("FAL_IMAGE_MAX_PROMPT_CHARS", "3", {"prompt": "four"}),
    ],
)
def test_each_limit_is_the_owners_to_set(
    fal: Emulator, tmp_path: Path, setting: str, value: str, arguments: dict[str, Any]
):
    assert instance(fal, tmp_path).generate({**CAT, **arguments}).status == 200
    settings: Any = {setting: value}
    answer = instance(fal, tmp_path, **settings).generate({**CAT, **arguments})
    assert [one["field"] for one in answer.json["fields"]] == list(arguments)
    assert len(fal.ledger) == 1


@pytest.mark.parametrize("beyond", ["checker", "tolerance"])
def test_an_owner_may_let_the_safety_checker_go(fal: Emulator, tmp_path: Path, beyond: str):
    arguments, field = BEYOND[beyond]
    settings: Any = {"FAL_IMAGE_ALLOW_UNSAFE": "1"}
    assert instance(fal, tmp_path, **settings).generate({**CAT, **arguments}).status == 200
    assert fal.ledger[0].input[field] == arguments[field]  # type: ignore[index]


def test_a_row_of_a_batch_obeys_too(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    rows = [{"prompt": "x" * 4001}, {**CAT, "enable_safety_checker": False}, CAT]
    batch = one.ask("POST", "/batches", {"rows": rows}).json
    one.tick()
    done = one.ask("GET", f"/batches/{batch['batchId']}").json
    assert done["counts"]["failed"] == 2
    assert "4000" in json.dumps(done["errors"])
    assert [entry.input["seed"] for entry in fal.ledger] == [CAT["seed"]]  # type: ignore[index]

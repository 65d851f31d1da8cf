"""fal's page about fal-ai/flux-pro and its old client: what they get from fal, and from us."""

from __future__ import annotations

from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.fal import catalog
from support.emulator import ask
from support.node import call
from support.seeds import Endpoint, assert_ours_is_the_same, ordered, size_px

MODEL = "fal-ai/flux-pro"
PROMPT = 'a tiger\'s eye, the word "FLUX" painted over it'
INPUT = {
    "prompt": PROMPT,
    "image_size": "landscape_4_3",
    "num_inference_steps": 28,
    "guidance_scale": 3.5,
    "num_images": 1,
    "safety_tolerance": "2",
}
SIZES = [
    "square_hd",
    "square",
    "portrait_4_3",
    "portrait_16_9",
    "landscape_4_3",
    "landscape_16_9",
]

node = pytest.mark.needs("node >= 20")


def page(function: str, *arguments: object, fal: Emulator) -> Any:
    """What a snippet of the page ends with."""
    called = call("seeds/model_page.mjs", function, *arguments, emulator=fal)
    assert called.threw is None
    return called.returned


@node
def test_subscribe_of_the_deprecated_client(endpoint: Endpoint) -> None:
    called = call("seeds/model_page.mjs", "submit", PROMPT, emulator=endpoint.fal)

    assert ordered(endpoint.fal) == (MODEL, {"prompt": PROMPT})
    output = called.returned
    assert size_px(output["images"][0]) == (1024, 768)
    arguments = {"model": MODEL, "image_size": "landscape_4_3", "prompt": PROMPT}
    status, job = endpoint.post(arguments | {"seed": output["seed"]})
    assert status == 200
    assert endpoint.picture(job["tempFileURL"]) == (
        ask(endpoint.fal, "GET", output["images"][0]["url"], key=None).body
    )


@node
def test_the_deprecated_client_reads_the_exported_key(fal: Emulator) -> None:
    called = call("seeds/model_page.mjs", "submit", PROMPT, emulator=fal, fal_key="revoked:x")
    assert called.threw["status"] == 401


@node
def test_a_key_in_config_goes_before_the_environments(fal: Emulator) -> None:
    for key, status in [("YOUR_FAL_KEY", 401), ("revoked:x", 401), ("id:secret", None)]:
        called = call(
            "seeds/model_page.mjs",
            "submitWithKey",
            key,
            PROMPT,
            emulator=fal,
            fal_key="id:secret" if status else "revoked:x",
        )
        assert (called.threw and called.threw["status"]) == status


@node
def test_upload_of_the_deprecated_client_and_a_call_that_forgets_input(endpoint: Endpoint) -> None:
    """As printed, the URL stands beside `input` and never reaches fal; with us it is the prompt
    that is missing."""
    url = page("upload", fal=endpoint.fal)
    uploaded = ask(endpoint.fal, "GET", url, key=None)
    assert uploaded.body == b"Hello, World!"
    assert uploaded.headers["content-type"] == "text/plain"

    called = call("seeds/model_page.mjs", "useUpload", url, emulator=endpoint.fal)
    assert (called.threw["name"], called.threw["status"]) == ("ValidationError", 422)

    status, problem = endpoint.post({"model": MODEL, "image_url": url})
    assert (status, problem["error"]) == (400, "missing_prompt")


@node
def test_the_input_of_the_schema(endpoint: Endpoint) -> None:
    output = page("run", INPUT, fal=endpoint.fal)
    assert_ours_is_the_same(endpoint, output)


def test_the_catalog_has_the_fields_of_the_schema() -> None:
    fields = catalog.models()[MODEL].fields

    assert {name: field.default for name, field in fields.items() if field.default is not None} == {
        **{name: value for name, value in INPUT.items() if name != "prompt"},
        "sync_mode": False,
    }
    assert [name for name, field in fields.items() if field.required] == ["prompt"]
    assert set(fields) == {*INPUT, "seed", "sync_mode"}
    assert list(catalog.PRESETS) == SIZES
    assert fields["safety_tolerance"].choices == ("1", "2", "3", "4", "5", "6")


@node
def test_the_output_of_the_schema(endpoint: Endpoint) -> None:
    output = page("run", INPUT, fal=endpoint.fal)

    assert set(output) == {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}
    assert output["prompt"] == PROMPT
    [image] = output["images"]
    assert image["url"]
    assert image["content_type"] == "image/jpeg"
    job = assert_ours_is_the_same(endpoint, output)
    assert job["images"][0]["contentType"] == "image/jpeg"
    assert [image["nsfw"] for image in job["images"]] == output["has_nsfw_concepts"]

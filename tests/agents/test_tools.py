"""What each tool asks of the endpoint and answers, without a connection between."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fal_image.dev.emulator import Emulator
from fal_image.endpoint import Deployed, InProcess
from fal_image.mcp_server.tools import EDIT_MODEL
from support.agents import (
    CAT,
    Remembering,
    called,
    links_of,
    previews_of,
    seen,
    text_of,
    tools_for,
)
from support.entrypoints import KEY
from support.instances import NOWHERE, instance, serving


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def endpoint(fal: Emulator, tmp_path: Path) -> Remembering:
    """In this process, on a disk that no server serves."""
    return Remembering(InProcess(instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=None).app))


def test_a_picture_is_made_shown_and_linked(endpoint: Remembering):
    result = called(tools_for(endpoint), "generate_image", CAT)
    job = result.structured_content
    assert not result.is_error
    assert (job["state"], job["isOver"], job["seed"]) == ("done", True, 7)
    (image,) = job["images"]
    assert (image["width"], image["height"]) == (64, 64)
    (link,) = links_of(result)
    assert (link.uri, link.name) == (image["url"], image["fileID"].rpartition("/")[2])
    assert (link.mime_type, link.size) == (image["contentType"], image["bytes"])
    (preview,) = previews_of(result)
    assert Image.open(io.BytesIO(base64.b64decode(preview.data))).size == (64, 64)
    assert image["fileID"] in text_of(result)
    assert preview.data[:40] not in text_of(result)


def test_the_agents_words_reach_the_endpoint_in_its_own(endpoint: Remembering):
    called(
        tools_for(endpoint),
        "generate_image",
        {
            **CAT,
            "number": 2,
            "max_age": 600,
            "ai_label": "metadata",
            "input": {"num_inference_steps": 3},
            "preview": "none",
        },
    )
    method, path, body, headers = endpoint.asked[0]
    assert (method, path) == ("POST", "/generate")
    assert body == {
        "prompt": "a calico cat",
        "seed": 7,
        "image_size": {"width": 64, "height": 64},
        "num_images": 2,
        "maxAge": 600,
        "aiLabel": "metadata",
        "num_inference_steps": 3,
    }
    assert headers == {"idempotency-key": "made-key", "prefer": "respond-async"}


def test_a_picture_that_is_there_is_reused_for_nothing(fal: Emulator, endpoint: Remembering):
    first, again = (
        called(tools_for(endpoint), "generate_image", {**CAT, "reuse": True}) for _ in range(2)
    )
    assert again.structured_content["cached"] is True
    assert again.structured_content["jobId"] == first.structured_content["jobId"]
    assert len(fal.ledger) == 1


def test_no_preview_is_made_for_who_wants_none(endpoint: Remembering):
    result = called(tools_for(endpoint), "generate_image", {**CAT, "preview": "none"})
    assert previews_of(result) == []
    assert len(links_of(result)) == 1


def test_previews_of_several_pictures_share_the_room(endpoint: Remembering):
    several = {"prompt": "cats", "number": 4, "size": "square_hd"}
    result = called(tools_for(endpoint), "generate_image", several)
    sizes = [len(preview.data) for preview in previews_of(result)]
    assert len(sizes) == 4
    assert sum(sizes) < 64 * 1024


def test_two_calls_are_two_intents_and_two_with_one_key_are_one(
    fal: Emulator, endpoint: Remembering
):
    given = {**CAT, "idempotency_key": "cat-1"}
    first, again = (called(tools_for(endpoint), "generate_image", given) for _ in range(2))
    assert first.structured_content["jobId"] == again.structured_content["jobId"]
    assert len(fal.ledger) == 1
    called(tools_for(endpoint, key="another"), "generate_image", CAT)
    assert len(fal.ledger) == 2


def test_a_slow_job_is_handed_over_and_picked_up(tmp_path: Path):
    with Emulator(run_s=600) as fal:
        endpoint = InProcess(instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=None).app)
        tools = tools_for(endpoint, wait_s=10)
        result = called(tools, "generate_image", CAT)
        job = result.structured_content
        assert not result.is_error
        assert (job["isOver"], job["images"]) == (False, [])
        assert job["askAgainAfterS"] == 1
        assert f'Call get_job with job_id "{job["jobId"]}"' in text_of(result)
        later = called(tools, "get_job", {"job_id": job["jobId"]}).structured_content
        assert (later["jobId"], later["isOver"]) == (job["jobId"], False)


def test_what_happens_to_a_job_is_told_once(endpoint: Remembering):
    heard: list[str] = []

    async def hear(message: str) -> None:
        heard.append(message)

    logs = [{"message": f"step {step}", "timestamp": f"12:00:0{step}"} for step in range(4)]
    endpoint.failures = [
        seen("submitted"),
        seen("submitted", queuePosition=2),
        seen("submitted", queuePosition=2),
        seen("submitted", queuePosition=1),
        seen("submitted", logs=logs[:3]),
        seen("storing", logs=logs[1:]),  # an answer shows only the last ones
        seen("done"),
    ]
    called(tools_for(endpoint), "generate_image", CAT, heard=hear)
    assert heard == [
        "fal has the job",
        "in fal's queue, position 2",
        "in fal's queue, position 1",
        "fal: step 0",
        "fal: step 1",
        "fal: step 2",
        "fal: step 3",
        "copying the pictures",
        "the pictures are stored",
    ]


def test_a_job_of_unknown_fate_is_told_as_that(endpoint: Remembering):
    endpoint.failures = [seen("unknown")]
    result = called(tools_for(endpoint), "generate_image", CAT)
    assert not result.is_error
    assert result.structured_content["isOver"] is True
    assert "is unknown" in text_of(result)


def test_a_job_of_nobody_is_an_error_with_a_reason(endpoint: Remembering):
    result = called(tools_for(endpoint), "get_job", {"job_id": "0" * 26})
    assert result.is_error
    assert result.structured_content["error"]["code"] == "not_found"


def test_a_failed_job_is_an_error_for_who_made_it_and_a_fact_for_who_asks(
    fal: Emulator, endpoint: Remembering
):
    fal.fault("error", on="result")
    made = called(tools_for(endpoint), "generate_image", CAT)
    job = made.structured_content
    assert made.is_error
    assert (job["state"], job["error"]["code"]) == ("failed", "fal_failed")
    seen = called(tools_for(endpoint), "get_job", {"job_id": job["jobId"]})
    assert not seen.is_error
    assert seen.structured_content["state"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "missing required field `prompt`"),
        ({"prompt": ""}, "prompt is not right"),
        ({**CAT, "number": 9}, "number is not right"),
        ({**CAT, "seed": "7"}, "seed is not right"),
        ({**CAT, "model": "../jobs"}, "model is not right"),
        ({**CAT, "transforms": {"resize": {"width": 0}}}, "transforms.resize.width is not right"),
        *[
            ({**CAT, "idempotency_key": key}, "idempotency_key is not right")
            for key in ("ключ", "k\n1", " ", "", "a key", "k" * 256)
        ],
        ({**CAT, "webhookUrl": "https://example.com"}, "unknown field `webhookUrl`"),
        ({**CAT, "input": {"prompt": "another"}}, "input may not hold prompt"),
        ({"prompt": "x", "input": {"num_images": 40}}, "input may not hold num_images"),
    ],
)
def test_wrong_arguments_are_refused_here(endpoint: Remembering, arguments: Any, said: str):
    result = called(tools_for(endpoint), "generate_image", arguments)
    assert result.is_error
    assert said in text_of(result)
    assert result.structured_content["error"]["retryable"] is True
    assert endpoint.asked == []


def test_what_the_endpoint_refuses_is_told_with_its_hint(endpoint: Remembering):
    result = called(tools_for(endpoint), "generate_image", {**CAT, "model": "fal-ai/veo3"})
    error = result.structured_content["error"]
    assert (error["code"], error["retryable"]) == ("model_not_allowed", True)
    assert error["hint"] in text_of(result)


def test_pictures_are_edited_by_their_file_ids(fal: Emulator, endpoint: Remembering):
    tools = tools_for(endpoint)
    first = called(tools, "generate_image", CAT).structured_content["images"][0]["fileID"]
    edit = {"prompt": "with a hat", "images": [first], "seed": 3}
    result = called(tools_for(endpoint, key="edit"), "edit_image", edit)
    assert not result.is_error, text_of(result)
    assert fal.ledger[-1].model == EDIT_MODEL
    one = {**edit, "model": "fal-ai/flux-pro/kontext"}
    result = called(tools_for(endpoint, key="one"), "edit_image", one)
    assert not result.is_error, text_of(result)
    assert endpoint.asked[-2][2]["image_url"] == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"images": ["/etc/passwd"]}, "neither an https:// URL nor a fileID"),
        ({"images": ["data:image/png;base64,AAAA"]}, "neither an https:// URL nor a fileID"),
        ({"images": ["http://127.0.0.1/a.png"]}, "neither an https:// URL nor a fileID"),
        ({"images": []}, "images is not right"),
        (
            {"images": ["https://a.example/1.png"] * 2, "model": "fal-ai/flux-pro/kontext"},
            "takes one picture only",
        ),
        (
            {"images": ["https://a.example/1.png"], "model": "fal-ai/flux/schnell"},
            "takes no input pictures",
        ),
    ],
)
def test_input_pictures_that_cannot_be_are_refused_here(
    endpoint: Remembering, arguments: dict[str, Any], said: str
):
    result = called(tools_for(endpoint), "edit_image", {"prompt": "x", **arguments})
    assert result.is_error
    assert said in text_of(result)
    assert endpoint.asked == []


def test_a_file_of_this_machine_is_not_an_input_picture(
    fal: Emulator, endpoint: Remembering, tmp_path: Path
):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    edit = {"prompt": "x", "images": [secret.as_uri()]}
    result = called(tools_for(endpoint), "edit_image", edit)
    assert result.structured_content["error"]["code"] == "not_found"
    assert fal.ledger == []


def test_a_model_nobody_knows_takes_pictures_in_the_usual_fields(endpoint: Remembering):
    tools = tools_for(endpoint)
    picture = "https://a.example/1.png"
    for images, field, value in (
        ([picture], "image_url", picture),
        ([picture] * 2, "image_urls", [picture] * 2),
    ):
        edit = {"prompt": "x", "images": images, "model": "fal-ai/flux-new/edit"}
        called(tools, "estimate_cost", edit)
        assert endpoint.asked[-1][2][field] == value


def test_a_price_is_told_and_nothing_is_made(fal: Emulator, endpoint: Remembering):
    tools = tools_for(endpoint)
    result = called(tools, "estimate_cost", {"prompt": "cats", "number": 3})
    assert result.structured_content["estimateUsd"] == pytest.approx(0.009)
    assert "$0.009" in text_of(result)
    edit = {"prompt": "x", "images": ["https://a.example/1.png"]}
    assert called(tools, "estimate_cost", edit).structured_content["model"] == EDIT_MODEL
    refused = called(tools, "estimate_cost", {"prompt": "x", "model": "fal-ai/veo3"})
    assert refused.structured_content["error"]["code"] == "model_not_allowed"
    assert fal.ledger == []


def test_links_are_renewed_and_what_is_not_there_says_so(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path) as server:
        tools = tools_for(Deployed(server.url, KEY))
        made = called(tools, "generate_image", CAT)
        (image,) = made.structured_content["images"]
        assert image["expiresAt"] is not None
        assert len(previews_of(made)) == 1
        gone = image["fileID"].replace("-0.", "-9.")
        wanted = {"file_ids": [image["fileID"], gone], "max_age": 60}
        result = called(tools, "renew_link", wanted)
        fresh, missing = result.structured_content["links"]
    assert fresh["fileID"] == image["fileID"]
    assert fresh["url"].startswith(f"{server.url}/files/")
    assert (missing["url"], missing["error"]) == (None, "not_found")
    assert [link.uri for link in links_of(result)] == [fresh["url"]]


def test_a_preview_that_cannot_be_fetched_is_left_out(fal: Emulator, tmp_path: Path):
    endpoint = InProcess(instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=NOWHERE).app)
    result = called(tools_for(endpoint), "generate_image", CAT)
    assert result.structured_content["state"] == "done"
    assert (len(links_of(result)), previews_of(result)) == (1, [])


def test_a_wrong_key_is_an_error_that_names_the_variable(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path) as server:
        result = called(tools_for(Deployed(server.url, "wrong")), "generate_image", CAT)
    assert result.structured_content["error"]["code"] == "unauthorized"
    assert "FAL_IMAGE_TOKEN" in text_of(result)
    assert "wrong" not in text_of(result)


def test_the_time_to_wait_is_part_of_a_refusal(fal: Emulator, tmp_path: Path):
    endpoint = InProcess(instance(fal, tmp_path, FAL_IMAGE_RATE_LIMIT="1/m").app)
    tools = tools_for(endpoint)
    called(tools, "generate_image", CAT)
    result = called(tools, "generate_image", {**CAT, "idempotency_key": "second"})
    assert result.structured_content["error"]["code"] == "rate_limited"
    assert "Wait " in result.structured_content["error"]["hint"]


def test_a_long_output_that_is_no_picture_is_left_out(endpoint: Remembering):
    for text, is_told in (("short", True), ("x" * 20_000, False)):
        endpoint.failures = [seen("done", output={"text": text}, images=[])]
        job = called(tools_for(endpoint), "generate_image", CAT).structured_content
        assert (job["output"] is not None) == is_told
        assert [one["code"] for one in job["warnings"]] == ["output_left_out"] * (not is_told)


def test_half_a_character_is_refused_by_the_endpoint_and_breaks_nothing(endpoint: Remembering):
    result = called(tools_for(endpoint), "generate_image", {"prompt": "a \ud83d cat"})
    assert result.structured_content["error"]["code"] == "invalid_json"

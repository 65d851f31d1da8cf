"""OpenAI's package makes pictures of words: what it may ask for, and what it is told."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openai
import pytest

from fal_image.dev.emulator import Emulator
from fal_image.images import inspect
from support.entrypoints import KEY
from support.instances import Server

Serve = Callable[..., tuple[Server, openai.OpenAI]]
SCHNELL = "fal-ai/flux/schnell"
KONTEXT = "fal-ai/flux-pro/kontext/text-to-image"


def fetched(url: str | None) -> bytes:
    assert url is not None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        content: bytes = answer.read()
    return content


def sent(fal: Emulator) -> dict[str, Any]:
    """The input of the newest request that fal took."""
    given: Any = fal.ledger[-1].input
    return dict(given)


def refused(client: openai.OpenAI, **wishes: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        client.images.generate(**({"prompt": "a calico cat"} | wishes))
    return caught.value


def test_a_picture_is_told_by_a_link_that_opens_it(client: openai.OpenAI, fal: Emulator):
    began = time.time()
    answer = client.images.generate(prompt="a calico cat", size="1024x512", n=2)
    assert answer.data is not None
    contents = [fetched(picture.url) for picture in answer.data]
    shapes = [inspect(io.BytesIO(content)) for content in contents]
    assert [(shape.width, shape.height) for shape in shapes] == [(1024, 512)] * 2
    assert (answer.size, answer.output_format) == ("1024x512", "jpeg")
    assert began - 2 <= answer.created <= time.time() + 2
    assert [picture.b64_json for picture in answer.data] == [None, None]
    given = {"prompt": "a calico cat", "image_size": {"width": 1024, "height": 512}}
    assert sent(fal) == given | {"num_images": 2}


def test_the_job_stands_beside_what_openai_says(serve: Serve):
    server, client = serve()
    answer = client.images.generate(prompt="a calico cat", extra_body={"seed": 7, "maxAge": 60})
    job: Any = answer.model_extra and answer.model_extra["job"]
    assert job["seed"] == 7
    assert [picture.url for picture in answer.data or ()] == [job["tempFileURL"]]
    assert server.job(job["jobId"])["fileID"] == job["fileID"]
    life = parse_qs(urlsplit(job["tempFileURL"]).query)["exp"][0]
    assert int(life) <= time.time() + 61


def test_pictures_in_base64_are_those_that_are_kept(client: openai.OpenAI):
    answer = client.images.generate(prompt="a calico cat", n=2, response_format="b64_json")
    job: Any = answer.model_extra and answer.model_extra["job"]
    assert answer.data is not None
    for picture, kept in zip(answer.data, job["images"], strict=True):
        assert picture.url is None
        content = base64.b64decode(picture.b64_json or "", validate=True)
        assert hashlib.sha256(content).hexdigest() == kept["sha256"]


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        (SCHNELL, "768x1344", {"image_size": {"width": 768, "height": 1344}}),
        (SCHNELL, "auto", {"image_size": "landscape_16_9"}),
        (KONTEXT, "1024x1024", {"aspect_ratio": "1:1"}),
        (KONTEXT, "1536x1024", {"aspect_ratio": "3:2"}),
        (KONTEXT, "1024x1536", {"aspect_ratio": "2:3"}),
        (KONTEXT, "2688x1152", {"aspect_ratio": "21:9"}),
        (KONTEXT, "auto", {}),
        ("fal-ai/flux-pro/v1.1-ultra", "1792x1024", {"aspect_ratio": "7:4"}),
    ],
)
def test_a_size_is_said_as_the_model_takes_it(
    client: openai.OpenAI, fal: Emulator, model: str, size: Any, expected: dict[str, Any]
):
    client.images.generate(prompt="a calico cat", model=model, size=size)
    given = sent(fal)
    del given["prompt"]
    assert given == expected


@pytest.mark.parametrize(
    ("wishes", "param", "says"),
    [
        ({"size": "1024"}, "size", "WIDTHxHEIGHT"),
        ({"size": "0x1024"}, "size", "WIDTHxHEIGHT"),
        ({"size": "1792x1024", "model": KONTEXT}, "size", "21:9, 16:9, 4:3"),
        ({"size": "9999x9999"}, "size", "4 megapixels"),
        ({"size": "15000x512"}, "size", "less than or equal to 14142"),
        ({"size": "512x512", "model": "fal-ai/flux/dev/image-to-image"}, "size", "the input"),
        ({"size": "64x64", "extra_body": {"image_size": "square"}}, "size", "leave one"),
        ({"n": 2, "extra_body": {"num_images": 1}}, "n", "leave one"),
        ({"n": 5}, "n", "less than or equal to 4"),
        ({"n": 11}, "n", "1 to 10"),
        ({"n": True}, "n", "1 to 10"),
        ({"n": 2, "model": "fal-ai/flux-2-pro"}, "n", "one picture per request"),
        ({"quality": "hd"}, "quality", "num_inference_steps"),
        ({"style": "natural"}, "style", SCHNELL),
        ({"background": "transparent"}, "background", "opaque"),
        ({"moderation": "low"}, "moderation", "safety checker"),
        ({"output_compression": 50}, "output_compression", "transforms.quality"),
        ({"output_format": "gif"}, "output_format", "png, jpeg, webp"),
        ({"frame_count": 4}, "frame_count", SCHNELL),
        ({"partial_images": 2}, "partial_images", "whole"),
        ({"response_format": "file"}, "response_format", "url or b64_json"),
        ({"user": 7}, "user", "a string"),
        ({"extra_body": {"stream": True}}, "stream", "whole"),
        ({"extra_body": {"seed": "x"}}, "seed", "integer"),
        ({"extra_body": {"maxAge": 0}}, "maxAge", "maxAge"),
        ({"prompt": " "}, "prompt", "prompt"),
        ({"model": "fal-ai/flux/requests/x"}, "model", "model id"),
        ({"extra_body": {"model": 7}}, "model", "model id"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_field_before_money(
    client: openai.OpenAI, fal: Emulator, wishes: dict[str, Any], param: str, says: str
):
    error = refused(client, **wishes)
    assert isinstance(error, openai.BadRequestError)
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert says in error.message
    assert fal.calls.total() == 0


def test_what_changes_nothing_is_taken(client: openai.OpenAI, fal: Emulator):
    client.images.generate(
        prompt="a calico cat",
        n=1,
        quality="auto",
        style="vivid",
        background="opaque",
        moderation="auto",
        output_compression=100,
        partial_images=0,
        stream=False,
        response_format="url",
        output_format="png",
        extra_body={"svg": None},
    )
    given = {"prompt": "a calico cat", "image_size": "landscape_16_9", "output_format": "png"}
    assert sent(fal) == given


def test_a_name_of_openais_is_a_model_where_the_owner_says_which(serve: Serve, fal: Emulator):
    _, client = serve(FAL_IMAGE_MODEL_ALIASES="gpt-image-1=fal-ai/flux/dev")
    client.images.generate(prompt="a calico cat", model="gpt-image-1")
    assert fal.ledger[-1].model == "fal-ai/flux/dev"
    error = refused(client, model="dall-e-3")
    assert isinstance(error, openai.PermissionDeniedError)
    assert (error.code, error.param) == ("model_not_allowed", "model")
    assert "FAL_IMAGE_MODEL_ALIASES" in error.message
    assert len(fal.ledger) == 1


def test_the_models_are_those_that_the_owner_allows_and_their_other_names(serve: Serve):
    _, client = serve(
        FAL_IMAGE_MODELS="fal-ai/flux/*",
        FAL_IMAGE_MODEL_ALIASES="gpt-image-1=fal-ai/flux/dev,best=fal-ai/flux-2-max",
    )
    listed = list(client.models.list())
    names = [model.id for model in listed]
    assert names[-1] == "gpt-image-1"
    assert SCHNELL in names
    assert all(name.startswith("fal-ai/flux/") for name in names[:-1])
    assert {(model.object, model.owned_by) for model in listed} == {("model", "fal-ai")}


def test_neither_prompt_nor_user_is_in_the_log_or_at_fal(
    client: openai.OpenAI, fal: Emulator, capfd: pytest.CaptureFixture[str]
):
    client.images.generate(
        prompt="canary of the prompt",
        user="canary-user",
        extra_body={"safety_identifier": "canary-safety"},
    )
    refused(client, prompt="canary of the prompt", user="canary-user", n=9)
    assert "canary-user" not in json.dumps(sent(fal))
    assert "canary-safety" not in json.dumps(sent(fal))
    assert "canary" not in capfd.readouterr().err


def test_a_ticket_serves_as_the_key(serve: Serve, fal: Emulator):
    server, _ = serve()
    ticket = server.ask("POST", "/tickets", {"maxImages": 1, "user": "ann"}).json["ticket"]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=ticket) as client:
        assert client.images.generate(prompt="a calico cat").data
        error = refused(client)
    assert (error.status_code, error.code) == (402, "budget_exceeded")
    assert error.type == "insufficient_quota"
    assert len(fal.ledger) == 1


def test_who_is_not_known_gets_openais_error_and_what_opens_the_door(serve: Serve, fal: Emulator):
    _, client = serve(key="k-nobodys")
    error = refused(client)
    assert isinstance(error, openai.AuthenticationError)
    assert (error.code, error.type) == ("unauthorized", "authentication_error")
    assert "API key" in error.message
    assert fal.calls.total() == 0


def test_too_many_requests_are_openais_own_error(serve: Serve, fal: Emulator):
    server, client = serve(FAL_IMAGE_RATE_LIMIT="1/h")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as patient:
        errors = []
        for _ in range(4):  # the hour may end within the test
            try:
                patient.images.generate(prompt="a calico cat")
            except openai.RateLimitError as error:
                errors.append(error)
    assert len(errors) >= 2
    assert (errors[0].code, errors[0].type) == ("rate_limited", "rate_limit_error")
    assert int(errors[0].response.headers["retry-after"]) > 0
    assert len(fal.ledger) == 4 - len(errors)


def test_every_error_of_the_address_has_openais_shape(serve: Serve):
    server, _ = serve()
    answers = {
        405: server.http("GET", "/v1/images/generations"),
        415: server.http("POST", "/v1/images/generations", {}, content_type="text/plain"),
        400: server.http("POST", "/v1/images/generations", ["a list"]),
    }
    for status, answer in answers.items():
        assert answer.status == status
        error = answer.json["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        assert answer.headers["content-type"] == "application/json"


def test_a_page_may_send_what_openais_package_sends_and_read_what_it_reads(serve: Serve):
    server, client = serve(FAL_IMAGE_CORS_ORIGINS="https://shop.example")
    asked = server.http("OPTIONS", "/v1/images/generations", origin="https://shop.example")
    allowed = set(asked.headers["access-control-allow-headers"].split(", "))
    own = {name.lower() for name in client.default_headers}
    pythons = {"accept", "content-type", "authorization", "user-agent", "x-stainless-async"}
    assert own - pythons <= allowed
    assert {"x-stainless-retry-count", "x-stainless-timeout", "openai-organization"} <= allowed
    assert "x-should-retry" in asked.headers["access-control-expose-headers"]

"""The unmodified @ai-sdk/fal in Node, led to our proxy by its baseURL and apiKey."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.emulator import SCHNELL
from support.entrypoints import KEY
from support.pictures import png
from support.proxy_house import House, proxy_house

pytestmark = pytest.mark.needs("node >= 20")

Open = Callable[..., AbstractContextManager[House]]
EDIT = "fal-ai/flux/dev/image-to-image"
CAT: dict[str, Any] = {"model": SCHNELL, "prompt": "a calico cat"}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    return partial(proxy_house, tmp_path, monkeypatch)


def generate(here: House, **bent: Any) -> Any:
    """What `generateImage` of `ai` comes to."""
    return here.call("ai_sdk.mjs", "generate", **CAT | bent)


def sha256_at(here: House, url: str) -> str:
    return hashlib.sha256(here.picture(url)).hexdigest()


def test_a_picture_is_generated_here_and_fetched_at_fal(house: Open):
    with house() as here:
        told = generate(here)

        [generated, fetched] = told["asked"]
        assert generated == {"url": f"{here.base_url}/{SCHNELL}", "key": f"Key {KEY}"}
        assert fetched["url"].startswith("https://v3.fal.media/files/")
        assert fetched["key"] == ""
        [image] = told["images"]
        assert image["sha256"] == sha256_at(here, fetched["url"])
        [entry] = here.fal.ledger
        assert told["headers"]["x-fal-request-id"] == entry.request_id
        assert entry.webhook_url is not None


def test_a_picture_comes_from_the_owners_storage_where_the_owner_says_so(house: Open):
    with house(FAL_IMAGE_PROXY_STORE_IMAGES="1") as here:
        told = generate(here)

        [_, fetched] = told["asked"]
        assert fetched["url"].startswith(f"{here.front.url}/files/")
        assert fetched["key"] == ""
        [image] = told["images"]
        assert image["sha256"] == sha256_at(here, fetched["url"])


def test_the_providers_own_model_also_tells_the_file_ids(house: Open):
    with house(FAL_IMAGE_PROXY_STORE_IMAGES="1") as here:
        told = here.call("ai_sdk.mjs", "generateByModel", **CAT, seed=7)

        [_, fetched] = told["asked"]
        [stored] = told["metadata"]["fal_image"]["images"]
        assert stored["tempFileURL"] == fetched["url"]
        assert stored["fileID"].startswith("file:///")
        assert told["images"][0]["sha256"] == sha256_at(here, stored["originalUrl"])
        assert told["metadata"]["seed"] == 7


def test_an_edit_takes_its_picture_along(house: Open):
    uri = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    with house() as here:
        told = generate(here, model=EDIT, prompt={"text": "a hat on it", "images": [uri]})

        assert len(told["images"]) == 1
        [entry] = here.fal.ledger
        assert entry.model == EDIT
        assert isinstance(entry.input, dict)
        assert entry.input["image_url"] == uri


def test_two_pictures_of_one_call_are_two_jobs_with_equal_bodies(house: Open):
    with house() as here:
        told = generate(here, n=2)

        first, second = told["images"]
        assert first["sha256"] != second["sha256"]
        assert len(here.fal.ledger) == 2


def test_bad_input_is_refused_in_words_before_it_costs_anything(house: Open):
    options = {"fal": {"numInferenceSteps": 40}}
    with house() as here:
        told = generate(here, providerOptions=options)

        assert told["error"]["statusCode"] == 422
        assert told["error"]["message"].startswith("body.num_inference_steps: ")
        assert here.fal.ledger == []


def test_a_wrong_key_and_a_foreign_model_are_refused_in_words(house: Open):
    with house() as here:
        stranger = generate(here, apiKey="k-nobody-knows-this-one")
        foreign = generate(here, model="somebody/else")

        assert stranger["error"]["statusCode"] == 401
        assert "key" in stranger["error"]["message"]
        assert foreign["error"]["statusCode"] == 403
        assert "somebody/else" in foreign["error"]["message"]
        assert [len(told["asked"]) for told in (stranger, foreign)] == [1, 1]


def test_a_picture_that_comes_after_the_deadline_is_paid_once_and_taken(house: Open):
    """`ai` repeats every 5xx after two seconds."""
    with house(run_s=1.5, FAL_IMAGE_MAX_WAIT_S="1") as here:
        told = generate(here)

        assert len(told["images"]) == 1
        assert len([call for call in told["asked"] if call["key"]]) == 2
        assert len(here.fal.ledger) == 1


def test_two_late_pictures_of_one_call_are_each_taken_once(house: Open):
    with house(run_s=1.5, FAL_IMAGE_MAX_WAIT_S="1") as here:
        told = generate(here, n=2)

        first, second = told["images"]
        assert first["sha256"] != second["sha256"]
        assert len(here.fal.ledger) == 2


def test_a_lost_answer_is_not_paid_a_second_time(house: Open):
    with house() as here:
        here.fal.fault("lost")
        told = generate(here)

        assert len(told["images"]) == 1
        assert len(here.fal.ledger) == 1

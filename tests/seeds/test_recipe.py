"""The recipe's page and its curl, as printed but for the address, against our endpoint."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fal_image.fal import catalog
from support.node import run
from support.seeds import Endpoint

Click = Callable[[str], Any]

CURL = """\
curl -X POST 'https://your-env.service.tcloudbase.com/fal-image-gen' \\
  -H 'Content-Type: application/json' \\
  -d '{"prompt": "a calico cat at sunset", "image_size": "landscape_16_9"}'
"""

MODELS = [
    "fal-ai/flux/schnell",
    "fal-ai/flux/dev",
    "fal-ai/flux-pro",
    "fal-ai/flux-kontext/dev",
    "fal-ai/flux-2-flex/edit",
]


@pytest.fixture
def click(tmp_path: Path) -> Click:
    """What a visitor of a page meets after a click on its button."""
    chromium = shutil.which("chromium")
    assert chromium is not None
    folder = str(tmp_path)  # for what Chromium would leave in its user's home

    def click_on(page: str) -> Any:
        home = {"XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder}
        return json.loads(run(["page.mjs", chromium, page], home))

    return click_on


@pytest.mark.needs("node >= 20")
@pytest.mark.needs("chromium")
def test_the_page_shows_the_picture(endpoint: Endpoint, click: Click) -> None:
    picture = click(endpoint.site)["picture"]

    assert (picture["width"], picture["height"]) == (1024, 576)
    assert picture["src"].startswith(f"{endpoint.url}/files/ai-images/")


@pytest.mark.needs("node >= 20")
@pytest.mark.needs("chromium")
def test_the_page_alerts_what_failed(endpoint: Endpoint, click: Click) -> None:
    endpoint.fal.fault("error", on="result")

    said = click(endpoint.site)["alert"]
    prefix = "Generation failed: "
    assert said.startswith(prefix)
    problem = json.loads(said.removeprefix(prefix))
    assert problem["error"] == "fal_failed"
    assert problem["message"]
    assert problem["hint"]


@pytest.mark.needs("node >= 20")
@pytest.mark.needs("chromium")
def test_the_page_on_another_site_spends_nothing(endpoint: Endpoint, click: Click) -> None:
    taken = len(endpoint.fal.ledger)
    elsewhere = endpoint.site.replace("127.0.0.1", "localhost")

    assert click(elsewhere) == {"error": "Failed to fetch"}
    assert len(endpoint.fal.ledger) == taken


@pytest.mark.needs("curl")
def test_the_curl_prints_the_expected_response(endpoint: Endpoint) -> None:
    words = shlex.split(CURL.replace("\\\n", " "))
    words[3] = endpoint.url
    done = subprocess.run(
        [*words, "--silent", "--show-error"],
        env={**os.environ, "NO_PROXY": "*"},
        capture_output=True,
        timeout=15,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert answer["model"] == "fal-ai/flux/schnell"
    assert answer["prompt"] == "a calico cat at sunset"
    _, _, name = answer["fileID"].rpartition("/")
    assert f"/{name}?" in answer["tempFileURL"]
    assert endpoint.picture(answer["tempFileURL"]).startswith(b"\xff\xd8")


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_the_recipes_list_is_known(endpoint: Endpoint, model: str) -> None:
    """The recipe sends prompt and image_size to all of them; two edit a picture, and say so."""
    status, answer = endpoint.post({"prompt": "a cat", "image_size": "square", "model": model})

    if catalog.models()[model].kind == "text-to-image":
        assert status == 200
        return
    assert (status, answer["error"]) == (400, "invalid_input")
    assert answer["fields"][0]["field"] in {"image_url", "image_urls"}

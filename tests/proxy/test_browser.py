"""What a browser asks of our proxy beyond what the client asks: who may, and what may be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.proxied import Client, Scene, proxied
from support.values import replace

pytestmark = [pytest.mark.needs("node >= 20"), pytest.mark.needs("chromium")]


@pytest.fixture
def scene(tmp_path: Path, script: bytes) -> Iterator[Scene]:
    with proxied(tmp_path, script) as scene:
        yield scene


def test_a_page_asks_its_own_site_and_our_proxy_only(scene: Scene, chromium: Client) -> None:
    asked = chromium.call(scene, "subscribe").asked

    own = [line for line in asked if line.startswith(f"GET {scene.site}/")]
    assert {line.rpartition(" ")[2] for line in asked if line not in own} == {scene.proxy}


def test_a_page_of_another_site_spends_nothing(scene: Scene, chromium: Client) -> None:
    elsewhere = replace(scene, site=scene.site.replace("127.0.0.1", "localhost"))

    assert chromium.call(elsewhere, "run").threw["message"] == "Failed to fetch"
    assert not scene.fal.calls


def test_a_page_shows_the_owners_picture(tmp_path: Path, script: bytes, chromium: Client) -> None:
    with proxied(tmp_path, script, FAL_IMAGE_PROXY_STORE_IMAGES="1") as scene:
        shown = chromium.call(scene, "show").returned

        assert shown["src"].startswith(f"{scene.server.url}/files/ai-images/")
        assert (shown["width"], shown["height"]) == (1024, 768)

"""Realtime: the token comes through our proxy, the socket leads to fal itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import fal_client
import fal_client.client
import pytest

from support.emulator import SCHNELL, ask
from support.entrypoints import KEY
from support.instances import CAT
from support.proxied import Client, Scene, proxied

JPEG = b"\xff\xd8\xff"


@pytest.fixture
def scene(tmp_path: Path, script: bytes) -> Iterator[Scene]:
    """fal without any delay."""
    with proxied(tmp_path, script) as scene:
        yield scene


def assert_two_messages_on_one_socket(scene: Scene) -> None:
    assert [(entry.via, entry.model) for entry in scene.fal.ledger] == [("realtime", SCHNELL)] * 2
    assert (scene.fal.calls["token"], scene.fal.calls["realtime"]) == (1, 1)


def test_the_javascript_client_gets_pictures(scene: Scene, client: Client) -> None:
    seen = client.call(scene, "realtime")

    first, second = seen.returned
    assert (first["seed"], second["seed"]) == (7, 8)
    assert ask(scene.fal, "GET", first["images"][0]["url"], key=None).body.startswith(JPEG)
    assert second["images"][0]["url"].startswith("data:image/jpeg;base64,")
    [direct] = scene.direct(seen)
    assert direct.startswith(f"GET wss://fal.run/{SCHNELL}/realtime?fal_jwt_token=")
    assert_two_messages_on_one_socket(scene)


def test_fal_client_gets_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxied(tmp_path) as scene:
        # The names by which it knows fal; its variables change neither.
        sockets = f"ws://{urlsplit(scene.fal.url).netloc}/fal.run/"
        monkeypatch.setattr(fal_client.client, "REST_URL", f"{scene.proxy}/rest.fal.ai")
        monkeypatch.setattr(fal_client.client, "REALTIME_URL_FORMAT", sockets)
        client = fal_client.SyncClient(key=KEY)
        with client.realtime(SCHNELL) as line:
            outputs = []
            for seed in (7, 8):
                line.send({**CAT, "seed": seed})
                outputs.append(line.recv())
        client._client.close()

        for seed, output in zip((7, 8), outputs, strict=True):
            assert output
            assert output["seed"] == seed
            url = output["images"][0]["url"]
            assert ask(scene.fal, "GET", url, key=None).body.startswith(JPEG)
        assert_two_messages_on_one_socket(scene)


def test_no_socket_leads_through_our_proxy(tmp_path: Path) -> None:
    with proxied(tmp_path) as scene:
        path = f"/api/fal/proxy/fal.run/{SCHNELL}/realtime"
        refused = scene.server.http("GET", path, connection="Upgrade", upgrade="websocket")

        assert refused.status == 412
        assert scene.fal.ledger == []
        assert not scene.fal.calls["realtime"]

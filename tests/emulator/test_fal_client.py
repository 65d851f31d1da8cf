"""The unmodified fal-client, whose own names for fal's hosts are pointed at the emulator."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
from collections.abc import Iterator
from typing import Any

import fal_client
import fal_client.client
import pytest
from PIL import Image

from fal_image.dev.emulator import Emulator
from support.clients import point_fal_client
from support.emulator import SCHNELL, ask

CAT: dict[str, Any] = {"prompt": "a calico cat", "seed": 7, "image_size": "square"}


@pytest.fixture
def fal(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    point_fal_client(monkeypatch, emulator.url)
    return emulator


@pytest.fixture
def client() -> Iterator[fal_client.SyncClient]:
    client = fal_client.SyncClient(key="id:secret")
    yield client
    client._client.close()


def test_submit_status_and_result(fal: Emulator, client: fal_client.SyncClient) -> None:
    handle = client.submit(SCHNELL, CAT, priority="low", start_timeout=30, hint="here")
    status = client.status(SCHNELL, handle.request_id)
    result = client.result(SCHNELL, handle.request_id)

    assert isinstance(status, fal_client.Completed)
    assert status.metrics == {"inference_time": 0.0}
    assert result["seed"] == 7
    assert result["images"][0]["url"].startswith("https://v3.fal.media/files/")
    assert [entry.request_id for entry in fal.ledger] == [handle.request_id]


def test_a_waiting_job_is_understood(
    busy: Emulator, client: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_fal_client(monkeypatch, busy.url)

    status = client.submit(SCHNELL, CAT).status()

    assert status == fal_client.Queued(position=0)


def test_a_running_job_is_understood(
    working: Emulator, client: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_fal_client(monkeypatch, working.url)
    handle = client.submit(SCHNELL, CAT)

    assert handle.status() == fal_client.InProgress(logs=None)
    assert handle.status(with_logs=True) == fal_client.InProgress(logs=[])


def test_subscribe_shows_the_logs(client: fal_client.SyncClient, fal: Emulator) -> None:
    seen: list[fal_client.Status] = []
    enqueued: list[str] = []
    result = client.subscribe(
        SCHNELL, CAT, with_logs=True, on_enqueue=enqueued.append, on_queue_update=seen.append
    )
    last = seen[-1]

    assert enqueued == [fal.ledger[0].request_id]
    assert isinstance(last, fal_client.Completed)
    assert [entry["message"] for entry in last.logs or []] == ["25%", "50%", "75%", "100%"]
    assert result["prompt"] == "a calico cat"


def test_cancel(
    working: Emulator, client: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_fal_client(monkeypatch, working.url)
    handle = client.submit(SCHNELL, CAT)
    client.cancel(SCHNELL, handle.request_id)

    with pytest.raises(fal_client.FalClientHTTPError) as error:
        handle.get()
    assert (error.value.status_code, error.value.error_type) == (499, "client_cancelled")
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        handle.cancel()
    assert error.value.status_code == 400


def test_run_and_its_refusal(fal: Emulator, client: fal_client.SyncClient) -> None:
    assert client.run(SCHNELL, CAT)["prompt"] == "a calico cat"
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        client.run(SCHNELL, CAT | {"num_images": 9})
    assert error.value.status_code == 422
    [problem] = error.value.response.json()["detail"]
    assert problem["loc"] == ["body", "num_images"]


def test_stream(fal: Emulator, client: fal_client.SyncClient) -> None:
    events = list(client.stream(SCHNELL, CAT))

    assert len(events) == 4
    assert events[-1]["seed"] == 7


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("data", [b"small", "text"])
def test_upload(fal: Emulator, client: fal_client.SyncClient, data: bytes | str) -> None:
    url = client.upload(data, "text/plain", "note.txt")
    gc.collect()  # fal-client leaves the connection of an upload to the garbage collector
    reply = ask(fal, "GET", url, key=None)

    assert reply.body == (data.encode() if isinstance(data, str) else data)
    assert reply.headers["content-type"] == "text/plain"


def test_upload_in_parts(fal: Emulator, client: fal_client.SyncClient) -> None:
    data = bytes(range(256)) * 100
    url = fal_client.client.MultipartUpload.save(
        client=client._client,
        token_manager=client._token_manager,
        file_name="a.bin",
        data=data,
        chunk_size=10_000,
    )

    assert ask(fal, "GET", url, key=None).body == data


def test_an_encoded_picture_is_an_input(fal: Emulator, client: fal_client.SyncClient) -> None:
    picture = Image.new("RGB", (8, 8), "red")
    uri = fal_client.encode_image(picture, "png")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as decoded:
        assert decoded.size == (8, 8)

    arguments = {"prompt": "a cat", "image_url": uri}
    assert client.run("fal-ai/flux/dev/image-to-image", arguments)["images"]


def test_a_refused_key_is_an_error_and_not_repeated(fal: Emulator) -> None:
    client = fal_client.SyncClient(key="locked:secret")
    with pytest.raises(fal_client.FalClientHTTPError, match="Exhausted balance"):
        client.submit(SCHNELL, CAT)
    client._client.close()
    assert fal.calls["submit"] == 1


def test_a_lost_answer_makes_the_client_pay_twice(
    fal: Emulator, client: fal_client.SyncClient
) -> None:
    fal.fault("lost")
    client.submit(SCHNELL, CAT)

    assert len(fal.ledger) == 2


def test_the_asynchronous_client(fal: Emulator) -> None:
    async def story() -> tuple[dict[str, Any], str]:
        client = fal_client.AsyncClient(key="id:secret")
        result = await client.subscribe(SCHNELL, CAT, interval=0.01)
        url = await client.upload(b"bytes", "image/png")
        await (await client._client).aclose()
        return result, url

    result, url = asyncio.run(story())
    assert result["seed"] == 7
    assert ask(fal, "GET", url, key=None).body == b"bytes"

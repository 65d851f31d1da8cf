"""Input pictures without an entrypoint: deadlines, slow and broken storages, whose they are."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams, compose, front
from fal_image.dev.emulator import Emulator
from fal_image.doors import Door
from fal_image.errors import DeadlineExceeded, FalFailed, Internal, InvalidInput
from fal_image.fal.client import Fal
from fal_image.fal.uploads import hand_over
from fal_image.inputs import UploadOrder
from fal_image.routes import Routes
from fal_image.settings import Settings
from fal_image.storage.base import StorageError, UploadLink
from fal_image.uploads import Uploads, new_upload_id
from fal_image.web import Platform, Request
from fal_image.wire import Wire
from support import pictures
from support.peer import Peer, answer
from support.values import replace

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
SECRET = "a-secret-of-at-least-32-characters"
ID = "file:///ai-images/2026-11-21/01m7z8twx4w4rchddrd0pg6y5d-0.jpg"


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def services(directory: Path, fal_url: str | None = None, **bent: Any) -> Routes:
    settings = Settings(
        fal_key="id:secret",
        emulator_url=fal_url,
        storage_url=directory.as_uri(),
        public_url="https://pictures.example.com",
        secrets=(SECRET,),
        allow_anonymous=True,
    )
    seams = Seams(now=lambda: NOON, randomness=lambda count: b"\x07" * count)
    return compose(replace(settings, **bent), environ={"ONE": "process"}, seams=seams)


def with_storage(uploads: Uploads, opener: Callable[[], Any]) -> Uploads:
    return replace(uploads, assets=replace(uploads.assets, door=Door(opener)))


def readable(uploads: Uploads, *, left_s: float = 10.0, **arguments: object) -> dict[str, object]:
    return uploads.readable(arguments, "web", ends_at=uploads.assets.clock() + left_s)


def test_a_place_is_named_by_the_day_and_an_id_that_proves_its_caller(tmp_path: Path):
    offered = services(tmp_path).uploads.offer(UploadOrder("image/jpeg", 5), "web")
    upload_id = new_upload_id(SECRET, "web", b"\x07" * 10)
    assert offered.file_id == f"file:///ai-images/uploads/2026-11-21/{upload_id}.jpg"
    assert len(upload_id) == 32


def test_ids_are_proved_by_secret_caller_and_chance():
    kinds = [(SECRET, "web"), (SECRET, "web2"), (SECRET[::-1], "web")]
    proofs = {new_upload_id(*kind, b"\x07" * 10)[16:] for kind in kinds}
    assert len(proofs) == 3
    assert new_upload_id(SECRET, "web", b"\x08" * 10)[16:] not in proofs


def test_a_changed_character_anywhere_breaks_the_proof(tmp_path: Path):
    uploads = services(tmp_path).uploads
    upload_id = new_upload_id(SECRET, "web", b"\x07" * 10)
    for at in range(32):
        bent = upload_id[:at] + ("0" if upload_id[at] != "0" else "1") + upload_id[at + 1 :]
        assert not uploads.is_of(f"ai-images/uploads/2026-11-21/{bent}.png", "web")
    assert uploads.is_of(f"ai-images/uploads/2026-11-21/{upload_id}.png", "web")
    assert not uploads.is_of(f"ai-images/uploads/2026-11-21/{upload_id}.png", None)


def test_fields_of_other_names_and_kinds_are_not_looked_at(tmp_path: Path):
    uploads = with_storage(services(tmp_path).uploads, lambda: pytest.fail("opened"))
    arguments: dict[str, object] = {
        "prompt": "data:nothing",
        "image_url": "https://example.com/a.png",
        "image_urls": ["http://example.com/b.png", 7, None],
        "mask_url": {"file": ID},
        "control_url": ID,
    }
    assert uploads.readable(arguments, "web", ends_at=uploads.assets.clock() + 10) == arguments


def test_a_storage_that_does_not_open_in_time_is_not_waited_for(tmp_path: Path):
    never = threading.Event()
    uploads = with_storage(services(tmp_path).uploads, never.wait)
    try:
        with pytest.raises(DeadlineExceeded) as failed:
            readable(uploads, left_s=0.1, image_url=ID)
    finally:
        never.set()
    assert failed.value.retryable


def test_a_broken_storage_is_no_answer_about_the_file(tmp_path: Path):
    def broken() -> Any:
        raise StorageError("canary: arn:aws:s3:::bucket")

    with pytest.raises(Internal) as failed:
        readable(with_storage(services(tmp_path).uploads, broken), image_url=ID)
    assert failed.value.retryable
    assert "canary" not in failed.value.detail


def test_a_storage_that_signs_no_link_to_what_is_not_there_yet_gives_none(tmp_path: Path):
    class Strict:
        def upload_link(self, key: str, **facts: Any) -> UploadLink:
            return UploadLink("https://bucket.example.com", {}, NOON)

        def file_id(self, key: str) -> str:
            return f"cloud://env.bucket/{key}"

        def link(self, key: str, ttl_s: int) -> Any:
            raise StorageError("not there")

    uploads = with_storage(services(tmp_path).uploads, Strict)
    assert uploads.offer(UploadOrder("image/png", 5), "web").image_url is None


def test_no_data_uri_may_be_longer_than_a_picture(tmp_path: Path):
    uploads = services(tmp_path, max_image_bytes=20).uploads
    text = base64.b64encode(pictures.png()).decode()
    with pytest.raises(InvalidInput, match="20 bytes"):
        readable(uploads, mask_url=f"data:image/png;base64,{text}")


def test_fal_gets_the_file_and_is_asked_to_drop_it_within_the_hour(fal: Emulator, tmp_path: Path):
    uploads = services(tmp_path, fal.url).uploads
    url = uploads.send("photo.png", io.BytesIO(pictures.png()), ends_at=uploads.assets.clock() + 5)
    assert url.startswith("https://v3.fal.media/files/")
    assert fal.calls["upload"] == 2


def handed_over(peer: Peer) -> str:
    wire = Wire(emulator_url=peer.url)
    return hand_over(
        Fal(wire, "id:canary0secret"),
        io.BytesIO(b"the bytes"),
        content_type="image/png",
        file_name="input.png",
        life_s=3600,
        ends_at=Fal(wire, None).clock() + 5,
    )


def test_the_bytes_go_where_fal_says_and_the_key_does_not():
    place = {
        "upload_url": "https://v3b.fal.media/up?signature=x",
        "file_url": "https://v3b.fal.media/x",
    }
    with Peer([answer(200, place), answer(200)]) as peer:
        assert handed_over(peer) == "https://v3b.fal.media/x"
    initiate, put = peer.requests
    assert b"storage_type=fal-cdn-v3" in initiate
    assert b"Key id:canary0secret" in initiate
    assert b'x-fal-object-lifecycle: {"expiration_duration_seconds": 3600}' in initiate
    assert put.startswith(b"PUT /v3b.fal.media/up?signature=x ")
    assert put.endswith(b"the bytes")
    assert b"canary0secret" not in put
    assert b"authorization" not in put.lower()


@pytest.mark.parametrize(
    "upload_url",
    [
        "https://evil.example.com/up",
        "https://fal.media.evil.example.com/up",
        "https://queue.fal.run/fal-ai/flux/dev",
        "http://v3.fal.media/up",
        "https://user@v3.fal.media/up",
        "http://127.0.0.1:1/v3.fal.media/up",
        "file:///etc/passwd",
        7,
    ],
)
def test_the_bytes_go_to_fals_media_hosts_only(upload_url: object):
    place = {"upload_url": upload_url, "file_url": "https://v3.fal.media/x"}
    with Peer([answer(200, place), answer(200)]) as peer, pytest.raises(FalFailed) as failed:
        handed_over(peer)
    assert failed.value.retryable
    assert len(peer.requests) == 1


@pytest.mark.parametrize("script", [answer(302, b"", location="https://evil.example.com"), b"x"])
def test_a_put_that_fal_does_not_take_is_no_upload(script: bytes):
    place = {"upload_url": "https://v3.fal.media/up", "file_url": "https://v3.fal.media/x"}
    with Peer([answer(200, place), script]) as peer, pytest.raises(FalFailed) as failed:
        handed_over(peer)
    assert failed.value.retryable
    assert len(peer.requests) == 2


def test_storages_see_the_variables_of_the_invocation_that_is_answered(tmp_path: Path):
    house = services(tmp_path)
    app = front(house)
    seen = []
    for environment in ({"ONE": "invocation", "TWO": "2"}, {}):
        app(Request("GET", "/health", Platform("cloudbase", "r", environment=environment)))
        seen.append(dict(house.variables.current()))
    assert seen == [{"ONE": "invocation", "TWO": "2"}, {"ONE": "process"}]


def test_secrets_stand_in_no_repr(tmp_path: Path):
    house = services(tmp_path)
    app = front(house)
    keys = {"TENCENTCLOUD_SECRETKEY": "canary0key"}
    app(Request("GET", "/health", Platform("cloudbase", "r", environment=keys)))
    assert "canary0key" not in repr(house)
    assert "process" not in repr(house.variables)
    assert SECRET not in json.dumps(repr(house.uploads))

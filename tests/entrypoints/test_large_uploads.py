"""PUT /files over a real socket: long bodies go through the disk, and only whole ones are kept."""

import http.client
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

import pytest

from fal_image import server
from fal_image.app import compose, front
from fal_image.events.wsgi import MAX_BODY_BYTES
from fal_image.routes import Routes
from fal_image.settings import Settings
from fal_image.web import App, Headers, Platform, Request
from support import pictures

MIB = 2**20


@dataclass
class House:
    """The services on a directory, and the server in front of them."""

    services: Routes
    app: App
    url: str
    directory: Path

    def upload(self, size: int) -> Any:
        wanted = json.dumps({"contentType": "image/png", "bytes": size}).encode()
        platform = Platform("wsgi", "r-1")
        answer = self.app(Request("POST", "/uploads", platform, body=wanted))
        return json.loads(answer.read())

    def put(self, upload: Any, file: BinaryIO, size: int) -> int:
        """The status of a PUT that announces `size` bytes."""
        address = urlsplit(upload["upload"]["url"])
        assert address.hostname
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        headers = upload["upload"]["headers"] | {"content-length": str(size)}
        try:
            connection.request("PUT", f"{address.path}?{address.query}", file, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    @property
    def files(self) -> list[Path]:
        return [path for path in self.directory.rglob("*") if path.is_file()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    listener = server.bind("127.0.0.1", 0)
    settings = Settings(
        fal_key="id:secret",
        storage_url=tmp_path.as_uri(),
        public_url=server.url_of(listener),
        secrets=("s" * 32,),
        allow_anonymous=True,
    )
    services = compose(settings, environ={})
    app = front(services)
    with server.running(app, listener, max_upload_bytes=settings.max_image_bytes) as url:
        yield House(services, app, url, tmp_path)


def test_a_large_picture_is_stored_in_little_memory(house: House):
    with pictures.png_of(50 * MIB) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        upload = house.upload(size)
        tracemalloc.start()
        status = house.put(upload, file, size)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert status == 200
    assert [path.stat().st_size for path in house.files] == [size]
    assert peak < 4 * MIB


def test_a_large_body_of_another_length_than_promised_is_not_stored(house: House):
    size = MAX_BODY_BYTES + 1
    assert house.put(house.upload(size + 1), io.BytesIO(bytes(size)), size) == 404
    assert house.files == []


def test_a_large_body_without_a_good_link_is_not_stored(house: House):
    size = MAX_BODY_BYTES + 1
    upload = house.upload(size)
    upload["upload"]["url"] += "x"
    assert house.put(upload, io.BytesIO(bytes(size)), size) == 404
    assert house.files == []


def test_a_body_that_ends_early_leaves_nothing(house: House):
    size = MAX_BODY_BYTES + 1
    upload = house.upload(size)
    url = urlsplit(upload["upload"]["url"])
    cut = Request(
        "PUT",
        url.path,
        Platform("wsgi", "r-1"),
        tuple(parse_qsl(url.query)),
        Headers(upload["upload"]["headers"].items()),
        file=io.BytesIO(bytes(size - 1)),
        file_bytes=size,
    )
    assert house.app(cut).status == 400
    assert house.files == []


def test_a_caller_that_hangs_up_leaves_nothing(house: House):
    upload = house.upload(9 * MIB)
    address = urlsplit(upload["upload"]["url"])
    assert address.hostname
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.putrequest("PUT", f"{address.path}?{address.query}")
    connection.putheader("content-type", "image/png")
    connection.putheader("content-length", str(9 * MIB))
    connection.endheaders(b"the beginning")
    connection.close()
    assert house.put(house.upload(5), io.BytesIO(b"later"), 5) == 200
    assert len(house.files) == 1


def test_only_a_put_may_be_long(house: House):
    size = MAX_BODY_BYTES + 1
    address = urlsplit(house.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    connection.request("POST", "/uploads", bytes(size), {"content-type": "application/json"})
    assert connection.getresponse().status == 413
    connection.close()

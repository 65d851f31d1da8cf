"""The rigs: every storage with what its tests need around it, each behind the same few names.

A new storage joins the contract suite by a class here with these names and a line in RIGS.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from fal_image import storage
from fal_image.storage.base import ObjectStorage, StoredObject
from fal_image.storage.local import LocalStorage

PREFIX = "ai-images"
KEY = f"{PREFIX}/2026-11-21/0123456789abcdefghijklmnop-0.png"
SECRETS = ("first-secret-of-at-least-32-characters",)
PUBLIC_URL = "https://pictures.example.com"
ENDPOINT_PATH = "/gateway/s3"

# What boto3 finds when it looks for credentials, and nothing of the machine the tests run on.
AWS_ENVIRON = {
    "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY",
    "AWS_SECRET_ACCESS_KEY": "canary-secret-access-key",
    "AWS_SESSION_TOKEN": "canary-session-token",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "NO_PROXY": "127.0.0.1",
}


def wall_clock() -> datetime:
    return datetime.now(timezone.utc)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(
    store: ObjectStorage, content: bytes, *, key: str = KEY, create_only: bool = True
) -> StoredObject:
    """Store bytes the way the pictures of a job are stored."""
    return store.put(
        key,
        io.BytesIO(content),
        content_type="image/png",
        sha256=sha256(content),
        create_only=create_only,
    )


def read(store: ObjectStorage, key: str = KEY, start: int = 0) -> bytes:
    with store.open(key, start) as chunks:
        return b"".join(chunks)


class Rig(Protocol):
    @property
    def url(self) -> str:
        """What FAL_IMAGE_STORAGE_URL says."""

    @property
    def environ(self) -> Mapping[str, str]:
        """What another process needs to open the same storage."""

    @property
    def start(self) -> str:
        """How file ids begin."""

    def open(self, now: Callable[[], datetime] = wall_clock) -> ObjectStorage: ...

    def fetch(self, url: str) -> bytes:
        """The bytes behind a link, for somebody who has nothing but the link."""


@dataclass
class LocalRig:
    directory: Path
    secrets: tuple[str, ...] = SECRETS
    public_url: str | None = PUBLIC_URL
    environ: Mapping[str, str] = field(default_factory=dict)
    start: str = "file:///"

    @property
    def url(self) -> str:
        return self.directory.as_uri()

    def open(self, now: Callable[[], datetime] = wall_clock) -> LocalStorage:
        opened = storage.open_storage(
            storage.parse(self.url),
            secrets=self.secrets,
            public_url=self.public_url,
            environ={},
            now=now,
        )
        assert isinstance(opened, LocalStorage)
        return opened

    def fetch(self, url: str) -> bytes:
        """What the route behind the link does, for there is no server here."""
        link = urlsplit(url)
        assert f"{link.scheme}://{link.netloc}" == PUBLIC_URL
        key = link.path.removeprefix("/files/")
        query = {name: values[0] for name, values in parse_qs(link.query).items()}
        store = self.open()
        store.verify_link(key, query["exp"], query["sig"], time.time())
        return read(store, key)


@dataclass
class S3Rig:
    """A bucket of its own on moto."""

    endpoint_url: str
    bucket: str = field(default_factory=lambda: f"pictures-{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        request = urllib.request.Request(
            f"{self.endpoint_url}/{self.bucket}",
            method="PUT",
            # Unsigned calls are anonymous to moto; it reads the signature's form, not its value.
            headers={"authorization": "AWS4-HMAC-SHA256 Credential=x/20261121/us-east-1/s3/x"},
        )
        _plain_client().open(request).close()

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{PREFIX}"

    @property
    def environ(self) -> Mapping[str, str]:
        return AWS_ENVIRON | {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": self.endpoint_url}

    @property
    def start(self) -> str:
        return f"s3://{self.bucket}/"

    def open(self, now: Callable[[], datetime] = wall_clock) -> ObjectStorage:
        return storage.open_storage(
            storage.parse(self.url), secrets=(), public_url=None, environ=self.environ, now=now
        )

    def fetch(self, url: str) -> bytes:
        with _plain_client().open(url) as answer:
            return bytes(answer.read())


RIGS: dict[str, Callable[[Path, str], Rig]] = {
    "local": lambda directory, moto: LocalRig(directory),
    "s3": lambda directory, moto: S3Rig(moto),
    "s3 under a path": lambda directory, moto: S3Rig(moto + ENDPOINT_PATH),
}


def _plain_client() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def moto_server() -> Iterator[str]:
    """moto's S3 on a free loopback port, at the root and under ENDPOINT_PATH; gives its URL.

    It does not look at signatures or at the end of a link, and never answers 409.
    """
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        for name in ("PATH_INFO", "RAW_URI", "REQUEST_URI"):
            environ[name] = environ[name].removeprefix(ENDPOINT_PATH)
        if checksum := environ.get("HTTP_X_AMZ_CHECKSUM_SHA256"):  # S3 compares it, moto does not
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            if hashlib.sha256(body).digest() != base64.b64decode(checksum):
                start_response("400 Bad Request", [])
                return [_error("BadDigest")]
        answer: Iterable[bytes] = moto(environ, start_response)
        return answer

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    with _serving(server) as port:
        yield f"http://127.0.0.1:{port}"


@dataclass(frozen=True)
class Answer:
    """One scripted answer; `missing_bytes` are promised and not sent."""

    status: int = 200
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    missing_bytes: int = 0


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ScriptedS3:
    """An S3 that gives the answers of a script, one a request, for what moto does not do."""

    answers: list[Answer]
    asked: list[Asked] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[str]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.asked.append(Asked(self.command, self.path, headers, body))
                answer = script.answers.pop(0)
                content = _error(answer.code) if answer.code else b""
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content) + answer.missing_bytes))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else content)
                self.close_connection = bool(answer.missing_bytes)

            do_GET = do_HEAD = do_PUT

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests look at `asked`."""

        with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
            yield f"http://127.0.0.1:{port}"


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>as the script says</Message></Error>".encode()


@contextmanager
def _serving(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""The rigs: every storage with what its tests need around it, each behind the same few names.

A new storage joins the contract suite by a class here with these names and a line in RIGS.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from fal_image import storage
from fal_image.errors import NotFound
from fal_image.storage.base import ObjectStorage, StoredObject, UploadLink
from fal_image.storage.cos import CosStorage
from fal_image.storage.local import LocalStorage
from fal_image.wire import Wire
from support.values import replace

from . import fake_cos, sigv4
from .fake_cloudbase import FakeCloudbase

PREFIX = "ai-images"
KEY = f"{PREFIX}/2026-11-21/0123456789abcdefghijklmnop-0.png"
SECRETS = ("first-secret-of-at-least-32-characters",)
PUBLIC_URL = "https://pictures.example.com"
ENDPOINT_PATH = "/gateway/s3"

# The credentials that sign, and nothing of the machine the tests run on.
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

    def send(self, link: UploadLink, content: bytes) -> int:
        """The status of the PUT of somebody who has nothing but the upload link."""


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

    def send(self, link: UploadLink, content: bytes) -> int:
        """What the route behind an upload link does."""
        url = urlsplit(link.url)
        key = url.path.removeprefix("/files/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        store = self.open()
        try:
            store.verify_upload(
                key,
                query["exp"],
                query["sig"],
                time.time(),
                content_type=link.headers["content-type"],
                bytes=len(content),
            )
        except NotFound as error:
            return error.status
        return 200 if store.receive(key, [content]) else 404


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

    def send(self, link: UploadLink, content: bytes) -> int:
        return send(link, content)


@dataclass
class CosRig:
    """A bucket that is served at `endpoint`."""

    endpoint: str
    start: str = "cos://pictures-1250000000/"
    url: str = f"cos://pictures-1250000000/{PREFIX}?region=ap-shanghai"

    @property
    def environ(self) -> Mapping[str, str]:
        return fake_cos.ENVIRON | {"FAKE_COS_URL": self.endpoint}

    def open(self, now: Callable[[], datetime] = wall_clock) -> ObjectStorage:
        return open_anywhere(self.url, self.environ, now)

    def fetch(self, url: str) -> bytes:
        with _plain_client().open(url) as answer:
            return bytes(answer.read())

    def send(self, link: UploadLink, content: bytes) -> int:
        return send(link, content)


@contextmanager
def cos_rig() -> Iterator[CosRig]:
    with fake_cos.FakeCos().serving() as endpoint:
        yield CosRig(endpoint)


@dataclass
class CloudbaseRig:
    """An environment whose three hosts are played by one server."""

    fake: FakeCloudbase
    url: str = f"cloudbase://env-1/{PREFIX}"

    @property
    def start(self) -> str:
        return self.fake.start

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "CLOUDBASE_APIKEY": self.fake.api_key,
            "FAKE_CLOUDBASE": json.dumps(self.fake.detours),
        }

    def open(self, now: Callable[[], datetime] = wall_clock) -> ObjectStorage:
        self.fake.now = lambda: now().timestamp()
        return open_anywhere(self.url, self.environ, now)

    def fetch(self, url: str) -> bytes:
        with _plain_client().open(self.fake.where(url)) as answer:
            return bytes(answer.read())

    def send(self, link: UploadLink, content: bytes) -> int:
        return send(replace(link, url=self.fake.where(link.url)), content)


@contextmanager
def cloudbase_rig() -> Iterator[CloudbaseRig]:
    with FakeCloudbase().serving() as fake:
        yield CloudbaseRig(fake)


RIGS: dict[str, Callable[[Path, str], AbstractContextManager[Rig]]] = {
    "local": lambda directory, moto: nullcontext(LocalRig(directory)),
    "s3": lambda directory, moto: nullcontext(S3Rig(moto)),
    "s3 under a path": lambda directory, moto: nullcontext(S3Rig(moto + ENDPOINT_PATH)),
    "cos": lambda directory, moto: cos_rig(),
    "cloudbase": lambda directory, moto: cloudbase_rig(),
}

# What a vendor cannot do: the test of the contract that says it, and why.
CANNOT: dict[str, dict[str, str]] = {
    "cloudbase": {
        "test_a_link_says_when_it_ends": "CloudBase does not say when a download URL ends",
        "test_a_link_lives_no_longer_than_the_ceiling": (
            "CloudBase does not say when a download URL ends; the age that is asked for is looked "
            "at in test_cloudbase"
        ),
        "test_a_link_is_signed_without_looking_for_the_object": (
            "CloudBase gives no download URL for an object that is not there"
        ),
        **dict.fromkeys(
            (
                "test_an_upload_link_is_good_for_no_other_type",
                "test_an_upload_link_is_good_for_no_other_length",
                "test_an_upload_link_works_once",
            ),
            "CloudBase signs nothing of an upload but its key: the file is checked at first use",
        ),
    },
}


def open_anywhere(
    url: str, environ: Mapping[str, str], now: Callable[[], datetime] = wall_clock
) -> ObjectStorage:
    """The storage of a rig, in its process or another, from its `url` and `environ`."""
    config = storage.parse(url)
    if isinstance(config, storage.CosConfig):
        return CosStorage(
            config.bucket,
            prefix=config.prefix,
            region=config.region,
            credentials=lambda: environ,
            now=now,
            endpoint=environ["FAKE_COS_URL"],
        )
    return storage.open_storage(
        config,
        secrets=SECRETS,
        public_url=PUBLIC_URL,
        environ=environ,
        now=now,
        wire=Wire(detours=json.loads(environ.get("FAKE_CLOUDBASE", "{}"))),
    )


def send(link: UploadLink, content: bytes) -> int:
    """The status of a plain HTTP client's PUT."""
    request = urllib.request.Request(link.url, content, link.headers, method="PUT")
    try:
        with _plain_client().open(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _plain_client() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def moto_server() -> Iterator[str]:
    """moto on a free loopback port, its S3 at the root and under ENDPOINT_PATH; gives its URL.

    Links must be signed with the secret of AWS_ENVIRON and must not have ended. It does not look at
    signatures in the Authorization header, and its S3 never answers 409.
    """
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    moto = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if code := _link_refusal(environ):
            start_response("403 Forbidden", [])
            return [_error(code)]
        for name in ("PATH_INFO", "RAW_URI", "REQUEST_URI"):
            environ[name] = environ[name].removeprefix(ENDPOINT_PATH)
        if checksum := environ.get("HTTP_X_AMZ_CHECKSUM_SHA256"):  # S3 compares it, moto does not
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            if hashlib.sha256(body).digest() != base64.b64decode(checksum):
                start_response("400 Bad Request", [])
                return [_error("BadDigest")]
        # DynamoDB looks at an item's condition and writes it in one step, moto in two.
        whole = "HTTP_X_AMZ_TARGET" in environ
        with one_at_a_time if whole else nullcontext():
            answer: Iterable[bytes] = moto(environ, start_response)
        return answer

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    with _serving(server) as port:
        yield f"http://127.0.0.1:{port}"


def _link_refusal(environ: Mapping[str, Any]) -> str | None:
    """Why S3 would not let a link through; moto looks at no signature."""
    if "X-Amz-" not in environ["QUERY_STRING"]:
        return None
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}
    }
    return sigv4.refusal(
        environ["REQUEST_METHOD"],
        environ["RAW_URI"],
        headers,
        secret=AWS_ENVIRON["AWS_SECRET_ACCESS_KEY"],
        now=wall_clock(),
    )


@dataclass(frozen=True)
class Answer:
    """One scripted answer; `missing_bytes` are promised and not sent. Status 0 is none: the
    connection ends."""

    status: int = 200
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    missing_bytes: int = 0
    body: bytes = b""


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    port: int  # of who asked


@dataclass
class ScriptedS3:
    """An S3 that gives the answers of a script, one a request, for what moto does not do.

    With the certificate in `tls` it is also the proxy to any host of AWS, and then that host.
    """

    answers: list[Answer]
    asked: list[Asked] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    @contextmanager
    def serving(self) -> Iterator[str]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                port = self.client_address[1]
                script.asked.append(Asked(self.command, self.path, headers, body, port))
                answer = script.answers.pop(0)
                if not answer.status:
                    self.close_connection = True
                    return
                content = _error(answer.code) if answer.code else answer.body
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content) + answer.missing_bytes))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else content)
                self.close_connection = bool(answer.missing_bytes)

            do_DELETE = do_GET = do_HEAD = do_PUT

            def do_CONNECT(self) -> None:
                assert script.tls
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                self.request = script.tls.wrap_socket(self.request, server_side=True)
                self.setup()
                self.close_connection = False

            def finish(self) -> None:
                super().finish()
                self.request.close()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests look at `asked`."""

        with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
            yield f"http://127.0.0.1:{port}"


def _error(code: str) -> bytes:
    said = f"<Code>{code}</Code><Message>as the script says</Message>"
    return f"<Error>{said}<Resource>/</Resource><RequestId>1</RequestId></Error>".encode()


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

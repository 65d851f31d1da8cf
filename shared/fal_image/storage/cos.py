"""Pictures in a bucket of Tencent Cloud Object Storage.

One PUT per picture, read from the file as it is sent; links are signed here, without a call.
Every operation asks for the keys anew and makes its client from them, which costs nothing; the
connections are kept. Importing this module imports qcloud_cos. Refuses to know where the keys
come from, and what a job or a caller is.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
from qcloud_cos import CosClientError, CosConfig, CosS3Client, CosServiceError
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.util.retry import Retry

from ..errors import NotFound
from ..tencent import Credentials, Keys, keys_of
from .base import (
    MAX_LINK_S,
    NOT_HERE,
    Link,
    NotAllowed,
    StorageError,
    StoredObject,
    UploadLink,
    check_key,
    key_in,
    known_key,
    measure,
)
from .cos_region import region_of

ATTEMPTS = 3
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2, 20
_BACKOFF_S = 0.2
_POOL_SIZE = 32
_CACHE_CONTROL = "private, max-age=31536000, immutable"  # a key never gets other bytes
_CHUNK_BYTES = 256 * 1024

_VISIBLE = re.compile(r"[!-~]+")

RegionOf = Callable[[str, Keys, Mapping[str, str]], str]

# At DEBUG it logs the signing key, at ERROR an answer that quotes the token.
logging.getLogger("qcloud_cos").propagate = False


class CosStorage:
    """Objects of one bucket. Safe to share between threads."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str,
        region: str | None,
        credentials: Credentials,
        now: Callable[[], datetime],
        endpoint: str | None = None,
        look_up: RegionOf = region_of,
    ) -> None:
        """`credentials` gives the variables of the running invocation. Without a `region`, the
        first operation calls `look_up`. `endpoint` is a domain of the bucket's own with its scheme,
        for links too."""
        self._bucket = bucket
        self._prefix = prefix
        self._region = region
        self._credentials = credentials
        self._now = now
        self._look_up = look_up
        self._looking_up = threading.Lock()
        self._session = _session()
        own = urlsplit(endpoint or "")
        self._domain = {"Scheme": own.scheme, "Domain": own.netloc} if endpoint else {}

    def prepare(self) -> None:
        """See ObjectStorage: Tencent's SDK connects with its first call."""

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        """See ObjectStorage. Reads the file twice: COS checks an MD5, nobody there a SHA-256.

        COS ignores `x-cos-forbid-overwrite` in a bucket that ever had versions (COS docs, "PUT
        Object"), so it is asked first whether the object stands there. When an answer was lost and
        the request was sent again, the object is ours and `created` is False.
        """
        check_key(key)
        headers = {"x-cos-meta-sha256": sha256}
        size, md5 = measure(file, sha256)
        if create_only:
            headers["x-cos-forbid-overwrite"] = "true"
            try:
                return self.head(key)
            except NotFound:
                pass
        with self._told("PUT", key):
            try:
                self._client().put_object(
                    self._bucket,
                    _Body(file, size) if size else b"",
                    key,
                    ContentType=content_type,
                    ContentMD5=md5,
                    CacheControl=_CACHE_CONTROL,
                    Metadata=headers,  # sent as they are, also the one that is no metadata
                )
            except CosServiceError as error:
                if create_only and _said(error).get("code") == "FileAlreadyExists":
                    return self._standing(key)
                raise
        return StoredObject(key, self.file_id(key), size, sha256, content_type, created=True)

    @contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        body = self._get(key, start)
        if body is None:
            yield iter(())
            return
        with closing(body.get_raw_stream()):
            yield self._chunks(body, key)

    def head(self, key: str) -> StoredObject:
        key = known_key(key)
        with self._told("HEAD", key):
            found = CaseInsensitiveDict(self._client().head_object(self._bucket, key))
        sha256, size = found.get("x-cos-meta-sha256"), found.get("Content-Length")
        if not sha256 or not size:
            raise StorageError(f"{self.file_id(key)} tells no SHA-256: somebody else put it")
        content_type = found.get("Content-Type", "application/octet-stream")
        return StoredObject(key, self.file_id(key), int(size), sha256, content_type)

    def delete(self, key: str) -> None:
        """See ObjectStorage. In a bucket with versions the bytes stay behind a delete marker."""
        key = known_key(key)
        with suppress(NotFound), self._told("DELETE", key):
            self._client().delete_object(self._bucket, key)

    def link(self, key: str, ttl_s: int) -> Link:
        """See ObjectStorage. The link dies earlier when the keys that sign it do."""
        url, expires_at = self._sign("GET", key, ttl_s, {})
        return Link(url, expires_at)

    def upload_link(self, key: str, *, content_type: str, bytes: int, ttl_s: int) -> UploadLink:
        """See ObjectStorage. COS holds the caller to all three signed headers; the length is left
        to the HTTP client, which sends it anyway. In a bucket that ever had versions the link
        works more than once."""
        headers = {"content-type": content_type, "x-cos-forbid-overwrite": "true"}
        signed = {**headers, "content-length": str(bytes)}
        url, expires_at = self._sign("PUT", key, ttl_s, signed)
        return UploadLink(url, headers, expires_at)

    def file_id(self, key: str) -> str:
        return f"cos://{self._bucket}/{key}"

    def key(self, file_id: str) -> str:
        return key_in(file_id, f"cos://{self._bucket}/", self._prefix)

    def _client(self, keys: Keys | None = None) -> Any:
        """A client that knows the keys of this moment. It is given the token itself: of a
        credential object the SDK uses the keys and drops the token."""
        keys = keys or self._keys()
        config = CosConfig(
            Region=self._region_known(keys),
            SecretId=keys.secret_id,
            SecretKey=keys.secret_key,
            Token=keys.session_token or None,
            Timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            **self._domain,
        )
        # The SDK's own retries sleep for whole seconds, and its connections are everybody's.
        return CosS3Client(config, retry=0, session=self._session)

    def _keys(self) -> Keys:
        keys = keys_of(self._credentials())
        if keys is None:
            raise StorageError(
                "no keys for COS: set TCB_SECRET_ID and TCB_SECRET_KEY, where the platform gives "
                "no TENCENTCLOUD_SECRETID and TENCENTCLOUD_SECRETKEY"
            )
        # An HTTP library that finds a line break in a header quotes the header in its error.
        if not _VISIBLE.fullmatch(keys.secret_id + keys.session_token):
            raise StorageError("the keys for COS hold characters that no header can hold")
        return keys

    def _region_known(self, keys: Keys) -> str:
        with self._looking_up:
            if self._region is None:
                self._region = self._look_up(self._bucket, keys, self._credentials())
            return self._region

    def _sign(
        self, method: str, key: str, ttl_s: int, headers: Mapping[str, str]
    ) -> tuple[str, datetime]:
        """A URL for one request with these headers, and when it ends."""
        check_key(key)
        life_s = min(ttl_s, MAX_LINK_S)
        # The clock is read first: what is recorded may end before the link does, never after it.
        expires_at = self._now().replace(microsecond=0) + timedelta(seconds=life_s)
        with self._told("signing a link", key):
            keys = self._keys()
            token = keys.session_token
            url = self._client(keys).get_presigned_url(
                self._bucket,
                key,
                method,
                life_s,
                Params={"x-cos-security-token": token} if token else {},
                Headers=headers,
            )
        return str(url), expires_at

    def _get(self, key: str, start: int) -> Any:
        """The answer's body, None when the object ends before `start`."""
        key = known_key(key)
        wanted = {"Range": f"bytes={start}-"} if start else {}
        with self._told("GET", key):
            try:
                return self._client().get_object(self._bucket, key, **wanted)["Body"]
            except CosServiceError as error:
                if error.get_status_code() == 416:
                    return None
                raise

    def _standing(self, key: str) -> StoredObject:
        """The facts of the object that kept a put from happening."""
        try:
            return self.head(key)
        except NotFound as error:
            raise StorageError(f"{self.file_id(key)} was deleted during a put") from error

    def _chunks(self, body: Any, key: str) -> Iterator[bytes]:
        with self._told("GET", key):
            yield from body.get_stream(_CHUNK_BYTES)

    @contextmanager
    def _told(self, call: str, key: str) -> Iterator[None]:
        """Turns what the SDK raises into our errors, without the error itself: it holds the whole
        answer, and COS quotes the token when a signature is wrong."""
        try:
            yield
        except CosServiceError as error:
            raise self._refused(call, key, error) from None
        except (CosClientError, OSError) as error:  # OSError: what requests raises between chunks
            raise StorageError(f"{call} of {self.file_id(key)}: {error}") from None

    def _refused(self, call: str, key: str, error: CosServiceError) -> Exception:
        status, said = error.get_status_code(), _said(error)
        if status == 404 and said.get("code") != "NoSuchBucket":
            return NotFound(NOT_HERE)
        words = f"HTTP {status} {said.get('code')}: {said.get('message')}"
        request_id = said.get("requestid") or said.get("x-cos-request-id")
        kind = NotAllowed if said.get("code") == "AccessDenied" else StorageError
        return kind(f"{call} of {self.file_id(key)}: {words} (request {request_id})")


class _Body:
    """A file that is sent as it is read. Its length is known, else COS gets chunks of unknown
    number; and it can be rewound, else a broken connection is the end of it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        file.seek(0)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(_CHUNK_BYTES), b"")

    def read(self, amount: int = -1) -> bytes:
        return self._file.read(amount)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


def _session() -> requests.Session:
    """Connections of one storage; what fails before COS answered is sent again."""
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # the length of an object is that of its bytes
    session.hooks["response"].append(_refuse_redirect)
    again = Retry(
        ATTEMPTS - 1,
        status_forcelist=(500, 502, 503, 504),
        backoff_factor=_BACKOFF_S,
        raise_on_status=False,  # the last answer says why
        respect_retry_after_header=False,
    )
    session.mount("https://", HTTPAdapter(pool_maxsize=_POOL_SIZE, max_retries=again))
    session.mount("http://", HTTPAdapter(pool_maxsize=_POOL_SIZE, max_retries=again))
    return session


def _refuse_redirect(answer: requests.Response, **_: object) -> None:
    """The SDK takes a redirect, which it does not follow, for success: nothing would be stored."""
    if 300 <= answer.status_code < 400:
        raise requests.RequestException(f"HTTP {answer.status_code} instead of an answer")


def _said(error: CosServiceError) -> Mapping[str, str]:
    """What an error answer says; nothing when it was not COS that wrote it."""
    digest = error.get_digest_msg()
    return digest if isinstance(digest, Mapping) else {}

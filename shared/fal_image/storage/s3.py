"""Pictures in an S3 bucket, or in a server that speaks S3.

One PutObject per picture, read from the file as it is sent; links are SigV4 and signed here,
without a call. Refuses to know how a call is signed, and whose credentials sign it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from typing import BinaryIO

from ..aws import AwsError, Reply
from ..errors import NotFound
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
)
from .s3_bucket import S3Bucket

_CACHE_CONTROL = "private, max-age=31536000, immutable"  # a key never gets other bytes
_CHECKSUM = "x-amz-checksum-sha256"
_WITH_CHECKSUM = {"x-amz-checksum-mode": "ENABLED"}


class S3Storage:
    """Objects of one bucket. Safe to share between threads."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str,
        region: str,
        endpoint_url: str | None,
        now: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Under `endpoint_url`, which may carry a path, everything is path style. Credentials and
        which of AWS's hosts to call are read from `environ`, at each call."""
        self._name = bucket
        self._prefix = prefix
        self._now = now
        self._bucket = S3Bucket(
            bucket, region=region, endpoint_url=endpoint_url, sleep=sleep, environ=environ
        )

    def prepare(self) -> None:
        """Open a connection before the first call needs it, within seconds. Nothing is raised: the
        call finds out by itself what is wrong."""
        with suppress(AwsError):
            self._bucket.prepare()

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        """See ObjectStorage. S3 itself refuses bytes that are not those of `sha256`.

        When an answer was lost and S3 was asked again, the object is ours and `created` is False.
        """
        size = file.seek(0, io.SEEK_END)
        headers = {
            "content-type": content_type,
            "cache-control": _CACHE_CONTROL,
            _CHECKSUM: base64.b64encode(bytes.fromhex(sha256)).decode(),
            "x-amz-meta-sha256": sha256,
        }
        if create_only:
            headers["if-none-match"] = "*"
        check_key(key)
        try:
            self._bucket.call("PUT", key, headers, file=file, sha256=sha256).close()
        except AwsError as error:
            if create_only and error.status == 412:
                return self._standing(key)
            raise self._failed("PutObject", key, error) from error
        return StoredObject(key, self.file_id(key), size, sha256, content_type, created=True)

    @contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """See ObjectStorage. Who reads all of an object learns at its end whether the bytes are
        those of S3's SHA-256."""
        reply = self._get(key, start)
        if reply is None:
            yield iter(())
            return
        with closing(reply):
            digest = None if start else _hex(reply.headers.get(_CHECKSUM) or "")
            yield self._chunks(reply, key, digest)

    def head(self, key: str) -> StoredObject:
        try:
            with closing(self._bucket.call("HEAD", known_key(key), _WITH_CHECKSUM)) as reply:
                found = reply.headers
        except AwsError as error:
            raise self._unread("HeadObject", key, error) from error
        sha256 = found.get("x-amz-meta-sha256") or _hex(found.get(_CHECKSUM) or "")
        if not sha256:
            raise StorageError(f"{self.file_id(key)} tells no SHA-256: somebody else put it")
        size = found.get("content-length") or ""
        if not size.isdigit():
            raise StorageError(f"{self.file_id(key)} tells no length")
        content_type = found.get("content-type") or "application/octet-stream"
        return StoredObject(key, self.file_id(key), int(size), sha256, content_type)

    def delete(self, key: str) -> None:
        """See ObjectStorage. In a bucket with versions the bytes stay behind a delete marker; what
        is missing is 404 to some servers that speak S3."""
        try:
            self._bucket.call("DELETE", known_key(key), {}).close()
        except AwsError as error:
            if error.status != 404 or error.code == "NoSuchBucket":
                raise self._failed("DeleteObject", key, error) from error

    def link(self, key: str, ttl_s: int) -> Link:
        """See ObjectStorage. The link dies earlier when the credentials that sign it do."""
        return Link(*self._signed("GET", key, {}, ttl_s))

    def upload_link(self, key: str, *, content_type: str, bytes: int, ttl_s: int) -> UploadLink:
        """See ObjectStorage. S3 itself refuses another type or length (403) and a key that is
        taken (412, AWS S3 guide, "Conditional writes").

        The length is signed and not among the headers to send: every HTTP client sends it by
        itself, and a browser lets no page set it.
        """
        headers = {"content-type": content_type, "if-none-match": "*"}
        signed = {**headers, "content-length": str(bytes)}
        url, expires_at = self._signed("PUT", key, signed, ttl_s)
        return UploadLink(url, headers, expires_at)

    def file_id(self, key: str) -> str:
        return f"s3://{self._name}/{key}"

    def key(self, file_id: str) -> str:
        return key_in(file_id, f"s3://{self._name}/", self._prefix)

    def _signed(
        self, method: str, key: str, headers: Mapping[str, str], ttl_s: int
    ) -> tuple[str, datetime]:
        """The address of one call that needs no further credentials, and when it ends."""
        life_s = min(ttl_s, MAX_LINK_S)
        # The clock is read first: what is recorded may end before the link does, never after it.
        expires_at = self._now().replace(microsecond=0) + timedelta(seconds=life_s)
        try:
            return self._bucket.link(method, check_key(key), headers, life_s), expires_at
        except AwsError as error:
            raise self._failed("signing a link", key, error) from error

    def _get(self, key: str, start: int) -> Reply | None:
        """The answer, None when the object ends before `start`."""
        wanted = {"range": f"bytes={start}-"} if start else _WITH_CHECKSUM
        try:
            return self._bucket.call("GET", known_key(key), wanted)
        except AwsError as error:
            if error.code == "InvalidRange":
                return None
            raise self._unread("GetObject", key, error) from error

    def _standing(self, key: str) -> StoredObject:
        """The facts of the object that kept a put from happening."""
        try:
            return self.head(key)
        except NotFound as error:
            raise StorageError(f"{self.file_id(key)} was deleted during a put") from error

    def _chunks(self, reply: Reply, key: str, sha256: str | None) -> Iterator[bytes]:
        digest = hashlib.sha256()
        try:
            for chunk in reply.chunks():
                if sha256:
                    digest.update(chunk)
                yield chunk
        except AwsError as error:
            raise self._failed("GetObject", key, error) from error
        if sha256 and digest.hexdigest() != sha256:
            raise StorageError(f"GetObject of {self.file_id(key)}: not the bytes of its SHA-256")

    def _unread(self, call: str, key: str, error: AwsError) -> Exception:
        """NotFound when S3 says so; a 403 is no such word, however often it means it."""
        if error.status == 404 and error.code != "NoSuchBucket":
            return NotFound(NOT_HERE)
        failed = self._failed(call, key, error)
        if error.status == 403:
            hint = "it may be missing: S3 says 404 only to who has s3:ListBucket"
            return StorageError(f"{failed}; {hint}")
        return failed

    def _failed(self, call: str, key: str, error: AwsError) -> StorageError:
        kind = NotAllowed if error.code == "AccessDenied" else StorageError
        return kind(f"{call} of {self.file_id(key)}: {error}")


def _hex(checksum: str) -> str | None:
    """S3's SHA-256 of a whole object; None for one over the checksums of its parts ("…-2")."""
    try:
        return base64.b64decode(checksum, validate=True).hex()
    except binascii.Error:
        return None

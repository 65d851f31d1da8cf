"""Pictures in an S3 bucket, or in a server that speaks S3.

One PutObject per picture, read from the file as it is sent; links are SigV4 and signed here,
without a call. Importing this module imports boto3. Refuses to know which credentials boto3 finds.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import Any, BinaryIO

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.response import StreamingBody

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

PUT_ATTEMPTS = 3
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2, 20
_CACHE_CONTROL = "private, max-age=31536000, immutable"  # a key never gets other bytes
_CHUNK_BYTES = 256 * 1024


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
    ) -> None:
        """Under `endpoint_url`, which may carry a path, everything is path style."""
        self._bucket = bucket
        self._prefix = prefix
        self._now = now
        # A dot in the name does not fit the certificate of bucket.s3.region.amazonaws.com
        # (AWS S3 guide, "Virtual hosting of general purpose buckets").
        style = "path" if endpoint_url or "." in bucket else "virtual"
        self._client: Any = boto3.session.Session().client(
            "s3",
            region_name=region,
            endpoint_url=endpoint_url,
            config=Config(
                signature_version="s3v4",  # without it links are signed the old way, SigV2
                s3={
                    "addressing_style": style,
                    "us_east_1_regional_endpoint": "regional",  # no host without a region there
                    # The checksum header is signed and vouches for the body: no second SHA-256.
                    "payload_signing_enabled": False,
                },
                retries={"mode": "standard", "total_max_attempts": 3},
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
            ),
        )

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        """See ObjectStorage. S3 itself refuses bytes that are not those of `sha256`.

        When an answer was lost and boto3 asked again, the object is ours and `created` is False.
        """
        request = {
            "Bucket": self._bucket,
            "Key": check_key(key),
            "ContentType": content_type,
            "CacheControl": _CACHE_CONTROL,
            "ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode(),
            "Metadata": {"sha256": sha256},
        }
        if create_only:
            request["IfNoneMatch"] = "*"
        for attempt in range(1, PUT_ATTEMPTS + 1):
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            try:
                self._client.put_object(Body=file, **request)
                break
            except ClientError as error:
                if create_only and _status(error) == 412:
                    return self._standing(key)
                if attempt == PUT_ATTEMPTS or _code(error) != "ConditionalRequestConflict":
                    raise self._failed("PutObject", key, error) from error
            except BotoCoreError as error:
                raise self._failed("PutObject", key, error) from error
        return StoredObject(key, self.file_id(key), size, sha256, content_type, created=True)

    @contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        body = self._get(key, start)
        if body is None:
            yield iter(())
            return
        with closing(body):
            yield self._chunks(body, key)

    def head(self, key: str) -> StoredObject:
        try:
            found = self._client.head_object(
                Bucket=self._bucket, Key=known_key(key), ChecksumMode="ENABLED"
            )
        except (ClientError, BotoCoreError) as error:
            raise self._unread("HeadObject", key, error) from error
        sha256 = found["Metadata"].get("sha256") or _hex(found.get("ChecksumSHA256", ""))
        if not sha256:
            raise StorageError(f"s3://{self._bucket}/{key} tells no SHA-256: somebody else put it")
        content_type = found.get("ContentType", "application/octet-stream")
        return StoredObject(key, self.file_id(key), found["ContentLength"], sha256, content_type)

    def delete(self, key: str) -> None:
        """See ObjectStorage. In a bucket with versions the bytes stay behind a delete marker; what
        is missing is 404 to some servers that speak S3."""
        try:
            self._client.delete_object(Bucket=self._bucket, Key=known_key(key))
        except ClientError as error:
            if _status(error) != 404 or _code(error) == "NoSuchBucket":
                raise self._failed("DeleteObject", key, error) from error
        except BotoCoreError as error:
            raise self._failed("DeleteObject", key, error) from error

    def link(self, key: str, ttl_s: int) -> Link:
        """See ObjectStorage. The link dies earlier when the credentials that sign it do."""
        return Link(*self._signed("get_object", key, {}, ttl_s))

    def upload_link(self, key: str, *, content_type: str, bytes: int, ttl_s: int) -> UploadLink:
        """See ObjectStorage. S3 itself refuses another type or length (403) and a key that is
        taken (412, AWS S3 guide, "Conditional writes").

        The length is signed and not among the headers to send: every HTTP client sends it by
        itself, and a browser lets no page set it.
        """
        headers = {"content-type": content_type, "if-none-match": "*"}
        signed = {"ContentType": content_type, "ContentLength": bytes, "IfNoneMatch": "*"}
        url, expires_at = self._signed("put_object", key, signed, ttl_s)
        return UploadLink(url, headers, expires_at)

    def file_id(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def key(self, file_id: str) -> str:
        return key_in(file_id, f"s3://{self._bucket}/", self._prefix)

    def _signed(
        self, call: str, key: str, params: dict[str, Any], ttl_s: int
    ) -> tuple[str, datetime]:
        """The address of one call that needs no further credentials, and when it ends."""
        life_s = min(ttl_s, MAX_LINK_S)
        # The clock is read first: what is recorded may end before the link does, never after it.
        expires_at = self._now().replace(microsecond=0) + timedelta(seconds=life_s)
        try:
            url = self._client.generate_presigned_url(
                call,
                Params={"Bucket": self._bucket, "Key": check_key(key), **params},
                ExpiresIn=life_s,
            )
        except (ClientError, BotoCoreError) as error:
            raise self._failed("signing a link", key, error) from error
        return url, expires_at

    def _get(self, key: str, start: int) -> StreamingBody | None:
        """The answer's body, None when the object ends before `start`."""
        wanted = {"Range": f"bytes={start}-"} if start else {}
        try:
            return self._client.get_object(Bucket=self._bucket, Key=known_key(key), **wanted)[
                "Body"
            ]
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and _code(error) == "InvalidRange":
                return None
            raise self._unread("GetObject", key, error) from error

    def _standing(self, key: str) -> StoredObject:
        """The facts of the object that kept a put from happening."""
        try:
            return self.head(key)
        except NotFound as error:
            raise StorageError(f"s3://{self._bucket}/{key} was deleted during a put") from error

    def _chunks(self, body: StreamingBody, key: str) -> Iterator[bytes]:
        try:
            yield from body.iter_chunks(_CHUNK_BYTES)
        except BotoCoreError as error:
            raise self._failed("GetObject", key, error) from error

    def _unread(self, call: str, key: str, error: ClientError | BotoCoreError) -> Exception:
        """NotFound when S3 says so; a 403 is no such word, however often it means it."""
        if isinstance(error, ClientError):
            if _status(error) == 404 and _code(error) != "NoSuchBucket":
                return NotFound(NOT_HERE)
            if _status(error) == 403:
                failed = self._failed(call, key, error)
                return StorageError(
                    f"{failed}; it may be missing: S3 says 404 only to who has s3:ListBucket"
                )
        return self._failed(call, key, error)

    def _failed(self, call: str, key: str, error: ClientError | BotoCoreError) -> StorageError:
        kind, said = StorageError, f"{type(error).__name__}: {error}"
        if isinstance(error, ClientError):
            kind = NotAllowed if _code(error) == "AccessDenied" else StorageError
            said = f"HTTP {_status(error)} {_code(error)}: {error.response['Error'].get('Message')}"
        return kind(f"{call} of s3://{self._bucket}/{key}: {said}")


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code"))


def _hex(checksum: str) -> str | None:
    """S3's SHA-256 of a whole object; None for one over the checksums of its parts ("…-2")."""
    try:
        return base64.b64decode(checksum, validate=True).hex()
    except binascii.Error:
        return None

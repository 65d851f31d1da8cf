"""Pictures in the bucket of a Tencent CloudBase environment, through CloudBase's HTTP API.

    put    get-objects-upload-info  ->  PUT uploadUrl at COS   ->  cloud://env.bucket/key
    read   get-objects-download-info  ->  GET or HEAD downloadUrl at the environment's CDN
    delete delete-objects

The API tells an object's address and nothing else of it. Its length and type are what a HEAD of
the download URL answers; its SHA-256 is the metadata put with it, and where the CDN does not hand
that on, or somebody else put the object, all of it is read and hashed.

Refuses to know where the bucket is: its name and its hosts are CloudBase's word.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import BinaryIO

from ..errors import NotFound
from ..tencent import Credentials, Gateway, GatewayError
from ..wire import Reply, Wire, WireError, parse_target
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

PUT_ATTEMPTS = 2
SILENCE_S = 20.0
READ_LINK_S = 600  # for our own reading, which begins at once

_CHUNK_BYTES = 256 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_MISSING = {"OBJECT_NOT_EXIST", "STORAGE_FILE_NONEXIST"}
# CloudBase docs, "Delete objects": by the bucket's permissions, and by who asks.
_FORBIDDEN = {"STORAGE_EXCEED_AUTHORITY", "ACTION_FORBIDDEN"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Refused(StorageError):
    """CloudBase or its COS said no; `code` is its word for it."""

    def __init__(self, said: str, *, code: str = "", may_pass: bool = False) -> None:
        super().__init__(said)
        self.code = code
        self.may_pass = may_pass


@dataclass(frozen=True)
class _UploadInfo:
    """What one PUT to COS needs. `file_id` names what it will store."""

    file_id: str
    url: str
    headers: Mapping[str, str] = field(repr=False)


class CloudbaseStorage:
    """Objects of one environment's bucket. Safe to share between threads."""

    def __init__(
        self,
        env_id: str,
        *,
        prefix: str,
        region: str | None,
        wire: Wire,
        credentials: Credentials,
        now: Callable[[], datetime],
    ) -> None:
        """A `region` outside China has another gateway; None stands for one in China."""
        self._env_id = env_id
        self._prefix = prefix
        self._wire = wire
        self._now = now
        self._gateway = Gateway(env_id, region=region, wire=wire, credentials=credentials, now=now)
        self._bucket: str | None = None  # learned from the first answer that names it

    def prepare(self) -> None:
        """See ObjectStorage: the token is looked for with the first call."""

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        """See ObjectStorage. COS compares an MD5 with what arrived, so no damaged bytes are kept.

        Whether an object stands there is looked up first, and COS is asked to overwrite none. It
        does so all the same in a bucket that ever had versioning (COS docs, "PUT Object"): then
        two puts of one key that overlap may both say `created`. A refused signature, a lost
        answer and CloudBase's own failures are tried once more, with a fresh signature; if the
        lost put had arrived, `created` is False.
        """
        check_key(key)
        size, md5 = measure(file, sha256)
        headers = {"content-type": content_type, "content-md5": md5}
        signed = {"x-cos-meta-sha256": sha256}
        if create_only:
            signed["x-cos-forbid-overwrite"] = "true"
        for attempt in range(1, PUT_ATTEMPTS + 1):
            try:
                info = self._upload_info(key, signed)
                if create_only and (standing := self._standing(key, info.file_id)):
                    return standing
                self._send(info, file, headers | signed)
                return StoredObject(key, info.file_id, size, sha256, content_type, created=True)
            except _Refused as error:
                if create_only and error.code == "FileAlreadyExists":
                    return self._winner(key)
                if attempt == PUT_ATTEMPTS or not error.may_pass:
                    raise
                if error.code == "SignatureDoesNotMatch":
                    signed = {}  # back to the headers that are in CloudBase's own example
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """See ObjectStorage. The CDN may give the old bytes of a replaced object for a while."""
        url = self._download_url(self.file_id(known_key(key)), READ_LINK_S)
        with self._read(url, start) as chunks:
            yield chunks

    def head(self, key: str) -> StoredObject:
        """See ObjectStorage. The SHA-256 is believed to whoever put the object."""
        return self._head(key, self.file_id(known_key(key)))

    def delete(self, key: str) -> None:
        """See ObjectStorage. Links that were made before may open the CDN's copy for a while."""
        item = {"cloudObjectId": self.file_id(known_key(key))}
        try:
            self._item("delete-objects", item)
        except _Refused as error:
            if error.code in _FORBIDDEN:
                raise NotAllowed(str(error)) from error
            if error.code not in _MISSING:
                raise

    def link(self, key: str, ttl_s: int) -> Link:
        """See ObjectStorage. CloudBase is told `ttl_s` and does not say when the link ends; that of
        a bucket everybody may read never does.

        Unlike elsewhere, there is no link to what is not there: StorageError.
        """
        try:
            url = self._download_url(self.file_id(check_key(key)), min(ttl_s, MAX_LINK_S))
        except NotFound as error:
            raise StorageError(f"CloudBase gives no link to {key}: it is not there") from error
        return Link(url, None)

    def upload_link(self, key: str, *, content_type: str, bytes: int, ttl_s: int) -> UploadLink:
        """See ObjectStorage. CloudBase signs the key and an end of its own choice, nothing else.

        So whoever holds the link can send any body, of any type and length and under any SHA-256,
        and again until the signature ends, which may be after `expires_at`: read what arrived
        before using it.
        """
        info = self._upload_info(check_key(key), {})
        signed_until = _signed_until(info.headers["authorization"])
        ends_at = self._now().replace(microsecond=0) + timedelta(seconds=min(ttl_s, MAX_LINK_S))
        headers = {**info.headers, "content-type": content_type}
        return UploadLink(info.url, headers, min(ends_at, signed_until))

    def file_id(self, key: str) -> str:
        """The id that mini programs and getTempFileURL take. The bucket's name is asked for once:
        upload information for a key makes nothing."""
        if self._bucket is None:
            self._upload_info(f"{self._prefix}/name", {})
        return f"{self._start()}{key}"

    def key(self, file_id: str) -> str:
        if not file_id.startswith(f"cloud://{self._env_id}."):
            raise NotFound(NOT_HERE)
        return key_in(file_id, self.file_id(""), self._prefix)

    def _start(self) -> str:
        return f"cloud://{self._env_id}.{self._bucket}/"

    def _upload_info(self, key: str, signed: Mapping[str, str]) -> _UploadInfo:
        """Leave to PUT one object, with `signed` among the headers that the signature covers."""
        item: dict[str, object] = {"objectId": key}
        if signed:
            item["signedHeader"] = {name: [value] for name, value in signed.items()}
        answer = self._item("get-objects-upload-info", item)
        file_id, url = _text(answer, "cloudObjectId"), _address(answer, "uploadUrl")
        bucket = file_id.removeprefix(f"cloud://{self._env_id}.").removesuffix(f"/{key}")
        if not _BUCKET.fullmatch(bucket):
            raise StorageError(
                f"CloudBase would store {key} as {file_id}: an environment that keeps its files "
                "elsewhere is not supported"
            )
        self._bucket = bucket
        headers = {
            "authorization": _text(answer, "authorization"),
            "x-cos-security-token": _text(answer, "token"),
            "x-cos-meta-fileid": _text(answer, "cloudObjectMeta"),  # without it there are no links
        }
        return _UploadInfo(file_id, url, headers)

    def _download_url(self, file_id: str, ttl_s: int) -> str:
        """Raises NotFound when CloudBase says that there is no such object."""
        item = {"cloudObjectId": file_id, "maxAge": ttl_s}
        try:
            answer = self._item("get-objects-download-info", item)
        except _Refused as error:
            if error.code in _MISSING:
                raise NotFound(NOT_HERE) from error
            raise
        # Our keys hold nothing to encode. CloudBase's example of downloadUrlEncoded also encodes
        # the "?" in front of the signature, which would be another path.
        return _address(answer, "downloadUrl")

    def _item(self, call: str, item: Mapping[str, object]) -> Mapping[str, object]:
        """What CloudBase answers about one object. An error of the object has HTTP status 200."""
        try:
            answer = self._gateway.call("POST", f"/v1/storages/{call}", [item])
        except GatewayError as error:
            said = f"{call}: {error}"
            raise _Refused(said, code=error.code, may_pass=error.may_pass) from error
        if not isinstance(answer, list) or len(answer) != 1 or not isinstance(answer[0], dict):
            raise StorageError(f"{call}: the answer is not a list of one object")
        found: dict[str, object] = answer[0]
        code = str(found.get("code") or "SUCCESS")
        if code != "SUCCESS":
            said = f"{call}: {code} {str(found.get('message', ''))[:300]}"
            raise _Refused(said, code=code, may_pass=code == "SYS_ERR")
        return found

    def _send(self, info: _UploadInfo, file: BinaryIO, headers: Mapping[str, str]) -> None:
        with self._asked("PUT", info.url, {**info.headers, **headers}, file) as reply:
            if 200 <= reply.status < 300:
                return
            said = b"".join(reply.chunks).decode("utf-8", "replace")
        code, message = _tagged("Code", said), _tagged("Message", said)
        raise _Refused(
            f"PUT of {info.file_id}: HTTP {reply.status} {code}: {message[:300]}",
            code=code,
            may_pass=reply.status >= 500 or code == "SignatureDoesNotMatch",
        )

    def _standing(self, key: str, file_id: str) -> StoredObject | None:
        try:
            return self._head(key, file_id)
        except NotFound:
            return None

    def _winner(self, key: str) -> StoredObject:
        """The facts of the object that kept a put from happening."""
        try:
            return self.head(key)
        except NotFound as error:
            raise StorageError(f"{key} was deleted during a put") from error

    def _head(self, key: str, file_id: str) -> StoredObject:
        url = self._download_url(file_id, READ_LINK_S)
        with self._asked("HEAD", url, {}) as reply:
            _check(reply)
        content_type = reply.headers.get("content-type") or "application/octet-stream"
        length = reply.headers.get("content-length") or ""
        sha256 = reply.headers.get("x-cos-meta-sha256") or ""
        if not _SHA256.fullmatch(sha256) or not length.isdigit():
            return StoredObject(key, file_id, *self._hashed(url), content_type)
        return StoredObject(key, file_id, int(length), sha256, content_type)

    def _hashed(self, url: str) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        with self._read(url) as chunks:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
        return size, digest.hexdigest()

    @contextmanager
    def _read(self, url: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        wanted = {"range": f"bytes={start}-"} if start else {}
        with self._asked("GET", url, wanted) as reply:
            if reply.status == 416:  # the object ends before `start`
                yield iter(())
                return
            _check(reply)
            yield _chunks(reply, 0 if reply.status == 206 else start)

    @contextmanager
    def _asked(
        self, method: str, url: str, headers: Mapping[str, str], body: BinaryIO | bytes = b""
    ) -> Iterator[Reply]:
        """One exchange with COS or the CDN, whose addresses are what CloudBase's gateway said."""
        try:
            with self._wire.reach(
                method,
                url,
                host=parse_target(url).hostname or "",
                timeout_s=math.inf,
                silence_s=SILENCE_S,
                headers=headers,
                body=body,
                max_bytes=None if method == "GET" else _MAX_ERROR_BYTES,
            ) as reply:
                yield reply
        except WireError as error:
            raise _Refused(f"{method} of an object: {error.reason}", may_pass=True) from error


def _chunks(reply: Reply, skipped: int) -> Iterator[bytes]:
    """The body after its first `skipped` bytes, which a server sends that knows no ranges."""
    try:
        for chunk in reply.chunks:
            if rest := chunk[skipped:]:
                yield rest
            skipped = max(0, skipped - len(chunk))
    except WireError as error:
        raise StorageError(f"GET of an object: {error.reason}") from error


def _check(reply: Reply) -> None:
    if reply.status == 404:
        raise NotFound(NOT_HERE)
    if reply.status not in {200, 206}:
        raise StorageError(f"the download URL of an object answers HTTP {reply.status}")


def _text(answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise StorageError(f"CloudBase's answer about an object lacks {name}")
    return value


def _address(answer: Mapping[str, object], name: str) -> str:
    url = _text(answer, name)
    try:
        parse_target(url)
    except ValueError as error:
        raise StorageError(f"{name} is no address to follow: {error}") from error
    return url


def _signed_until(authorization: str) -> datetime:
    """When a COS signature ends (Tencent COS docs, "Request signature": q-sign-time)."""
    found = re.search(r"(?:^|&)q-sign-time=[0-9]{1,11};([0-9]{1,11})(?:&|$)", authorization)
    if not found:
        raise StorageError("the signature of an upload does not say when it ends")
    return datetime.fromtimestamp(int(found[1]), timezone.utc)


def _tagged(name: str, xml: str) -> str:
    """The text of an element without children, "" without one: COS's errors hold nothing else."""
    found = re.search(f"<{name}>([^<]*)</{name}>", xml)
    return found[1] if found else ""

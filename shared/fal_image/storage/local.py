"""Pictures in a directory of this machine, with signed links that end.

    <directory>/<key>            one file per object
    <directory>/.incoming/…      files being written; whatever a crash leaves there may be deleted

Refuses to know who asks: whoever serves the links lets `verify_link` and `verify_upload` decide.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from ..errors import Misconfigured, NotFound
from ..images import CONTENT_TYPES
from .base import (
    MAX_LINK_S,
    NOT_HERE,
    Link,
    StorageError,
    StoredObject,
    UploadLink,
    check_key,
    key_in,
    known_key,
)

NOT_VALID = "this link is not valid, or not any more"
UPLOAD_HINT = (
    "An upload link takes one body, of the type and length it was made for, until it ends: ask "
    "POST /uploads for a new one."
)

_START = "file:///"
_CHUNK_BYTES = 256 * 1024


class LocalStorage:
    """Objects as files. Safe to share between threads, and a directory between processes."""

    def __init__(
        self,
        directory: Path,
        *,
        prefix: str,
        secrets: Sequence[str],
        public_url: str | None,
        now: Callable[[], datetime],
    ) -> None:
        """The first secret signs, each is accepted. Without a secret or `public_url`, links are
        the files' own `file://` addresses and do not end."""
        self._directory = directory.resolve()
        self._prefix = prefix
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._public_url = public_url
        self._now = now

    def prepare(self) -> None:
        """See ObjectStorage: a disk needs nothing."""

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        """See ObjectStorage. A second name is given to a finished file, so no reader and no crash
        ever meets half of one, and of two writers one is first."""
        try:
            file.seek(0)
            size = self._store(key, _blocks(file), sha256, create_only)
            if size is None:
                return self.head(key)
        except (OSError, NotFound) as error:
            raise StorageError(f"storing {key} failed: {error}") from error
        return StoredObject(key, self.file_id(key), size, sha256, _content_type(key), created=True)

    def receive(self, key: str, chunks: Iterable[bytes]) -> bool:
        """Store what a caller sends to an upload link, at once or not at all.

        False when the key is taken: that object is left untouched. Raises StorageError, and
        whatever `chunks` raise, with nothing stored.
        """
        try:
            return self._store(key, chunks, None, create_only=True) is not None
        except (OSError, NotFound) as error:
            raise StorageError(f"storing {key} failed: {error}") from error

    @contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        with self._opened(key) as file:
            file.seek(start)
            yield _chunks(file, key)

    def head(self, key: str) -> StoredObject:
        """The object's facts; reads all of it, for the file system keeps no SHA-256."""
        digest, size = hashlib.sha256(), 0
        with self.open(key) as chunks:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
        return StoredObject(key, self.file_id(key), size, digest.hexdigest(), _content_type(key))

    def delete(self, key: str) -> None:
        """See ObjectStorage. Directories stay, and who may put may delete: a refusal is a plain
        StorageError."""
        path = self._directory / known_key(key)
        self._check_inside(path)
        try:
            if not path.is_dir():
                path.unlink(missing_ok=True)
        except NotADirectoryError:
            return  # a part of the key is an object, and nothing can stand below it
        except OSError as error:
            raise StorageError(f"deleting {key} failed: {error}") from error

    def link(self, key: str, ttl_s: int) -> Link:
        check_key(key)
        if not self._secrets or not self._public_url:
            return Link((self._directory / key).as_uri(), None)
        url, expires_at = self._signed(key, ttl_s, _to_read(key))
        return Link(url, expires_at)

    def upload_link(self, key: str, *, content_type: str, bytes: int, ttl_s: int) -> UploadLink:
        """See ObjectStorage. Key, type and length are signed; a key that is taken stays as it is.

        Raises Misconfigured without a secret or an address of our own.
        """
        if not self._secrets:
            raise Misconfigured("FAL_IMAGE_SECRET: must be set to sign upload links")
        if not self._public_url:
            raise Misconfigured("FAL_IMAGE_PUBLIC_URL: must be set, for upload links lead there")
        check_key(key)
        url, expires_at = self._signed(key, ttl_s, _to_write(key, content_type, bytes))
        return UploadLink(url, {"content-type": content_type}, expires_at)

    def verify_link(self, key: str, exp: str, sig: str, now_s: float) -> None:
        """Nothing, when `link` made these and its time is not over at `now_s` (Unix time).

        `exp` and `sig` are texts of the query. Raises NotFound, in the same words whether a link
        is forged, damaged or too old, so that trying teaches nothing.
        """
        if not self._is_good(_to_read(known_key(key)), exp, sig, now_s):
            raise NotFound(NOT_VALID, hint="Ask POST /links for a fresh link to the file id.")

    def verify_upload(
        self, key: str, exp: str, sig: str, now_s: float, *, content_type: str, bytes: int
    ) -> None:
        """Nothing, when `upload_link` made these for this type and length; see `verify_link`."""
        if not self._is_good(_to_write(known_key(key), content_type, bytes), exp, sig, now_s):
            raise NotFound(NOT_VALID, hint=UPLOAD_HINT)

    def _signed(self, key: str, ttl_s: int, opens: str) -> tuple[str, datetime]:
        """The address that lets its holder do what `opens` says, and when that ends."""
        expires = int(self._now().timestamp()) + min(ttl_s, MAX_LINK_S)
        signature = _signature(self._secrets[0], opens, expires)
        url = f"{self._public_url}/files/{key}?exp={expires}&sig={signature}"
        return url, datetime.fromtimestamp(expires, timezone.utc)

    def _is_good(self, opens: str, exp: str, sig: str, now_s: float) -> bool:
        expires = int(exp) if re.fullmatch(r"[1-9][0-9]{0,11}", exp) else 0
        offered = sig.encode("utf-8", "replace")
        wanted = [_signature(secret, opens, expires).encode() for secret in self._secrets]
        matches = sum(hmac.compare_digest(one, offered) for one in wanted)  # all, in equal time
        return bool(matches) and expires > now_s

    def file_id(self, key: str) -> str:
        return _START + key

    def key(self, file_id: str) -> str:
        return key_in(file_id, _START, self._prefix)

    def _store(
        self, key: str, chunks: Iterable[bytes], sha256: str | None, create_only: bool
    ) -> int | None:
        """Give the bytes their key once they are whole, and those of `sha256` if it is known.

        Their number, or None when the key is taken.
        """
        target = self._directory / check_key(key)
        incoming, size = self._received(chunks, sha256)
        try:
            self._check_inside(target.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            return size if _name(incoming, target, create_only) else None
        finally:
            incoming.unlink(missing_ok=True)

    def _received(self, chunks: Iterable[bytes], sha256: str | None) -> tuple[Path, int]:
        """A whole copy of the bytes on the disk, under no key yet, and its length."""
        place = self._directory / ".incoming"
        place.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place)
        try:
            digest, size = hashlib.sha256(), 0
            with os.fdopen(handle, "wb") as copy:
                for chunk in chunks:
                    digest.update(chunk)
                    size += copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            if sha256 not in {None, digest.hexdigest()}:
                raise StorageError("the bytes to store are not those of their SHA-256")
        except BaseException:
            os.unlink(name)
            raise
        return Path(name), size

    def _check_inside(self, path: Path) -> None:
        """Raises NotFound where a symbolic link leads out of the directory."""
        if not path.resolve().is_relative_to(self._directory):
            raise NotFound(NOT_HERE)

    @contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO]:
        path = self._directory / known_key(key)
        self._check_inside(path)
        try:
            file = path.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(NOT_HERE) from None
        except OSError as error:
            raise StorageError(f"reading {key} failed: {error}") from error
        with file:
            yield file


def _name(incoming: Path, target: Path, create_only: bool) -> bool:
    """Whether the finished file now stands at `target`; False when another one does."""
    if not create_only:
        os.replace(incoming, target)
        return True
    try:
        os.link(incoming, target)
    except FileExistsError:
        return False
    return True


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_CHUNK_BYTES):
        yield block


def _chunks(file: BinaryIO, key: str) -> Iterator[bytes]:
    try:
        yield from _blocks(file)
    except OSError as error:
        raise StorageError(f"reading {key} failed: {error}") from error


# Pictures as they come, what transforms make of them, and their manifests.
_CONTENT_TYPES = {**CONTENT_TYPES, "avif": "image/avif", "json": "application/json"}


def _content_type(key: str) -> str:
    return _CONTENT_TYPES.get(key.rpartition(".")[2], "application/octet-stream")


def _to_read(key: str) -> str:
    """What a link opens: nothing but this file, and only to read it."""
    return f"GET /files/{key}"


def _to_write(key: str, content_type: str, bytes: int) -> str:
    """What an upload link opens: this key, for a body of this type and length.

    The type is quoted, because a caller's header may hold anything.
    """
    return f"PUT /files/{key} {content_type!r} {bytes}"


def _signature(secret: bytes, opens: str, expires: int) -> str:
    digest = hmac.digest(secret, f"{opens}?exp={expires}".encode("utf-8", "replace"), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

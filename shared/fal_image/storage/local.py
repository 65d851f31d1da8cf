"""Pictures in a directory of this machine, with signed links that end.

    <directory>/<key>            one file per object
    <directory>/.incoming/…      files being written; whatever a crash leaves there may be deleted

Refuses to know who asks: whoever serves the links lets `verify_link` decide.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from ..errors import NotFound
from ..images import CONTENT_TYPES
from .base import MAX_LINK_S, Link, StorageError, StoredObject, check_key, key_in

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

    def put(
        self, key: str, file: BinaryIO, *, content_type: str, sha256: str, create_only: bool = True
    ) -> StoredObject:
        """See ObjectStorage. A second name is given to a finished file, so no reader and no crash
        ever meets half of one, and of two writers one is first."""
        target = self._directory / check_key(key)
        try:
            incoming, size = self._receive(file, sha256)
            try:
                self._check_inside(target.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                created = _name(incoming, target, create_only)
            finally:
                incoming.unlink(missing_ok=True)
            if not created:
                return self.head(key)
        except (OSError, NotFound) as error:
            raise StorageError(f"storing {key} failed: {error}") from error
        return StoredObject(key, self.file_id(key), size, sha256, _content_type(key), created=True)

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

    def link(self, key: str, ttl_s: int) -> Link:
        check_key(key)
        if not self._secrets or not self._public_url:
            return Link((self._directory / key).as_uri(), None)
        expires = int(self._now().timestamp()) + min(ttl_s, MAX_LINK_S)
        signature = _signature(self._secrets[0], key, expires)
        return Link(
            f"{self._public_url}/files/{key}?exp={expires}&sig={signature}",
            datetime.fromtimestamp(expires, timezone.utc),
        )

    def verify_link(self, key: str, exp: str, sig: str, now_s: float) -> None:
        """Nothing, when `link` made these and its time is not over at `now_s` (Unix time).

        `exp` and `sig` are texts of the query. Raises NotFound, in the same words whether a link
        is forged, damaged or too old, so that trying teaches nothing.
        """
        expires = int(exp) if re.fullmatch(r"[1-9][0-9]{0,11}", exp) else 0
        offered = sig.encode("utf-8", "replace")
        wanted = [_signature(secret, _known(key), expires).encode() for secret in self._secrets]
        matches = sum(hmac.compare_digest(one, offered) for one in wanted)  # all, in equal time
        if not matches or expires <= now_s:
            raise NotFound(
                "this link is not valid, or not any more",
                hint="Ask POST /links for a fresh link to the file id.",
            )

    def file_id(self, key: str) -> str:
        return _START + key

    def key(self, file_id: str) -> str:
        key = key_in(file_id, _START)
        if not key.startswith(f"{self._prefix}/"):
            raise NotFound("no such file in this storage")
        return key

    def _receive(self, file: BinaryIO, sha256: str) -> tuple[Path, int]:
        """A whole copy of `file` on the disk, under no key yet, and its length."""
        place = self._directory / ".incoming"
        place.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place)
        try:
            digest, size = hashlib.sha256(), 0
            file.seek(0)
            with os.fdopen(handle, "wb") as copy:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    size += copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            if digest.hexdigest() != sha256:
                raise StorageError("the bytes to store are not those of their SHA-256")
        except BaseException:
            os.unlink(name)
            raise
        return Path(name), size

    def _check_inside(self, path: Path) -> None:
        """Raises NotFound where a symbolic link leads out of the directory."""
        if not path.resolve().is_relative_to(self._directory):
            raise NotFound("no such file in this storage")

    @contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO]:
        path = self._directory / _known(key)
        self._check_inside(path)
        try:
            file = path.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound("no such file in this storage") from None
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


def _known(key: str) -> str:
    """The key itself. Raises NotFound for one that cannot exist."""
    return key_in(key, "")


def _chunks(file: BinaryIO, key: str) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise StorageError(f"reading {key} failed: {error}") from error


def _content_type(key: str) -> str:
    return CONTENT_TYPES.get(key.rpartition(".")[2], "application/octet-stream")


def _signature(secret: bytes, key: str, expires: int) -> str:
    """Over method and path, so that it opens nothing but this file, and only to read it."""
    message = f"GET /files/{key}?exp={expires}".encode()
    digest = hmac.digest(secret, message, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

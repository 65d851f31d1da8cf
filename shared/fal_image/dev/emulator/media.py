"""The files of the CDN: published pictures, which are drawn when fetched, and uploads on disk.

Knows paths, sizes and who may write. Refuses to know HTTP.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .addresses import CDN
from .pictures import Picture

MAX_FILES = 50_000  # the oldest are forgotten
STORE_BYTES = 2 * 1024**3
BLOCK_BYTES = 256 * 1024


class StoreFull(Exception):
    """All uploads together may hold STORE_BYTES."""


@dataclass(frozen=True)
class Upload:
    """A finished upload."""

    file: Path
    content_type: str

    def blocks(self) -> Iterator[bytes]:
        with self.file.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block


@dataclass
class Place:
    """Where an upload may go; `signature` opens it without a token."""

    path: str
    content_type: str
    signature: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    upload_id: str = field(default_factory=lambda: secrets.token_hex(16))
    parts: dict[int, Path] = field(default_factory=dict)


class Media:
    """What lies under https://v3.fal.media, in memory and in one temporary directory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, Picture | Upload] = OrderedDict()
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._kept: dict[str, Path] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._stored_bytes = 0

    def publish(self, picture: Picture) -> str:
        """Give a picture its public URL; it is not drawn yet."""
        path = _new_path(f"{secrets.token_urlsafe(12)}.{picture.format}")
        self._put(path, picture)
        return url_of(path)

    def find(self, path: str) -> Picture | Upload | None:
        with self._lock:
            return self._files.get(path)

    def reserve(self, file_name: str, content_type: str) -> Place:
        """A place for one upload that is to come."""
        name = re.sub(r"[^A-Za-z0-9._-]", "_", file_name)[-100:]
        place = Place(_new_path(f"{secrets.token_urlsafe(8)}_{name}"), content_type)
        with self._lock:
            self._places[place.path] = place
            if len(self._places) > MAX_FILES:
                self._places.popitem(last=False)
        return place

    def place(self, path: str) -> Place | None:
        with self._lock:
            return self._places.get(path)

    def store(self, place: Place, blocks: Iterable[bytes]) -> None:
        """Publish an upload. Raises StoreFull."""
        file, _ = self._write(blocks)
        self._put(place.path, Upload(file, place.content_type))

    def store_part(self, place: Place, number: int, blocks: Iterable[bytes]) -> str:
        """Keep one part of an upload and say its ETag. Raises StoreFull."""
        file, digest = self._write(blocks)
        with self._lock:
            place.parts[number] = file
        return f'"{digest}"'

    def keep(self, body: bytes) -> Path:
        """Put bytes on disk without a URL, equal ones once. Raises StoreFull."""
        digest = hashlib.sha256(body).hexdigest()
        with self._lock:
            known = self._kept.get(digest)
        if known is None:
            known, _ = self._write([body])
            with self._lock:
                self._kept[digest] = known
        return known

    def complete(self, place: Place, numbers: list[int]) -> None:
        """Publish the parts, joined by number. Raises KeyError for a part that never came.

        fal-client uploads in parallel and lists its parts in the order in which they arrived.
        """
        with self._lock:
            parts = [Upload(place.parts[number], place.content_type) for number in sorted(numbers)]
        self.store(place, (block for part in parts for block in part.blocks()))
        for part in parts:
            with self._lock:
                self._stored_bytes -= part.file.stat().st_size
            part.file.unlink()

    def clear(self) -> None:
        """Forget every file and remove the uploads from disk."""
        with self._lock:
            self._files.clear()
            self._places.clear()
            self._kept.clear()
            self._stored_bytes = 0
            directory, self._directory = self._directory, None
        if directory is not None:
            directory.cleanup()

    def _put(self, path: str, content: Picture | Upload) -> None:
        with self._lock:
            self._files[path] = content
            if len(self._files) > MAX_FILES:
                self._files.popitem(last=False)

    def _write(self, blocks: Iterable[bytes]) -> tuple[Path, str]:
        with self._lock:
            if self._directory is None:
                self._directory = tempfile.TemporaryDirectory(prefix="fal-emulator-")
            file = Path(self._directory.name) / secrets.token_hex(16)
        digest = hashlib.md5(usedforsecurity=False)
        with file.open("wb") as stream:
            for block in blocks:
                with self._lock:
                    self._stored_bytes += len(block)
                    if self._stored_bytes > STORE_BYTES:
                        raise StoreFull(f"uploads hold more than {STORE_BYTES} bytes")
                stream.write(block)
                digest.update(block)
        return file, digest.hexdigest()


def url_of(path: str) -> str:
    return f"https://{CDN}/{path}"


def _new_path(name: str) -> str:
    return f"files/b/{secrets.token_hex(4)}/{name}"

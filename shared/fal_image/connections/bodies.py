"""What is sent that is too large to be held."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

_CHUNK_BYTES = 64 * 1024


class FileBody:
    """A whole file as a body of known length, read from its start each time it is sent. An empty
    one is false."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, io.SEEK_END)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            yield chunk

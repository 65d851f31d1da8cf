"""fal's finished picture, fetched whole. Refuses to know what becomes of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import BinaryIO

from msgspec import Struct

from ..errors import AppError, DeadlineExceeded, FetchImageFailed
from ..images import NotAPicture, Picture, inspect
from ..jobs import Source
from ..wire import Clock, Fetched, FetchError, Wire

FETCH_TRIES = 3
FETCH_PAUSE_S = 0.25


class CopyError(Exception):
    """Not every picture could be copied. `may_pass`: copying again could work."""

    def __init__(self, error: AppError, *, may_pass: bool) -> None:
        super().__init__(error.detail)
        self.error = error
        self.may_pass = may_pass


class Fetcher(Struct, frozen=True):
    wire: Wire
    max_image_bytes: int
    clock: Clock
    sleep: Callable[[float], None]

    def fetch(self, source: Source, into: BinaryIO, ends_at: float) -> tuple[Fetched, Picture]:
        """Write the picture into an empty file and say what it is. Raises CopyError."""
        for attempt in range(1, FETCH_TRIES + 1):
            try:
                if source.url.startswith("data:"):
                    fetched = decode_data_uri(source.url, into, self.max_image_bytes)
                else:
                    fetched = self.wire.fetch(
                        source.url, into, max_bytes=self.max_image_bytes, ends_at=ends_at
                    )
                return fetched, inspect(into)
            except NotAPicture as error:
                failure = FetchImageFailed(f"image {source.index} is not whole: {error}")
                raise CopyError(failure, may_pass=False) from error
            except FetchError as error:
                if self.clock() >= ends_at:
                    raise out_of_time() from error
                if attempt == FETCH_TRIES or not error.may_pass:
                    raise _fetch_failed(source, error) from error
            self.sleep(min(FETCH_PAUSE_S * attempt, max(0.0, ends_at - self.clock())))
            into.seek(0)
            into.truncate()
        raise AssertionError("unreachable: the last attempt returns or raises")


def decode_data_uri(uri: str, into: BinaryIO, max_bytes: int) -> Fetched:
    """Write the bytes of a base64 data URI. Raises FetchError."""
    head, comma, text = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise FetchError("the data URI is not base64")
    if len(text) * 3 // 4 - 2 > max_bytes:
        raise FetchError(f"more than the {max_bytes} bytes allowed")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FetchError("the data URI is not base64") from error
    into.write(content)
    return Fetched(len(content), hashlib.sha256(content).hexdigest())


def _fetch_failed(source: Source, error: FetchError) -> CopyError:
    failure = FetchImageFailed(
        f"image {source.index} could not be fetched: {error.reason}", upstreamStatus=error.status
    )
    return CopyError(failure, may_pass=error.may_pass)


def out_of_time() -> CopyError:
    failure = DeadlineExceeded("the time ran out while the pictures were copied")
    return CopyError(failure, may_pass=True)

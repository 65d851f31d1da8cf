"""A file for fal to read, on fal's own CDN: for pictures that fal could not fetch where they are.

The two calls of @fal-ai/client's upload (source, release 1.10.1): fal names an address, and the
bytes go there. Refuses to know whose file it is and which job wants it.
"""

from __future__ import annotations

import json
from typing import BinaryIO

from ..errors import AppError, FalAuthFailed, FalFailed
from ..wire import Answer, WireError
from . import refusals
from .client import Fal

INITIATE_URL = "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"


def hand_over(
    fal: Fal, file: BinaryIO, *, content_type: str, file_name: str, life_s: int, ends_at: float
) -> str:
    """Copy a file to fal's CDN and return its URL, which is public for whoever knows it.

    fal is asked to drop it after `life_s` seconds. The file goes in one piece; fal's clients cut
    it only above 90 MiB. Costs nothing, and repeating it makes another copy. Raises FalFailed
    (retryable), FalAuthFailed.
    """
    if not fal.key:
        raise FalAuthFailed("FAL_KEY is not set")
    try:
        answer = fal.wire.call(
            "POST",
            INITIATE_URL,
            key=fal.key,
            timeout_s=ends_at - fal.clock(),
            headers={
                "content-type": "application/json",
                "x-fal-object-lifecycle": json.dumps({"expiration_duration_seconds": life_s}),
            },
            body=json.dumps({"content_type": content_type, "file_name": file_name}).encode(),
        )
        upload_url, file_url = _place(answer)
        status = fal.wire.hand_over(
            upload_url, file, content_type=content_type, timeout_s=ends_at - fal.clock()
        )
    except WireError as error:
        raise _not_taken(f"fal could not be reached ({error.reason})") from error
    except ValueError as error:
        raise _not_taken(f"fal named an address that is not its own ({error})") from error
    if not 200 <= status < 300:
        raise _not_taken(f"HTTP {status}").adding(upstreamStatus=status)
    return file_url


def _place(answer: Answer) -> tuple[str, str]:
    """Where fal wants the bytes, and where they can be read from then on."""
    if answer.status in {401, 403}:
        refusal = refusals.read(answer.status, answer.headers, answer.body)
        raise refusals.explain(refusal, "", request_id=None)
    place = refusals.parse_json(answer.body)
    if 200 <= answer.status < 300 and isinstance(place, dict):
        upload_url, file_url = place.get("upload_url"), place.get("file_url")
        if isinstance(upload_url, str) and isinstance(file_url, str):
            return upload_url, file_url
    raise _not_taken(f"HTTP {answer.status}").adding(upstreamStatus=answer.status)


def _not_taken(why: str) -> AppError:
    return FalFailed(
        f"fal did not take an input picture: {why}",
        hint="Nothing was paid: no job was sent to fal. Try again in a moment.",
        retryable=True,
    )

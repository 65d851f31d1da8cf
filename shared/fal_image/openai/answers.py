"""What OpenAI's clients are told: pictures and errors in the shapes that they read.

They repeat a request by themselves after some statuses (408, 409, 429 and all from 500 on, and so
do those of others for the same dialect), so an error of a job that fal may have taken has none of
these.
Refuses to know how a job was made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..errors import (
    AppError,
    DatabaseUnavailable,
    FalFailed,
    FalRejected,
    Internal,
    InvalidInput,
    MissingPrompt,
    ModelNotAllowed,
    RateLimited,
)
from ..inputs import field_error
from ..jobs import Image, Job, JobWarning
from ..treatment import Transforms
from ..web import Response, json_response

NOT_KEPT = ("cache-control", "no-store")
DO_NOT_REPEAT = ("x-should-retry", "false")  # what OpenAI's clients read before the status

# Failed Dependency (RFC 4918, 11.4): fal was asked, and no client repeats it.
FAL_WAS_ASKED = 424

# What may pass by itself.
_PASSING = (RateLimited, DatabaseUnavailable, FalFailed, Internal)

_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}

HEADERS_BYTES = 16 * 1024  # of a whole reply, around its body

# Bytes for each pixel that pictures hardly ever stay below, by their format.
_LEAST_BYTES = {"png": 0.5}
_LEAST_BYTES_ELSE = 0.04


def refusal(error: AppError, request_id: str) -> Response:
    """An error as OpenAI tells them; what else is known of it stands beside its four members."""
    members = {
        "message": _message(error),
        "type": _type(status_of(error)),
        "param": _param(error),
        "code": error.code,
        **error.extensions,
        "hint": error.hint,
        "requestId": request_id,
        "retryable": error.retryable,
    }
    headers = [NOT_KEPT, *error.headers]
    if not _may_pass(error):
        headers.append(DO_NOT_REPEAT)
    return json_response(status_of(error), {"error": members}, *headers)


def status_of(error: AppError) -> int:
    """The error's own status, unless clients would repeat what may have been paid."""
    is_repeated = error.status in (408, 409, 429) or error.status >= 500
    return FAL_WAS_ASKED if is_repeated and _was_asked(error) else error.status


def _was_asked(error: AppError) -> bool:
    """Whether fal may have the job, also one that it said it bills nothing for."""
    return not error.retryable or error.extensions.get("falRequestId") is not None


def _message(error: AppError) -> str:
    """Most clients show nothing else, so the way out belongs to it."""
    hint = error.hint
    if not hint or (isinstance(error, InvalidInput) and hint == error.default_hint):
        return error.detail
    return f"{error.detail}. {hint}"


def _may_pass(error: AppError) -> bool:
    """Whether the same request may get another answer by itself, and fal has nothing of it."""
    upstream = error.extensions.get("upstreamStatus")
    is_final = isinstance(upstream, int) and 400 <= upstream < 500 and upstream != 429
    return isinstance(error, _PASSING) and not _was_asked(error) and not is_final


def _type(status: int) -> str:
    fallback = (
        "server_error" if status >= 500 or status == FAL_WAS_ASKED else "invalid_request_error"
    )
    return _TYPES.get(status, fallback)


def _param(error: AppError) -> str | None:
    """The field that is wrong; the body as a whole is none."""
    if isinstance(error, MissingPrompt):
        return "prompt"
    if isinstance(error, ModelNotAllowed):
        return "model"
    if isinstance(error, FalRejected):
        return _param_of_fal(error.extensions.get("falErrors"))
    fields = error.extensions.get("fields")
    name = str(fields[0]["field"]) if isinstance(fields, list) and fields else "body"
    return None if name == "body" else name


def _param_of_fal(errors: object) -> str | None:
    """Where fal found the first thing wrong, in its own `loc`."""
    first = errors[0] if isinstance(errors, list) and errors else None
    place = first.get("loc") if isinstance(first, dict) else None
    if not isinstance(place, list) or len(place) < 2 or place[0] != "body":
        return None
    return ".".join(str(part) for part in place[1:])


def refuse_too_large(
    pictures: int,
    size_px: tuple[int, int] | None,
    format: str,
    transforms: Transforms | None,
    answer_bytes: int | None,
) -> None:
    """Raises InvalidInput, before money, for pictures that can hardly stand in an answer."""
    if answer_bytes is None or size_px is None:
        return
    if transforms is not None and (transforms.crop or transforms.resize):
        return
    width, height = size_px
    least = pictures * width * height * _LEAST_BYTES.get(format, _LEAST_BYTES_ELSE) * 4 / 3
    if least <= answer_bytes - HEADERS_BYTES:
        return
    raise field_error(
        "response_format",
        f"must be url here: an answer has room for {answer_bytes / 1e6:g} MB, and {pictures} such "
        f"{format} of {width} x {height} need more",
    )


def told(job: Job, request_id: str, *, inline: Sequence[str | None] | None = None) -> Response:
    """A finished job; `inline` are its pictures in base64 where they are wanted so."""
    body = _members(job, request_id)
    if inline is not None:
        body["data"] = [{"b64_json": text} for text in inline]
    timing = ", ".join(f"{stage};dur={ms}" for stage, ms in job.timings_ms.items())
    timings = (("server-timing", timing),) if timing else ()
    return json_response(200, body, NOT_KEPT, *timings)


def room_for(job: Job, request_id: str, answer_bytes: int) -> int:
    """How many characters of base64 an answer that tells of the job can still hold."""
    text = json.dumps(_members(job, request_id), ensure_ascii=False)
    # The reply is JSON again, with the body as one of its strings.
    return answer_bytes - HEADERS_BYTES - len(json.dumps(text)) - 20 * len(job.images)


def base64_chars(images: Sequence[Image]) -> int:
    return sum(-(-image.bytes // 3) * 4 for image in images if not image.withheld)


def too_large(chars: int, room: int) -> JobWarning:
    return JobWarning(
        "b64_too_large",
        f"The pictures need {chars} characters in base64, and the answer has room for {room}: "
        "they are told by url.",
    )


def _members(job: Job, request_id: str) -> dict[str, object]:
    """OpenAI's members, and ours in one of its own: the job as GET /jobs/ID shows it."""
    body: dict[str, object] = {
        "created": int(job.created_at.timestamp()),
        "data": [{"url": image.url} for image in job.images],
    }
    if job.images:
        first = job.images[0]
        body["size"] = f"{first.width}x{first.height}"
        body["output_format"] = first.content_type.partition("/")[2]
    return body | {"job": job.to_json(request_id)}

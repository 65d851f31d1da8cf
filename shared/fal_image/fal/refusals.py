"""What fal's refusals mean for the caller: fal's status, headers and body in, one error out.

fal speaks in two shapes: `detail` as a list (the model refused its input) and as a string (the
platform refused or failed). Source: fal docs, "Model errors" and "Request errors".
"""

from __future__ import annotations

import json
import math
import re

from msgspec import Struct

from ..errors import AppError, FalAuthFailed, FalFailed, FalRejected
from ..logs import logger, redact
from ..web import Headers
from . import catalog

MAX_MESSAGE_CHARS = 500
FORGOTTEN_STATUS = 404

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Refusal(Struct, frozen=True):
    """An answer of fal that says no. `detail` is None if the body is not one of fal's shapes."""

    status: int
    headers: Headers
    detail: object
    error_type: str | None

    @property
    def is_fals_own(self) -> bool:
        """Whether fal itself spoke, not a gateway on the way that knows nothing of the job."""
        return self.detail is not None or "x-fal-request-id" in self.headers

    @property
    def billed_nothing(self) -> bool:
        """fal never charges its own failures (5xx), and says so of most refused inputs."""
        return self.status >= 500 or self.headers.get("x-fal-billable-units") in {"0", "0.0"}


def read(status: int, headers: Headers, body: bytes) -> Refusal:
    payload = parse_json(body)
    detail, error_type = None, headers.get("x-fal-error-type")
    if isinstance(payload, dict):
        detail = payload.get("detail")
        stated = payload.get("error_type")
        error_type = stated if isinstance(stated, str) else error_type
    return Refusal(status, headers, detail, error_type)


def explain(refusal: Refusal, model: str, *, request_id: str | None) -> AppError:
    """The error for a refusal: of the submit when `request_id` is None, else of the result."""
    facts: dict[str, object] = {"upstreamStatus": refusal.status}
    if request_id is not None:
        facts["falRequestId"] = request_id
    if refusal.error_type:
        facts["falErrorType"] = refusal.error_type
    retryable = request_id is None or refusal.billed_nothing
    if refusal.status in {401, 403}:
        return _refused_key(refusal, facts, retryable)
    if refusal.status == 422 and isinstance(refusal.detail, list):
        return FalRejected(
            f"fal refused the input: {_words(refusal.detail)}",
            retryable=retryable,
            falErrors=refusal.detail,
        ).adding(**facts)
    if isinstance(refusal.detail, str):
        facts["falMessage"] = _words(refusal.detail)
    return FalFailed(
        f"fal answered HTTP {refusal.status}: {_words(refusal.detail)}",
        hint=_model_hint(model) if refusal.status == 404 and request_id is None else None,
        retryable=retryable,
    ).adding(**facts)


def forgotten(request_id: str) -> FalFailed:
    """The error for a request that fal does not know any more: its result is lost, and may have
    been billed."""
    return FalFailed(
        "fal does not know this request any more, so its result is lost",
        hint="fal keeps a result for an hour, a large one for 6 minutes. See that sweeps run every "
        "minute and that fal can reach FAL_IMAGE_PUBLIC_URL.",
        falRequestId=request_id,
        upstreamStatus=FORGOTTEN_STATUS,
    )


def is_forgotten(status: int, body: bytes) -> bool:
    """Whether fal says that it knows no such request (fal docs, queue: NOT_FOUND)."""
    payload = parse_json(body)
    is_missing = isinstance(payload, dict) and payload.get("status") == "NOT_FOUND"
    return status == FORGOTTEN_STATUS and is_missing


def parse_json(body: bytes) -> object:
    """The JSON value of a body, None for anything else. It can be written as JSON again: half of a
    surrogate pair, and numbers that JSON has not, are replaced."""
    try:
        value = json.loads(body, parse_constant=lambda name: None, parse_float=_finite)
        if _SURROGATE.search(body):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        return value
    except (ValueError, RecursionError):
        return None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _refused_key(refusal: Refusal, facts: dict[str, object], retryable: bool) -> AppError:
    # fal's own words tell of the owner's account: they are for the log only.
    logger.error("fal refused the key: %s", _words(refusal.detail))
    locked = refusal.status == 403 and "balance" in _words(refusal.detail).lower()
    return FalAuthFailed(
        f"fal refused the owner's key (HTTP {refusal.status})",
        hint="The fal account has no balance left: the owner tops it up at "
        "fal.ai/dashboard/billing."
        if locked
        else None,
        retryable=retryable,
    ).adding(**facts)


def _model_hint(model: str) -> str:
    nearest = catalog.nearest(model)
    advice = f"Did you mean {nearest}?" if nearest and nearest != model else "See GET /models."
    return f"fal does not know the model {model}; model ids are parts joined by slashes. {advice}"


def _words(detail: object) -> str:
    if isinstance(detail, list):
        parts = [item.get("msg") for item in detail if isinstance(item, dict)]
        text = "; ".join(str(part) for part in parts if part)
    else:
        text = detail if isinstance(detail, str) else ""
    return redact(text[:MAX_MESSAGE_CHARS]) or "no reason given"

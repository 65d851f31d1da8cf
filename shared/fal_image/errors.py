"""Everything that can go wrong, as data: one class per stable code.

An error is raised at the place that knows and mapped to an answer once, in `app`.
This module knows nothing of HTTP, fal or storage beyond the numbers an answer carries.
`docs/errors.md` is generated from these classes.

    AppError
    ├─ 4xx  the caller can mend it (InvalidJson … RateLimited)
    └─ 5xx  the owner, fal or the platform must mend it (Misconfigured … JwksUnavailable)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, TypeVar

E = TypeVar("E", bound="AppError")


class AppError(Exception):
    """An answer in the shape of a problem: what went wrong, and how to mend it.

    `detail` is prose for this occurrence; it must not carry secrets or vendor internals.
    `extensions` are extra members of the answer, camelCase as they go out. `headers` go onto
    the HTTP answer. `retryable` means: sending the same body again cannot pay twice.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    default_hint: ClassVar[str | None] = None
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        retryable: bool | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        **extensions: object,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint or self.default_hint
        self.retryable = self.default_retryable if retryable is None else retryable
        self.headers = headers
        self.extensions = extensions

    def adding(self: E, **extensions: object) -> E:
        """This error with more members; those it already has stay as they are."""
        self.extensions = extensions | self.extensions
        return self


class InvalidJson(AppError):
    status, code, title = 400, "invalid_json", "The request body is not a JSON object"
    default_retryable = True
    default_hint = 'Send one JSON object in UTF-8, for example {"prompt": "a calico cat"}.'


class MissingPrompt(AppError):
    status, code, title = 400, "missing_prompt", "The request has no prompt"
    default_retryable = True
    default_hint = 'Add "prompt": a string that is not blank.'


class InvalidInput(AppError):
    """Carries `fields`: a list of `{field, message}`."""

    status, code, title = 400, "invalid_input", "A field of the request is not valid"
    default_retryable = True
    default_hint = "Correct the fields named in `fields` and send the request again."


class Unauthorized(AppError):
    status, code, title = 401, "unauthorized", "The caller is not known"
    default_retryable = True
    default_hint = "Send your API key of this endpoint as `Authorization: Bearer KEY`."


class BudgetExceeded(AppError):
    """Carries `remainingUsd` (of a ticket's pictures or uses: `remaining`) and `resetsAt`, null for
    what does not come back."""

    status, code, title = 402, "budget_exceeded", "The budget does not allow this request"
    default_retryable = True
    default_hint = (
        "Wait until `resetsAt`, ask for less, get another ticket, or let the owner raise the "
        "budget."
    )


class ModelNotAllowed(AppError):
    status, code, title = 403, "model_not_allowed", "The model is not allowed here"
    default_retryable = True
    default_hint = "Choose a model that GET /models allows, or let the owner set FAL_IMAGE_MODELS."


class TokenRefused(AppError):
    status, code, title = 403, "token_refused", "fal's tokens are not handed out for this"
    default_retryable = True
    default_hint = (
        "A token of fal opens every model of an app and spends uncounted: ask for apps that "
        "FAL_IMAGE_MODELS allows as a whole, on an endpoint without a budget."
    )


class NotFound(AppError):
    status, code, title = 404, "not_found", "There is nothing here"
    default_retryable = True
    default_hint = "Check the path and the ids; ids of other callers look missing too."


class MethodNotAllowed(AppError):
    status, code, title = 405, "method_not_allowed", "The route does not take this method"
    default_retryable = True
    default_hint = "Use a method named in the Allow header."


class JobFinished(AppError):
    status, code, title = 409, "job_finished", "The job is past cancelling"
    default_retryable = True
    default_hint = "Read the job: its result is there or on its way."


class TargetRefused(AppError):
    status, code, title = 412, "target_refused", "The proxy does not lead there"
    default_retryable = True
    default_hint = (
        "Name an address of fal as its clients do: https://queue.fal.run/MODEL, "
        "https://fal.run/MODEL, or the uploads and tokens of https://rest.fal.ai."
    )


class BodyTooLarge(AppError):
    status, code, title = 413, "body_too_large", "The request body is too large"
    default_retryable = True
    default_hint = "Send pictures as URLs, not as base64 in the body."


class UriTooLong(AppError):
    status, code, title = 414, "uri_too_long", "The address of the request is too long"
    default_retryable = True
    default_hint = "Put into the body what is now in the path or the query."


class UnsupportedMediaType(AppError):
    status, code, title = 415, "unsupported_media_type", "The request body is not JSON"
    default_retryable = True
    default_hint = "Send `Content-Type: application/json`."


class IdempotencyConflict(AppError):
    status, code, title = 422, "idempotency_conflict", "The Idempotency-Key was used before"
    default_hint = "Use a new Idempotency-Key for a different request."


class FalRejected(AppError):
    """Carries `falErrors`: fal's own `detail` list."""

    status, code, title = 422, "fal_rejected", "fal refused the input"
    default_hint = "Correct what `falErrors` names and send the request again."


class RateLimited(AppError):
    status, code, title = 429, "rate_limited", "Too many requests"
    default_retryable = True
    default_hint = "Wait as long as Retry-After says."


class HeadersTooLarge(AppError):
    status, code, title = 431, "headers_too_large", "The request's headers are too large"
    default_retryable = True
    default_hint = "Send fewer and shorter headers; cookies are not needed here."


class Misconfigured(AppError):
    status, code, title = 500, "misconfigured", "The endpoint is not configured correctly"
    default_retryable = True
    default_hint = "The owner must correct the settings that are named and deploy them again."


class UploadFailed(AppError):
    """Carries `falRequestId` and `sourceUrls`: the pictures are paid and still at fal."""

    status, code, title = 500, "upload_failed", "The picture could not be stored"
    default_hint = (
        "The picture is paid: fetch it from `sourceUrls` soon, before fal drops it. The owner "
        "should check FAL_IMAGE_STORAGE_URL, the bucket and the function's right to write there. "
        "Storage keys hold only letters, digits, '-', '_', '/' and '.': a prefix with '..', a "
        "leading '/' or other characters is refused. Out of memory: give the function 512 MB."
    )


class DeadlineExceeded(AppError):
    """Carries `falRequestId` and, if fal had finished, `sourceUrls`."""

    status, code, title = 500, "deadline_exceeded", "The time for this answer ran out"
    default_hint = (
        "Raise the function's time-out (60 s for schnell, 120-300 s for pro and kontext; the "
        "platform's default of 3 s is too short), or set FAL_IMAGE_DATABASE_URL so that "
        "slow jobs go on after the answer. Sending the request again pays again."
    )


class SubmitUnknown(AppError):
    status, code, title = 500, "submit_unknown", "Whether fal took the job is not known"
    default_hint = (
        "fal may have taken and billed this job, so it was not sent again. Look at "
        "fal.ai/dashboard/requests before you repeat it; a database and a public URL let "
        "such jobs be found again by themselves."
    )


class Internal(AppError):
    status, code, title = 500, "internal", "Something broke inside"
    default_hint = "Look for the request id in the function's log."


class DatabaseRequired(AppError):
    status, code, title = 501, "database_required", "This needs a database"
    default_retryable = True
    default_hint = "The owner must set FAL_IMAGE_DATABASE_URL; without it, leave this out."


class FalFailed(AppError):
    """Carries `upstreamStatus`, `falErrorType`, `falMessage` and `falRequestId` as far as they are
    known."""

    status, code, title = 502, "fal_failed", "fal did not make the picture"
    default_hint = "Look at fal's message; status.fal.ai tells of outages."


class FalAuthFailed(AppError):
    status, code, title = 502, "fal_auth_failed", "fal does not accept the owner's key"
    default_retryable = True
    default_hint = (
        "FAL_KEY is missing, wrong or revoked. The owner must set the environment variable "
        "FAL_KEY to a key from fal.ai/dashboard/keys and deploy it again."
    )


class JobTimeout(AppError):
    """Carries `falRequestId`."""

    status, code, title = 502, "job_timeout", "fal did not finish the job"
    default_hint = (
        "fal was asked to cancel it after an hour. Should its picture arrive after all, the job "
        "becomes done; look at the job again before you repeat it."
    )


class NoImageReturned(AppError):
    """Carries `falRequestId`."""

    status, code, title = 502, "no_image_returned", "fal finished without a picture"
    default_hint = "Try another prompt or seed; fal bills some empty answers."


class FetchImageFailed(AppError):
    """Carries `upstreamStatus`, `falRequestId` and `sourceUrls`."""

    status, code, title = 502, "fetch_image_failed", "The picture could not be fetched from fal"
    default_hint = "The picture is paid: fetch it from `sourceUrls` soon, before fal drops it."


class RunTimeout(AppError):
    """Carries `jobId` and `falRequestId`."""

    status, code, title = 504, "run_timeout", "fal is still at work"
    default_retryable = True
    default_hint = (
        "The job goes on: send the same body again within 10 minutes and it is waited for, not "
        "paid again. `queue` or `subscribe` of fal's clients need no such second try."
    )


class DatabaseUnavailable(AppError):
    status, code, title = 503, "database_unavailable", "The database does not answer"
    default_retryable = True
    default_hint = "Nothing was sent to fal. Try again in a moment."


class JwksUnavailable(AppError):
    status, code, title = 503, "jwks_unavailable", "fal's signing keys cannot be read"
    default_retryable = True
    default_hint = "fal delivers the webhook again by itself."


def recalled(
    code: str,
    detail: str,
    *,
    hint: str | None,
    retryable: bool,
    extensions: dict[str, object],
) -> AppError:
    """The error of that code as it was raised once; what an older version kept under a code that
    is gone is `internal`."""
    kind = next((kind for kind in AppError.__subclasses__() if kind.code == code), Internal)
    return kind(detail, hint=hint, retryable=retryable).adding(**extensions)


def catalog() -> Iterator[type[AppError]]:
    """Every error class, in the order of the status codes."""
    yield from sorted(AppError.__subclasses__(), key=lambda kind: kind.status)

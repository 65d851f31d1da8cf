"""What each route is for, what it takes and what it answers: data, one entry for a route.

Who may use a route is the route's own word, and which errors all routes share `document` knows.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from .. import errors
from ..errors import AppError
from ..uploads import EXTENSIONS
from .parts import Dialect
from .schemas import Schema, ref

JSON, HTML = "application/json", "text/html; charset=utf-8"
FORM, EVENTS = "multipart/form-data", "text/event-stream"

Errors = tuple[type[AppError], ...]


class Reply(Struct, frozen=True):
    """An answer that is no error: its content by media type, and its headers."""

    description: str
    content: Mapping[str, Schema] = {}
    headers: tuple[str, ...] = ()


class Operation(Struct, frozen=True):
    """`takes` is the body by media type. `told_at` names a field with an address that we call, and
    what it is sent."""

    id: str
    tag: str
    summary: str
    replies: Mapping[str, Reply]
    description: str = ""
    takes: Mapping[str, Schema] = {}
    needs_body: bool = True
    parameters: tuple[str, ...] = ()
    errors: Errors = ()
    dialect: Dialect = "problem"
    tells: str | None = None


def _json(name: str) -> dict[str, Schema]:
    return {JSON: ref(name)}


_BODY: Errors = (errors.InvalidJson, errors.InvalidInput, errors.UnsupportedMediaType)
_KEPT: Errors = (errors.NotFound, errors.DatabaseRequired, errors.DatabaseUnavailable)
_PAYS: Errors = (
    errors.BudgetExceeded,
    errors.RateLimited,
    errors.DatabaseRequired,
    errors.DatabaseUnavailable,
)
_INTENT: Errors = (errors.IdempotencyConflict, errors.DatabaseRequired, errors.DatabaseUnavailable)
_ORDER: Errors = (errors.MissingPrompt, errors.ModelNotAllowed, errors.FalRejected)
_ENDS: Errors = (
    errors.DeadlineExceeded,
    errors.FalAuthFailed,
    errors.FalFailed,
    errors.FalRejected,
    errors.FetchImageFailed,
    errors.JobTimeout,
    errors.NoImageReturned,
    errors.SubmitUnknown,
    errors.UploadFailed,
)

_RATES = ("RateLimit", "RateLimit-Policy")
_OPEN_JOB = Reply("The job goes on.", _json("Job"), ("Retry-After",))
_STARTED = Reply(
    "The job goes on, or whether fal took it is not known yet: ask after it at `Location`.",
    _json("Job"),
    ("Location", "Retry-After", "Server-Timing", "Preference-Applied", *_RATES),
)
_DONE = Reply(
    "The job is done, with links to its pictures.",
    _json("Job"),
    ("Server-Timing", "Preference-Applied", *_RATES),
)

_GENERATE = Operation(
    id="generate",
    tag="jobs",
    summary="Make pictures",
    description="Checks the request, pays fal, stores the pictures and answers with their links. "
    "What takes longer than an answer may goes on, if the owner has a database.",
    takes=_json("GenerateRequest"),
    replies={"200": _DONE, "202": _STARTED},
    parameters=("IdempotencyKey", "Prefer"),
    errors=(*_BODY, *_ORDER, *_PAYS, *_INTENT, *_ENDS, errors.NotFound),
    tells="Job",
)

_BATCH_OVER = Reply("The batch is over.", _json("Batch"))
_BATCH_ON = Reply(
    "The batch goes on: ask after it at `Location`.", _json("Batch"), ("Location", "Retry-After")
)

_FILE_TYPES = {content_type: Schema() for content_type in EXTENSIONS}

_FAL: Mapping[str, Reply] = {
    "200": Reply(
        "fal's answer, or ours in fal's shape.",
        {JSON: {}, EVENTS: {"contentMediaType": EVENTS}, "*/*": {}},
        _RATES,
    ),
    "default": Reply("fal's own answer, whatever it is.", {JSON: {}, "*/*": {}}),
}
_FAL_ERRORS: Errors = (
    *_BODY,
    *_ORDER,
    *_PAYS,
    *_INTENT,
    errors.DeadlineExceeded,
    errors.FalAuthFailed,
    errors.FalFailed,
    errors.JobTimeout,
    errors.MethodNotAllowed,
    errors.NotFound,
    errors.RunTimeout,
    errors.SubmitUnknown,
    errors.TargetRefused,
    errors.TokenRefused,
    errors.UploadFailed,
    errors.NoImageReturned,
    errors.FetchImageFailed,
)


def _at_fal(method: str, id: str, what: str, *parameters: str) -> Operation:
    sends = method == "POST"
    return Operation(
        id=id,
        tag="fal",
        summary=what,
        takes=_json("FalInput") if sends else {},
        replies=_FAL,
        parameters=(*parameters, "IdempotencyKey") if sends else parameters,
        errors=_FAL_ERRORS,
        dialect="fal",
    )


_IMAGES: Mapping[str, Reply] = {
    "200": Reply(
        "The pictures, by their links or in base64.", _json("Images"), ("Server-Timing", *_RATES)
    )
}
_OPENAI_ERRORS: Errors = (*_BODY, *_ORDER, *_PAYS, *_INTENT, *_ENDS, errors.NotFound)

_PROXY, _PROXY_PATH = "/api/fal/proxy", "/api/fal/proxy/{host}/{path*}"

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/"): replace(_GENERATE, id="generateAtRoot"),
    ("POST", "/generate"): _GENERATE,
    ("GET", "/jobs/{id}"): Operation(
        id="getJob",
        tag="jobs",
        summary="A job as it is now",
        description="Asking also drives the job on, and signs fresh links.",
        replies={"200": Reply("The job.", _json("Job"), ("Retry-After",))},
        parameters=("JobId",),
        errors=_KEPT,
    ),
    ("DELETE", "/jobs/{id}"): Operation(
        id="cancelJob",
        tag="jobs",
        summary="Cancel a job",
        description="fal is asked to drop it; what becomes of the job is for fal to say.",
        replies={"200": Reply("The job is over.", _json("Job")), "202": _OPEN_JOB},
        parameters=("JobId",),
        errors=(*_KEPT, errors.JobFinished),
    ),
    ("GET", "/jobs/{id}/events"): Operation(
        id="followJob",
        tag="jobs",
        summary="A job as it goes on",
        description="Server-sent events `queued`, `progress`, `image`, `done` and `error`. Where "
        "answers are buffered, one look at the job.",
        replies={"200": Reply("The events.", {EVENTS: {"contentMediaType": EVENTS}})},
        parameters=("JobId",),
        errors=_KEPT,
    ),
    ("POST", "/batches"): Operation(
        id="startBatch",
        tag="batches",
        summary="Begin many jobs",
        takes=_json("BatchRequest"),
        replies={"200": _BATCH_OVER, "202": _BATCH_ON},
        parameters=("IdempotencyKey",),
        errors=(*_BODY, *_INTENT, *_PAYS, errors.NotFound),
        tells="Batch",
    ),
    ("GET", "/batches/{id}"): Operation(
        id="getBatch",
        tag="batches",
        summary="A batch as it is now",
        replies={
            "200": Reply(
                "The batch; `Location` while it goes on.", _json("Batch"), ("Retry-After",)
            )
        },
        parameters=("BatchId",),
        errors=_KEPT,
    ),
    ("DELETE", "/batches/{id}"): Operation(
        id="stopBatch",
        tag="batches",
        summary="Start no more rows",
        description="What is at fal is finished, and the rest can be continued.",
        replies={"200": _BATCH_OVER, "202": _BATCH_ON},
        parameters=("BatchId",),
        errors=_KEPT,
    ),
    ("POST", "/batches/{id}/continue"): Operation(
        id="continueBatch",
        tag="batches",
        summary="Go on with a batch that was stopped",
        replies={"200": _BATCH_OVER, "202": _BATCH_ON},
        parameters=("BatchId",),
        errors=(*_KEPT, errors.RateLimited),
    ),
    ("POST", "/links"): Operation(
        id="renewLinks",
        tag="files",
        summary="Fresh links to stored pictures",
        takes=_json("LinksRequest"),
        replies={"200": Reply("The links.", _json("Links"))},
        errors=(*_BODY, errors.NotFound, errors.DatabaseUnavailable),
    ),
    ("POST", "/uploads"): Operation(
        id="offerUpload",
        tag="files",
        summary="A link to put an input picture",
        takes=_json("UploadRequest"),
        replies={"200": Reply("Where to put it, and its file id.", _json("Upload"))},
        errors=_BODY,
    ),
    ("GET", "/files/{key*}"): Operation(
        id="readFile",
        tag="files",
        summary="A file of local storage",
        replies={"200": Reply("The file.", _FILE_TYPES)},
        parameters=("FileKey", "Exp", "Sig"),
        errors=(errors.NotFound,),
    ),
    ("PUT", "/files/{key*}"): Operation(
        id="putFile",
        tag="files",
        summary="Put a file into local storage",
        takes=_FILE_TYPES,
        replies={"200": Reply("It is there.")},
        parameters=("FileKey", "Exp", "Sig"),
        errors=(errors.NotFound,),
    ),
    ("GET", _PROXY): _at_fal("GET", "readAtFal", "A GET at fal", "TargetUrl"),
    ("POST", _PROXY): _at_fal("POST", "sendToFal", "A POST at fal", "TargetUrl"),
    ("PUT", _PROXY): _at_fal("PUT", "cancelAtFal", "A PUT at fal", "TargetUrl"),
    ("GET", _PROXY_PATH): _at_fal(
        "GET", "readAtFalPath", "A GET at fal, by its path", "FalHost", "FalPath"
    ),
    ("POST", _PROXY_PATH): _at_fal(
        "POST", "sendToFalPath", "A POST at fal, by its path", "FalHost", "FalPath"
    ),
    ("PUT", _PROXY_PATH): _at_fal(
        "PUT", "cancelAtFalPath", "A PUT at fal, by its path", "FalHost", "FalPath"
    ),
    ("POST", "/v1/images/generations"): Operation(
        id="openaiGenerate",
        tag="openai",
        summary="Make pictures, as OpenAI's clients ask for it",
        takes=_json("ImagesGenerateRequest"),
        replies=_IMAGES,
        parameters=("IdempotencyKey",),
        errors=_OPENAI_ERRORS,
        dialect="openai",
    ),
    ("POST", "/v1/images/edits"): Operation(
        id="openaiEdit",
        tag="openai",
        summary="Change pictures, as OpenAI's clients ask for it",
        takes={FORM: ref("ImagesEditForm"), JSON: ref("ImagesEditRequest")},
        replies=_IMAGES,
        parameters=("IdempotencyKey",),
        errors=_OPENAI_ERRORS,
        dialect="openai",
    ),
    ("GET", "/v1/models"): Operation(
        id="openaiModels",
        tag="openai",
        summary="The models, as OpenAI's clients ask for them",
        replies={"200": Reply("The models.", _json("OpenAIModels"))},
        dialect="openai",
    ),
    ("POST", "/tickets"): Operation(
        id="mintTicket",
        tag="tickets",
        summary="A credential for a browser",
        takes=_json("TicketRequest"),
        needs_body=False,
        replies={"200": Reply("The ticket.", _json("Ticket"))},
        errors=(*_BODY, errors.DatabaseRequired),
    ),
    ("POST", "/estimate"): Operation(
        id="estimate",
        tag="models",
        summary="What a request would cost",
        takes=_json("GenerateRequest"),
        replies={"200": Reply("The estimate.", _json("Estimate"))},
        errors=(*_BODY, *_ORDER),
    ),
    ("GET", "/models"): Operation(
        id="listModels",
        tag="models",
        summary="The models that are allowed",
        replies={"200": Reply("The models.", _json("Models"))},
    ),
    ("POST", "/webhooks/fal/{job}/{token}"): Operation(
        id="hearFal",
        tag="fal",
        summary="fal tells what became of a request",
        description="For fal alone: the address is made for one job, and fal signs what it sends.",
        takes=_json("FalWebhook"),
        needs_body=False,
        replies={"200": Reply("It is kept.", _json("Heard"))},
        parameters=(
            "WebhookJob",
            "WebhookToken",
            "FalWebhookRequestId",
            "FalWebhookUserId",
            "FalWebhookTimestamp",
            "FalWebhookSignature",
        ),
        errors=(*_KEPT, errors.Unauthorized, errors.JwksUnavailable),
    ),
    ("GET", "/"): Operation(
        id="page",
        tag="service",
        summary="The web page",
        replies={"200": Reply("One file, with all that it needs.", {HTML: {"type": "string"}})},
    ),
    ("GET", "/health"): Operation(
        id="health",
        tag="service",
        summary="Whether the endpoint is alive",
        replies={"200": Reply("It is.", _json("Health"))},
    ),
    ("GET", "/openapi.json"): Operation(
        id="document",
        tag="service",
        summary="This document",
        replies={
            "200": Reply(
                "The document.",
                {JSON: {"type": "object", "required": ["openapi", "info", "paths"]}},
            )
        },
    ),
}

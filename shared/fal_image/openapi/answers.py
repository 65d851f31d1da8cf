"""The JSON of our answers, as types that only describe it: the names are those that go out.

A member without a default is always there, and there are no others. Tests hold real answers against
these types. Refuses to know how an answer is made.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ..batches.documents import State as BatchState
from ..fal.catalog import Model
from ..jobs.values import State as JobState

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, pattern="Z$")]
Url = Annotated[str, Meta(extra_json_schema={"format": "uri"})]
Id = Annotated[str, Meta(pattern="^[0-9a-hjkmnp-tv-z]{26}$")]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
Amount = Annotated[float, Meta(ge=0)]


class Shape(Struct, forbid_unknown_fields=True):
    """What all of them have in common: nothing is in them that is not said here."""


class File(Shape):
    """Another file of a picture: as it was before the transforms, or smaller."""

    fileID: str
    tempFileURL: Url | None
    expiresAt: Time | None
    width: Count
    height: Count
    contentType: str
    bytes: Count
    sha256: Sha256


class Image(Shape):
    """One stored picture. Keep `fileID`: the link dies at `expiresAt`, null if it does not.

    `tempFileURL` is null where no link is given; the job's warnings then say why.
    """

    index: Count
    fileID: str
    tempFileURL: Url | None
    expiresAt: Time | None
    width: Count
    height: Count
    contentType: str
    bytes: Count
    sha256: Sha256
    nsfw: bool | None
    original: File | None
    thumbnail: File | None


class Cost(Shape):
    """In US dollars; null is unknown. The estimate is made before, the actual after."""

    estimate: Amount | None
    actual: Amount | None
    billableUnits: float | None
    currency: Literal["USD"]


class Log(Shape):
    """A line that fal said about an open job."""

    message: Any
    timestamp: Any
    level: Any


class Warning(Shape):
    """Something to know although it worked."""

    code: str
    message: str


class Timings(Shape):
    """Milliseconds of each stage that the job has passed."""

    queue: Count | UnsetType = UNSET
    inference: Count | UnsetType = UNSET
    fetch: Count | UnsetType = UNSET
    store: Count | UnsetType = UNSET
    total: Count | UnsetType = UNSET


class Left(Shape):
    """What a ticket still allows."""

    images: Count | UnsetType = UNSET
    uses: Count | UnsetType = UNSET


class FieldError(Shape):
    """One field that is not right, and what would be."""

    field: str
    message: str


class Known(Shape, kw_only=True):
    """What an error may say besides, each by the codes that have it."""

    fields: list[FieldError] | UnsetType = UNSET
    remainingUsd: Amount | UnsetType = UNSET
    remaining: Left | UnsetType = UNSET
    resetsAt: Time | None | UnsetType = UNSET
    jobId: Id | UnsetType = UNSET
    batchId: Id | UnsetType = UNSET
    falRequestId: str | None | UnsetType = UNSET
    falErrors: list[Any] | UnsetType = UNSET
    falErrorType: str | UnsetType = UNSET
    falMessage: str | UnsetType = UNSET
    upstreamStatus: int | None | UnsetType = UNSET
    sourceUrls: list[str] | UnsetType = UNSET


class Problem(Known, kw_only=True):
    """What went wrong, and how to mend it (RFC 9457).

    `error` is the stable code. `retryable`: sending the same body again cannot pay twice. The
    members that are not always there belong to single codes.
    """

    type: str
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    error: str
    message: str
    requestId: str
    retryable: bool
    hint: str | None


class Job(Shape):
    """One paid request to fal and what became of it.

    `done`, `failed` and `cancelled` are final. `fileID` and `tempFileURL` are the first picture's.
    `output` holds what fal answered instead of pictures.
    """

    jobId: Id
    state: JobState
    model: str
    prompt: str | None
    createdAt: Time
    updatedAt: Time
    finishedAt: Time | None
    queuePosition: Count | None
    logs: list[Log]
    images: list[Image]
    fileID: str | None
    tempFileURL: Url | None
    seed: int | None
    falRequestId: str | None
    requestId: str
    cost: Cost
    timingsMs: Timings
    batchId: Id | None
    row: Count | None
    output: Any
    cached: bool
    warnings: list[Warning]
    error: Problem | None


class Counts(Shape):
    """How many rows there are, and how many of them are where."""

    total: Count
    pending: Count
    running: Count
    done: Count
    failed: Count
    unknown: Count
    cancelled: Count


class Refusal(Shape):
    """Why a batch cannot be carried out at all."""

    error: str
    message: str


class RowError(Shape):
    """A row that failed; without a number it is the whole batch that did."""

    row: Count | None
    rowId: str | int | None
    jobId: Id | None
    error: Annotated[
        Any,
        Meta(
            extra_json_schema={
                "anyOf": [
                    {"$ref": "#/components/schemas/Problem"},
                    {"$ref": "#/components/schemas/Refusal"},
                ]
            }
        ),
    ]


class Batch(Shape):
    """Many jobs. `errors` are those of the first rows that failed; the results are JSON lines."""

    batchId: Id
    state: BatchState
    counts: Counts
    errors: list[RowError]
    resultsUrl: Url | None


class LinkedFile(Shape):
    """A file id and its fresh link; `error` is the code of why there is none."""

    fileID: str
    tempFileURL: Url | None
    expiresAt: Time | None
    error: str | None


class Links(Shape):
    """One for each file id, in their order; for a single `fileID` its members stand above, too."""

    fileList: list[LinkedFile]
    fileID: str | UnsetType = UNSET
    tempFileURL: Url | UnsetType = UNSET
    expiresAt: Time | None | UnsetType = UNSET
    error: None | UnsetType = UNSET


class UploadLink(Shape):
    """The request that puts the file there: method, address and headers are signed."""

    method: Literal["PUT"]
    url: Url
    headers: dict[str, str]


class Upload(Shape):
    """A place for one file. Give its file id to a model, in `image_url` or `image_urls`."""

    fileID: str
    imageUrl: Url | None
    upload: UploadLink
    expiresAt: Time


class Estimate(Shape):
    """The most that a request should cost, null for the `reason` that stands beside it."""

    model: str
    estimateUsd: Amount | None
    basis: Literal["catalog", "fal"] | None
    images: Count
    unit: str | None
    units: Count | None
    unitUsd: Amount | None
    furtherUnitUsd: Amount | None
    currency: Literal["USD"]
    reason: str | None
    warnings: list[Warning]


class Ticket(Shape):
    """A credential for somebody without a key. It is kept nowhere: show it to its holder now."""

    ticket: str
    id: str
    caller: str
    expiresAt: Time


class Models(Shape):
    """What the owner allows, as globs, and what is known of the models that they let in."""

    globs: list[str]
    defaultModel: str
    aliases: dict[str, str]
    models: list[Model]


class LastSweep(Shape):
    """What the last sweep did, and how many seconds ago it ended."""

    beganAt: Time
    endedAt: Time
    jobs: Count
    batches: Count
    failed: Count
    purged: Count
    isComplete: bool
    ageS: int


class Health(Shape):
    """Alive. `lastSweep` is there with a database only, null before the first sweep."""

    status: Literal["ok", "misconfigured", "database_unavailable"]
    version: str
    lastSweep: LastSweep | None | UnsetType = UNSET


class Heard(Shape):
    """A webhook of fal's was kept."""

    jobId: Id

"""A job: one paid request to fal and what became of it. Pure values; what may happen to them is in
`states`, how they are kept in `documents`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from ..errors import AppError, recalled
from ..treatment import NO_TREATMENT, Treatment
from ..web import problem
from .ids import rfc3339

LOGS_SHOWN = 20

State = Literal[
    "new", "submitting", "submitted", "storing", "unknown", "done", "failed", "cancelled"
]


class Source(Struct, frozen=True):
    """One finished picture at fal: an https URL, or a data URI if the model sent it inline."""

    index: int
    url: str
    nsfw: bool | None


class Variant(Struct, frozen=True):
    """Another form of a stored picture: its original before transforms, its thumbnail. One that is
    `withheld` is kept for the owner and told to nobody."""

    file_id: str
    width: int
    height: int
    content_type: str
    bytes: int
    sha256: str
    withheld: bool = False
    url: str | None = None
    expires_at: datetime | None = None

    def to_json(self) -> dict[str, object]:
        return _file_to_json(self)


class Image(Struct, frozen=True):
    """One stored picture. The link is signed when the answer is made and dies at `expires_at`;
    one that is `withheld` by its owner has none."""

    index: int
    file_id: str
    width: int
    height: int
    content_type: str
    bytes: int
    sha256: str
    nsfw: bool | None
    withheld: bool = False
    url: str | None = None
    expires_at: datetime | None = None
    original: Variant | None = None
    thumbnail: Variant | None = None

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Its other forms that callers may have."""
        both = (self.original, self.thumbnail)
        return tuple(one for one in both if one is not None and not one.withheld)

    @property
    def unsigned(self) -> tuple[str, ...]:
        """The file ids, its own and its variants', that have no link yet."""
        own = () if self.url else (self.file_id,)
        return own + tuple(one.file_id for one in self.variants if one.url is None)

    def linked(self, links: Mapping[str, tuple[str, datetime | None]]) -> Image:
        """The image with the links, by file id, that it and its variants do not have yet."""

        def one(thing: T) -> T:
            link = links.get(thing.file_id) if thing.url is None else None
            return replace(thing, url=link[0], expires_at=link[1]) if link else thing

        original, thumbnail = (each and one(each) for each in (self.original, self.thumbnail))
        return replace(one(self), original=original, thumbnail=thumbnail)

    def unlinked(self) -> Image:
        """The image as it is kept: links are made anew for each answer."""

        def one(thing: T) -> T:
            return replace(thing, url=None, expires_at=None)

        original, thumbnail = (each and one(each) for each in (self.original, self.thumbnail))
        return replace(one(self), original=original, thumbnail=thumbnail)

    def to_json(self) -> dict[str, object]:
        shown = {id(one): one.to_json() for one in self.variants}
        return {
            "index": self.index,
            **_file_to_json(self),
            "nsfw": self.nsfw,
            "original": shown.get(id(self.original)),
            "thumbnail": shown.get(id(self.thumbnail)),
        }


T = TypeVar("T", Image, Variant)


def _file_to_json(stored: Image | Variant) -> dict[str, object]:
    return {
        "fileID": stored.file_id,
        "tempFileURL": stored.url,
        "expiresAt": rfc3339(stored.expires_at),
        "width": stored.width,
        "height": stored.height,
        "contentType": stored.content_type,
        "bytes": stored.bytes,
        "sha256": stored.sha256,
    }


class Cost(Struct, frozen=True):
    """In micro-USD; None is unknown. The estimate is made before, the actual after."""

    estimate_usd_micro: int | None = None
    actual_usd_micro: int | None = None
    billable_units: float | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "estimate": _usd(self.estimate_usd_micro),
            "actual": _usd(self.actual_usd_micro),
            "billableUnits": self.billable_units,
            "currency": "USD",
        }


class JobWarning(Struct, frozen=True):
    """Something the caller should know although the job is done."""

    code: str
    message: str


class Fault(Struct, frozen=True):
    """What went wrong with a job: an error of `errors`, kept as data."""

    code: str
    detail: str
    hint: str | None = None
    retryable: bool = False
    extensions: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, error: AppError) -> Fault:
        return cls(error.code, error.detail, error.hint, error.retryable, error.extensions)

    def error(self) -> AppError:
        """The error again, to be raised or shown."""
        return recalled(
            self.code,
            self.detail,
            hint=self.hint,
            retryable=self.retryable,
            extensions=self.extensions,
        )


class Outcome(Struct, frozen=True):
    """fal's last word on a job: it is never taken back and never waited for again.

    `sources` is None if the output is not of pictures; `output` then holds it, None also if it
    was too large to keep. It `is_read` if it is fal's answer to us, where fal says what it bills: a
    webhook does not.
    """

    kind: Literal["ok", "error", "cancelled"]
    sources: tuple[Source, ...] | None = ()
    output: object = None
    seed: int | None = None
    billable_units: float | None = None
    fault: Fault | None = None
    timings_ms: dict[str, int] = field(default_factory=dict)
    is_read: bool = False


class Lease(Struct, frozen=True):
    """Who works on a job, and until when nobody else may. Losing it is no error."""

    owner: str
    ends_at: datetime


class Reservation(Struct, frozen=True):
    """What `take` put aside for a job, and in which counter: money, or pictures and uses that a
    ticket allows. `key` is what it is open under there; blank: the job's id."""

    counter: str
    amount: int
    of: Literal["usd_micro", "images", "uses"] = "usd_micro"
    key: str = ""


class Notice(Struct, frozen=True):
    """What the owner asked to be told at `url`. `next_at` is None when nothing more is sent."""

    url: str
    tries: int = 0
    next_at: datetime | None = None
    delivered_at: datetime | None = None


class Progress(Struct, frozen=True):
    """What fal said when it was last asked: nothing of it is kept."""

    queue_position: int | None = None
    logs: tuple[dict[str, object], ...] = ()


class Job(Struct, frozen=True):
    """`arguments` are the model's own fields as the caller gave them, the prompt among them.

    `begun_at` is when the submit was begun, `asked_at` when fal was last asked about it; the
    reservations are open until `settled`. The pictures of a job that does not keep them stay at
    fal. It is `cached` for a request that found it made already. `version` is the document's.
    """

    job_id: str
    model: str
    created_at: datetime
    updated_at: datetime
    arguments: dict[str, object] = field(default_factory=dict)
    caller: str | None = None
    state: State = "submitting"
    finished_at: datetime | None = None
    begun_at: datetime | None = None
    asked_at: datetime | None = None
    lease: Lease | None = None
    fal_request_id: str | None = None
    outcome: Outcome | None = None
    cancel_requested: bool = False
    images: tuple[Image, ...] = ()
    output: object = None
    seed: int | None = None
    cost: Cost = Cost()
    reservations: tuple[Reservation, ...] = ()
    settled: bool = False
    timings_ms: dict[str, int] = field(default_factory=dict)
    warnings: tuple[JobWarning, ...] = ()
    fault: Fault | None = None
    copy_tries: int = 0
    retry_at: datetime | None = None
    input_sha256: str | None = None
    max_age_s: int | None = None
    public_url: str | None = None
    notice: Notice | None = None
    batch_id: str | None = None
    row: int | None = None
    keeps_images: bool = True
    treatment: Treatment = NO_TREATMENT
    cached: bool = False
    version: int = 0

    @property
    def prompt(self) -> str | None:
        prompt = self.arguments.get("prompt")
        return prompt if isinstance(prompt, str) and prompt.strip() else None

    @property
    def is_over(self) -> bool:
        """Whether waiting any longer is of no use. A late word of fal may still move it."""
        return self.state in ("done", "failed", "cancelled", "unknown")

    def to_json(self, request_id: str, progress: Progress = Progress()) -> dict[str, object]:
        """The job as callers see it. `fileID` and `tempFileURL` are those of the first image."""
        images = [image.to_json() for image in self.images]
        first = images[0] if images else {"fileID": None, "tempFileURL": None}
        return {
            "jobId": self.job_id,
            "state": self.state,
            "model": self.model,
            "prompt": self.prompt,
            "createdAt": rfc3339(self.created_at),
            "updatedAt": rfc3339(self.updated_at),
            "finishedAt": rfc3339(self.finished_at),
            "queuePosition": progress.queue_position,
            "logs": list(progress.logs[-LOGS_SHOWN:]),
            "images": images,
            "fileID": first["fileID"],
            "tempFileURL": first["tempFileURL"],
            "seed": self.seed,
            "falRequestId": self.fal_request_id,
            "requestId": request_id,
            "cost": (Cost(0, 0, 0.0) if self.cached else self.cost).to_json(),
            "timingsMs": self.timings_ms,
            "batchId": self.batch_id,
            "row": self.row,
            "output": self.output,
            "cached": self.cached,
            "warnings": [{"code": one.code, "message": one.message} for one in self._all_warnings],
            "error": self._problem(request_id),
        }

    @property
    def _all_warnings(self) -> tuple[JobWarning, ...]:
        """A fault of a job that still goes on is a warning: it is tried again."""
        if self.fault is None or self.is_over:
            return self.warnings
        return (*self.warnings, JobWarning(self.fault.code, self.fault.detail))

    def _problem(self, request_id: str) -> dict[str, object] | None:
        if self.fault is None or not self.is_over:
            return None
        return problem(self.fault.error(), request_id)


def _usd(micro: int | None) -> float | None:
    return None if micro is None else micro / 1_000_000

"""Where the owner keeps pictures: a result with links to the owner's copies in it.

Everything else about it stays fal's. Refuses to know how the result was come by.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from ..errors import AppError
from ..extend import flagged_warning
from ..fal import outputs
from ..generate import Generator
from ..jobs import Fault, Image, Job, Source
from ..jobs.documents import INLINE
from ..logs import logger
from .asked import Asked

MEMBER = "fal_image"
"""What we add to a result under this name; fal has no such member."""

_NOT_YET = {
    "error": "not_stored_yet",
    "message": "The pictures are still being copied: ask again, or GET /jobs/ID with the job's id.",
}
_BROKEN = {"error": "internal", "message": "Something broke inside."}


class Keeping(Struct, frozen=True):
    """`holds_back` says that no picture may leave before the owner has judged or labelled it; with
    `refuses_flagged` none leaves that fal's safety checker flagged."""

    holds_back: bool
    refuses_flagged: bool

    @property
    def tells_all_last(self) -> bool:
        """Whether a picture may only be shown when all is known of it."""
        return self.holds_back or self.refuses_flagged

    def shown(
        self, job: Job, payload: dict[str, object], asked: Asked, house: Generator
    ) -> dict[str, object]:
        """A result with links to the owner's pictures, once they are there; by the time the answer
        is due fal's own, and the reason. What the owner withholds is not in it.

        Of a job whose pictures stay at fal it is the payload itself, unless some are refused.
        """
        if not job.keeps_images:
            return self._unstored(job, payload)
        try:
            if job.state == "storing":
                job = house.steps.wait(job, asked.turn)
            job = house.presented(job)
        except AppError as error:
            logger.error("the pictures of %s are at fal only: %s", job.job_id, error.detail)
            return self._unkept(job, payload, {"error": error.code, "message": error.detail})
        except Exception:
            logger.exception("the pictures of %s are at fal only", job.job_id)
            return self._unkept(job, payload, _BROKEN)
        if job.state != "done":
            fault = job.fault
            reason = {"error": fault.code, "message": fault.detail} if fault else _NOT_YET
            return self._unkept(job, payload, reason)
        found = {source.index: source for source in outputs.sources(payload) or ()}
        urls = {image.index: image.url for image in job.images if image.url or image.withheld}
        payload = outputs.with_urls(payload, {**urls, **self._refused(payload)})
        return payload | {MEMBER: _told(job, found, None)}

    def spoken(self, fault: Fault) -> AppError:
        """The error that a job ended with, without addresses of pictures that nobody judged."""
        error = fault.error()
        if self.holds_back:
            error.extensions.pop("sourceUrls", None)
        return error

    def can_recall(self, job: Job) -> bool:
        """Whether there is anything to tell: nobody has an output that was too large to be kept,
        or pictures that came inside it and were not stored."""
        sources = job.outcome.sources or () if job.outcome else ()
        is_lost = any(source.url.startswith(INLINE) for source in sources) and not job.images
        return job.output is not None or (bool(sources) and not is_lost)

    def recalled(self, job: Job, house: Generator) -> object:
        """A result that fal has dropped, out of what was kept of it."""
        if job.output is not None:
            return job.output
        sources = job.outcome.sources or () if job.outcome else ()
        flags = {source.index: source.nsfw is True for source in sources}
        payload: dict[str, object] = {} if job.seed is None else {"seed": job.seed}
        payload["prompt"] = job.prompt or ""
        if not job.keeps_images:
            images: list[dict[str, object]] = [{"url": source.url} for source in sources]
            payload |= {"images": images, "has_nsfw_concepts": list(flags.values())}
            return self._unstored(job, payload)
        job = house.presented(job)
        linked = [image for image in job.images if image.url]
        found = {source.index: source for source in sources}
        return payload | {
            "images": [_as_fals(image) for image in linked],
            "has_nsfw_concepts": [flags.get(image.index, False) for image in linked],
            MEMBER: _told(job, found, None),
        }

    def _unkept(
        self, job: Job, payload: dict[str, object], reason: dict[str, str]
    ) -> dict[str, object]:
        if self.holds_back:
            sources = outputs.sources(payload) or ()
            payload = outputs.with_urls(payload, {source.index: None for source in sources})
        refused = self._refused(payload)
        if refused:
            job = replace(job, warnings=(*job.warnings, flagged_warning([*map(str, refused)])))
        payload = outputs.with_urls(payload, refused)
        return payload | {MEMBER: _told(job, None, reason)}

    def _unstored(self, job: Job, payload: dict[str, object]) -> dict[str, object]:
        refused = self._refused(payload)
        if not refused:
            return payload
        job = replace(job, warnings=(flagged_warning([*map(str, refused)]),))
        return outputs.with_urls(payload, refused) | {MEMBER: _told(job, None, None)}

    def _refused(self, payload: dict[str, object]) -> dict[int, str | None]:
        """The pictures of an output that are refused because of their flag, each without a URL."""
        if not self.refuses_flagged:
            return {}
        return {source.index: None for source in outputs.sources(payload) or () if source.nsfw}


def _told(
    job: Job, found: dict[int, Source] | None, reason: dict[str, str] | None
) -> dict[str, object]:
    """What there is to say of the owner's copies; `found` is where fal has the pictures."""
    images: list[dict[str, object]] = []
    if found is not None:
        images = [
            image.to_json() | {"originalUrl": _origin(job, image, found.get(image.index))}
            for image in job.images
        ]
    warnings = [{"code": one.code, "message": one.message} for one in job.warnings]
    return {"jobId": job.job_id, "images": images, "warnings": warnings, "error": reason}


def _origin(job: Job, image: Image, source: Source | None) -> str | None:
    """Where fal has a picture, unless it came inside the answer, is not to be seen, or lacks the
    label that the owner wants on every picture."""
    if source is None or image.withheld or source.url.startswith("data:"):
        return None
    if job.treatment.label.required != "off":
        return None
    return source.url


def _as_fals(image: Image) -> dict[str, object]:
    return {
        "url": image.url,
        "width": image.width,
        "height": image.height,
        "content_type": image.content_type,
    }

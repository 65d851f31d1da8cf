"""What the endpoint answered, as a tool's result: the values, and a short text beside them.

Refuses to know how the endpoint was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..endpoint import Answer, EndpointFailed
from .asking import OVER
from .schemas import (
    Copy,
    Cost,
    EstimateResult,
    Failure,
    FreshLink,
    JobResult,
    LinksResult,
    Notice,
    Picture,
)

Json = Mapping[str, Any]

MAX_OUTPUT_BYTES = 16 * 1024  # of what is no picture: an agent reads all of it
LONG_OUTPUT = Notice("output_left_out", "The output is long; GET /jobs/ID of the endpoint has it.")

SAME_KEY = "Call again with the same arguments and this idempotency_key: then it is not paid twice."
NOT_LOST = "Call it again with the same arguments: nothing is paid twice."
NOT_SENT = "Call it again: nothing was sent."


def failure_of(answer: Answer, *, key: str | None = None, keeps_jobs: bool = True) -> Failure:
    """Why an answer is an error. `key` is the intent's: an open outcome is asked after with it,
    where the endpoint `keeps_jobs`."""
    said = answer.body
    if not answer.is_problem:
        detail = f"something else than the endpoint answered, HTTP {answer.status}"
        return no_answer(EndpointFailed(detail, sent=True), key=key, keeps_jobs=keeps_jobs)
    hints = [str(said.get("hint") or "")]
    if said["error"] == "unauthorized":
        hints.append("`fal-image mcp` takes it from FAL_IMAGE_TOKEN.")
    if answer.retry_after_s is not None:
        hints.append(f"Wait {answer.retry_after_s} s.")
    return _failure(said, " ".join(filter(None, hints)) or None)


def no_answer(error: EndpointFailed, *, key: str | None, keeps_jobs: bool = True) -> Failure:
    """Why nothing came back, and whether asking again may pay twice."""
    message = f"the endpoint did not answer: {error.detail}"
    if not error.sent:
        return Failure("no_answer", message, NOT_SENT, retryable=True)
    if key is None and keeps_jobs:
        return Failure("no_answer", message, NOT_LOST, retryable=True)
    if key is not None and keeps_jobs:
        return Failure("no_answer", message, SAME_KEY, retryable=True, idempotency_key=key)
    hint = "The picture may have been paid for: ask the user before you try again."
    return Failure("no_answer", message, hint, retryable=False)


def job_of(answer: Answer) -> JobResult:
    """The job in an answer that is no error."""
    said = answer.body
    state: Any = said["state"]
    cost = said.get("cost") or {}
    output = said.get("output")
    is_short = len(msgspec.json.encode(output)) <= MAX_OUTPUT_BYTES
    is_over = state in OVER
    return JobResult(
        job_id=said.get("jobId"),
        state=state,
        is_over=is_over,
        model=said.get("model"),
        images=[_picture(image) for image in said.get("images") or ()],
        output=output if is_short else None,
        seed=said.get("seed"),
        cost=Cost(cost.get("estimate"), cost.get("actual"), cost.get("currency", "USD")),
        cached=said.get("cached") is True,
        queue_position=said.get("queuePosition"),
        ask_again_after_s=None if is_over else answer.retry_after_s or 5,
        warnings=_notices(said) if is_short else [*_notices(said), LONG_OUTPUT],
        error=_fault(said.get("error")),
    )


def refused(failure: Failure, job_id: str | None = None) -> JobResult:
    """There is no job, or one that failed at once."""
    if job_id is None:
        return JobResult(state="refused", is_over=True, error=failure)
    return JobResult(job_id=job_id, state="failed", is_over=True, error=failure)


def estimate_of(answer: Answer) -> EstimateResult:
    said = answer.body
    return EstimateResult(
        estimate_usd=said.get("estimateUsd"),
        model=said.get("model"),
        images=said.get("images"),
        unit=said.get("unit"),
        units=said.get("units"),
        unit_usd=said.get("unitUsd"),
        currency=said.get("currency", "USD"),
        reason=said.get("reason"),
        warnings=_notices(said),
    )


def links_of(answer: Answer) -> LinksResult:
    return LinksResult(
        [
            FreshLink(
                file_id=file["fileID"],
                url=file.get("tempFileURL"),
                expires_at=file.get("expiresAt"),
                error=file.get("error"),
            )
            for file in answer.body.get("fileList") or ()
        ]
    )


def told_job(job: JobResult) -> str:
    """A few lines for whoever reads no structured content."""
    if job.error is not None:
        return told_failure(job.error, job.job_id)
    facts = [job.model or "", "" if job.seed is None else f"seed {job.seed}", _price(job)]
    about = ", ".join(fact for fact in facts if fact)
    if not job.is_over:
        place = (
            "" if job.queue_position is None else f", position {job.queue_position} in the queue"
        )
        return (
            f"The job goes on ({job.state}{place}; {about}). Call get_job with job_id "
            f'"{job.job_id}" in {job.ask_again_after_s} s; do not generate again.'
        )
    if job.state != "done":
        return f"The job {job.job_id} is {job.state} ({about}). get_job tells if that changes."
    count = len(job.images)
    lines = [f"{count} picture{'' if count == 1 else 's'} ({about})."]
    lines += [_told_picture(picture) for picture in job.images]
    if any(picture.expires_at for picture in job.images):
        lines.append("Links end; keep the fileID and call renew_link for a new one.")
    return "\n".join([*lines, *(notice.message for notice in job.warnings)])


def told_failure(failure: Failure, job_id: str | None = None) -> str:
    again = (
        "Calling again with the same arguments cannot pay twice."
        if failure.retryable
        else "Do not simply call again: it may be paid for twice."
    )
    said = [f"{failure.code}: {failure.message}", failure.hint or "", again]
    if failure.idempotency_key is not None:
        said.append(f'idempotency_key: "{failure.idempotency_key}"')
    if job_id is not None:
        said.append(f"jobId: {job_id}")
    if failure.fal_request_id is not None:
        said.append(f"falRequestId: {failure.fal_request_id}")
    said += [f"still at fal for a while: {url}" for url in failure.source_urls]
    return "\n".join(line for line in said if line)


def told_estimate(estimate: EstimateResult) -> str:
    if estimate.estimate_usd is None:
        return f"The price of {estimate.model} is not known before: {estimate.reason}"
    count = estimate.images
    warnings = [notice.message for notice in estimate.warnings]
    said = f"About ${estimate.estimate_usd:g} for {count} of {estimate.model}. Nothing was made."
    return "\n".join([said, *warnings])


def told_links(links: LinksResult) -> str:
    return "\n".join(
        f"{link.file_id}: {link.url or link.error}"
        + (f" until {link.expires_at}" if link.expires_at else "")
        for link in links.links
    )


def _told_picture(picture: Picture) -> str:
    size = f"{picture.width}x{picture.height} {picture.content_type}"
    link = picture.url or "no link to it is given"
    until = f" until {picture.expires_at}" if picture.expires_at else ""
    return f"{size}, fileID {picture.file_id}: {link}{until}"


def _price(job: JobResult) -> str:
    if job.cached:
        return "free: the picture was there"
    usd = job.cost.estimate if job.cost.actual is None else job.cost.actual
    return "" if usd is None else f"${usd:g}"


def _picture(said: Json) -> Picture:
    return Picture(
        index=said["index"],
        file_id=said["fileID"],
        url=said.get("tempFileURL"),
        expires_at=said.get("expiresAt"),
        width=said.get("width"),
        height=said.get("height"),
        content_type=said.get("contentType"),
        bytes=said.get("bytes"),
        nsfw=said.get("nsfw"),
        thumbnail=_copy(said.get("thumbnail")),
        original=_copy(said.get("original")),
    )


def _copy(said: Json | None) -> Copy | None:
    if said is None:
        return None
    return Copy(
        file_id=said["fileID"],
        url=said.get("tempFileURL"),
        width=said.get("width"),
        height=said.get("height"),
    )


def _notices(said: Json) -> list[Notice]:
    return [Notice(one["code"], one["message"]) for one in said.get("warnings") or ()]


def _fault(problem: Json | None) -> Failure | None:
    """A failed job's own error: the job stays failed, so calling again makes another one."""
    return None if problem is None else _failure(problem, problem.get("hint"))


def _failure(problem: Json, hint: str | None) -> Failure:
    return Failure(
        str(problem.get("error")),
        str(problem.get("message", "")),
        hint,
        retryable=problem.get("retryable") is True,
        request_id=problem.get("requestId"),
        fal_request_id=problem.get("falRequestId"),
        source_urls=[url for url in problem.get("sourceUrls") or () if _is_web(url)],
    )


def _is_web(url: object) -> bool:
    """Whether it is an address to follow: agents do what they are told, and read what they get."""
    return isinstance(url, str) and url.startswith(("https://", "http://"))

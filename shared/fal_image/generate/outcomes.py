"""fal's last word on a job, from wherever it came: a result that was read, or a webhook."""

from __future__ import annotations

from msgspec.structs import replace

from ..errors import AppError, FalAuthFailed
from ..extend import Hooks
from ..fal import outputs, refusals
from ..fal.client import Result
from ..fal.webhooks import Delivery
from ..jobs import Fault, Outcome, Source
from ..jobs.documents import INLINE
from ..logs import logger

CANCELLED_STATUS = 499  # of the result of a cancelled job (fal docs, request errors)


def of_result(result: Result, timings_ms: dict[str, int] | None = None) -> Outcome:
    """The outcome of a job that fal finished."""
    sources = outputs.sources(result.payload)
    return Outcome(
        kind="ok",
        sources=sources,
        output=result.payload if sources is None else None,
        seed=outputs.seed(result.payload),
        billable_units=result.billable_units,
        timings_ms=timings_ms or {},
        is_read=True,
    )


def of_failure(error: AppError, timings_ms: dict[str, int] | None = None) -> Outcome | None:
    """The outcome of a job that fal failed, None if the error only says that we may not ask.

    fal charges nothing for its own failures (5xx), and says so of most inputs that it refuses. It
    may have charged for one of which it does not say so, and for what it has forgotten.
    """
    status = error.extensions.get("upstreamStatus")
    if isinstance(error, FalAuthFailed):
        return None
    if status == CANCELLED_STATUS:
        return Outcome(kind="cancelled", billable_units=0.0, is_read=True)
    return Outcome(
        "error",
        billable_units=0.0 if error.retryable else None,
        fault=Fault.of(error),
        timings_ms=timings_ms or {},
        is_read=True,
    )


def units_of_failure(error: AppError, told: Outcome) -> float | None:
    """The units of a failed job, by the error that its result is; None if that is not what a
    webhook told of it."""
    status = error.extensions.get("upstreamStatus")
    if told.fault is None or told.fault.extensions.get("upstreamStatus") != status:
        return None
    read = of_failure(error)
    return read.billable_units if read else None


def of_delivery(delivery: Delivery, model: str) -> Outcome | None:
    """The outcome that a webhook told, None if the result must be read from the queue."""
    outcome = None
    if delivery.refusal is not None:
        error = refusals.explain(delivery.refusal, model, request_id=delivery.request_id)
        outcome = of_failure(error)
    elif delivery.has_payload:
        outcome = of_result(Result(delivery.payload, None))
    return outcome and replace(outcome, is_read=False)


def tell_urls(error: AppError, sources: tuple[Source, ...] | None, hooks: Hooks) -> AppError:
    """The error with where the paid pictures still are at fal, without those that are refused
    because of their flag. Where every picture must carry the AI label no caller is told, for these
    do not: the owner finds them in the log."""
    urls = [
        source.url
        for source in sources or ()
        if not source.url.startswith(INLINE) and not (hooks.refuses_flagged and source.nsfw)
    ]
    if hooks.requires_label:
        if urls:
            facts = {"sourceUrls": urls, "falRequestId": error.extensions.get("falRequestId")}
            logger.error("paid pictures are at fal only, unlabelled", extra={"fields": facts})
        return error
    return error.adding(sourceUrls=urls)

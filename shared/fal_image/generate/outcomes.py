"""fal's last word on a job, from wherever it came: a result that was read, or a webhook."""

from __future__ import annotations

from ..errors import AppError, FalAuthFailed
from ..fal import outputs, refusals
from ..fal.client import Result
from ..fal.webhooks import Delivery
from ..jobs import Fault, Outcome, Source
from ..jobs.documents import INLINE

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
    )


def of_failure(error: AppError, timings_ms: dict[str, int] | None = None) -> Outcome | None:
    """The outcome of a job that fal failed, None if the error only says that we may not ask.

    fal charges nothing for its own failures (5xx). It may have charged for an input that it
    refused without saying so, and for what it has forgotten.
    """
    status = error.extensions.get("upstreamStatus")
    if isinstance(error, FalAuthFailed):
        return None
    if status == CANCELLED_STATUS:
        return Outcome(kind="cancelled", billable_units=0.0)
    units = None if status == refusals.FORGOTTEN_STATUS else 0.0
    return Outcome(
        "error", billable_units=units, fault=Fault.of(error), timings_ms=timings_ms or {}
    )


def of_delivery(delivery: Delivery, model: str) -> Outcome | None:
    """The outcome that a webhook told, None if the result must be read from the queue."""
    if delivery.refusal is not None:
        return of_failure(refusals.explain(delivery.refusal, model, request_id=delivery.request_id))
    return of_result(Result(delivery.payload, None)) if delivery.has_payload else None


def urls(sources: tuple[Source, ...] | None) -> list[str]:
    """Where the pictures still are at fal."""
    return [source.url for source in sources or () if not source.url.startswith(INLINE)]

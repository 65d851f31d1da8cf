"""Copying a job's pictures once fal has made them, and what follows if that fails.

Refuses to know how fal was waited for, and who else may be at it: the lease is somebody's already.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct

from ..assets import Assets, CopyError, Kept, nothing
from ..errors import AppError, DeadlineExceeded, FalAuthFailed, NoImageReturned
from ..extend import Hooks
from ..fal.client import Fal, OutOfTime
from ..jobs import Cost, Fault, Image, Job, JobWarning, Outcome, states
from ..jobs import events as happen
from ..jobs.documents import INLINE
from ..ledger import Ledger
from . import outcomes
from .manifests import Writing
from .orders import actual_usd_micro
from .records import Records
from .turns import Turn, milliseconds

COPY_FOR = timedelta(hours=24)  # fal keeps pictures for days; a storage that is down comes back
COPY_AGAIN = timedelta(seconds=30)  # doubled with each try
UNITS_TIME_S = 1.0  # inside the 2 s kept back for the answer


class Copies(Struct, frozen=True):
    """`is_durable` says that somebody can come back and try again."""

    fal: Fal
    assets: Assets
    records: Records
    ledger: Ledger
    now: Callable[[], datetime]
    is_durable: bool
    hooks: Hooks

    def copy(self, job: Job, turn: Turn) -> Job:
        """Copy the pictures of a job that is `storing` under this turn's lease.

        The owner's `on_image` hears of each before the job is done, and again if whoever copied
        them did not live to write that down.
        """
        outcome = job.outcome or Outcome("ok")
        try:
            if job.keeps_images and any(one.url == INLINE for one in outcome.sources or ()):
                outcome = self._read_again(job, turn)
            early = self._manifests(job, outcome, outcome.billable_units)
            kept = self._kept(job, outcome, early, turn)
        except CopyError as error:
            return self._not_copied(job, outcome, error, turn)
        images, notes = self.hooks.judged(job, [one.image for one in kept])
        for image in images:
            turn.listener("image", image.to_json())
        units, actual = self._settled(job, outcome, turn)
        manifests = early if _tells_units(outcome) else self._manifests(job, outcome, units)
        notes = (*_notes_of(kept), *notes, *manifests.end(kept, turn.answer_by))
        now = self.now()
        total = {"total": milliseconds((now - job.created_at).total_seconds())}
        timings = outcome.timings_ms | _copy_timings(kept) | total
        warnings = (*_warnings(outcome, images), *notes) if job.keeps_images else (_NOT_KEPT,)
        return self.records.apply(
            job, happen.Stored(now, turn.owner, images, warnings, timings, actual, units)
        )

    def _manifests(self, job: Job, outcome: Outcome, units: float | None) -> Writing:
        actual = actual_usd_micro(job.model, units)
        cost = Cost(job.cost.estimate_usd_micro, actual, units)
        return Writing(self.assets, job, seed=_seed(job, outcome), cost=cost)

    def _kept(self, job: Job, outcome: Outcome, manifests: Writing, turn: Turn) -> list[Kept]:
        """The pictures, copied. Their manifests travel beside them if what they cost is known."""
        sources = outcome.sources if job.keeps_images else None
        if sources is None:
            return []
        if not sources:
            raise CopyError(NoImageReturned("fal finished without a picture"), may_pass=False)
        is_early = _tells_units(outcome) and self.assets.link_base_url is None
        try:
            return self.assets.keep(
                job,
                sources,
                seed=_seed(job, outcome),
                ends_at=turn.answer_by,
                beside=manifests.begin if is_early else nothing,
            )
        except CopyError:
            manifests.wait(turn.answer_by)
            raise

    def _read_again(self, job: Job, turn: Turn) -> Outcome:
        """The outcome with the pictures that came inside the output."""
        request_id = job.fal_request_id or ""
        try:
            result = self.fal.result(job.model, request_id, ends_at=turn.answer_by)
        except OutOfTime:
            raise CopyError(DeadlineExceeded("fal did not answer in time"), may_pass=True) from None
        except AppError as error:
            raise CopyError(error, may_pass=isinstance(error, FalAuthFailed)) from None
        return outcomes.of_result(result, job.outcome.timings_ms if job.outcome else None)

    def _settled(self, job: Job, outcome: Outcome, turn: Turn) -> tuple[float | None, int | None]:
        """Put what fal bills in the place of what was reserved: its units, and their price."""
        units = self.units(job, outcome, turn)
        actual = actual_usd_micro(job.model, units)
        self.ledger.settle(job.job_id, job.reservations, actual, len(outcome.sources or ()))
        return units, actual

    def units(self, job: Job, outcome: Outcome, turn: Turn) -> float | None:
        """The units that fal bills, None if it does not say. Of a job whose end a webhook told the
        result is read for them, if fal gives it at once: nothing else depends on it."""
        if _tells_units(outcome):
            return outcome.billable_units
        ends_at = min(turn.ends_at, self.fal.clock() + UNITS_TIME_S)
        try:
            result = self.fal.result(job.model, job.fal_request_id or "", ends_at=ends_at)
        except AppError as error:
            return outcomes.units_of_failure(error, outcome)
        except OutOfTime:
            return None
        return result.billable_units if outcome.kind == "ok" else None

    def _not_copied(self, job: Job, outcome: Outcome, error: CopyError, turn: Turn) -> Job:
        """Try again later, for as long as it makes sense; fal's own addresses are kept."""
        sources = job.outcome.sources if job.outcome else None
        problem = error.error.adding(falRequestId=job.fal_request_id)
        if sources:
            outcomes.tell_urls(problem, sources, self.hooks)
        fault, now, owner = Fault.of(problem), self.now(), job.lease.owner if job.lease else ""
        is_early = now < states.begun_at(job) + COPY_FOR
        if error.may_pass and self.is_durable and is_early:
            pause = COPY_AGAIN * 2 ** min(job.copy_tries, 10)
            if isinstance(problem, DeadlineExceeded):
                pause = timedelta()
            units = self.units(job, outcome, turn)  # fal forgets them before we give up
            return self.records.apply(job, happen.CopyPaused(now, owner, fault, now + pause, units))
        units, actual = self._settled(job, outcome, turn)
        return self.records.apply(job, happen.CopyFailed(now, owner, fault, actual, units))


_NOT_KEPT = JobWarning("not_kept", "The pictures stay at fal: the proxy was not told to keep any.")


def _warnings(outcome: Outcome, images: tuple[Image, ...]) -> tuple[JobWarning, ...]:
    if outcome.sources is None:
        text = "The output names no pictures; see `output`."
        if outcome.output is None:
            text = "The output names no pictures and is too large to be kept: read it from fal."
        return (JobWarning("not_pictures", text),)
    flagged = [str(image.index) for image in images if image.nsfw]
    if not flagged:
        return ()
    text = f"fal's safety checker flagged image {', '.join(flagged)}; it may be black."
    return (JobWarning("flagged", text),)


def _tells_units(outcome: Outcome) -> bool:
    """Whether fal need not be asked for the units it bills."""
    return outcome.is_read or outcome.billable_units is not None


def _notes_of(kept: list[Kept]) -> tuple[JobWarning, ...]:
    return tuple(note for one in kept for note in one.notes)


def _seed(job: Job, outcome: Outcome) -> int | None:
    """The seed that fal told, else the one that was asked for."""
    asked = job.arguments.get("seed")
    return asked if outcome.seed is None and isinstance(asked, int) else outcome.seed


def _copy_timings(kept: list[Kept]) -> dict[str, int]:
    """The slowest of each half: the pictures are copied side by side."""
    if not kept:
        return {}
    return {
        "fetch": max(one.fetch_ms for one in kept),
        "store": max(one.store_ms for one in kept),
    }

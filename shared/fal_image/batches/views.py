"""A batch as callers see it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import asdict

from ..errors import AppError
from .documents import Counts, Head, State
from .files import Files
from .lanes import Lanes
from .results import Results


class Batch(Struct, frozen=True):
    """`running` rows may be at fal; `errors` are those of the first rows that failed."""

    batch_id: str
    state: State
    total: int
    running: int
    over: Counts
    errors: list[dict[str, object]]
    results_url: str | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens unless it is continued."""
        return self.state in ("stopped", "done")

    def to_json(self) -> dict[str, object]:
        pending = self.total - self.over.over - self.running
        counts = {"total": self.total, "pending": pending, "running": self.running}
        return {
            "batchId": self.batch_id,
            "state": self.state,
            "counts": counts | asdict(self.over),
            "errors": self.errors,
            "resultsUrl": self.results_url,
        }


class Views(Struct, frozen=True):
    lanes: Lanes
    results: Results
    files: Files

    def of(self, head: Head) -> Batch:
        """The batch as it is now. Raises DatabaseUnavailable, Internal (retryable)."""
        survey = self.lanes.survey(head)
        running: Sequence[object] = survey.startable if head.state == "running" else ()
        if head.state == "stopping":
            jobs = self.lanes.jobs(head, survey.startable)
            running = [job for job in jobs.values() if not job.is_over]
        return Batch(
            batch_id=head.batch_id,
            state=head.state,
            total=head.total,
            running=len(running) if head.is_planned else 0,
            over=survey.counts,
            errors=self._errors(head, survey.counts),
            results_url=self.files.link(head.results_key) if head.results_key else None,
        )

    def unseen(self, head: Head) -> Batch:
        """What the head alone says of a batch whose rows nobody can be asked about now."""
        over = head.counts()
        return Batch(head.batch_id, head.state, head.total, 0, over, errors=[], results_url=None)

    def _errors(self, head: Head, over: Counts) -> list[dict[str, object]]:
        refusal = refusal_of(head)
        if refusal is not None:
            error = {"error": refusal.code, "message": refusal.detail}
            return [{"row": None, "rowId": None, "jobId": None, "error": error}]
        return self.results.errors(head) if over.failed + over.unknown else []


def refusal_of(head: Head) -> AppError | None:
    """Why a batch cannot be carried out at all."""
    return head.fault.error() if head.fault else None

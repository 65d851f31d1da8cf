"""Money put aside before it is spent: one counter a caller and UTC day.

A job's price is taken before its submit and settled when it is known what it cost; both are
idempotent by the job's id. Refuses to know what a job is and what it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from .database.base import Database, DatabaseError
from .errors import BudgetExceeded, DatabaseUnavailable
from .jobs import Reservation, rfc3339
from .logs import logger

PAUSES_S = (0.25, 0.5)
COUNTER_LIFE = timedelta(days=3)  # the longest that a job of yesterday may still be settled

T = TypeVar("T")


@dataclass(frozen=True)
class Ledger:
    """`daily_budget_usd_micro` is what each caller may spend in a UTC day; None: no limit."""

    database: Callable[[], Database]
    daily_budget_usd_micro: int | None
    now: Callable[[], datetime]

    def reserve(
        self, caller: str, job_id: str, estimate_usd_micro: int | None
    ) -> tuple[Reservation, ...]:
        """Put the estimate aside; without a budget there is nothing to do.

        Raises BudgetExceeded, DatabaseUnavailable. Repeating it for a job adds nothing.
        """
        budget = self.daily_budget_usd_micro
        if budget is None:
            return ()
        today = self.now().astimezone(timezone.utc).replace(hour=0, minute=0, second=0)
        today = today.replace(microsecond=0)
        counter = f"spent:{caller}:{today:%Y-%m-%d}"
        if estimate_usd_micro is None:
            raise self._refusal(
                counter,
                today,
                "what this request costs is not known, so no budget can cover it",
                hint="Choose a model whose price GET /models shows and whose pictures have a size "
                "that is known before.",
            )
        with database_answers():
            taken = self.database().take(
                counter,
                job_id,
                estimate_usd_micro,
                budget,
                expires_at=today + COUNTER_LIFE,
            )
        if not taken:
            price = estimate_usd_micro / 1_000_000
            raise self._refusal(counter, today, f"the request would cost up to {price:g} USD")
        return (Reservation(counter, estimate_usd_micro),)

    def settle(
        self, job_id: str, reservations: tuple[Reservation, ...], actual_usd_micro: int | None
    ) -> None:
        """Put what was spent in the place of what was reserved; None: all of it may be spent.

        Safe to repeat: only the first time counts. Raises DatabaseUnavailable.
        """
        for one in reservations:
            actual = one.usd_micro if actual_usd_micro is None else actual_usd_micro
            with database_answers():
                self.database().settle(one.counter, job_id, reserved=one.usd_micro, actual=actual)

    def _refusal(
        self, counter: str, today: datetime, detail: str, hint: str | None = None
    ) -> BudgetExceeded:
        with database_answers():
            left = (self.daily_budget_usd_micro or 0) - self.database().total(counter)
        return BudgetExceeded(
            f"{detail}; {max(0, left) / 1_000_000:g} USD are left today",
            hint=hint,
            remainingUsd=max(0, left) / 1_000_000,
            resetsAt=rfc3339(today + timedelta(days=1)),
        )


def insisting(write: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """What `write` gives. A database that does not answer gets some more chances: this is for what
    fal may have been paid for and nobody else knows.

    Raises DatabaseUnavailable after the last; `write` must be safe to repeat.
    """
    for pause_s in PAUSES_S:
        try:
            return write()
        except DatabaseUnavailable:
            sleep(pause_s)
    return write()


@contextmanager
def database_answers() -> Iterator[None]:
    """Turns a database's failure into an answer; the owner's log says what it was."""
    try:
        yield
    except (DatabaseError, ImportError) as error:
        logger.error("the database failed: %s", error)
        raise DatabaseUnavailable("the database does not answer") from error

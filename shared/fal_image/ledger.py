"""What is put aside before it is spent: money by caller and in all, and what a ticket allows.

Each limit is a counter. What a job may cost at most is taken from all of them before its submit,
and settled when it is known what it did cost; both are idempotent by the job's id. Refuses to know
what a job is and what it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Literal, TypeVar

from msgspec import Struct

from .database.base import Database, DatabaseError
from .errors import BudgetExceeded, DatabaseUnavailable
from .jobs import Reservation, rfc3339
from .logs import logger
from .tickets import Ticket

PAUSES_S = (0.25, 0.5)
COUNTER_LIFE = timedelta(days=3)  # the longest that a job of yesterday may still be settled

UNKNOWN = (
    "Choose a model whose price GET /models shows and whose pictures have a size that is known "
    "before, or let the owner set FAL_IMAGE_UNKNOWN_PRICE."
)

T = TypeVar("T")


class Budgets(Struct, frozen=True):
    """In micro-USD, None is no limit: what each caller and all together may spend in a UTC day, and
    what is put aside where no price is known (None refuses)."""

    daily: int | None = None
    total_daily: int | None = None
    unknown_price: int | None = None


class Worst(Struct, frozen=True):
    """What a job may take at most; the price is None if nobody knows it."""

    usd_micro: int | None
    images: int


class _Cap(Struct, frozen=True):
    """One limit that a job must fit into. An amount of None is a price that nobody knows;
    `resets_at` is None for what never comes back."""

    counter: str
    amount: int | None
    limit: int
    of: Literal["usd_micro", "images", "uses"]
    whose: str
    expires_at: datetime
    resets_at: datetime | None


class Ledger(Struct, frozen=True):
    database: Callable[[], Database]
    budgets: Budgets
    now: Callable[[], datetime]

    def reserve(
        self, payer: str, key: str, worst: Worst, ticket: Ticket | None = None
    ) -> tuple[Reservation, ...]:
        """Put the worst case aside, from every limit there is; a refusal by one gives the others
        back. Without any limit there is nothing to do.

        Raises BudgetExceeded, DatabaseUnavailable. Repeating it under a key adds nothing, so a key
        must stand for one worst case and one ticket.
        """
        taken: list[Reservation] = []
        for cap in (*self._daily_caps(payer, worst), *self._ticket_caps(ticket, worst)):
            if cap.amount is None or not self._take(cap, cap.amount, key):
                self.give_back(key, tuple(taken))
                raise self._refusal(cap)
            taken.append(Reservation(cap.counter, cap.amount, cap.of, key))
        return tuple(taken)

    def settle(
        self,
        job_id: str,
        reservations: tuple[Reservation, ...],
        actual_usd_micro: int | None,
        images: int = 0,
    ) -> None:
        """Put what was spent in the place of what was reserved; where it is not known (None, and 0
        for `images`) all that was reserved counts as spent. A use is one in any case.

        Safe to repeat: only the first time counts. Raises DatabaseUnavailable.
        """
        for one in reservations:
            known = {"usd_micro": actual_usd_micro, "images": images or None}.get(one.of)
            self._close(job_id, one, one.amount if known is None else known)

    def give_back(self, job_id: str, reservations: tuple[Reservation, ...]) -> None:
        """Take everything back that was reserved: fal did nothing for it. See `settle`."""
        for one in reservations:
            self._close(job_id, one, 0)

    def _close(self, job_id: str, one: Reservation, actual: int) -> None:
        with database_answers():
            key = one.key or job_id
            self.database().settle(one.counter, key, reserved=one.amount, actual=actual)

    def _daily_caps(self, payer: str, worst: Worst) -> Iterator[_Cap]:
        today = self.now().astimezone(timezone.utc).replace(hour=0, minute=0, second=0)
        today = today.replace(microsecond=0)
        limits = (
            (f"spent:{payer}", self.budgets.daily, "today"),
            ("total", self.budgets.total_daily, "to all callers together today"),
        )
        for start, limit, whose in limits:
            if limit is not None:
                yield _Cap(
                    counter=f"{start}:{today:%Y-%m-%d}",
                    amount=self._price(worst),
                    limit=limit,
                    of="usd_micro",
                    whose=whose,
                    expires_at=today + COUNTER_LIFE,
                    resets_at=today + timedelta(days=1),
                )

    def _ticket_caps(self, ticket: Ticket | None, worst: Worst) -> Iterator[_Cap]:
        if ticket is None:
            return
        ends_at = datetime.fromtimestamp(ticket.exp, timezone.utc)
        limits: tuple[tuple[Literal["usd_micro", "images", "uses"], int | None, int | None], ...]
        limits = (
            ("usd_micro", self._price(worst), ticket.usd_micro),
            ("images", worst.images, ticket.images),
            ("uses", 1, ticket.uses),
        )
        for of, amount, limit in limits:
            if limit is not None:
                yield _Cap(
                    counter=f"ticket:{ticket.id}:{of}",
                    amount=amount,
                    limit=limit,
                    of=of,
                    whose="on this ticket",
                    expires_at=ends_at + COUNTER_LIFE,
                    resets_at=None,
                )

    def _price(self, worst: Worst) -> int | None:
        return self.budgets.unknown_price if worst.usd_micro is None else worst.usd_micro

    def _take(self, cap: _Cap, amount: int, job_id: str) -> bool:
        with database_answers():
            return self.database().take(
                cap.counter, job_id, amount, cap.limit, expires_at=cap.expires_at
            )

    def _refusal(self, cap: _Cap) -> BudgetExceeded:
        with database_answers():
            left = max(0, cap.limit - self.database().total(cap.counter))
        is_money = cap.of == "usd_micro"
        shown = f"{left / 1_000_000:g} USD" if is_money else f"{left} {cap.of}"
        if cap.amount is None:
            detail, hint = (
                "what this request costs is not known, so no budget can cover it",
                UNKNOWN,
            )
        else:
            asked = f"cost up to {cap.amount / 1_000_000:g} USD"
            detail = f"the request would {asked if is_money else f'take {cap.amount} {cap.of}'}"
            hint = None
        error = BudgetExceeded(
            f"{detail}; {shown} are left {cap.whose}",
            hint=hint,
            resetsAt=rfc3339(cap.resets_at),
        )
        if is_money:
            return error.adding(remainingUsd=left / 1_000_000)
        return error.adding(remaining={cap.of: left})


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

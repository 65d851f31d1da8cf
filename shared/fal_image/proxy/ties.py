"""What leads back to a job: fal's id of its request, and for a while an equal body.

Refuses to know fal and what a job's state means.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct, field

from ..database.base import Database, Document
from ..errors import DatabaseUnavailable, Internal
from ..inputs import Order
from ..jobs import Job
from ..jobs.documents import input_sha256
from ..ledger import database_answers, insisting

JOIN_WITHIN = timedelta(minutes=10)
MAX_KNOWN = 1000  # requests that somebody asks after again and again
MAX_TWINS = 100  # equal orders that wait to be joined; older ones can no longer be


class Tie(Struct, frozen=True):
    job_id: str
    caller: str
    model: str


class _Known:
    """The ties found last. A tie is written once and never changes, until its time is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ties: dict[str, tuple[Tie, datetime | None]] = {}

    def get(self, request_id: str, now: datetime) -> Tie | None:
        tie, expires_at = self._ties.get(request_id, (None, None))
        return None if expires_at is not None and expires_at <= now else tie

    def add(self, request_id: str, tie: Tie, expires_at: datetime | None) -> None:
        with self._lock:
            if len(self._ties) >= MAX_KNOWN:
                del self._ties[next(iter(self._ties))]
            self._ties[request_id] = (tie, expires_at)


class Ties(Struct, frozen=True):
    """`retention` is how long a request is found again by fal's id of it."""

    database: Callable[[], Database]
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    retention: timedelta
    known: _Known = field(default_factory=_Known)

    def keep(self, job: Job) -> None:
        """Let fal's request id lead to its job; repeating it changes nothing.

        fal was paid: the database gets some chances. Raises Internal, which no client repeats.
        """
        body = {"jobId": job.job_id, "caller": job.caller, "model": job.model}
        try:
            insisting(lambda: self._create(f"fal:{job.fal_request_id}", body), self.sleep)
        except DatabaseUnavailable as error:
            raise Internal(
                "the database did not take where the request is found",
                hint=f"The job goes on: ask GET /jobs/{job.job_id} for it.",
                jobId=job.job_id,
                falRequestId=job.fal_request_id,
            ) from error

    def find(self, request_id: str) -> Tie | None:
        """The job of fal's request; the database is asked until it is found once. Raises
        DatabaseUnavailable."""
        tie = self.known.get(request_id, self.now())
        if tie is not None:
            return tie
        found = self._get(f"fal:{request_id}")
        if found is None:
            return None
        body = found.body
        tie = Tie(str(body["jobId"]), str(body["caller"]), str(body["model"]))
        self.known.add(request_id, tie, found.expires_at)
        return tie

    def let_join(self, job_id: str, order: Order, caller: str) -> None:
        """Let equal orders of the same caller find the job for a while. Raises
        DatabaseUnavailable; safe to repeat."""
        insisting(lambda: self._add(_equal(order, caller), job_id), self.sleep)

    def joined(self, order: Order, caller: str) -> str | None:
        """The id of the job that an order may join: of several, the one that was joined longest
        ago, so that twins which ran out of time together get a picture each. Raises
        DatabaseUnavailable."""
        id = _equal(order, caller)
        while (known := self._get(id)) is not None:
            first, *others = _waiting(known)
            body = {"jobIds": [*others, first]}
            with database_answers():
                if not others or self.database().replace_if(
                    id, known.version, body, expires_at=known.expires_at
                ):
                    return first
        return None

    def _create(self, id: str, body: Mapping[str, object]) -> None:
        with database_answers():
            self.database().create(id, body, expires_at=self.now() + self.retention)

    def _add(self, id: str, job_id: str) -> None:
        expires_at, is_kept = self.now() + JOIN_WITHIN, False
        while not is_kept:  # whoever is in between has added a job too
            with database_answers():
                known = self.database().get(id)
                waiting = [] if known is None or self._is_over(known) else _waiting(known)
                others = [each for each in waiting if each != job_id]
                body = {"jobIds": [*others, job_id][-MAX_TWINS:]}
                if known is None:
                    is_kept = self.database().create(id, body, expires_at=expires_at)
                else:
                    is_kept = self.database().replace_if(
                        id, known.version, body, expires_at=expires_at
                    )

    def _get(self, id: str) -> Document | None:
        """A database may keep what has expired a little longer."""
        with database_answers():
            found = self.database().get(id)
        return None if found is None or self._is_over(found) else found

    def _is_over(self, found: Document) -> bool:
        return found.expires_at is not None and found.expires_at <= self.now()


def _waiting(known: Document) -> list[str]:
    """The jobs that may be joined, the one that was joined longest ago first."""
    waiting = known.body["jobIds"]
    assert isinstance(waiting, list)
    return waiting


def _equal(order: Order, caller: str | None) -> str:
    return f"run:{input_sha256(order.model, order.arguments, caller)}"

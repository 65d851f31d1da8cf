"""The documents of jobs: read, made once, and changed by one event at a time.

A change is a compare-and-set. Who loses it reads the document again and applies the event to what
is there now, because an event that came too late changes nothing by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..database.base import MAX_BODY_BYTES, MAX_MANY, Database, Document
from ..errors import BodyTooLarge, NotFound
from ..jobs import Job
from ..jobs.documents import from_document, to_document
from ..jobs.events import Event
from ..jobs.states import due_at, transition
from ..ledger import database_answers

PREFIX = "job:"
MAX_NEW_BYTES = MAX_BODY_BYTES // 2  # the rest is for fal's answer

_ENCODER = msgspec.json.Encoder()


class Records(Struct, frozen=True):
    """`retention` is how long the document of a job that is over is kept."""

    database: Callable[[], Database]
    now: Callable[[], datetime]
    retention: timedelta

    def check(self, job: Job) -> None:
        """Raises BodyTooLarge for a job that leaves no room for what will be known of it."""
        if _is_small(job):
            return
        size = len(json.dumps(to_document(job), ensure_ascii=False).encode("utf-8", "replace"))
        if size > MAX_NEW_BYTES:
            raise BodyTooLarge(
                "the input is too long to be kept",
                hint="Send pictures as file ids or URLs, and a shorter prompt.",
            )

    def create(self, job: Job) -> Job | None:
        """Keep a new job that was checked; None, and nothing changed, if its id is taken. Raises
        DatabaseUnavailable."""
        with database_answers():
            made = self.database().create(PREFIX + job.job_id, to_document(job), due_at=due_at(job))
        return replace(job, version=1) if made else None

    def find(self, job_id: str) -> Job | None:
        """The job, None if there is none or its time is over. Raises DatabaseUnavailable."""
        with database_answers():
            found = self.database().get(PREFIX + job_id)
        return self._job(found) if found else None

    def load(self, job_id: str) -> Job:
        """The job. Raises NotFound, DatabaseUnavailable."""
        job = self.find(job_id)
        if job is None:
            raise NotFound("no such job")
        return job

    def find_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Those of these jobs that are there, in the order asked. Raises DatabaseUnavailable."""
        jobs: list[Job] = []
        for start in range(0, len(job_ids), MAX_MANY):
            wanted = [PREFIX + job_id for job_id in job_ids[start : start + MAX_MANY]]
            with database_answers():
                found = self.database().get_many(wanted)
            jobs += [job for one in found if (job := self._job(one)) is not None]
        return jobs

    def is_held_back(self, job_id: str, index: int, caller: str | None, *, is_judged: bool) -> bool:
        """Whether a picture is another caller's, or withheld; where pictures are judged, also
        whether this one was not yet. One whose document is gone is whose file id one knows.

        Raises DatabaseUnavailable.
        """
        job = self.find(job_id)
        if job is None:
            return False
        known = [image for image in job.images if image.index == index]
        is_withheld = any(image.withheld for image in known)
        return job.caller != caller or is_withheld or (is_judged and not known)

    def apply(self, job: Job, *events: Event) -> Job:
        """The job after the events, as it is kept. Nothing is written if they change nothing.

        Raises DatabaseUnavailable, and NotFound for a job that is gone; safe to repeat.
        """
        while True:
            changed = self.attempt(job, *events)
            if changed is not None:
                return changed
            job = self.load(job.job_id)

    def attempt(self, job: Job, *events: Event) -> Job | None:
        """Like `apply`, but None if somebody else has changed the job since it was read."""
        changed = job
        for event in events:
            changed = transition(changed, event)
        if changed is job:
            return job
        due = due_at(changed)
        with database_answers():
            written = self.database().replace_if(
                PREFIX + job.job_id,
                job.version,
                to_document(changed),
                due_at=due,
                expires_at=None if due or not changed.is_over else self.now() + self.retention,
            )
        return replace(changed, version=job.version + 1) if written else None

    def _job(self, document: Document) -> Job | None:
        """A database may keep what has expired a little longer; nobody gets to see it."""
        if document.expires_at is not None and document.expires_at <= self.now():
            return None
        return from_document(document.id.removeprefix(PREFIX), document.version, document.body)


def _is_small(job: Job) -> bool:
    """Whether a job is far from MAX_NEW_BYTES, told without making its document: as JSON it is not
    half as long, and the document leaves out more than its spaces add."""
    try:
        return 2 * len(_ENCODER.encode(job)) < MAX_NEW_BYTES
    except UnicodeEncodeError:  # half a character pair, which the document spells otherwise
        return False

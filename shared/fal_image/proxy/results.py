"""What a job of the proxy's gave: fal's own answer, and in it, where the owner wants that, links to
the owner's copies of the pictures.

Reading a result drives its job on, as any other look at it does. A paid picture never turns into an
error: what fails on our side is told beside fal's answer.
"""

from __future__ import annotations

from msgspec import Struct

from ..errors import AppError
from ..fal import refusals
from ..fal.client import read_result
from ..generate import Generator, outcomes
from ..jobs import Job, Outcome
from ..ledger import insisting
from ..logs import logger
from ..web import Response, json_response
from ..wire import Answer
from .answers import encoded, headers_of, passed_on
from .asked import Asked
from .keeping import Keeping
from .passing import Passing
from .targets import app_of, request_url


class Results(Struct, frozen=True):
    passing: Passing
    keeping: Keeping

    def read(self, job: Job, asked: Asked, house: Generator) -> Response:
        """What fal answers now; a failure of the job as fal tells it. Safe to repeat.

        Raises FalFailed if nothing came, FalAuthFailed, and the job's own error if fal has dropped
        it.
        """
        return self.told(job, self.ask(job, asked), asked, house)

    def ask(self, job: Job, asked: Asked) -> Answer:
        """fal's answer about the job, as it came. Raises FalFailed if none did, FalAuthFailed."""
        return self.passing.ask("GET", self._url(job), asked)

    def told(self, job: Job, answer: Answer, asked: Asked, house: Generator) -> Response:
        """fal's answer as the caller gets it, after what it says of the job was acted on. Raises
        as `read` does."""
        if refusals.is_forgotten(answer.status, answer.body):
            job = _driven(job, asked, house)
            if job.is_over and job.fault is not None:
                raise self.keeping.spoken(job.fault)
            if job.state != "done" or not self.keeping.can_recall(job):
                return passed_on(answer)
            own = ("x-fal-request-id", job.fal_request_id or "")
            return json_response(200, self.keeping.recalled(job, house), own)
        job = _noted(job, answer, asked, house)
        payload = refusals.parse_json(answer.body)
        if answer.status >= 300 or not isinstance(payload, dict):
            return passed_on(answer)
        kept = self.keeping.shown(job, payload, asked, house)
        if kept is payload:
            return passed_on(answer)
        headers = (pair for pair in headers_of(answer.headers) if pair[0] != "etag")
        return Response(answer.status, encoded(kept), tuple(headers))

    def _url(self, job: Job) -> str:
        return request_url(app_of(job.model), job.fal_request_id or "")


def tells_an_end(answer: Answer) -> bool:
    """Whether fal's answer about a job is how it ended: not that it goes on, and no gateway's."""
    try:
        return read_result(answer, "", "") is not None
    except AppError:
        return True


def _noted(job: Job, answer: Answer, asked: Asked, house: Generator) -> Job:
    """The job after fal's answer, if that says how it ended."""
    request_id = job.fal_request_id or ""
    try:
        found = read_result(answer, job.model, request_id)
        outcome = outcomes.of_result(found) if found else None
    except AppError as error:
        outcome = outcomes.of_failure(error)
    return concluded(job, request_id, outcome, asked, house) if outcome else job


def concluded(job: Job, request_id: str, outcome: Outcome, asked: Asked, house: Generator) -> Job:
    """The job after what fal said of it was written down and acted on, as far as that goes now:
    fal's answer is in hand, and whatever fails on our side must not keep it from the caller."""
    steps = house.steps
    try:
        job = insisting(lambda: steps.note(job, request_id, outcome, asked.turn), steps.sleep)
    except Exception:
        logger.exception("what fal said of %s is not kept", job.job_id)
        return job
    return _driven(job, asked, house)


def _driven(job: Job, asked: Asked, house: Generator) -> Job:
    try:
        return house.steps.advance(job, asked.turn)
    except Exception:
        logger.exception("job %s waits for the sweep", job.job_id)
        return job

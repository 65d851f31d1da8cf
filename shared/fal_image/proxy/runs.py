"""fal.run without fal.run: a run is a job in fal's queue that is waited for.

A connection to fal.run that is cut is billed and its result lost; a job goes on. Refuses to know
how answers are passed on.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec import Struct

from ..errors import AppError, DatabaseUnavailable, FalFailed, Internal, RunTimeout
from ..fal.client import OutOfTime
from ..generate import Generator, Wish
from ..inputs import Order
from ..jobs import Job
from ..logs import logger
from ..web import Response
from ..wire import Answer
from .asked import Asked
from .intake import Intake
from .results import Results, tells_an_end

LOOK_EVERY_S = 0.1
ASK_EVERY_S = 0.5  # for a result that must be there

GOES_ON_ALONE = "The job goes on, but sending it again is a new one: ask GET /jobs/ID with its id."

# Neither of fal's clients repeats a 504 with this header (sources of 1.10.1 and 1.0.3).
_USER_TIMEOUT = (("x-fal-request-timeout-type", "user"),)


class Runs(Struct, frozen=True):
    intake: Intake
    results: Results

    def run(self, asked: Asked) -> Response:
        """Submit, wait and give fal's answer; nothing is paid again for an order that was told to
        come back.

        Raises RunTimeout if fal is still at work when the answer is due, SubmitUnknown, and
        whatever a submit was refused with.
        """
        house, order = self.intake.house(), self.intake.order(asked)
        wish = self.intake.wish(asked)
        joined = self._joined(order, asked)
        job = joined or self._started(house, order, asked, wish)
        job = taken(job, asked, house)
        asked.note(jobId=job.job_id, falRequestId=job.fal_request_id)
        if job.fal_request_id is None:
            if joined is None and job.state == "unknown":
                self._let_join(job.job_id, order, asked)
            raise not_taken(job)
        answer = self._ended(job, asked, house)
        if answer is None:
            raise self._goes_on(job, order, asked, house)
        try:
            return self.results.told(job, answer, asked, house)
        except AppError:  # of a job that may have been paid, and clients repeat a run
            self._let_join(job.job_id, order, asked)
            raise

    def _started(self, house: Generator, order: Order, asked: Asked, wish: Wish) -> Job:
        try:
            return house.start(order, asked.turn, wish)
        except Internal as error:  # fal took it, and the database would not hear of it
            self._let_join(str(error.extensions["jobId"]), order, asked)
            raise

    def _joined(self, order: Order, asked: Asked) -> Job | None:
        if not self.intake.is_durable or asked.job_id is not None:
            return None
        job_id = self.intake.ties.joined(order, asked.caller)
        job = self.intake.generator.steps.records.find(job_id) if job_id else None
        return None if job is None or _gave_nothing(job) else job

    def _ended(self, job: Job, asked: Asked, house: Generator) -> Answer | None:
        """fal's answer once the job has ended, None if it has not by the time ours is due.

        A gateway that speaks in fal's place knows nothing of the job: fal is asked again.
        """
        fal, request_id, answer_by = house.steps.fal, job.fal_request_id or "", asked.turn.answer_by
        try:
            if not job.is_over and job.outcome is None:
                fal.wait(job.model, request_id, ends_at=answer_by)
            while fal.clock() < answer_by:
                with suppress(FalFailed):
                    answer = self.results.ask(job, asked)
                    if tells_an_end(answer):
                        return answer
                fal.sleep(ASK_EVERY_S)
        except OutOfTime:
            logger.info("fal is still at work on %s", request_id)
        except AppError as error:
            logger.info("a run of %s goes on: %s", job.job_id, error.detail)
            if not self.intake.is_durable:
                raise error.adding(falRequestId=request_id) from None
        return None

    def _goes_on(self, job: Job, order: Order, asked: Asked, house: Generator) -> AppError:
        if not self.intake.is_durable:
            return house.out_of_time(job)
        is_found = self._let_join(job.job_id, order, asked)
        return RunTimeout(
            "fal was still at work when the time for the answer ran out",
            hint=None if is_found else GOES_ON_ALONE,
            retryable=is_found,
            headers=_USER_TIMEOUT,
            jobId=job.job_id,
            falRequestId=job.fal_request_id,
        )

    def _let_join(self, job_id: str, order: Order, asked: Asked) -> bool:
        """Whether an equal run of the same caller now finds the job."""
        if not self.intake.is_durable:
            return False
        try:
            self.intake.ties.let_join(job_id, order, asked.caller)
        except DatabaseUnavailable as error:
            logger.error("an equal run of %s would be paid again: %s", job_id, error.detail)
            return False
        return True


def taken(job: Job, asked: Asked, house: Generator) -> Job:
    """The job once fal has answered its submit, which a twin of this call may be about."""
    steps = house.steps
    while job.fal_request_id is None and not job.is_over and steps.clock() < asked.turn.answer_by:
        steps.sleep(LOOK_EVERY_S)
        job = steps.advance(steps.records.load(job.job_id), asked.turn)
    return job


def not_taken(job: Job) -> AppError:
    """Why a job has no request at fal."""
    if job.fault is not None:
        return job.fault.error().adding(jobId=job.job_id)
    return RunTimeout(
        "the job is still being submitted",
        hint=GOES_ON_ALONE,
        retryable=False,
        headers=_USER_TIMEOUT,
        jobId=job.job_id,
    )


def _gave_nothing(job: Job) -> bool:
    """Whether a job has ended without a picture and without a bill; of what fal has forgotten
    nobody knows."""
    if job.state not in ("failed", "cancelled"):
        return False
    if job.outcome is None:
        return job.fal_request_id is None
    return job.outcome.kind != "ok" and job.outcome.billable_units == 0

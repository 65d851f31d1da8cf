"""Who calls without being a caller: fal with its webhooks, a timer, a queue with a message."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ..drivers import Drivers
from ..errors import DatabaseRequired, InvalidJson, Unauthorized
from ..fal.webhooks import Verifier, check_token
from ..generate import Turn, turn_of
from ..inputs import parse_object
from ..jobs import ID_CHARS
from ..settings import Settings
from ..web import Request, Response, json_response
from ..wire import Clock
from .table import KEPT_BACK_S, Call, Route, answer_by

WEBHOOK_S = 12.0  # fal waits 15 s for the answer to its first attempt (fal docs, webhooks page)
SWEEP_S = 50.0  # of a server, which sweeps every minute
SWEEP_KEPT_BACK = 0.2  # of the time a platform grants: whatever is begun must also end


class VendorRoutes(Struct, frozen=True):
    settings: Settings
    drivers: Drivers
    verifier: Verifier
    clock: Clock
    new_owner: Callable[[], str]

    def table(self) -> tuple[Route, ...]:
        return (Route("POST", "/webhooks/fal/{job}/{token}", "fal", self.webhook),)

    def webhook(self, call: Call) -> Response:
        """fal tells what became of a job. Whatever is 2xx is kept; fal repeats everything else."""
        job_id, token = call.params["job"], call.params["token"]
        if not check_token(self.settings.secrets, job_id, token):
            raise Unauthorized("this is no address that fal was given")
        self._require_database("a webhook's job")
        turn = self._turn(call.request, min(self._answer_by(call), call.started_at + WEBHOOK_S))
        delivery = self.verifier.verify(
            call.request.headers, call.request.body, ends_at=turn.answer_by
        )
        call.note(jobId=job_id, falRequestId=delivery.request_id)
        self.drivers.hear(job_id, delivery, turn)
        return json_response(200, {"jobId": job_id}, ("cache-control", "no-store"))

    def timer(self, request: Request, note: Callable[..., None]) -> Response:
        """Sweep; a timer can ask for nothing else. Without a database there is nothing to sweep."""
        if self.settings.database_url is None:
            note(detail="nothing to sweep without a database")
            return json_response(200, {"swept": 0})
        started_at, ends_at = self.clock(), request.platform.ends_at
        time_s = SWEEP_S if ends_at is None else (ends_at - started_at) * (1 - SWEEP_KEPT_BACK)
        swept = self.drivers.sweep(self._turn(request, started_at + time_s))
        note(**swept.to_json())
        return json_response(200, {"swept": swept.jobs + swept.batches, **swept.to_json()})

    def message(self, request: Request, note: Callable[..., None]) -> Response:
        """Drive the job that a queue's message names; a status of 400 or more brings it again."""
        self._require_database("the job of a queue's message")
        job_id = parse_object(request.body).get("jobId")
        if not isinstance(job_id, str):
            raise InvalidJson('the message is not {"jobId": "…"}')
        note(jobId=job_id[:ID_CHARS])
        ends_at = request.platform.ends_at
        time_left = self.clock() + SWEEP_S if ends_at is None else ends_at - KEPT_BACK_S
        self.drivers.consume(job_id, self._turn(request, time_left))
        return json_response(200, {"jobId": job_id})

    def _answer_by(self, call: Call) -> float:
        return answer_by(call.request.platform, call.started_at, self.settings.max_wait_s)

    def _turn(self, request: Request, until: float) -> Turn:
        return turn_of(
            request.platform, self.clock, owner=self.new_owner(), answer_by=until, tells=True
        )

    def _require_database(self, what: str) -> None:
        if self.settings.database_url is None:
            raise DatabaseRequired(f"{what} is in a database, and none is configured")

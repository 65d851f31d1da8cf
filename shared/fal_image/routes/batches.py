"""Many jobs as one: `/batches`."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ..batches import Batch, Batches
from ..errors import DatabaseRequired
from ..generate import Turn, turn_of
from ..settings import Settings
from ..web import Response, json_response
from ..wire import Clock
from .jobs import intended_id, public_url
from .table import Call, Route, always, answer_by

_NOT_KEPT = ("cache-control", "no-store")
RETRY_AFTER_S = 5


class BatchRoutes(Struct, frozen=True):
    settings: Settings
    batches: Batches
    clock: Clock
    new_owner: Callable[[], str]

    def table(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/batches", "key", self.start, spends=always),
            Route("GET", "/batches/{id}", "key", self.batch),
            Route("DELETE", "/batches/{id}", "key", self.stop),
            Route("POST", "/batches/{id}/continue", "key", self.resume, spends=always),
        )

    def start(self, call: Call) -> Response:
        self._require_database()
        batch = self.batches.start(
            call.json(),
            call.caller,
            self._turn(call),
            public_url(self.settings, call),
            batch_id=intended_id(self.batches, self.settings, call, "batches"),
        )
        return self._answer(call, batch, 202)

    def batch(self, call: Call) -> Response:
        self._require_database()
        return self._answer(call, self.batches.find(call.params["id"], call.caller), 200)

    def stop(self, call: Call) -> Response:
        self._require_database()
        batch = self.batches.stop(call.params["id"], call.caller)
        return self._answer(call, batch, 202)

    def resume(self, call: Call) -> Response:
        self._require_database()
        batch = self.batches.resume(call.params["id"], call.caller, self._turn(call))
        return self._answer(call, batch, 202)

    def _answer(self, call: Call, batch: Batch, status: int) -> Response:
        call.note(batchId=batch.batch_id, state=batch.state)
        if batch.is_over:
            return json_response(200, batch.to_json(), _NOT_KEPT)
        place = f"{public_url(self.settings, call) or self.settings.base_path}"
        return json_response(
            status,
            batch.to_json(),
            _NOT_KEPT,
            ("location", f"{place}/batches/{batch.batch_id}"),
            ("retry-after", str(RETRY_AFTER_S)),
        )

    def _turn(self, call: Call) -> Turn:
        platform = call.request.platform
        return turn_of(
            platform,
            self.clock,
            owner=self.new_owner(),
            answer_by=answer_by(platform, call.started_at, self.settings.max_wait_s),
        )

    def _require_database(self) -> None:
        if self.settings.database_url is None:
            raise DatabaseRequired("batches are kept in a database only")

"""What a request would cost: `/estimate`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ..generate import Estimates
from ..inputs import parse_order
from ..settings import Settings
from ..web import Response, json_response
from ..wire import Clock
from .table import Call, Route, answer_by


class EstimateRoutes(Struct, frozen=True):
    settings: Settings
    estimates: Estimates
    clock: Clock
    aliases: Mapping[str, str]

    def table(self) -> tuple[Route, ...]:
        return (Route("POST", "/estimate", "ticket", self.estimate),)

    def estimate(self, call: Call) -> Response:
        """The price of what `POST /generate` would make of the same body, which costs nothing."""
        order = parse_order(
            call.json(), default_model=self.settings.default_model, aliases=self.aliases
        )
        call.note(model=order.model)
        ends_at = answer_by(call.request.platform, self.clock(), self.settings.max_wait_s)
        estimate = self.estimates.of(order, ends_at=ends_at)
        return json_response(200, estimate.to_json(), ("cache-control", "no-store"))

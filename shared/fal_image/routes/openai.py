"""OpenAI's addresses, played by ours: for clients whose base URL is this endpoint's `/v1`."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ..generate import Generator, turn_of
from ..openai import Asked, OpenAI, refusal
from ..settings import Settings
from ..web import Response
from ..wire import Clock
from .jobs import intended_id, public_url
from .table import Call, Route, always, answer_by

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


class OpenAIRoutes(Struct, frozen=True):
    settings: Settings
    generator: Generator
    openai: OpenAI
    clock: Clock
    new_owner: Callable[[], str]

    def table(self) -> tuple[Route, ...]:
        return (
            Route("POST", GENERATIONS, "ticket", self.generations, refusal, always),
            Route("POST", EDITS, "ticket", self.edits, refusal, always),
            Route("GET", "/v1/models", "ticket", self.models, refusal),
        )

    def generations(self, call: Call) -> Response:
        return self.openai.generations(call.json(), self._asked(call, "openai generations"))

    def edits(self, call: Call) -> Response:
        content_type = call.request.headers.get("content-type") or ""
        asked = self._asked(call, "openai edits")
        return self.openai.edits(call.request.body, content_type, asked)

    def models(self, call: Call) -> Response:
        return self.openai.models()

    def _asked(self, call: Call, what: str) -> Asked:
        platform, settings = call.request.platform, self.settings
        jobs = f"{public_url(settings, call) or settings.base_path}/jobs"
        return Asked(
            caller=call.caller or "",
            ticket=call.ticket,
            turn=turn_of(
                platform,
                self.clock,
                owner=self.new_owner(),
                answer_by=answer_by(platform, call.started_at, settings.max_wait_s),
            ),
            request_id=platform.request_id,
            job_id=intended_id(self.generator, settings, call, what),
            public_url=public_url(settings, call),
            place_of=lambda job_id: f"{jobs}/{job_id}",
            answer_bytes=platform.answer_bytes,
            note=call.note,
        )

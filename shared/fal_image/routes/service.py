"""All routes in one table, and the few that belong to nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec
from msgspec import Struct, field

from .. import __version__
from ..assets import Assets
from ..batches import Batches
from ..drivers import Drivers
from ..errors import DatabaseUnavailable
from ..extend import NO_HOOKS, Hooks
from ..fal import catalog
from ..fal.webhooks import Verifier
from ..generate import Estimates, Generator, is_allowed
from ..notices import Notices
from ..openai import OpenAI
from ..page import page
from ..proxy import Proxy
from ..rates import Rates
from ..settings import Settings
from ..uploads import Uploads
from ..web import Request, Response, json_response
from ..wire import Clock
from . import openapi
from .batches import BatchRoutes
from .estimate import EstimateRoutes
from .files import FileRoutes
from .jobs import JobRoutes
from .openai import OpenAIRoutes
from .proxy import ProxyRoutes
from .table import Call, Route, Variables
from .tickets import TicketRoutes
from .vendors import VendorRoutes

PAGE_KEPT_S = 300  # by browsers and caches: after a deployment nobody has an old one for longer


class Routes(Struct, frozen=True):
    settings: Settings
    generator: Generator
    estimates: Estimates
    assets: Assets
    uploads: Uploads
    batches: Batches
    drivers: Drivers
    notices: Notices
    proxy: Proxy
    verifier: Verifier
    variables: Variables
    new_owner: Callable[[], str]
    randomness: Callable[[int], bytes]
    rates: Rates | None
    now: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep
    clock: Clock = time.monotonic
    aliases: Mapping[str, str] = field(default_factory=dict)
    hooks: Hooks = NO_HOOKS

    def table(self) -> tuple[Route, ...]:
        jobs = JobRoutes(
            self.settings,
            self.generator,
            self.drivers,
            self.notices,
            self.clock,
            self.sleep,
            self.new_owner,
            self.aliases,
        )
        files = FileRoutes(
            self.assets,
            self.uploads,
            lambda: self.now().timestamp(),
            self.settings.max_image_bytes,
        )
        proxied = ProxyRoutes(self.settings, self.generator, self.proxy, self.clock, self.new_owner)
        openai = OpenAIRoutes(
            self.settings,
            self.generator,
            OpenAI(self.generator, self.notices, self.settings.default_model, self.aliases),
            self.clock,
            self.new_owner,
        )
        batches = BatchRoutes(self.settings, self.batches, self.clock, self.new_owner)
        return (
            *jobs.table(),
            *batches.table(),
            *files.table(),
            *proxied.table(),
            *openai.table(),
            *TicketRoutes(self.settings, self.now, self.randomness).table(),
            *EstimateRoutes(self.settings, self.estimates, self.clock, self.aliases).table(),
            *self._vendors.table(),
            Route("GET", "/", "open", self.page),
            Route("GET", "/models", "ticket", self.models),
            Route("GET", "/health", "open", self.health),
            Route("GET", "/openapi.json", "open", self.openapi),
        )

    def unasked(self, request: Request, note: Callable[..., None]) -> Response:
        """Answer an event that no caller sent: a timer's or a queue's."""
        if request.platform.name == "queue":
            return self._vendors.message(request, note)
        return self._vendors.timer(request, note)

    def models(self, call: Call) -> Response:
        allowed = [
            model
            for model in catalog.models().values()
            if is_allowed(model.id, self.settings.models)
        ]
        answer = {
            "globs": list(self.settings.models),
            "defaultModel": self.settings.default_model,
            "aliases": dict(self.aliases),
            "models": [msgspec.to_builtins(model) for model in allowed],
        }
        return json_response(200, answer)

    def openapi(self, call: Call) -> Response:
        return openapi.described(self.table(), self.settings, call)

    def page(self, call: Call) -> Response:
        """The web page. It knows no key, and asks the other routes as everybody does."""
        served = page()
        return Response(
            200,
            served.html,
            (
                ("content-type", "text/html; charset=utf-8"),
                ("content-security-policy", served.policy),
                ("cache-control", f"public, max-age={PAGE_KEPT_S}"),
            ),
        )

    def health(self, call: Call) -> Response:
        """Alive, and whether what keeps jobs going is alive too; fal is not asked."""
        status = "misconfigured" if self.settings.problems else "ok"
        answer: dict[str, object] = {"status": status, "version": __version__}
        if self.settings.database_url is not None and not self.settings.problems:
            answer["lastSweep"] = self._last_sweep(answer)
        return json_response(200, answer, ("cache-control", "no-store"))

    def _last_sweep(self, answer: dict[str, object]) -> dict[str, object] | None:
        try:
            last = self.drivers.last_sweep()
        except DatabaseUnavailable:
            answer["status"] = "database_unavailable"
            return None
        if last is None:
            return None
        age = self.now() - datetime.fromisoformat(str(last["endedAt"]).replace("Z", "+00:00"))
        return last | {"ageS": round(age.total_seconds())}

    @property
    def _vendors(self) -> VendorRoutes:
        return VendorRoutes(self.settings, self.drivers, self.verifier, self.clock, self.new_owner)

"""fal's addresses, played by ours: by header for the `proxyUrl` of @fal-ai/client, by path for
clients that take a base URL."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ..errors import AppError, Misconfigured
from ..generate import Generator, turn_of
from ..proxy import Asked, Proxy, of_header, of_path, refusal
from ..proxy.targets import HEADER, Target
from ..settings import Settings
from ..web import Response
from ..wire import Clock
from .jobs import intended_id, public_url
from .table import Call, Route, answer_by

PATH = "/api/fal/proxy"
METHODS = ("GET", "POST", "PUT")


class ProxyRoutes(Struct, frozen=True):
    settings: Settings
    generator: Generator
    proxy: Proxy
    clock: Clock
    new_owner: Callable[[], str]

    def table(self) -> tuple[Route, ...]:
        by_header = (
            Route(name, PATH, "ticket", self.by_header, refusal, _header_spends) for name in METHODS
        )
        place = f"{PATH}/{{host}}/{{path*}}"
        by_path = (
            Route(name, place, "ticket", self.by_path, refusal, _path_spends) for name in METHODS
        )
        return (*by_header, *by_path)

    def by_header(self, call: Call) -> Response:
        return self._answer(call, _by_header(call), None)

    def by_path(self, call: Call) -> Response:
        target = _by_path(call)
        here = public_url(self.settings, call)
        if here is None and target.kind in ("submit", "status", "follow"):
            raise Misconfigured(
                "FAL_IMAGE_PUBLIC_URL: must be set: the answer to this call names addresses of ours"
            )
        return self._answer(call, target, f"{here}{PATH}")

    def _answer(self, call: Call, target: Target, base: str | None) -> Response:
        request, settings = call.request, self.settings
        platform = request.platform
        call.note(target=target.kind)
        asked = Asked(
            target=target,
            method=request.method,
            headers=request.headers,
            body=request.body,
            caller=call.caller or "",
            ticket=call.ticket,
            turn=turn_of(
                platform,
                self.clock,
                owner=self.new_owner(),
                answer_by=answer_by(platform, call.started_at, settings.max_wait_s),
            ),
            public_url=public_url(settings, call),
            base=base,
            can_stream=platform.name == "wsgi",
            job_id=self._intended_id(call, target),
            note=call.note,
        )
        return self.proxy.answer(asked)

    def _intended_id(self, call: Call, target: Target) -> str | None:
        if target.kind not in ("submit", "run", "stream"):
            return None
        return intended_id(self.generator, self.settings, call, f"proxy {target.kind}")


def _by_header(call: Call) -> Target:
    return of_header(call.request.method, call.request.headers.get(HEADER))


def _by_path(call: Call) -> Target:
    request = call.request
    return of_path(request.method, call.params["host"], call.params["path"], request.query)


def _header_spends(call: Call) -> bool:
    return _spends(call, _by_header)


def _path_spends(call: Call) -> bool:
    return _spends(call, _by_path)


def _spends(call: Call, target_of: Callable[[Call], Target]) -> bool:
    """Whether fal may be paid for it; what is refused anyway costs nothing."""
    try:
        return target_of(call).kind in ("submit", "run", "stream", "token")
    except AppError:
        return False

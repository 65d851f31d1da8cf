"""What becomes of a proxied call, by the kind of its target.

What is paid for is a job like any other: put aside from the budget, known by fal's webhook, bound
to its caller. Everything else is passed on with the owner's key, which nobody sees. Refuses to know
how the call came in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from ..errors import TokenRefused
from ..generate import Overheard, is_all_allowed
from ..inputs import field_error
from ..jobs.events import CancelAsked
from ..tickets import Ticket
from ..web import Response, json_response
from .answers import NOT_KEPT, encoded, passed_on, places
from .asked import Asked
from .intake import Intake
from .passing import JSON, Passing
from .results import Results
from .runs import Runs, not_taken, taken
from .streams import Streams
from .targets import Kind, app_of, is_name

MAX_TOKEN_S = 300  # fal's clients ask for 120
MAX_TOKEN_APPS = 20
TOKEN_LIVES = {"tokens": "token_expiration", "tokens/realtime": "duration"}
TOKEN_S = 120


class Proxy(Struct, frozen=True):
    """`has_budget`: what is spent must be counted, which a token's holder does not."""

    intake: Intake
    passing: Passing
    results: Results
    runs: Runs
    streams: Streams
    has_budget: bool

    def answer(self, asked: Asked) -> Response:
        """What the caller is answered. Raises AppError; see `answers.refusal` for its shape."""
        return _HANDLERS[asked.target.kind](self, asked)

    def submit(self, asked: Asked) -> Response:
        """Put a job into fal's queue; the answer has fal's shape."""
        self.intake.refuse_strangers(asked)
        house, order = self.intake.house(), self.intake.order(asked)
        overheard = Overheard()
        turn = replace(asked.turn, listener=overheard)
        job = taken(house.start(order, turn, self.intake.wish(asked)), asked, house)
        asked.note(jobId=job.job_id, falRequestId=job.fal_request_id)
        if job.fal_request_id is None:
            raise not_taken(job)
        if self.intake.is_durable:
            self.intake.ties.keep(job)
        answer: dict[str, object] = {"status": "IN_QUEUE", "request_id": job.fal_request_id}
        answer |= places(asked.url_of(app_of(job.model), job.fal_request_id))
        position = overheard.progress().queue_position
        if position is not None:
            answer["queue_position"] = position
        return json_response(200, answer, NOT_KEPT, ("x-fal-request-id", job.fal_request_id))

    def status(self, asked: Asked) -> Response:
        self.intake.model_of(asked)
        answer = self.passing.ask("GET", asked.target.url, asked)
        return passed_on(answer, urls=self._urls(asked))

    def follow(self, asked: Asked) -> Response:
        self.intake.model_of(asked)
        return self.streams.follow(asked, self._urls(asked))

    def result(self, asked: Asked) -> Response:
        house = self.intake.house()
        return self.results.read(self.intake.job_of(asked, house), asked, house)

    def cancel(self, asked: Asked) -> Response:
        """Ask fal to drop the request; what becomes of its job follows fal's word alone."""
        house = self.intake.house()
        job = self.intake.job_of(asked, house)
        house.steps.records.apply(job, CancelAsked(house.now()))
        return passed_on(self.passing.ask("PUT", asked.target.url, asked, body=b""))

    def run(self, asked: Asked) -> Response:
        return self.runs.run(asked)

    def stream(self, asked: Asked) -> Response:
        return self.streams.run(asked)

    def upload(self, asked: Asked) -> Response:
        """Let fal name an address for an input picture; its bytes go there without us."""
        body, headers = encoded(asked.json()), JSON | asked.lifetime()
        return passed_on(
            self.passing.ask("POST", asked.target.url, asked, headers=headers, body=body)
        )

    def token(self, asked: Asked) -> Response:
        """A token of fal's for a short time, for apps of which every model is allowed."""
        body = asked.json()
        if self.has_budget:
            raise TokenRefused("what a token spends cannot be counted, and there is a budget")
        if asked.ticket is not None and not asked.ticket.tokens:
            raise TokenRefused("what a token spends cannot be counted, and a ticket is a limit")
        name = TOKEN_LIVES[asked.target.path]
        life_s = _life_s(body, name)
        if asked.ticket is not None:  # which it must not outlive
            left_s = asked.ticket.exp - self.intake.generator.now().timestamp()
            life_s = max(1, min(life_s, int(left_s)))
        wish = {"allowed_apps": self._apps(body, asked.ticket), name: life_s}
        return passed_on(
            self.passing.ask("POST", asked.target.url, asked, headers=JSON, body=encoded(wish))
        )

    def _apps(self, body: Mapping[str, object], ticket: Ticket | None) -> list[str]:
        apps = body.get("allowed_apps")
        if not isinstance(apps, list) or not 1 <= len(apps) <= MAX_TOKEN_APPS:
            raise field_error("allowed_apps", f"must be a list of 1 to {MAX_TOKEN_APPS} apps")
        for app in apps:
            if not isinstance(app, str):
                raise field_error("allowed_apps", "must hold strings only")
            if not is_name(app) or not self._may_open(app, ticket):
                raise TokenRefused(f"not every model of the app {app[:100]} is allowed here")
        return apps

    def _may_open(self, app: str, ticket: Ticket | None) -> bool:
        """Whether everything a token for the app may open is allowed: with fal's clients it is all
        models of the app, and nobody says that a longer name opens less. A bare name is one of
        fal's own apps."""
        named = app_of(app) if "/" in app else f"fal-ai/{app}"
        globs = [self.intake.generator.orders.allowed_models]
        if ticket is not None and ticket.models is not None:
            globs.append(ticket.models)
        return all(is_all_allowed(named, these) for these in globs)

    def _urls(self, asked: Asked) -> str | None:
        if asked.base is None:
            return None
        return asked.url_of(asked.target.app, asked.target.request_id)


def _life_s(body: Mapping[str, object], name: str) -> int:
    life_s = body.get(name, TOKEN_S)
    if not isinstance(life_s, int) or isinstance(life_s, bool) or not 1 <= life_s <= MAX_TOKEN_S:
        raise field_error(name, f"must be a whole number of seconds, 1 to {MAX_TOKEN_S}")
    return life_s


_HANDLERS: Mapping[Kind, Callable[[Proxy, Asked], Response]] = {
    "submit": Proxy.submit,
    "status": Proxy.status,
    "follow": Proxy.follow,
    "result": Proxy.result,
    "cancel": Proxy.cancel,
    "run": Proxy.run,
    "stream": Proxy.stream,
    "upload": Proxy.upload,
    "token": Proxy.token,
}

"""One intent of an agent, taken to the endpoint: sent once, paid once, and followed for a while.

The endpoint is asked in threads, so that the connection to the agent stays alive. Refuses to know
tools and how results are told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
from msgspec import Struct

from ..endpoint import PATIENCE_S, Answer, Endpoint, EndpointFailed

OVER = frozenset({"done", "failed", "cancelled", "unknown"})
LOOK_EVERY_S = 1.0  # where the endpoint does not say when to ask again
PAUSES_S = (0.5, 2.0)  # before the second and the third try of a request that got no answer
GRACE_S = 5.0  # how much longer than its call a request may last that began within it

Heard = Callable[[str], Awaitable[None]]


async def unheard(message: str) -> None:
    """Nobody wants to know how it goes on."""


class Intent(Struct, frozen=True):
    """One job that an agent wants. `key` makes it one bill, however often it is sent; it `is_given`
    when the agent chose it, and None for what the endpoint knows again by itself: a wish to reuse.
    `credential` is the agent's own Authorization header, if it has one."""

    body: dict[str, object]
    key: str | None
    is_given: bool = False
    credential: str | None = None


class Asking:
    """Shared by all calls of a server.

    `wait_s` is how long a call waits for a job: hosts give up on a tool after about a minute. No
    request of a call begins later, and none lasts longer than GRACE_S beyond it, but one: that to
    an endpoint without a database, which only waiting for it makes worth its money.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        wait_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.endpoint = endpoint
        self.wait_s = wait_s
        self.clock = clock
        self._sleep = sleep
        self.keeps_jobs = True  # until the endpoint says that it does not

    def ends_at(self, at_most_s: float = math.inf) -> float:
        """When a call that begins now is to end, on our clock."""
        return self.clock() + min(self.wait_s, at_most_s)

    def patience_s(self, ends_at: float) -> float:
        """How long what begins now may last in a call that is to end at `ends_at`."""
        return min(max(ends_at - self.clock(), 0.0) + GRACE_S, PATIENCE_S)

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        patience_s: float = PATIENCE_S,
        credential: str | None = None,
        **headers: str,
    ) -> Answer:
        """One request, once. `idempotency_key=` is the header idempotency-key.

        Raises EndpointFailed.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if credential is not None:
            named["authorization"] = credential
        # Not abandoned when the agent cancels: a request on its way is paid for all the same.
        return await anyio.to_thread.run_sync(
            partial(self.endpoint.ask, method, path, body, named, patience_s)
        )

    async def read(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        ends_at: float,
        credential: str | None = None,
        **headers: str,
    ) -> Answer:
        """A request that may be sent again, which it is when no answer came, before `ends_at`.

        Raises EndpointFailed, after the third time or in the end; its `sent` is of all times.
        """

        async def told() -> Answer | EndpointFailed:
            left_s = self.patience_s(ends_at)
            try:
                return await self.ask(
                    method, path, body, patience_s=left_s, credential=credential, **headers
                )
            except EndpointFailed as error:
                return error

        last = await told()
        sent = _has_left(last)
        for pause_s in PAUSES_S:
            if not _is_passing(last) or self.clock() + pause_s >= ends_at:
                break
            await self._sleep(pause_s)
            last = await told()
            sent = sent or _has_left(last)
        if isinstance(last, EndpointFailed):
            raise EndpointFailed(last.detail, sent=sent)
        return last

    async def make(self, intent: Intent, ends_at: float, heard: Heard = unheard) -> Answer:
        """The job of an intent, or why there is none; it may be open still at `ends_at`.

        An endpoint without a database keeps no jobs: there it is one request, sent once, that
        waits for the pictures. Raises EndpointFailed.
        """
        if self.keeps_jobs or intent.is_given:
            key = {} if intent.key is None else {"idempotency_key": intent.key}
            answer = await self.read(
                "POST",
                "/generate",
                intent.body,
                ends_at=ends_at,
                credential=intent.credential,
                prefer="respond-async",
                **key,
            )
            if answer.body.get("error") != "database_required" or intent.is_given:
                return await self._followed(answer, ends_at, intent.credential, heard)
            self.keeps_jobs = False
        await heard("waiting for the pictures")
        return await self.ask("POST", "/generate", intent.body, credential=intent.credential)

    async def look(
        self, job_id: str, ends_at: float, credential: str | None, heard: Heard = unheard
    ) -> Answer:
        """The job, waited for if it is open. Raises EndpointFailed."""
        answer = await self.read("GET", _place(job_id), ends_at=ends_at, credential=credential)
        return await self._followed(answer, ends_at, credential, heard)

    async def _followed(
        self, answer: Answer, ends_at: float, credential: str | None, heard: Heard
    ) -> Answer:
        """The last that could be read of a job until it is over or the time is."""
        telling = _Telling()
        while is_job(answer):
            for message in telling.news(answer.body):
                await heard(message)
            left_s = ends_at - self.clock()
            if answer.body.get("state") in OVER or left_s <= 0:
                break
            await self._sleep(min(answer.retry_after_s or LOOK_EVERY_S, left_s))
            with suppress(EndpointFailed):  # the job is none the worse for it
                job_id = str(answer.body.get("jobId"))
                patience_s = self.patience_s(ends_at)
                newer = await self.ask(
                    "GET", _place(job_id), patience_s=patience_s, credential=credential
                )
                answer = newer if is_job(newer) else answer
        return answer


class _Telling:
    """What an agent has been told of a job, so that it is told the rest."""

    def __init__(self) -> None:
        self._state: object = None
        self._position: object = None
        self._logs: set[tuple[object, object]] = set()  # an answer shows only the last ones

    def news(self, job: Mapping[str, Any]) -> list[str]:
        said = []
        state, position = job.get("state"), job.get("queuePosition")
        if position is not None and position != self._position:
            said.append(f"in fal's queue, position {position}")
            self._position = position
        for log in job.get("logs") or ():
            line = (log.get("timestamp"), log.get("message"))
            if line not in self._logs:
                self._logs.add(line)
                said.append(f"fal: {line[1]}")
        if state != self._state:
            self._state = state
            said.append(_STAGES.get(str(state), str(state)))
        return said


_STAGES = {
    "submitted": "fal has the job",
    "storing": "copying the pictures",
    "done": "the pictures are stored",
}


def is_job(answer: Answer) -> bool:
    """Whether an endpoint shows a job, and nothing else answers where we took one to be."""
    return not answer.is_error and isinstance(answer.body.get("state"), str)


def _place(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _is_passing(told: Answer | EndpointFailed) -> bool:
    """Whether a network, a gateway, or a database that does not answer, stood between us and an
    answer."""
    if isinstance(told, EndpointFailed) or told.body.get("error") == "database_unavailable":
        return True
    return told.status in (502, 503, 504) and not told.is_problem


def _has_left(told: Answer | EndpointFailed) -> bool:
    """Whether a byte of the request has, as far as we know."""
    return told.sent if isinstance(told, EndpointFailed) else True

"""The real functions behind every event of theirs, and what a refusal at the door must look like.

Nobody may be reached while a caller is refused: `silence` holds that at the sockets, at fal and in
the log.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from fal_image.app import build
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.errors import AppError
from fal_image.web import Headers, Request

from . import entrypoints
from .connects import watched
from .entrypoints import NOON
from .entrypoints import request as a_request
from .events import as_wsgi
from .instances import Answer, read

PROXY = "/api/fal/proxy"
DOORS = (*platforms.GATEWAYS, "cloudbase", "wsgi")
LOSES_PAIRS = {"alb", "cloudbase"}  # of a query's two values with one name they keep the last
CAT = {"prompt": "a calico cat", "seed": 7}

Send = Callable[[Request], Answer]


def in_header(target: str | None, method: str = "POST", **changes: Any) -> Request:
    """A call of the proxy with this `x-fal-target-url`, or without one."""
    named = {} if target is None else {"x-fal-target-url": target}
    given = {"body": CAT} | changes
    return a_request(method, PROXY, headers=named | given.pop("headers", {}), **given)


def in_path(place: str, method: str = "POST", **changes: Any) -> Request:
    """A call of the proxy with this behind its own path."""
    return a_request(method, f"{PROXY}/{place}", **({"body": CAT} | changes))


def doubled(*targets: str) -> Request:
    """A call whose header came several times."""
    one = in_header(None)
    named = [("x-fal-target-url", target) for target in targets]
    return Request("POST", PROXY, one.platform, (), Headers([*one.headers, *named]), one.body)


def behind(door: str) -> Send:
    """What answers at one of DOORS, under the settings of the process's environment."""
    if door == "wsgi":
        app = as_wsgi(build(os.environ))
        return lambda request: read(app(request))
    if door == "cloudbase":
        return _cloudbase()
    return _aws(platforms.GATEWAYS[door])


def lambda_context(request_id: str = "lambda-1") -> platforms.LambdaContext:
    return platforms.LambdaContext(request_id, clock=time.monotonic)


def through_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def fault(answer: Answer, error: type[AppError] | None = None) -> str | None:
    """What is wrong with a refusal: with that of this error, or with any that tells a caller of
    the caller's own mistake."""
    shown = f"{answer.status} {answer.body[:200]!r}"
    if not answer.headers.get("content-type", "").endswith("json"):
        return f"not JSON: {shown}"
    problem = answer.json
    if not isinstance(problem, dict) or not problem.get("detail"):
        return f"says nothing: {shown}"
    if error is not None and (answer.status, problem["error"]) != (error.status, error.code):
        return f"not {error.code}: {shown}"
    return None if 400 <= answer.status < 500 else f"no mistake of the caller's: {shown}"


def faults(send: Send, requests: Mapping[str, Request], *errors: type[AppError]) -> dict[str, str]:
    """What is wrong with the answers, by the names of the requests; `errors` are one for all or,
    in the same order, one for each."""
    each = errors if len(errors) == len(requests) else [*(errors or [None])] * len(requests)
    found = {
        name: fault(send(request), error)
        for (name, request), error in zip(requests.items(), each, strict=True)
    }
    assert found
    return {name: wrong for name, wrong in found.items() if wrong}


@contextmanager
def silence(fal: Emulator, capfd: pytest.CaptureFixture[str], *, but: int = 0) -> Iterator[None]:
    """A block in which nobody is reached and nothing is thrown; `but` is a port of our own."""
    with watched(but=but) as reached:
        yield
    assert reached == []
    assert (fal.calls, fal.ledger) == (Counter(), [])
    log = capfd.readouterr().err
    assert "Traceback" not in log
    assert '"ERROR"' not in log


def _aws(way: platforms.Gateway) -> Send:
    main = entrypoints.load("aws")

    def send(request: Request) -> Answer:
        event = way.event(request, at=NOON)
        context = lambda_context(request.platform.request_id)
        return read(way.read_reply(main(through_json(event), context)))

    return send


def _cloudbase() -> Send:
    main = entrypoints.load("cloudbase")

    def send(request: Request) -> Answer:
        event = through_json(platforms.cloudbase_event(request))
        context = platforms.cloudbase_context(request.platform.request_id)
        return read(platforms.read_cloudbase_reply(main(event, context)))

    return send

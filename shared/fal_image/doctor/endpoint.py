"""The endpoint as strangers see it: is it ours, is it closed, does fal's webhook get through, what
do browsers hear. Nothing is asked that could be paid.

Refuses to know which cloud it is on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from .. import __version__
from ..errors import InvalidInput, MissingPrompt, ModelNotAllowed, RateLimited
from ..spellings import is_loopback
from ..wire import Answer
from .case import Case, Part
from .database import judged_sweep
from .findings import Finding, failed, ok, skipped, warning
from .reaching import why
from .visits import NotReached, visit

HEALTH, VERSION, LAST_SWEEP, WEBHOOK, CLOSED, CORS = (
    "endpoint.health",
    "endpoint.version",
    "endpoint.last_sweep",
    "endpoint.webhook",
    "endpoint.closed",
    "endpoint.cors",
)
WEBHOOK_PATH = "/webhooks/fal/doctor/doctor"  # a job and a token that nobody was ever given
ASKED_HEADERS = ("authorization", "content-type")

_JSON = {"content-type": "application/json"}

# What is said of an order without a prompt only to somebody who may send orders.
_LET_IN = {one.code for one in (MissingPrompt, InvalidInput, ModelNotAllowed, RateLimited)}

Ask = Callable[[Case, str], Iterator[Finding]]


def _examine(case: Case) -> Iterator[Finding]:
    url = case.environ.get("FAL_IMAGE_URL", "").strip().rstrip("/") or case.settings.public_url
    if not url:
        said = "neither FAL_IMAGE_URL nor FAL_IMAGE_PUBLIC_URL is set"
        yield skipped("endpoint", said, "Set FAL_IMAGE_URL to examine what is deployed.")
        return
    healthy, told = _health(case, url)
    yield healthy
    if told is None:
        yield skipped("endpoint", "nothing more was asked of it")
        return
    yield _version(told.get("version"))
    if told["status"] == "ok" and "lastSweep" in told:
        yield _last_sweep(told["lastSweep"])
    yield from _reached(case, url, _closed)
    if told["status"] == "misconfigured":
        return  # it answers nothing else
    yield from _reached(case, url, _cors)
    yield from _reached(case, case.settings.public_url or url, _webhook)


def _reached(case: Case, url: str, ask: Ask) -> Iterator[Finding]:
    """The findings of a question; what was reached a moment ago may be gone."""
    try:
        yield from ask(case, url)
    except NotReached as error:
        said, fix = why(error)
        yield failed("endpoint", f"{url} was not reached: {said}", fix)


def _health(case: Case, url: str) -> tuple[Finding, dict[str, Any] | None]:
    """What GET /health says, None if nobody of ours answers."""
    try:
        answer = visit(case, "GET", f"{url}/health")
    except NotReached as error:
        reason, fix = why(error)
        return failed(HEALTH, f"{url} was not reached: {reason}", fix), None
    said = _object(answer)
    if said is None or not {"status", "version"} <= said.keys():
        return failed(HEALTH, f"{url}/health {_foreign(answer)}", _THE_WAY_IN), None
    status = said["status"]
    if status == "ok":
        return ok(HEALTH, f"{url} is alive"), said
    fix = "Its log says why; `fal-image doctor` with its settings says what to do."
    if status == "misconfigured":
        fix = f"Correct its settings and deploy again: POST {url}/generate names them."
    return failed(HEALTH, f"{url} says that it is {status}", fix), said


def _version(version: object) -> Finding:
    if version == __version__:
        return ok(VERSION, f"it runs {__version__}, like this command")
    return warning(
        VERSION,
        f"it runs {version}, this command is {__version__}",
        "Deploy again, or install the version that is deployed.",
    )


def _last_sweep(last: object) -> Finding:
    age = last.get("ageS") if isinstance(last, dict) else None
    return judged_sweep(LAST_SWEEP, age if isinstance(age, (int, float)) else None)


def _closed(case: Case, url: str) -> Iterator[Finding]:
    """A request without credentials, and without a prompt: so it is free where all may ask."""
    answer = visit(case, "POST", f"{url}/generate", headers=_JSON, body=b"{}")
    code = _code(answer)
    if answer.status == 401 and code == "unauthorized":
        yield ok(CLOSED, "who shows no key is refused")
    elif code in _LET_IN:
        yield warning(
            CLOSED,
            "who shows no key may spend",
            "Unset FAL_IMAGE_ALLOW_ANONYMOUS, or keep FAL_IMAGE_TOTAL_DAILY_BUDGET_USD small.",
        )
    elif code == "misconfigured":
        said = _object(answer) or {}
        yield failed(CLOSED, f"it answers: {said.get('detail')}", str(said.get("hint")))
    else:
        yield failed(CLOSED, f"POST {url}/generate {_foreign(answer)}", _THE_WAY_IN)


def _webhook(case: Case, url: str) -> Iterator[Finding]:
    if is_loopback(urlsplit(url).hostname or "") and case.settings.emulator_url is None:
        yield warning(
            WEBHOOK,
            f"fal cannot reach {url}, which is this machine only",
            "Set FAL_IMAGE_PUBLIC_URL to the address that the internet knows; until then sweeps "
            "and polls finish the jobs.",
        )
        return
    answer = visit(case, "POST", f"{url}{WEBHOOK_PATH}", headers=_JSON, body=b"{}")
    if answer.status in {401, 404} and _code(answer) in {"unauthorized", "not_found"}:
        yield ok(WEBHOOK, "fal's webhooks get through, and one that is made up is refused")
        return
    yield failed(
        WEBHOOK,
        f"POST {url}{WEBHOOK_PATH} {_foreign(answer)}",
        f"fal signs its webhooks and can log in nowhere. {_THE_WAY_IN}",
    )


def _cors(case: Case, url: str) -> Iterator[Finding]:
    if not case.settings.cors_origins:
        yield skipped(CORS, "FAL_IMAGE_CORS_ORIGINS is not set: no page of another origin may ask")
        return
    wrong = []
    for origin in case.settings.cors_origins:
        preflight = visit(
            case,
            "OPTIONS",
            f"{url}/generate",
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": ",".join(ASKED_HEADERS),
            },
        )
        plain = visit(case, "GET", f"{url}/health", headers={"origin": origin})
        wrong += [_refused_origin(preflight, origin), _refused_origin(plain, origin)]
        wrong += [_refused_headers(preflight, origin)]
    told = [finding for finding in dict.fromkeys(wrong) if finding]
    yield from told
    if not told:
        yield ok(CORS, f"pages of {', '.join(case.settings.cors_origins)} may ask")


def _refused_origin(answer: Answer, origin: str) -> Finding | None:
    """What is wrong with the one header that decides; browsers refuse two, even equal ones."""
    values = answer.headers.get_all("access-control-allow-origin")
    if len(values) > 1 or any("," in value for value in values):
        return failed(
            CORS,
            f"{origin} is allowed twice: the gateway and the function both add the header",
            "Switch CORS off at the gateway, or unset FAL_IMAGE_CORS_ORIGINS.",
        )
    if values not in ([origin], ["*"]):
        return failed(
            CORS,
            f"{origin} is not allowed (HTTP {answer.status})",
            "Deploy with this FAL_IMAGE_CORS_ORIGINS, spelled as browsers send it, and let the "
            "gateway pass OPTIONS on.",
        )
    return None


def _refused_headers(preflight: Answer, origin: str) -> Finding | None:
    allowed = (preflight.headers.get("access-control-allow-headers") or "").lower()
    names = {name.strip() for name in allowed.split(",")}
    missing = [name for name in ASKED_HEADERS if name not in names]
    if not missing:
        return None
    return failed(
        CORS,
        f"pages of {origin} may not send {' and '.join(missing)}",
        "Whoever answers OPTIONS must allow them; `*` does not stand for authorization.",
    )


_THE_WAY_IN = (
    "Something in front answers in its place, or the address is wrong: see that the gateway asks "
    "for no login or IAM signature, that its path leads to the function (FAL_IMAGE_BASE_PATH), and "
    "that every method passes."
)


def _foreign(answer: Answer) -> str:
    """How an answer shows that it is not ours."""
    content_type = (answer.headers.get("content-type") or "nothing").partition(";")[0]
    text = f"answers HTTP {answer.status} with {content_type[:80]}"
    host = urlsplit(answer.headers.get("location") or "").netloc
    return f"{text} and leads to {host[:200]}" if host else text


def _object(answer: Answer) -> dict[str, Any] | None:
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _code(answer: Answer) -> str | None:
    """The code of a problem in our shape, None for any other answer."""
    said = _object(answer) or {}
    is_ours = {"error", "requestId", "retryable"} <= said.keys()
    return str(said["error"]) if is_ours else None


PART = Part("endpoint", _examine)

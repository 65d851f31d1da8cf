"""A walk over the table of routes: what spends, and what is a caller's, is closed to strangers.

Whoever adds a route finds it here: it is a caller's, or it is named below with what guards it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import compose
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.routes import Route
from fal_image.settings import load
from fal_image.tickets import Ticket, sealed
from fal_image.web import Request
from support import entrypoints
from support.doors import DOORS, behind, lambda_context, silence, through_json
from support.entrypoints import FAL_KEY, KEY, KEY_SHA256, NOON
from support.entrypoints import request as a_request
from support.instances import CAT, SECRET, read
from support.values import replace

Configure = Callable[..., None]
FALS = "01234567-89ab-cdef-0123-456789abcdef:0123456789abcdef0123456789abcdef"
TARGET = "https://queue.fal.run/fal-ai/flux/schnell"
PARAMS = {
    "id": "0" * 26,
    "job": "0" * 26,
    "token": "t",
    "key": "ai-images/2026-11-21/a-0.png",
    "host": "queue.fal.run",
    "path": "fal-ai/flux/schnell",
}
BODIES: dict[str, object] = {
    "/batches": {"rows": [CAT]},
    "/links": {"fileIDs": ["file:///a"]},
    "/tickets": {},
    "/uploads": {"contentType": "image/png", "bytes": 9},
}

# Who is let in without being a caller, and by what. Everything else takes a key or a ticket.
GUARDED_OTHERWISE = {
    ("GET", "/"): "open",
    ("GET", "/health"): "open",
    ("GET", "/openapi.json"): "open",
    ("GET", "/files/{key*}"): "signed",
    ("PUT", "/files/{key*}"): "signed",
    ("POST", "/webhooks/fal/{job}/{token}"): "fal",
}


def table() -> tuple[Route, ...]:
    return compose(load(os.environ), environ=os.environ).table()


def ticket(**changes: Any) -> str:
    good = Ticket("t-1", "web", int(time.time()) + 3600)
    return sealed(replace(good, **changes), SECRET)


def flipped(shown: str) -> str:
    return shown[:-2] + ("A" if shown[-2] != "A" else "B") + shown[-1]


STRANGERS: dict[str, Callable[[], dict[str, str]]] = {
    "nothing": dict,
    "a wrong key": lambda: {"authorization": "Bearer k-nobodys"},
    "a key's beginning": lambda: {"authorization": f"Bearer {KEY[:-1]}"},
    "the SHA-256 that the owner keeps": lambda: {"x-api-key": KEY_SHA256},
    "a key of fal's by mistake": lambda: {"authorization": f"Key {FALS}"},
    "the owner's key of fal": lambda: {"authorization": f"Key {FAL_KEY}"},
    "an empty key": lambda: {"x-api-key": " "},
    "another scheme": lambda: {"authorization": f"Basic {KEY}"},
    "a forged ticket": lambda: {"authorization": f"Bearer {flipped(ticket())}"},
    "a ticket of another secret": lambda: {
        "authorization": "Bearer " + sealed(Ticket("t-1", "web", 2**40), "another" * 6)
    },
    "an expired ticket": lambda: {"authorization": f"Bearer {ticket(exp=1)}"},
    "a ticket of nobody": lambda: {"authorization": f"Bearer {ticket(caller='gone')}"},
    "names in headers": lambda: {
        "x-wx-openid": "o-1",
        "x-wx-source": "wx_client",
        "x-amzn-oidc-identity": "admin",
        "x-forwarded-user": "web",
        "cookie": f"key={KEY}",
    },
}


def at(route: Route, method: str, headers: Mapping[str, str]) -> Request:
    """A request to a route that would cost or show something, were it a caller's."""
    path = route.pattern
    for name, value in PARAMS.items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}*}}", value)
    named = {"x-fal-target-url": TARGET, **headers}
    body = None if method in ("GET", "HEAD") else BODIES.get(route.pattern, CAT)
    return a_request(method, path, body, key=None, headers=named)


def told(answer: Any) -> Any:
    """What an error says; OpenAI's dialect has all of it in its `error`."""
    return answer["error"] if isinstance(answer["error"], dict) else answer


def methods(route: Route) -> list[str]:
    return [route.method, "HEAD"] if route.method == "GET" else [route.method]


def test_every_route_has_a_guard_and_what_spends_is_a_callers(with_database: Configure):
    with_database()
    routes = table()
    others = {(one.method, one.pattern): one.who for one in routes if one.who not in CALLERS}
    assert others == GUARDED_OTHERWISE
    plain = Route("GET", "/", "open", routes[0].handle)
    spending = [one for one in routes if one.spends is not plain.spends]
    assert len(spending) > 5
    assert {one.who for one in spending} <= CALLERS


CALLERS = {"ticket", "key"}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("door", DOORS)
def test_no_callers_route_answers_a_stranger(
    with_database: Configure,
    fal: Emulator,
    tmp_path: Path,
    door: str,
    stranger: str,
    capfd: pytest.CaptureFixture[str],
):
    with_database()
    send, routes = behind(door), table()
    with silence(fal, capfd):
        for route in routes:
            if route.who not in CALLERS:
                continue
            for method in methods(route):
                answer = send(at(route, method, STRANGERS[stranger]()))
                assert answer.status == 401, (method, route.pattern, answer.body)
                assert answer.headers["www-authenticate"] == "Bearer"
    assert not (tmp_path / "jobs.db").exists()


def test_what_strangers_ask_is_what_a_caller_is_answered(with_database: Configure):
    with_database()
    send, shown = behind("function-url"), {"x-api-key": KEY, "prefer": "respond-async"}
    answers = {route: send(at(route, route.method, shown)).status for route in table()}
    refused = {(one.method, one.pattern) for one, status in answers.items() if status == 401}
    assert refused == {("POST", "/webhooks/fal/{job}/{token}")}
    spent = {one.pattern for one, status in answers.items() if status in (200, 202)}
    assert {"/", "/generate", "/batches", "/models", "/api/fal/proxy"} <= spent


@pytest.mark.parametrize("door", DOORS)
def test_an_endpoint_without_callers_is_closed_and_says_what_opens_it(
    with_database: Configure,
    fal: Emulator,
    tmp_path: Path,
    door: str,
    capfd: pytest.CaptureFixture[str],
):
    with_database(FAL_IMAGE_API_KEYS=None)
    send, routes = behind(door), table()
    with silence(fal, capfd):
        for route in routes:
            if route.who in CALLERS:
                answer = send(at(route, route.method, {}))
                assert answer.status == 401, route.pattern
                assert "FAL_IMAGE_API_KEYS" in str(told(answer.json)["hint"])
    assert not (tmp_path / "jobs.db").exists()


@pytest.mark.parametrize("door", DOORS)
def test_other_methods_do_nothing_for_anybody(
    with_database: Configure, fal: Emulator, door: str, capfd: pytest.CaptureFixture[str]
):
    with_database()
    send, routes = behind(door), table()
    known = {(one.method, one.pattern) for one in routes}
    known |= {("HEAD", pattern) for method, pattern in known if method == "GET"}
    with silence(fal, capfd):
        for route in routes:
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
                if (method, route.pattern) not in known:
                    assert send(at(route, method, {})).status == 405, (method, route.pattern)
            assert send(at(route, "OPTIONS", {})).status == 204


def logged_in(event: dict[str, Any]) -> dict[str, Any]:
    """The event of somebody whom every authorizer of a gateway has let in."""
    context = event["requestContext"]
    claims = {"sub": "user-1", "email": "a@b.example"}
    arn = "arn:aws:iam::1:user/a"
    context["authorizer"] = {
        "jwt": {"claims": claims, "scopes": None},
        "lambda": {"sub": "user-1"},
        "iam": {"userArn": arn, "accountId": "1", "userId": "A"},
        "claims": claims,
        "sub": "user-1",
    }
    context["identity"] = {**(context.get("identity") or {}), "userArn": arn, "user": "A"}
    return event


@pytest.mark.parametrize("gateway", sorted(platforms.GATEWAYS))
def test_whom_a_gateway_vouches_for_is_a_stranger_until_the_owner_trusts_it(
    with_database: Configure, fal: Emulator, gateway: str, capfd: pytest.CaptureFixture[str]
):
    with_database(FAL_IMAGE_TRUST="wechat,cloudbase")  # what this cloud does not have
    main, way = entrypoints.load("aws"), platforms.GATEWAYS[gateway]
    with silence(fal, capfd):
        for route in table():
            if route.who not in CALLERS:
                continue
            event = logged_in(way.event(at(route, route.method, {}), at=NOON))
            answer = read(way.read_reply(main(through_json(event), lambda_context())))
            assert answer.status == 401, (route.method, route.pattern)


@pytest.mark.parametrize("is_direct", [True, False])
def test_whom_cloudbase_vouches_for_is_a_stranger_until_the_owner_trusts_it(
    with_database: Configure, fal: Emulator, is_direct: bool, capfd: pytest.CaptureFixture[str]
):
    with_database(FAL_IMAGE_TRUST="iam,jwt")
    main = entrypoints.load("cloudbase")
    variables = {"WX_OPENID": "o-1", "WX_APPID": "a-1", "TCB_UUID": "u-1"}
    context = platforms.cloudbase_context("c-1", variables=variables)
    with silence(fal, capfd):
        for route in table():
            if route.who not in CALLERS:
                continue
            request = at(route, route.method, {})
            event = platforms.cloudbase_event(request)
            if is_direct:
                event = {
                    "route": f"{request.method} {request.path}",
                    "headers": dict(request.headers),
                    "body": BODIES.get(route.pattern, CAT),
                    "userInfo": {"openId": "o-1", "appId": "a-1"},
                }
            reply = main(through_json(event), context)
            said = reply if is_direct else json.loads(reply["body"])
            assert is_direct or reply["statusCode"] == 401, route.pattern
            assert told(said).get("code", said["error"]) == "unauthorized", route.pattern


AWAY: dict[str, str | None] = {  # from this machine: what is spent there is real money
    "FAL_IMAGE_EMULATOR_URL": None,
    "FAL_IMAGE_STORAGE_URL": "s3://bucket/prefix",
    "FAL_IMAGE_DATABASE_URL": "dynamodb://table",
}
OPENED: dict[str, dict[str, str | None]] = {
    "anonymous": {"FAL_IMAGE_ALLOW_ANONYMOUS": "1"},
    "trusted": {"FAL_IMAGE_TRUST": "wechat"},
}
TOTAL = "FAL_IMAGE_TOTAL_DAILY_BUDGET_USD"


def warnings(capfd: pytest.CaptureFixture[str]) -> list[str]:
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    return [line["message"] for line in lines if line["level"] == "WARNING"]


@pytest.mark.parametrize("name", OPENED)
@pytest.mark.parametrize("cloud", ["aws", "cloudbase"])
def test_whoever_opens_the_purse_without_a_total_is_warned_once_at_the_start(
    configured: Configure, cloud: str, name: str, capfd: pytest.CaptureFixture[str]
):
    configured(**AWAY, **OPENED[name])
    main = entrypoints.load(cloud)
    [warning] = warnings(capfd)
    assert TOTAL in warning
    assert set(OPENED[name]) & set(warning.replace(",", " ").split())
    main({"route": "GET /health"}, platforms.cloudbase_context("c-1"))
    assert warnings(capfd) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"FAL_IMAGE_ALLOW_ANONYMOUS": "1", TOTAL: "5"},
        {"FAL_IMAGE_TRUST": "wechat", TOTAL: "5"},
        {"FAL_IMAGE_ALLOW_ANONYMOUS": None},
    ],
)
def test_who_has_a_total_or_only_callers_with_keys_is_not_warned(
    configured: Configure, settings: dict[str, str | None], capfd: pytest.CaptureFixture[str]
):
    configured(**AWAY, **settings)
    entrypoints.load("aws")
    assert not any(TOTAL in warning for warning in warnings(capfd))

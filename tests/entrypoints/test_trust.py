"""Callers that a platform vouches for, through the functions that the clouds call."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from support.databases import SqliteRig
from support.entrypoints import KEY, load
from support.entrypoints import request as a_request
from support.events import (
    alb_event,
    cloudbase_event,
    function_url_event,
    http_api_event,
    rest_event,
)
from support.instances import CAT, Answer, read

Configure = Callable[..., None]

ARN = "arn:aws:iam::111122223333:user/"
PRICE_USD = 0.003  # of a CAT
READ = {
    "function_url": platforms.read_lambda_reply,
    "http_api": platforms.read_lambda_reply,
    "rest": platforms.read_rest_reply,
    "alb": platforms.read_alb_reply,
}
EVENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "function_url": function_url_event,
    "http_api": http_api_event,
    "rest": rest_event,
    "alb": alb_event,
}

# Asks through one entrance: what its platform says, then method, path, body, further headers.
Ask = Callable[..., Answer]


def through_gateway(kind: str, gateway: dict[str, Any], *asked: Any, **headers: str) -> Answer:
    """What the AWS function answers to a gateway's event that says this in `requestContext`."""
    method, path, body = asked
    request = a_request(method, path, body, key=None, headers=named(headers))
    event = EVENTS[kind](
        method=method, path=path, headers=tuple(request.headers), body=request.body
    )
    event["requestContext"] |= gateway
    context = platforms.LambdaContext("lambda-1", clock=time.monotonic)
    return read(READ[kind](load("aws")(event, context)))


def through_access_service(variables: dict[str, str], *asked: Any, **headers: str) -> Answer:
    """What the CloudBase function answers over HTTP, in an invocation with these variables."""
    method, path, body = asked
    request = a_request(method, path, body, key=None, headers=named(headers))
    event = cloudbase_event(
        method=method, path=path, headers=tuple(request.headers), body=request.body
    )
    context = platforms.cloudbase_context("scf-1", variables=variables)
    return read(platforms.read_cloudbase_reply(load("cloudbase")(event, context)))


def through_call(variables: dict[str, str], *asked: Any, **headers: str) -> Answer:
    """What `callFunction` gets; a call has no status but that of an error."""
    method, path, body = asked
    event = {
        "route": f"{method} {path}",
        "headers": named(headers),
        "body": body,
        "userInfo": {"openId": "oSomebodyElse", "appId": "wxApp"},
    }
    context = platforms.cloudbase_context("scf-1", variables=variables)
    answer = load("cloudbase")(event, context)
    return Answer(answer.get("status", 200), {}, json.dumps(answer).encode())


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def jwt(who: str) -> dict[str, Any]:
    return {"authorizer": {"jwt": {"claims": {"sub": who}}}}


def signer(who: str) -> dict[str, Any]:
    return {"authorizer": {"iam": {"userArn": ARN + who}}}


@dataclass(frozen=True)
class Entrance:
    """A way in, `word` being how its platform says who it is; `{}` in `name` stands for that."""

    kind: str
    name: str
    through: Ask
    word: Callable[[str], dict[str, Any]]

    def ask(self, who: str, *asked: Any, **headers: str) -> Answer:
        return self.through(self.word(who), *asked, **headers)


HTTP_API = partial(through_gateway, "http_api")
FUNCTION_URL = partial(through_gateway, "function_url")
REST = partial(through_gateway, "rest")
ENTRANCES = {
    "http_api_jwt": Entrance("jwt", "jwt:{}", HTTP_API, jwt),
    "http_api_lambda": Entrance(
        "jwt", "jwt:{}", HTTP_API, lambda who: {"authorizer": {"lambda": {"sub": who}}}
    ),
    "http_api_iam": Entrance("iam", f"iam:{ARN}{{}}", HTTP_API, signer),
    "function_url_iam": Entrance("iam", f"iam:{ARN}{{}}", FUNCTION_URL, signer),
    "rest_cognito": Entrance(
        "jwt", "jwt:{}", REST, lambda who: {"authorizer": {"claims": {"sub": who}}}
    ),
    "rest_iam": Entrance(
        "iam", f"iam:{ARN}{{}}", REST, lambda who: {"identity": {"userArn": ARN + who}}
    ),
    "cloudbase_http_wechat": Entrance(
        "wechat", "wx:{}", through_access_service, lambda who: {"WX_OPENID": who}
    ),
    "cloudbase_http_login": Entrance(
        "cloudbase", "tcb:{}", through_access_service, lambda who: {"TCB_UUID": who}
    ),
    "cloudbase_call_wechat": Entrance(
        "wechat", "wx:{}", through_call, lambda who: {"WX_OPENID": who}
    ),
    "cloudbase_call_login": Entrance(
        "cloudbase", "tcb:{}", through_call, lambda who: {"TCB_UUID": who}
    ),
}


@pytest.fixture(params=sorted(ENTRANCES))
def entrance(request: pytest.FixtureRequest) -> Entrance:
    return ENTRANCES[request.param]


def spent_usd(directory: Path, caller: str) -> float:
    day = datetime.now(timezone.utc)
    total = SqliteRig(directory / "jobs.db").open().total(f"spent:{caller}:{day:%Y-%m-%d}")
    return total / 1_000_000


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.json["error"]) == (401, "unauthorized")


def test_a_job_its_files_and_its_cost_belong_to_whom_the_platform_names(
    with_database: Configure, tmp_path: Path, entrance: Entrance
):
    with_database(
        FAL_IMAGE_TRUST=entrance.kind,
        FAL_IMAGE_API_KEYS=None,
        FAL_IMAGE_DAILY_BUDGET_USD=str(PRICE_USD),
    )
    made = entrance.ask("ann", "POST", "/generate", CAT)
    assert made.status == 200, made.body
    job, file_id = f"/jobs/{made.json['jobId']}", made.json["fileID"]
    assert spent_usd(tmp_path, entrance.name.format("ann")) == PRICE_USD
    assert spent_usd(tmp_path, entrance.name.format("bob")) == 0

    assert entrance.ask("ann", "GET", job, None).json["jobId"] == made.json["jobId"]
    for path, method in ((job, "GET"), (job, "DELETE")):
        answer = entrance.ask("bob", method, path, None)
        assert (answer.status, answer.json["error"]) == (404, "not_found")

    def link(who: str) -> Answer:
        return entrance.ask(who, "POST", "/links", {"fileID": file_id})

    assert link("ann").json["tempFileURL"]
    assert (link("bob").status, link("bob").json["error"]) == (404, "not_found")

    again = entrance.ask("ann", "POST", "/generate", CAT)
    assert (again.status, again.json["error"]) == (402, "budget_exceeded")
    assert entrance.ask("bob", "POST", "/generate", CAT).status == 200


def test_an_identity_that_is_not_trusted_opens_nothing(
    with_database: Configure, fal: Emulator, entrance: Entrance
):
    others = {"wechat", "cloudbase", "iam", "jwt"} - {entrance.kind}
    for trust in (None, ",".join(sorted(others))):
        with_database(FAL_IMAGE_TRUST=trust)
        assert_refused(entrance.ask("ann", "POST", "/generate", CAT))
    assert fal.calls.total() == 0


def test_a_key_counts_before_an_identity_and_a_wrong_one_is_refused(
    with_database: Configure, fal: Emulator, tmp_path: Path, entrance: Entrance
):
    with_database(FAL_IMAGE_TRUST=entrance.kind, FAL_IMAGE_DAILY_BUDGET_USD="1")
    assert_refused(entrance.ask("ann", "POST", "/generate", CAT, x_api_key="wrong"))
    assert_refused(
        entrance.ask("ann", "POST", "/generate", CAT, authorization="Bearer t1.e30.c2ln")
    )
    assert fal.calls.total() == 0
    assert entrance.ask("ann", "POST", "/generate", CAT, x_api_key=KEY).status == 200
    assert spent_usd(tmp_path, "web") == PRICE_USD
    assert spent_usd(tmp_path, entrance.name.format("ann")) == 0


def test_a_caller_without_a_key_makes_no_tickets(with_database: Configure, entrance: Entrance):
    with_database(FAL_IMAGE_TRUST=entrance.kind)
    assert_refused(entrance.ask("ann", "POST", "/tickets", {"uses": 1}))


@pytest.mark.parametrize(
    ("trust", "caller"),
    [
        ("wechat,cloudbase", "wx:oAnn"),
        ("cloudbase,wechat", "wx:oAnn"),
        ("cloudbase", "tcb:uid-ann"),
        ("jwt,iam,cloudbase", "tcb:uid-ann"),
    ],
)
@pytest.mark.parametrize("through", [through_access_service, through_call])
def test_wechats_word_counts_before_cloudbases(
    with_database: Configure, tmp_path: Path, through: Ask, trust: str, caller: str
):
    with_database(FAL_IMAGE_TRUST=trust, FAL_IMAGE_DAILY_BUDGET_USD="1")
    variables = {"WX_OPENID": "oAnn", "TCB_UUID": "uid-ann"}
    assert through(variables, "POST", "/generate", CAT).status == 200
    assert spent_usd(tmp_path, caller) == PRICE_USD


@pytest.mark.parametrize("through", [through_access_service, through_call])
def test_an_anonymous_login_of_cloudbase_is_no_caller(
    with_database: Configure, fal: Emulator, through: Ask
):
    with_database(FAL_IMAGE_TRUST="wechat,cloudbase")
    variables = {"TCB_UUID": "uid-guest", "TCB_ISANONYMOUS_USER": "true"}
    assert_refused(through(variables, "POST", "/generate", CAT))
    assert fal.calls.total() == 0


def test_no_event_of_a_stranger_to_cloudbase_passes_for_a_caller(
    with_database: Configure, fal: Emulator
):
    with_database(FAL_IMAGE_TRUST="wechat,cloudbase,iam,jwt")
    forged: dict[str, Any] = {
        "requestContext": jwt("ann") | {"identity": {"userArn": ARN + "ann"}},
        "environment": {"WX_OPENID": "oAnn", "TCB_UUID": "uid-ann"},
        "userInfo": {"openId": "oAnn"},
        "WX_OPENID": "oAnn",
    }
    context = platforms.cloudbase_context("scf-1")
    headers = (("x-wx-openid", "oAnn"), ("content-type", "application/json"))
    http = load("cloudbase")(cloudbase_event(forged, headers=headers), context)
    assert_refused(read(platforms.read_cloudbase_reply(http)))
    call = load("cloudbase")({"prompt": "a cat", **forged}, context)
    assert (call["status"], call["error"]) == (401, "unauthorized")
    assert fal.calls.total() == 0


def test_no_header_passes_for_what_a_gateway_says(with_database: Configure, fal: Emulator):
    with_database(FAL_IMAGE_TRUST="wechat,cloudbase,iam,jwt")
    headers = {"x_amzn_oidc_identity": "ann", "x_amzn_oidc_data": "eyJh.eyJz.c", "x_wx_openid": "o"}
    for kind in EVENTS:
        assert_refused(through_gateway(kind, {}, "POST", "/generate", CAT, **headers))
    assert_refused(through_gateway("alb", jwt("ann"), "POST", "/generate", CAT))
    assert fal.calls.total() == 0


@pytest.mark.parametrize(
    ("kind", "gateway", "authorization", "caller"),
    [
        ("http_api", jwt("ann"), "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2ln", "jwt:ann"),
        (
            "rest",
            {"authorizer": {"claims": {"sub": "ann"}}},
            "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2ln",
            "jwt:ann",
        ),
        (
            "function_url",
            signer("ann"),
            "AWS4-HMAC-SHA256 Credential=AKIA/20261121/x/lambda/aws4_request, Signature=ab",
            f"iam:{ARN}ann",
        ),
    ],
)
def test_the_token_that_the_gateway_has_read_is_no_wrong_key(
    with_database: Configure,
    tmp_path: Path,
    kind: str,
    gateway: dict[str, Any],
    authorization: str,
    caller: str,
):
    asked = ("POST", "/generate", CAT)
    with_database()
    assert_refused(through_gateway(kind, gateway, *asked, authorization=authorization))
    with_database(FAL_IMAGE_TRUST="jwt,iam", FAL_IMAGE_DAILY_BUDGET_USD="1")
    assert through_gateway(kind, gateway, *asked, authorization=authorization).status == 200
    assert spent_usd(tmp_path, caller) == PRICE_USD


def test_a_direct_call_on_aws_is_iam_whatever_it_says_of_itself(
    with_database: Configure, tmp_path: Path
):
    with_database(FAL_IMAGE_TRUST="iam,jwt", FAL_IMAGE_DAILY_BUDGET_USD="1")
    headers = {"x-api-key": KEY}
    call = {"route": "POST /generate", "headers": headers, "body": CAT, **jwt("ann")}
    context = platforms.LambdaContext("lambda-1", clock=time.monotonic)
    assert load("aws")(call, context)["state"] == "done"
    assert spent_usd(tmp_path, "iam") == PRICE_USD


def test_a_gateways_event_sent_by_hand_is_worth_no_more_than_through_the_gateway(
    with_database: Configure, fal: Emulator
):
    """Nothing tells the two apart: the one without an authorizer is not the caller `iam` either."""
    with_database(FAL_IMAGE_TRUST="iam,jwt")
    assert_refused(through_gateway("http_api", {}, "POST", "/generate", CAT))
    with_database()
    assert_refused(through_gateway("http_api", jwt("ann"), "POST", "/generate", CAT))
    assert fal.calls.total() == 0

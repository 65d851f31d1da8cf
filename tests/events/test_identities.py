"""Whom a platform vouches for, in each of its events, and that nobody else can."""

from __future__ import annotations

import copy
import hashlib
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fal_image.dev.platforms import LambdaContext, cloudbase_context
from fal_image.events import aws, cloudbase
from fal_image.events._identities import identity
from fal_image.events.wsgi import wsgi_app
from support.events import (
    Recorder,
    alb_event,
    cloudbase_event,
    frozen,
    function_url_event,
    http_api_event,
    published,
    rest_event,
)

ARN = "arn:aws:iam::111122223333:user/example-user"
POOL_ID = "us-east-1:3f291106-8703-466b-8f2b-3ecee1ca56ce"
EVENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "function_url": function_url_event,
    "http_api": http_api_event,
    "rest": rest_event,
    "alb": alb_event,
}
# Everything that a gateway of one kind or another writes, at once.
FORGED = {
    "authorizer": {
        "claims": {"sub": "ann"},
        "sub": "ann",
        "principalId": "ann",
        "jwt": {"claims": {"sub": "ann"}},
        "lambda": {"sub": "ann"},
        "iam": {"userArn": ARN},
    },
    "identity": {"userArn": ARN},
}

Identities = tuple[tuple[str, str], ...]


def half_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def of_aws(event: object) -> Identities:
    context = LambdaContext("lambda-id", clock=frozen)
    platform = aws.platform_of(
        event, context, aws.classify(event), clock=frozen, new_id=lambda: "new-id"
    )
    return platform.identities


def through(kind: str, **gateway: Any) -> Identities:
    """The identities of a gateway's event that says this in its `requestContext`."""
    event = EVENTS[kind]()
    event["requestContext"] |= gateway
    assert aws.classify(event) == kind
    return of_aws(event)


def of_cloudbase(event: object, context: object = None, **variables: str) -> Identities:
    app = Recorder()
    context = cloudbase_context("scf-id", variables=variables) if context is None else context
    cloudbase.handle(event, context, app, clock=frozen, new_id=lambda: "new-id")
    return app.request.platform.identities


@pytest.mark.parametrize(
    ("kind", "gateway", "identities"),
    [
        ("http_api", {"authorizer": {"jwt": {"claims": {"sub": "ann"}}}}, [("jwt", "jwt:ann")]),
        ("http_api", {"authorizer": {"lambda": {"sub": "ann"}}}, [("jwt", "jwt:ann")]),
        ("http_api", {"authorizer": {"iam": {"userArn": ARN}}}, [("iam", f"iam:{ARN}")]),
        ("function_url", {"authorizer": {"iam": {"userArn": ARN}}}, [("iam", f"iam:{ARN}")]),
        ("rest", {"authorizer": {"claims": {"sub": "ann"}}}, [("jwt", "jwt:ann")]),
        ("rest", {"authorizer": {"sub": "ann", "principalId": "user"}}, [("jwt", "jwt:ann")]),
        ("rest", {"identity": {"userArn": ARN}}, [("iam", f"iam:{ARN}")]),
        # A gateway without an authorizer, and what is in its place then.
        ("http_api", {}, []),
        ("http_api", {"authorizer": {"jwt": {"claims": {"aud": "app"}}}}, []),
        ("function_url", {"authorizer": None}, []),
        ("rest", {"authorizer": {"claims": None, "scopes": None}}, []),
        ("rest", {"authorizer": {"principalId": "user"}}, []),
        ("rest", {"identity": {"userArn": None}}, []),
    ],
)
def test_who_calls_is_whom_the_gateway_has_let_in(
    kind: str, gateway: dict[str, Any], identities: list[tuple[str, str]]
) -> None:
    assert list(through(kind, **gateway)) == identities


@pytest.mark.parametrize(
    ("kind", "identities"),
    [
        ("function_url", [("iam", f"iam:{ARN}")]),
        ("http_api", [("jwt", "jwt:ann"), ("iam", f"iam:{ARN}")]),
        ("rest", [("jwt", "jwt:ann"), ("iam", f"iam:{ARN}")]),
        ("alb", []),
    ],
)
def test_a_gateway_is_believed_at_its_own_places_only(
    kind: str, identities: list[tuple[str, str]]
) -> None:
    assert list(through(kind, **FORGED)) == identities


@pytest.mark.parametrize(
    "event",
    [
        {"requestContext": FORGED},
        {"prompt": "x", **FORGED},
        published("aws_call") | FORGED,
        published("aws_sqs") | {"requestContext": FORGED},
        published("aws_schedule") | {"requestContext": FORGED},
        published("aws_lattice"),
    ],
)
def test_events_of_no_gateway_and_of_one_that_is_not_served_name_nobody(event: object) -> None:
    assert of_aws(event) == ()


def test_a_direct_call_is_iam_and_nobody_in_particular() -> None:
    app = Recorder()
    aws.handle(published("aws_call") | FORGED, None, app, clock=frozen, new_id=lambda: "new-id")
    platform = app.request.platform
    assert (platform.caller, platform.identities) == ("iam", ())


def test_an_event_in_the_shape_of_a_gateways_is_not_the_caller_iam() -> None:
    app = Recorder()
    event = http_api_event()
    event["requestContext"] |= FORGED
    aws.handle(event, None, app, clock=frozen, new_id=lambda: "new-id")
    assert app.request.platform.caller is None


def test_users_of_an_identity_pool_go_by_their_own_ids_and_not_by_the_arn_they_share() -> None:
    pool = {"identityId": POOL_ID, "amr": ["authenticated", "cognito-idp.example.com/pool"]}
    signer = {"userArn": ARN, "cognitoIdentity": pool}
    for kind in ("function_url", "http_api"):
        assert through(kind, authorizer={"iam": signer}) == (("iam", f"iam:{POOL_ID}"),)
    caller = {
        "userArn": ARN,
        "cognitoIdentityId": POOL_ID,
        "cognitoAuthenticationType": "authenticated",
    }
    assert through("rest", identity=caller) == (("iam", f"iam:{POOL_ID}"),)


@pytest.mark.parametrize("methods", [["unauthenticated"], [], None, "authenticated"])
def test_guests_of_an_identity_pool_are_nobody(methods: object) -> None:
    pool = {"identityId": POOL_ID, "amr": methods}
    assert through("http_api", authorizer={"iam": {"userArn": ARN, "cognitoIdentity": pool}}) == ()
    kind = methods[0] if isinstance(methods, list) and methods else None
    caller = {"userArn": ARN, "cognitoIdentityId": POOL_ID, "cognitoAuthenticationType": kind}
    assert through("rest", identity=caller) == ()


@pytest.mark.parametrize("kind", sorted(EVENTS))
def test_no_header_names_anybody(kind: str) -> None:
    headers = (
        ("x-amzn-oidc-identity", "ann"),
        ("x-amzn-oidc-data", "eyJh.eyJz.c"),
        ("x-wx-openid", "oAnn"),
        ("x-cloudbase-context", "{}"),
        ("authorization", "Bearer eyJh.eyJzdWIiOiJhbm4ifQ.c"),
    )
    assert of_aws(EVENTS[kind](headers=headers)) == ()
    assert of_cloudbase(cloudbase_event(headers=headers)) == ()


def test_a_server_of_our_own_vouches_for_nobody() -> None:
    app = Recorder()
    environ = published("wsgi") | {
        "wsgi.input": io.BytesIO(b"x" * 25),
        "REMOTE_USER": "ann",
        "HTTP_X_WX_OPENID": "oAnn",
        "WX_OPENID": "oAnn",
        "TCB_UUID": "uid-ann",
    }
    list(wsgi_app(app)(environ, lambda *_: print))
    assert app.request.platform.identities == ()


@pytest.mark.parametrize("event", [cloudbase_event(), published("cloudbase_wechat_call")])
@pytest.mark.parametrize(
    ("variables", "identities"),
    [
        ({"WX_OPENID": "oAnn"}, [("wechat", "wx:oAnn")]),
        ({"TCB_UUID": "uid-ann"}, [("cloudbase", "tcb:uid-ann")]),
        (
            {"TCB_UUID": "uid-ann", "WX_OPENID": "oAnn"},
            [("wechat", "wx:oAnn"), ("cloudbase", "tcb:uid-ann")],
        ),
        (
            {"TCB_UUID": "uid-ann", "TCB_ISANONYMOUS_USER": "false", "LOGINTYPE": "EMAIL"},
            [("cloudbase", "tcb:uid-ann")],
        ),
        ({"TCB_UUID": "uid-ann", "TCB_ISANONYMOUS_USER": "true"}, []),
        ({"TCB_UUID": "uid-ann", "LOGINTYPE": "ANONYMOUS"}, []),
        (
            {"TCB_UUID": "uid-ann", "TCB_ISANONYMOUS_USER": "true", "WX_OPENID": "oAnn"},
            [("wechat", "wx:oAnn")],
        ),
        ({"TCB_CUSTOM_USER_ID": "ann", "WX_FROM_OPENID": "oAnn", "WX_UNIONID": "u"}, []),
        ({"WX_OPENID": "", "TCB_UUID": ""}, []),
        ({}, []),
    ],
)
def test_on_cloudbase_the_invocations_environment_says_who_calls(
    event: object, variables: dict[str, str], identities: list[tuple[str, str]]
) -> None:
    assert list(of_cloudbase(copy.deepcopy(event), **variables)) == identities


@pytest.mark.parametrize(
    "event",
    [
        published("cloudbase_http_shaped_call"),
        published("cloudbase_web_call") | {"environment": '{"WX_OPENID":"oAnn"}'},
        published("cloudbase_web_call") | {"WX_OPENID": "oAnn", "TCB_UUID": "uid-ann"},
        published("cloudbase_wechat_call"),
        cloudbase_event({"requestContext": {**FORGED, "environment": {"WX_OPENID": "oAnn"}}}),
    ],
)
def test_on_cloudbase_no_event_names_anybody(event: object) -> None:
    assert of_cloudbase(event) == ()


def test_a_timer_of_cloudbase_is_nobody_even_when_somebody_poses_as_one() -> None:
    assert of_cloudbase(published("cloudbase_timer"), WX_OPENID="oAnn") == ()


@pytest.mark.parametrize("environment", [None, "not json", 5, "[]"])
def test_the_old_form_of_the_environment_vouches_for_nobody(environment: object) -> None:
    context = {"environment": environment, "environ": "TCB_ENV=e;WX_OPENID=oAnn;TCB_UUID=u"}
    assert of_cloudbase({"prompt": "x"}, context) == ()


def test_the_process_lends_nobody_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WX_OPENID", "oPrevious")
    monkeypatch.setenv("TCB_UUID", "uid-previous")
    assert of_cloudbase({"prompt": "x"}) == ()


@pytest.mark.parametrize(
    "subject",
    [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "a b",
        "图",
        "a\nb",
        "x" * 97,
        "\ud800",
        "\x00",
        'a"b',
        # Somebody's digest could be somebody else's chosen subject.
        hashlib.sha256(b"auth0|5f7c8ec7c33c6c004bbafe82").hexdigest()[:32],
    ],
)
def test_what_is_no_name_goes_by_its_digest(subject: str) -> None:
    ((kind, name),) = through("http_api", authorizer={"jwt": {"claims": {"sub": subject}}})
    written = subject.encode("utf-8", "replace").decode()
    assert (kind, name) == ("jwt", f"jwt:{half_sha256(written)}")


def test_a_name_as_long_as_one_may_be_stays_as_it_is() -> None:
    subject = "x" * 96
    assert identity("jwt", subject) == (("jwt", f"jwt:{subject}"),)


def test_a_login_of_cloudbase_keeps_its_uid_also_when_that_is_hex() -> None:
    uid = "0123456789abcdef0123456789abcdef"
    assert of_cloudbase({"prompt": "x"}, TCB_UUID=uid) == (("cloudbase", f"tcb:{uid}"),)


@pytest.mark.parametrize("subject", [None, "", 5, True, ["ann"], {"sub": "ann"}])
def test_a_subject_that_is_no_text_is_nobody(subject: object) -> None:
    authorizer = {"jwt": {"claims": {"sub": subject}}, "iam": {"userArn": subject}}
    assert through("http_api", authorizer=authorizer) == ()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["iam", "jwt", "claims", "sub", "lambda", "userArn", "amr"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(kind=st.sampled_from(sorted(EVENTS)), authorizer=ANYTHING, caller=ANYTHING)
def test_whatever_a_gateway_says_the_names_are_names(
    kind: str, authorizer: object, caller: object
) -> None:
    for _, name in through(kind, authorizer=authorizer, identity=caller):
        assert re.fullmatch(r"(jwt|iam):[A-Za-z0-9_.:@/=-]{1,96}", name)


@given(subject=st.text(min_size=1))
def test_two_subjects_never_share_a_name(subject: str) -> None:
    ((_, name),) = identity("jwt", subject)
    taken = name.removeprefix("jwt:")
    if taken != subject:  # whoever chose the digest as a subject gets another name
        assert identity("jwt", taken) != identity("jwt", subject)

"""The gateway's address, its token and its errors; the fake checks the signature for itself."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

import pytest

from fal_image.tencent import (
    REFRESH_BEFORE_S,
    TOKEN_PATH,
    Gateway,
    GatewayError,
    Keys,
    gateway_host,
    keys_of,
    tc3_authorization,
)
from fal_image.wire import Wire
from support.fake_cloudbase import TOKEN_LIFE_S, FakeCloudbase, Reply, problem

UPLOAD_INFO = "/v1/storages/get-objects-upload-info"
ITEM = [{"objectId": "a.png"}]
TEMPORARY = {
    "TENCENTCLOUD_SECRETID": "AKIDCANARY",
    "TENCENTCLOUD_SECRETKEY": "canary-secret-key",
    "TENCENTCLOUD_SESSIONTOKEN": "canary-session-token",
}
EXCHANGE = "POST clientCredential"


@dataclass
class World:
    """A gateway client in an invocation whose variables and clock a test moves."""

    fake: FakeCloudbase
    variables: dict[str, str] = field(default_factory=lambda: dict(TEMPORARY))
    now_s: float = 1_700_000_000.0

    def __post_init__(self) -> None:
        self.fake.now = lambda: self.now_s
        self.gateway = Gateway(
            "env-1",
            region=None,
            wire=Wire(detours=self.fake.detours),
            credentials=lambda: self.variables,
            now=lambda: datetime.fromtimestamp(self.now_s, timezone.utc),
        )

    def call(self) -> object:
        return self.gateway.call("POST", UPLOAD_INFO, ITEM)

    def refused(self) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            self.call()
        return caught.value


@pytest.fixture
def world() -> Iterator[World]:
    with FakeCloudbase().serving() as fake:
        yield World(fake)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        (None, "env-1.api.tcloudbasegateway.com"),
        ("ap-shanghai", "env-1.api.tcloudbasegateway.com"),
        ("ap-hongkong", "env-1.api.tcloudbasegateway.com"),
        ("ap-singapore", "env-1.api.intl.tcloudbasegateway.com"),
    ],
)
def test_an_environment_outside_china_has_a_gateway_of_its_own(region: str | None, host: str):
    assert gateway_host("env-1", region) == host


def test_the_signature_is_the_one_that_cloudbases_own_library_makes():
    # @cloudbase/signature-nodejs 2.2.0 with isCloudApi gave this for the same request.
    signed = tc3_authorization(
        Keys("AKIDEXAMPLE", "SECRETEXAMPLE", "TOK"),
        "env-1.api.tcloudbasegateway.com",
        TOKEN_PATH,
        b'{"grant_type":"client_credentials"}',
        datetime.fromtimestamp(1_700_000_000, timezone.utc),
    )

    assert signed == (
        "TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/2023-11-14/tcb/tc3_request, "
        "SignedHeaders=content-type;host, "
        "Signature=fbc05b60c65296508ce2a1fda122c951c8e3c58609e229b9c9162c4b1b3f63ce, "
        "Timestamp=1700000000, Token=TOK"
    )


def test_the_api_key_is_the_bearer_and_nothing_is_exchanged(world: World):
    world.variables["CLOUDBASE_APIKEY"] = f" {world.fake.api_key}\n"

    assert isinstance(world.call(), list)
    assert world.fake.paths() == ["POST get-objects-upload-info"]
    assert world.fake.asked[0].headers["authorization"] == f"Bearer {world.fake.api_key}"


def test_temporary_keys_are_exchanged_for_a_token_once(world: World):
    world.call()
    world.call()

    assert world.fake.paths().count(EXCHANGE) == 1


def test_the_owners_own_keys_are_exchanged_too_and_go_first(world: World):
    world.variables |= {"TCB_SECRET_ID": "AKIDOWN", "TCB_SECRET_KEY": "own-key"}
    world.fake.keys = ("AKIDOWN", "own-key", "")

    assert isinstance(world.call(), list)
    assert "Token=" not in world.fake.asked[0].headers["authorization"]


def test_another_invocations_keys_get_a_token_of_their_own(world: World):
    world.call()
    world.fake.keys = ("AKIDCANARY", "canary-secret-key", "the-next-token")
    world.variables["TENCENTCLOUD_SESSIONTOKEN"] = "the-next-token"
    world.call()

    assert world.fake.paths().count(EXCHANGE) == 2


def test_a_token_is_replaced_shortly_before_its_end(world: World):
    world.call()
    world.now_s += TOKEN_LIFE_S - REFRESH_BEFORE_S - 1
    world.call()
    assert world.fake.paths().count(EXCHANGE) == 1

    world.now_s += 1
    world.call()
    assert world.fake.paths().count(EXCHANGE) == 2


def test_a_token_that_is_refused_is_not_used_again(world: World):
    world.call()
    world.fake.faults["get-objects-upload-info"] = [problem(401, "INVALID_CREDENTIALS")]
    assert world.refused().status == 401
    world.call()

    assert world.fake.paths().count(EXCHANGE) == 2


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"TENCENTCLOUD_SECRETID": "AKIDCANARY"},
        {"TCB_SECRET_KEY": "canary-secret-key"},
        {"CLOUDBASE_APIKEY": " ", "TCB_SECRET_ID": "", "TCB_SECRET_KEY": ""},
    ],
)
def test_without_a_key_or_a_whole_pair_nothing_is_sent(world: World, variables: dict[str, str]):
    world.variables = variables

    assert "CLOUDBASE_APIKEY" in str(world.refused())
    assert world.fake.asked == []


@pytest.mark.parametrize("name", [*TEMPORARY, "CLOUDBASE_APIKEY"])
def test_one_flipped_byte_of_a_credential_is_refused(world: World, name: str):
    world.variables["CLOUDBASE_APIKEY"] = world.fake.api_key if "API" in name else ""
    right = world.variables[name]
    world.variables[name] = right[:-1] + chr(ord(right[-1]) ^ 1)

    assert world.refused().status == 401


def test_a_clock_that_is_wrong_by_more_than_five_minutes_is_refused(world: World):
    world.fake.now = lambda: world.now_s + 301

    assert "over" in str(world.refused())


@pytest.mark.parametrize(
    ("reply", "may_pass"),
    [
        (problem(400, "INVALID_PARAM"), False),
        (problem(400, "SYS_ERR"), True),
        (problem(403, "ACTION_FORBIDDEN"), False),
        (problem(404, "INVALID_HOST"), False),
        (problem(422, "EXCEED_CONCURRENT_REQUEST_LIMIT"), True),
        (problem(422, "INVALID_PARAM"), False),
        (problem(429, "EXCEED_REQUEST_LIMIT"), True),
        (problem(500, "DATABASE_REQUEST_FAILED"), True),
        (Reply(502, {"content-type": "text/html"}, b"<html>"), True),
        (Reply(302, {"location": "https://evil.example.com/"}), False),
        (Reply(200, {}, b"<html>"), False),
        (Reply(200, {}, b"\xff"), False),
    ],
)
def test_a_refusal_says_whether_asking_again_could_help(world: World, reply: Reply, may_pass: bool):
    world.fake.faults["get-objects-upload-info"] = [reply]

    error = world.refused()
    assert error.may_pass == may_pass
    assert f"HTTP {reply.status} {error.code}".rstrip() in str(error)


def test_a_question_is_asked_in_the_address_and_not_repeated_in_an_error(world: World):
    with pytest.raises(GatewayError) as caught:
        world.gateway.call("GET", UPLOAD_INFO, query={"query": '{"a": "b/c&d"}', "limit": "2"})

    asked = world.fake.asked[-1]
    assert (asked.method, asked.path, asked.body) == ("GET", UPLOAD_INFO, b"")
    assert asked.query == "query=%7B%22a%22%3A%20%22b%2Fc%26d%22%7D&limit=2"
    assert "content-type" not in asked.headers
    assert "query" not in str(caught.value)


def test_a_call_takes_no_longer_than_it_is_given(world: World):
    world.call()
    with pytest.raises(GatewayError, match="no time left") as caught:
        world.gateway.call("POST", UPLOAD_INFO, ITEM, timeout_s=0)

    assert caught.value.may_pass
    assert world.fake.paths() == [EXCHANGE, "POST get-objects-upload-info"]


@pytest.mark.parametrize(
    "body", [b"[]", b'{"expires_in": 7200}', b'{"access_token": "t", "expires_in": "soon"}']
)
def test_an_exchange_without_a_token_is_an_error(world: World, body: bytes):
    world.fake.faults["clientCredential"] = [Reply(200, {}, body)]

    assert "no token" in str(world.refused())


def test_no_answer_may_pass(world: World):
    world.gateway = Gateway(
        "env-1",
        region=None,
        wire=Wire(detours={world.fake.gateway_host: "http://127.0.0.1:1"}),
        credentials=lambda: {"CLOUDBASE_APIKEY": "k"},
        now=lambda: datetime.now(timezone.utc),
    )

    assert world.refused().may_pass


def test_credentials_appear_in_no_error_and_no_repr(world: World):
    told = [repr(keys_of(world.variables)), repr(world.gateway)]
    echo = b'{"message": "unknown: AKIDCANARY canary-session-token"}'
    world.fake.faults["clientCredential"] = [Reply(401, {}, echo)]
    for variables in (
        TEMPORARY,
        TEMPORARY | {"TENCENTCLOUD_SESSIONTOKEN": "canary-session\ntoken"},
        {"CLOUDBASE_APIKEY": "canary-api-key-nobody-knows"},  # the fake's answer repeats it
        {"CLOUDBASE_APIKEY": "canary-api-key-\N{SNOWMAN}"},
    ):
        world.variables = variables
        error = world.refused()
        told += [repr(error), "".join(traceback.format_exception(error))]

    assert "[hidden]" in "".join(told)
    assert not [word for word in ("canary-api", "canary-s") if word in "".join(told)]


def test_without_tencents_sdk_the_owner_is_told_what_to_install():
    program = """
import sys
from datetime import datetime, timezone
from fal_image.tencent import GatewayError, Keys, tc3_authorization

sys.modules["tencentcloud.common.sign"] = None  # as if it were not installed
try:
    tc3_authorization(Keys("id", "key"), "host", "/", b"", datetime.now(timezone.utc))
except GatewayError as error:
    assert "tencentcloud-sdk-python-tcb" in str(error)
    raise SystemExit(7)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, check=False
    )

    assert run.returncode == 7


def test_tencents_sdk_is_imported_for_an_exchange_only(world: World):
    program = """
import sys
from datetime import datetime, timezone
from fal_image.tencent import Gateway
from fal_image.wire import Wire

host, base, key = sys.argv[1:]
gateway = Gateway(
    "env-1", region=None, wire=Wire(detours={host: base}),
    credentials=lambda: {"CLOUDBASE_APIKEY": key}, now=lambda: datetime.now(timezone.utc),
)
gateway.call("POST", "/v1/storages/get-objects-upload-info", [{"objectId": "a.png"}])
raise SystemExit("tencentcloud" in sys.modules)
"""
    fake = world.fake
    run = subprocess.run(
        [sys.executable, "-c", program, fake.gateway_host, fake.url, fake.api_key],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )

    assert run.returncode == 0

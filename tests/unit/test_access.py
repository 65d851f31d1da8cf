import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fal_image.access import Access, Caller
from fal_image.errors import Unauthorized
from fal_image.tickets import MAX_TICKET_CHARS, Ticket, sealed
from fal_image.web import Headers, Platform, Request

KEY = "k-0123456789"
FAL_KEY = "01234567-89ab-cdef-0123-456789abcdef:0123456789abcdef0123456789abcdef"
SECRET = "canary0signing0secret0of0this0test"
OLDER = "canary0signing0secret0of0yesterday"
NOW_S = 1_800_000_000
WECHAT, CLOUDBASE = ("wechat", "wx:oAnn"), ("cloudbase", "tcb:uid-ann")
JWT, IAM = ("jwt", "jwt:ann"), ("iam", "iam:arn:aws:iam::111122223333:user/ann")
# As gateways leave them in the header that they have read: a token, and a signature.
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2ln"
SIGNATURE = "AWS4-HMAC-SHA256 Credential=AKIA/20261121/x/lambda/aws4_request, Signature=ab"


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def access(**overrides: object) -> Access:
    fields: dict[str, object] = {"api_keys": (("web", sha("old")), ("web", sha(KEY)))}
    return Access(**(fields | overrides))  # type: ignore[arg-type]


def request(
    caller: str | None = None,
    method: str = "POST",
    identities: tuple[tuple[str, str], ...] = (),
    **headers: str,
) -> Request:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    platform = Platform("wsgi", "r-1", caller=caller, identities=identities)
    return Request(method, "/", platform, headers=Headers(pairs))


def a_ticket(**overrides: object) -> Ticket:
    fields: dict[str, object] = {"id": "t-1", "caller": "web", "exp": NOW_S + 60}
    return Ticket(**(fields | overrides))  # type: ignore[arg-type]


def box_office(**overrides: object) -> Access:
    """An access that takes tickets."""
    fields: dict[str, object] = {
        "secrets": (SECRET,),
        "takes_tickets": True,
        "now_s": lambda: float(NOW_S),
    }
    return access(**(fields | overrides))


def refused(door: Access, **shown: object) -> Unauthorized:
    with pytest.raises(Unauthorized) as refusal:
        door.identify(request(**shown))  # type: ignore[arg-type]
    return refusal.value


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"authorization": f"Key {KEY}"},
        {"x_api_key": KEY},
    ],
)
def test_a_key_is_accepted_in_each_of_the_three_forms(headers: dict[str, Any]):
    assert access().identify(request(**headers)) == Caller("web")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x_api_key": sha(KEY)},
        {"x_api_key": "ключ\udcff"},
    ],
)
def test_anything_else_is_refused_with_a_challenge(headers: dict[str, Any]):
    with pytest.raises(Unauthorized) as refused:
        access().identify(request(**headers))
    assert ("www-authenticate", "Bearer") in refused.value.headers


def test_without_callers_the_refusal_names_the_settings_that_open_the_door():
    with pytest.raises(Unauthorized) as refused:
        access(api_keys=()).identify(request())
    assert "FAL_IMAGE_API_KEYS" in str(refused.value.hint)
    assert "FAL_IMAGE_ALLOW_ANONYMOUS" in str(refused.value.hint)


def test_a_fal_key_sent_by_mistake_is_named_and_not_repeated():
    with pytest.raises(Unauthorized) as refused:
        access().identify(request(authorization=f"Key {FAL_KEY}"))
    assert "fal" in refused.value.detail
    assert FAL_KEY not in refused.value.detail + str(refused.value.hint)


def test_anonymous_callers_are_let_in_when_the_owner_says_so():
    assert access(allow_anonymous=True).identify(request()) == Caller("anonymous")


def test_a_wrong_credential_stays_wrong_where_anonymous_callers_are_let_in():
    with pytest.raises(Unauthorized):
        access(allow_anonymous=True).identify(request(x_api_key="wrong"))


def test_whoever_may_call_by_the_platforms_own_rights_needs_no_key():
    assert access().identify(request(caller="iam")) == Caller("iam")


@pytest.mark.parametrize("identity", [WECHAT, CLOUDBASE, JWT, IAM])
def test_a_trusted_identity_needs_no_key(identity: tuple[str, str]):
    kind, name = identity
    door = access(api_keys=(), trust=(kind,))
    assert door.identify(request(identities=(identity,))) == Caller(name)


@pytest.mark.parametrize("trust", [(), ("wechat",), ("cloudbase", "iam")])
def test_an_identity_of_a_kind_that_is_not_trusted_counts_for_nothing(trust: tuple[str, ...]):
    refusal = refused(access(trust=trust), identities=(JWT,))
    assert refusal.detail == "no API key was sent"
    door = access(trust=trust, allow_anonymous=True)
    assert door.identify(request(identities=(JWT,))) == Caller("anonymous")


@pytest.mark.parametrize(
    ("trust", "name"),
    [
        (("wechat", "cloudbase"), WECHAT[1]),
        (("cloudbase", "wechat"), WECHAT[1]),
        (("cloudbase",), CLOUDBASE[1]),
        (("iam", "jwt", "cloudbase"), CLOUDBASE[1]),
    ],
)
def test_of_several_identities_the_platforms_first_that_is_trusted_counts(
    trust: tuple[str, ...], name: str
):
    assert access(trust=trust).identify(request(identities=(WECHAT, CLOUDBASE))).name == name


def test_a_key_wins_over_a_trusted_identity():
    door = access(trust=("wechat",))
    assert door.identify(request(identities=(WECHAT,), x_api_key=KEY)) == Caller("web")


@pytest.mark.parametrize(
    "headers",
    [
        {"x_api_key": "wrong"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Key wrong"},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer t1.e30.c2ln"},
        {"authorization": f"Key {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}.c2ln"},
        {"authorization": f"Bearer {TOKEN} more"},
        {"authorization": "AWS4-HMAC-SHA256"},
        {"authorization": f"Bearer {FAL_KEY}"},
    ],
)
def test_a_wrong_credential_stays_wrong_beside_a_trusted_identity(headers: dict[str, Any]):
    refused(access(trust=("jwt", "iam", "wechat")), identities=(JWT, IAM, WECHAT), **headers)


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN}", TOKEN, SIGNATURE])
def test_what_a_gateway_has_read_is_no_wrong_key(authorization: str):
    door = access(trust=("jwt",))
    read = request(identities=(JWT,), authorization=authorization)
    assert door.identify(read) == Caller(JWT[1])
    beside = request(identities=(JWT,), authorization=authorization, x_api_key=KEY)
    assert door.identify(beside) == Caller("web")
    refused(door, identities=(JWT,), authorization=authorization, x_api_key="wrong")


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", TOKEN, SIGNATURE])
def test_a_token_that_no_trusted_gateway_has_read_is_a_wrong_key(authorization: str):
    refused(access(trust=("jwt",), allow_anonymous=True), authorization=authorization)
    refused(access(trust=("wechat",)), identities=(JWT,), authorization=authorization)


@pytest.mark.parametrize("header", ["authorization", "x_api_key"])
def test_a_ticket_lets_its_holder_in(header: str):
    ticket = a_ticket(user="ann", models=("fal-ai/flux/*",), images=3, usd_micro=10, uses=0)
    scheme = "Bearer " if header == "authorization" else ""
    shown: dict[str, Any] = {header: scheme + sealed(ticket, SECRET)}
    assert box_office().identify(request(**shown)) == Caller("web:ann", ticket)


def test_a_ticket_wins_over_a_trusted_identity():
    shown = sealed(a_ticket(), SECRET)
    door = box_office(trust=("wechat",))
    assert door.identify(request(identities=(WECHAT,), x_api_key=shown)).name == "web"


@pytest.mark.parametrize("exp", [NOW_S, NOW_S - 1, 0, -1])
def test_a_ticket_whose_time_is_over_is_refused(exp: int):
    refusal = refused(box_office(), x_api_key=sealed(a_ticket(exp=exp), SECRET))
    assert "time is over" in refusal.detail
    assert "new one" in str(refusal.hint)


def test_a_ticket_is_good_until_its_last_second():
    shown = request(x_api_key=sealed(a_ticket(exp=NOW_S + 1), SECRET))
    assert box_office().identify(shown).name == "web"


def test_a_ticket_with_one_byte_flipped_is_refused():
    version, *parts = sealed(a_ticket(user="ann", images=3), SECRET).split(".")
    contents = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts]
    for part, content in enumerate(contents):
        for at in range(len(content)):
            flipped = bytearray(content)
            flipped[at] ^= 1
            forged = list(contents)
            forged[part] = bytes(flipped)
            texts = [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in forged]
            refused(box_office(), x_api_key=".".join((version, *texts)))


def test_a_payload_under_another_tickets_signature_is_refused():
    small, large = (sealed(a_ticket(images=images), SECRET) for images in (1, 1000))
    forged = large.rpartition(".")[0] + "." + small.rpartition(".")[2]
    refused(box_office(), x_api_key=forged)


def test_a_ticket_sealed_with_another_secret_is_refused():
    refused(box_office(), x_api_key=sealed(a_ticket(), OLDER))
    refused(box_office(secrets=()), x_api_key=sealed(a_ticket(), SECRET))


def test_a_ticket_outlives_the_rotation_of_its_secret_until_the_old_one_is_dropped():
    shown = sealed(a_ticket(), OLDER)
    assert box_office(secrets=(SECRET, OLDER)).identify(request(x_api_key=shown)).name == "web"
    refused(box_office(secrets=(SECRET,)), x_api_key=shown)


@pytest.mark.parametrize("api_keys", [(), (("other", sha("other")),), (("web:ann", sha("a")),)])
def test_a_ticket_dies_with_its_makers_last_key(api_keys: tuple[tuple[str, str], ...]):
    shown = sealed(a_ticket(user="ann"), SECRET)
    refused(box_office(api_keys=api_keys), x_api_key=shown)
    refused(box_office(api_keys=api_keys, allow_anonymous=True), x_api_key=shown)


def test_without_a_database_no_ticket_is_taken():
    refused(box_office(takes_tickets=False), x_api_key=sealed(a_ticket(), SECRET))


def test_a_ticket_longer_than_any_is_refused():
    globs = tuple("fal-ai/" + "x" * 190 for _ in range(20))
    shown = sealed(a_ticket(models=globs), SECRET)
    assert len(shown) > MAX_TICKET_CHARS
    refused(box_office(), x_api_key=shown)


@pytest.mark.parametrize("field", ["id", "caller", "exp"])
def test_a_sealed_payload_that_is_no_ticket_is_refused(field: str):
    refused(box_office(), x_api_key=sealed(a_ticket(**{field: None}), SECRET))
    refused(box_office(), x_api_key=sealed(a_ticket(**{field: ["x"]}), SECRET))


@given(garbage=st.text() | st.text(alphabet="eyJ0aWQ.-_=+/t1", max_size=80))
def test_garbage_that_starts_like_a_ticket_is_refused_and_breaks_nothing(garbage: str):
    door = box_office(trust=("wechat",), allow_anonymous=True)
    refused(door, x_api_key=f"t1.{garbage}")
    refused(door, x_api_key=f"t1.{garbage}.{garbage}", identities=(WECHAT,))


@given(payload=st.binary(max_size=60), signature=st.binary(max_size=40))
def test_a_payload_that_nobody_sealed_is_refused(payload: bytes, signature: bytes):
    parts = [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in (payload, signature)]
    refused(box_office(), x_api_key=".".join(("t1", *parts)))


def test_without_configured_origins_there_are_no_cors_headers():
    assert access().cors_headers(request(origin="https://a.example")) == ()


@pytest.mark.parametrize(
    "origin", ["https://a.example.evil.com", "http://a.example", "https://A.example", "null"]
)
def test_only_the_exact_origin_is_let_in(origin: str):
    pages = access(cors_origins=("https://a.example",))
    assert pages.cors_headers(request(origin=origin)) == (("vary", "Origin"),)


def test_a_preflight_of_a_configured_origin_may_send_what_clients_send():
    pages = access(cors_origins=("https://a.example",))
    answer = pages.preflight(request(origin="https://a.example", method="OPTIONS"), "POST")
    headers = dict(answer.headers)
    assert answer.status == 204
    assert headers["access-control-allow-methods"] == "POST"
    assert "authorization" in headers["access-control-allow-headers"]


def test_a_preflight_of_another_origin_gets_no_permission():
    pages = access(cors_origins=("https://a.example",))
    answer = pages.preflight(request(origin="https://b.example", method="OPTIONS"), "POST")
    assert not any(name.startswith("access-control") for name, _ in answer.headers)


def test_an_answer_to_a_configured_origin_may_be_read_by_its_page():
    pages = access(cors_origins=("https://a.example",))
    headers = dict(pages.cors_headers(request(origin="https://a.example")))
    assert headers["access-control-allow-origin"] == "https://a.example"
    assert headers["vary"] == "Origin"
    assert "x-fal-request-id" in headers["access-control-expose-headers"]

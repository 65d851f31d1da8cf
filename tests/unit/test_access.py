import hashlib

import pytest

from fal_image.access import Access
from fal_image.errors import Unauthorized
from fal_image.web import Headers, Platform, Request

KEY = "k-0123456789"
FAL_KEY = "01234567-89ab-cdef-0123-456789abcdef:0123456789abcdef0123456789abcdef"


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def access(**overrides: object) -> Access:
    fields: dict[str, object] = {"api_keys": (("web", sha("old")), ("web", sha(KEY)))}
    return Access(**(fields | overrides))  # type: ignore[arg-type]


def request(caller: str | None = None, method: str = "POST", **headers: str) -> Request:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request(method, "/", Platform("wsgi", "r-1", caller=caller), headers=Headers(pairs))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"authorization": f"Key {KEY}"},
        {"x_api_key": KEY},
    ],
)
def test_a_key_is_accepted_in_each_of_the_three_forms(headers: dict[str, str]):
    assert access().identify(request(**headers)) == "web"


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
def test_anything_else_is_refused_with_a_challenge(headers: dict[str, str]):
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
    assert access(allow_anonymous=True).identify(request()) == "anonymous"


def test_a_wrong_credential_stays_wrong_where_anonymous_callers_are_let_in():
    with pytest.raises(Unauthorized):
        access(allow_anonymous=True).identify(request(x_api_key="wrong"))


def test_an_identity_the_platform_vouches_for_needs_no_key():
    assert access().identify(request(caller="iam")) == "iam"


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

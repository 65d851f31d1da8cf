"""What leads to fal and what does not, without any request: text in, a target or a refusal out."""

import string
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import urllib3.util
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fal_image.errors import InvalidInput, MethodNotAllowed, TargetRefused
from fal_image.proxy.targets import Target, app_of, of_header, of_path, request_url
from support.hostile_targets import BELOW, HEADERS, PLACES, STATUS, Place

FIRST = {"https://queue.fal.run/", "https://fal.run/", "https://rest.fal.ai/"}
METHOD = {"status": "GET", "follow": "GET", "result": "GET", "cancel": "PUT"}

# Method, address as a client spells it, the target, the address as we spell it.
LEADING = [
    (
        "POST",
        "https://queue.fal.run/fal-ai/flux/schnell",
        Target("submit", model="fal-ai/flux/schnell"),
        "https://queue.fal.run/fal-ai/flux/schnell",
    ),
    (
        "POST",
        "https://queue.fal.run/fal-ai/flux/schnell/?fal_webhook=https%3A%2F%2Fa.example%2F%3Fx%3D1",
        Target(
            "submit", model="fal-ai/flux/schnell", query={"fal_webhook": "https://a.example/?x=1"}
        ),
        "https://queue.fal.run/fal-ai/flux/schnell",
    ),
    (
        "POST",
        "https://queue.fal.run/workflows/me/poster",
        Target("submit", model="workflows/me/poster"),
        "https://queue.fal.run/workflows/me/poster",
    ),
    (
        "GET",
        "https://queue.fal.run/fal-ai/flux/requests/r-1/status?logs=1",
        Target("status", app="fal-ai/flux", request_id="r-1", query={"logs": "1"}),
        "https://queue.fal.run/fal-ai/flux/requests/r-1/status?logs=1",
    ),
    (
        "GET",
        "https://queue.fal.run/fal-ai/flux/schnell/requests/r-1/status/?logs=false",
        Target("status", app="fal-ai/flux", request_id="r-1", query={"logs": "false"}),
        "https://queue.fal.run/fal-ai/flux/requests/r-1/status",
    ),
    (
        "GET",
        "https://queue.fal.run/fal-ai/flux/requests/r-1/status/stream?logs=true",
        Target("follow", app="fal-ai/flux", request_id="r-1", query={"logs": "true"}),
        "https://queue.fal.run/fal-ai/flux/requests/r-1/status/stream?logs=1",
    ),
    (
        "GET",
        "https://queue.fal.run/comfy/me/poster/v2/requests/r-1/response",
        Target("result", app="comfy/me/poster", request_id="r-1"),
        "https://queue.fal.run/comfy/me/poster/requests/r-1",
    ),
    (
        "PUT",
        "https://queue.fal.run/fal-ai/flux/requests/R_1/cancel",
        Target("cancel", app="fal-ai/flux", request_id="R_1"),
        "https://queue.fal.run/fal-ai/flux/requests/R_1/cancel",
    ),
    (
        "POST",
        "https://fal.run/fal-ai/flux/schnell",
        Target("run", model="fal-ai/flux/schnell"),
        "https://queue.fal.run/fal-ai/flux/schnell",
    ),
    (
        "GET",
        "https://fal.run/fal-ai/flux/schnell?prompt=a+cat%2C+%E7%8C%AB&seed=7",
        Target("run", model="fal-ai/flux/schnell", query={"prompt": "a cat, 猫", "seed": "7"}),
        "https://queue.fal.run/fal-ai/flux/schnell",
    ),
    (
        "POST",
        "https://fal.run/fal-ai/flux/schnell/stream",
        Target("stream", model="fal-ai/flux/schnell"),
        "https://fal.run/fal-ai/flux/schnell/stream",
    ),
    (
        "POST",
        "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3",
        Target("upload", path="storage/upload/initiate", query={"storage_type": "fal-cdn-v3"}),
        "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3",
    ),
    (
        "POST",
        "https://rest.fal.ai/storage/upload/initiate-multipart",
        Target("upload", path="storage/upload/initiate-multipart"),
        "https://rest.fal.ai/storage/upload/initiate-multipart?storage_type=fal-cdn-v3",
    ),
    (
        "POST",
        "https://rest.fal.ai/tokens/",
        Target("token", path="tokens"),
        "https://rest.fal.ai/tokens/",
    ),
    (
        "POST",
        "https://rest.fal.ai/tokens/realtime",
        Target("token", path="tokens/realtime"),
        "https://rest.fal.ai/tokens/realtime",
    ),
]


def through_path(place: Place) -> Target:
    host, _, path = place.place.partition("/")
    return of_path(place.method, host, path, place.query)


@pytest.mark.parametrize(("method", "spelled", "target", "url"), LEADING)
def test_what_fals_clients_ask_for_leads_to_fal(
    method: str, spelled: str, target: Target, url: str
):
    assert of_header(method, spelled) == target
    assert target.url == url


@pytest.mark.parametrize(("method", "spelled", "target", "url"), LEADING)
def test_a_path_of_ours_leads_where_the_header_does(
    method: str, spelled: str, target: Target, url: str
):
    parts = urlsplit(spelled)
    query = parse_qsl(parts.query, keep_blank_values=True)
    assert of_path(method, parts.netloc, parts.path[1:], query) == target


@pytest.mark.parametrize("name", PLACES)
def test_a_hostile_place_is_refused_in_the_header(name: str):
    place = PLACES[name]
    with pytest.raises(place.error):
        of_header(place.method, place.url)


@pytest.mark.parametrize("name", PLACES)
def test_a_hostile_place_is_refused_in_the_path(name: str):
    with pytest.raises(PLACES[name].error):
        through_path(PLACES[name])


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_is_refused_whatever_the_method(name: str):
    for method in ("GET", "POST", "PUT"):
        with pytest.raises(TargetRefused):
            of_header(method, HEADERS[name])


def test_a_name_stands_twice_in_a_query_even_if_it_is_encoded_once():
    with pytest.raises(TargetRefused, match="twice"):
        of_header("GET", f"https://{STATUS}?logs=1&%6cogs=0")


@pytest.mark.parametrize(
    "name", [name for name, (_, error) in BELOW.items() if error.status == 412]
)
def test_a_hostile_path_is_refused(name: str):
    with pytest.raises(TargetRefused):
        through_path(Place(BELOW[name][0]))


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_the_header_the_answer_names_it(nothing: str | None):
    with pytest.raises(InvalidInput) as refused:
        of_header("POST", nothing)
    assert refused.value.status == 400
    assert "x-fal-target-url" in refused.value.detail


def test_a_wrong_method_says_which_is_right():
    with pytest.raises(MethodNotAllowed) as refused:
        of_header("DELETE", "https://queue.fal.run/fal-ai/flux/requests/r-1/cancel")
    assert refused.value.headers == (("allow", "PUT"),)


def test_a_refusal_repeats_little_of_what_it_refuses():
    with pytest.raises(TargetRefused) as refused:
        of_path("POST", "fal.run", "fal-ai/flux", [("x" * 5000, "secret")])
    assert len(refused.value.detail) < 200
    assert "secret" not in refused.value.detail


def test_requests_are_known_by_owner_and_name_whatever_the_model():
    assert app_of("fal-ai/flux-pro/kontext/max") == "fal-ai/flux-pro"
    assert app_of("workflows/me/poster/v2") == "workflows/me/poster"
    assert request_url("fal-ai/flux", "r-1", "https://a.example/p") == (
        "https://a.example/p/fal-ai/flux/requests/r-1"
    )


# What a URL is made of, good and bad, so that random texts come near to an address of fal.
PIECES = [
    *("https://", "http://", "//", "/", "\\", "@", ":", ":443", "#", "?", "&", "=", ";", ",", " "),
    *("fal.run", "queue.fal.run", "rest.fal.ai", "evil.com", "user", "[::1]", ".", "..", "%2e"),
    *("%2f", "%00", "\t", "\r\n", "\0", "é", "图", "\ud800", "fal-ai", "flux", "schnell", "stream"),
    *("requests", "r-1", "status", "cancel", "response", "workflows", "comfy", "logs=1", "tokens"),
    *("storage/upload/initiate", "storage_type=fal-cdn-v3", "realtime", "fal_webhook=x", "prompt"),
]
GOOD = [spelled for _, spelled, _, _ in LEADING]
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@st.composite
def bent(draw: st.DrawFn) -> str:
    """An address of fal's with one piece put into it or in the place of something."""
    good = draw(st.sampled_from(GOOD))
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(good))] * 2)))
    keep = draw(st.booleans())
    return good[:start] + draw(st.sampled_from(PIECES) | ANY_TEXT) + good[start if keep else end :]


TEXTS = (
    ANY_TEXT
    | st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
    | bent()
    | st.tuples(st.sampled_from(sorted(FIRST)), st.text(string.printable)).map("".join)
)
REFUSALS = InvalidInput, MethodNotAllowed, TargetRefused  # 400, 405, 412
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", ""])


def assert_leads_to_fal(target: Target) -> None:
    """The address that is called is fal's for whoever reads it, and read again it is the same."""
    url = target.url
    assert sum(url.startswith(first) for first in FIRST) == 1
    prepared = requests.Request("GET", url).prepare().url
    assert prepared == url
    for read in (urlsplit(url), urlsplit(url.lower())):
        assert f"https://{read.hostname}/" in FIRST
        assert (read.scheme, read.netloc) == ("https", read.hostname)
        assert (read.username, read.password, read.port, read.fragment) == (None, None, None, "")
    parsed = urllib3.util.parse_url(url)
    assert f"{parsed.scheme}://{parsed.netloc}/" in FIRST
    assert (parsed.auth, parsed.port, parsed.fragment) == (None, None, None)
    again = of_header(METHOD.get(target.kind, "POST"), url)
    assert again.kind == ("submit" if target.kind == "run" else target.kind)
    assert (again.model, again.app, again.request_id) == (
        target.model,
        target.app,
        target.request_id,
    )
    assert again.path == target.path
    assert again.url == url


@settings(max_examples=500)
@given(METHODS, TEXTS)
@example("POST", "https://fal.run/fal-ai/flux/requests/r-1/cancel")
@example("GET", "https://queue.fal.run/fal-ai/flux/requests/r-1/status?logs=1,https://evil.com/")
def test_any_text_is_refused_or_leads_to_fal(method: str, text: str):
    with suppress(*REFUSALS):
        assert_leads_to_fal(of_header(method, text))


@given(
    METHODS, TEXTS, st.lists(st.tuples(ANY_TEXT | st.sampled_from(["logs", "prompt"]), ANY_TEXT))
)
def test_any_path_is_refused_or_leads_to_fal(method: str, text: str, query: list[tuple[str, str]]):
    host, _, path = text.removeprefix("https://").partition("/")
    with suppress(*REFUSALS):
        assert_leads_to_fal(of_path(method, host, path, query))


SEGMENTS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,12}", fullmatch=True)
IDS = st.lists(SEGMENTS, min_size=2, max_size=5).map("/".join)


@given(IDS, st.sampled_from(["", "/status", "/status/stream", "/response"]))
def test_a_model_and_its_requests_are_found_again_in_every_address(model: str, ending: str):
    assume("requests" not in model.split("/"))
    assume(model.split("/")[0] not in ("workflows", "comfy"))
    submit = of_path("POST", "queue.fal.run", model, ())
    request = of_path("GET", "queue.fal.run", f"{model}/requests/r-1{ending}", ())
    assert (submit.kind, submit.model) == ("submit", model)
    assert (request.app, request.request_id) == (app_of(model), "r-1")
    assert_leads_to_fal(submit)
    assert_leads_to_fal(request)

"""No hostile target gets past the door of the real functions, whatever event it comes in.

Every refusal is looked at twice: what the caller is told, and that nobody was connected to while
it was made, which the interpreter itself tells.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.errors import (
    InvalidInput,
    MethodNotAllowed,
    ModelNotAllowed,
    NotFound,
    TargetRefused,
    Unauthorized,
    UnsupportedMediaType,
)
from support import entrypoints
from support.connects import watched
from support.doors import (
    CAT,
    DOORS,
    LOSES_PAIRS,
    PROXY,
    Send,
    behind,
    doubled,
    fault,
    faults,
    in_header,
    in_path,
    lambda_context,
    silence,
    through_json,
)
from support.entrypoints import KEY_SHA256, NOON
from support.entrypoints import request as a_request
from support.hostile_targets import (
    AS_SENT,
    BELOW,
    HEADERS,
    PLACES,
    RUN,
    SCHNELL,
    STATUS,
    TOKENS,
    WEBHOOKS,
)
from support.instances import environment, read

Silence = Callable[[], AbstractContextManager[None]]

GOOD = f"https://{SCHNELL}"
VIDEO = "queue.fal.run/fal-ai/minimax/video-01"


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _settings(fal: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller and no database: nothing but the rules for targets stands between the two."""
    settings = environment(
        fal,
        tmp_path,
        FAL_IMAGE_DATABASE_URL=None,
        FAL_IMAGE_API_KEYS=f"web={KEY_SHA256}",
        FAL_IMAGE_WEBHOOK_HOSTS="hooks.example",
    )
    entrypoints.clear_environment(monkeypatch)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def send(door: str) -> Send:
    return behind(door)


@pytest.fixture
def quiet(fal: Emulator, capfd: pytest.CaptureFixture[str]) -> Silence:
    return partial(silence, fal, capfd)


def test_an_address_of_fal_gets_past_the_door_of_every_form(send: Send, fal: Emulator):
    with watched() as reached:
        assert send(in_header(GOOD)).status == 200
    assert reached
    assert send(in_path(SCHNELL)).status == 200
    assert [entry.via for entry in fal.ledger] == ["queue"] * 2


def test_a_header_that_is_no_address_of_fal_is_refused(send: Send, quiet: Silence):
    requests = {name: in_header(text) for name, text in HEADERS.items()}
    with quiet():
        assert faults(send, requests, TargetRefused) == {}


def test_an_address_that_looks_like_fals_is_refused_in_the_header(send: Send, quiet: Silence):
    requests = {name: in_header(place.url, place.method) for name, place in PLACES.items()}
    with quiet():
        assert faults(send, requests, *(place.error for place in PLACES.values())) == {}


def test_an_address_that_looks_like_fals_is_refused_in_the_path(
    send: Send, door: str, quiet: Silence
):
    places = {
        name: place for name, place in PLACES.items() if place.is_kept or door not in LOSES_PAIRS
    }
    requests = {
        name: in_path(place.place, place.method, query=place.query)
        for name, place in places.items()
    }
    with quiet():
        assert faults(send, requests, *(place.error for place in places.values())) == {}


def test_a_path_that_names_no_host_of_fal_is_refused(send: Send, quiet: Silence):
    requests = {name: in_path(below) for name, (below, _) in BELOW.items()}
    with quiet():
        assert faults(send, requests, *(error for _, error in BELOW.values())) == {}


def test_a_header_that_came_twice_is_refused(send: Send, door: str, quiet: Silence):
    pairs = {
        "good, good": (GOOD, GOOD),
        "good, evil": (GOOD, "https://evil.com/fal-ai/flux"),
        "evil, good": ("https://evil.com/fal-ai/flux", GOOD),
        "nothing, good": ("", GOOD),
        "good, nothing": (GOOD, ""),
        "with queries": (f"https://{STATUS}?logs=1", f"https://{STATUS}?logs=1"),
        "three": (GOOD, GOOD, GOOD),
    }
    if door == "alb":  # it keeps the last and tells nobody of the others
        pairs = {"good, evil": pairs["good, evil"]}
    with quiet():
        requests = {name: doubled(*targets) for name, targets in pairs.items()}
        assert faults(send, requests, TargetRefused) == {}


def test_without_a_target_the_answer_is_400(send: Send, quiet: Silence):
    requests = {
        f"{method} {text!r}": in_header(text, method)
        for method in ("GET", "POST", "PUT")
        for text in (None, "")
    }
    with quiet():
        assert faults(send, requests, InvalidInput) == {}


def test_methods_that_fal_has_no_use_for_are_405(send: Send, quiet: Silence):
    methods = ("DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND")
    requests = {f"{method} header": in_header(GOOD, method) for method in methods}
    requests |= {f"{method} path": in_path(SCHNELL, method) for method in methods}
    with quiet():
        assert faults(send, requests, MethodNotAllowed) == {}


def test_asking_for_a_head_alone_is_405(send: Send, quiet: Silence):
    with quiet():
        answers = [send(in_header(GOOD, "HEAD")), send(in_path(SCHNELL, "HEAD"))]
    assert [(answer.status, answer.body) for answer in answers] == [(405, b"")] * 2


def test_a_body_that_is_not_json_is_415(send: Send, quiet: Silence):
    kinds = ("text/plain", "multipart/form-data; boundary=x", "application/xml", "json")
    places = (
        SCHNELL,
        RUN,
        f"{RUN}/stream",
        "rest.fal.ai/tokens/",
        "rest.fal.ai/storage/upload/initiate",
    )
    requests = {}
    for kind, place in itertools.product(kinds, places):
        headers = {"content-type": kind}
        requests[f"{kind}, header, {place}"] = in_header(f"https://{place}", headers=headers)
        requests[f"{kind}, path, {place}"] = in_path(place, headers=headers)
    with quiet():
        assert faults(send, requests, UnsupportedMediaType) == {}


def test_a_model_that_is_not_allowed_is_403_whatever_is_asked_of_it(send: Send, quiet: Silence):
    asked = {
        "submit": (VIDEO, "POST"),
        "run": ("fal.run/fal-ai/minimax/video-01", "POST"),
        "run by GET": ("fal.run/fal-ai/minimax/video-01", "GET"),
        "stream": ("fal.run/fal-ai/minimax/video-01/stream", "POST"),
        "status": (f"{VIDEO}/requests/r-1/status", "GET"),
        "status stream": (f"{VIDEO}/requests/r-1/status/stream", "GET"),
        "result": (f"{VIDEO}/requests/r-1", "GET"),
        "cancel": (f"{VIDEO}/requests/r-1/cancel", "PUT"),
        "model in upper case": ("queue.fal.run/FAL-AI/FLUX/SCHNELL", "POST"),
        "owner that is not fal": ("queue.fal.run/evil/fal-ai/flux", "POST"),
        "workflow": ("queue.fal.run/workflows/fal-ai/flux", "POST"),
    }
    with quiet():
        headers = {name: in_header(f"https://{place}", way) for name, (place, way) in asked.items()}
        paths = {name: in_path(place, way) for name, (place, way) in asked.items()}
        assert faults(send, headers, ModelNotAllowed) == {}
        assert faults(send, paths, ModelNotAllowed) == {}


def test_a_token_for_more_than_the_allowed_models_is_refused(send: Send, quiet: Silence):
    with quiet():
        requests = {
            name: in_header("https://rest.fal.ai/tokens/", body=body)
            for name, body in TOKENS.items()
        }
        assert faults(send, requests) == {}


def test_a_webhook_of_a_stranger_is_refused(send: Send, quiet: Silence):
    requests = {
        name: in_path(SCHNELL, query=(("fal_webhook", url),)) for name, url in WEBHOOKS.items()
    }
    with quiet():
        assert faults(send, requests) == {}


@pytest.mark.parametrize("key", [None, "wrong"])
def test_whoever_is_not_known_learns_nothing_of_targets(
    send: Send, quiet: Silence, key: str | None
):
    requests = {
        "good": in_header(GOOD, key=key),
        "evil": in_header("https://evil.com/", key=key),
        "none": in_header(None, key=key),
        "good path": in_path(SCHNELL, key=key),
        "evil path": in_path("evil.com/x", key=key),
    }
    with quiet():
        assert faults(send, requests, Unauthorized) == {}


def test_addresses_next_to_the_proxys_lead_nowhere(send: Send, quiet: Silence):
    paths = ("/api/fal/proxyx", "/api/fal", "/api/fal/proxy.evil.com/x", "/API/FAL/PROXY/fal.run/x")
    with quiet():
        assert faults(send, {path: a_request("POST", path, CAT) for path in paths}, NotFound) == {}


@pytest.mark.parametrize("value", [7, True, 1e308, None, [], [[GOOD]], {"": GOOD}, "\ud800"])
def test_a_value_that_no_header_can_have_is_refused_in_an_event(quiet: Silence, value: object):
    event = platforms.function_url_event(in_header(GOOD), at=NOON)
    event["headers"]["x-fal-target-url"] = value
    with quiet():
        reply = entrypoints.load("aws")(through_json(event), lambda_context())
    assert reply["statusCode"] in {400, 412}


@pytest.mark.parametrize("name", AS_SENT)
def test_a_path_as_it_was_sent_is_refused(quiet: Silence, name: str):
    event = platforms.function_url_event(in_path(SCHNELL), at=NOON)
    path, _, query = AS_SENT[name].partition("?")
    event["rawPath"] = event["requestContext"]["http"]["path"] = f"{PROXY}/{path}"
    event["rawQueryString"] = query
    with quiet():
        reply = entrypoints.load("aws")(through_json(event), lambda_context())
    assert fault(read(platforms.read_lambda_reply(reply)), TargetRefused) is None


def test_an_encoded_slash_in_a_path_of_ours_is_a_slash(fal: Emulator):
    """Some gateways decode before anybody can look; what fal is called with has none."""
    event = platforms.function_url_event(in_path(SCHNELL), at=NOON)
    event["rawPath"] = f"{PROXY}/queue.fal.run/fal-ai%2Fflux/schnell"
    reply = entrypoints.load("aws")(event, lambda_context())
    assert reply["statusCode"] == 200
    assert [entry.model for entry in fal.ledger] == ["fal-ai/flux/schnell"]

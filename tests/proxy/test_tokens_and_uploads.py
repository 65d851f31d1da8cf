"""fal's tokens and upload addresses, handed out by the proxy: for how long, for which models."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.dev.emulator.exchange import json_answer
from support.canned_fal import CannedFal
from support.emulator import RUN, SCHNELL, ask
from support.entrypoints import FAL_KEY, KEY
from support.entrypoints import request as a_request
from support.instances import CAT, Answer, instance, read
from support.proxy_calls import Door, Form, spent_usd

UPLOADS = "https://rest.fal.ai/storage/upload"
INITIATE = f"{UPLOADS}/initiate?storage_type=fal-cdn-v3"
MULTIPART = f"{UPLOADS}/initiate-multipart?storage_type=fal-cdn-v3"
COMPLETE = f"{UPLOADS}/complete-multipart?storage_type=fal-cdn-v3"
TOKENS = "https://rest.fal.ai/tokens/"
REALTIME = "https://rest.fal.ai/tokens/realtime"
LIVES = {TOKENS: "token_expiration", REALTIME: "duration"}
FILE = {"content_type": "image/png", "file_name": "a cat.png"}
LIFETIME = "x-fal-object-lifecycle"
Doors = Callable[..., Door]


@pytest.fixture
def canned() -> Iterator[CannedFal]:
    """A fal that takes every upload and hands out every token, and keeps what it heard."""
    given = json_answer(200, {"token": "t.o.k"})
    urls = [INITIATE, MULTIPART, COMPLETE, TOKENS, REALTIME]
    fal = CannedFal({("POST", url.partition("?")[0]): given for url in urls})
    with fal:
        yield fal


@pytest.fixture
def door(canned: CannedFal, tmp_path: Path, form: Form) -> Doors:
    def opened(**bent: Any) -> Door:
        return Door(instance(canned, tmp_path, **bent), form)

    return opened


def refused(answer: Answer, status: int, code: str) -> bool:
    assert answer.headers["content-type"] == "application/json"
    return (answer.status, answer.json["error"]) == (status, code)


def fetched(fal: Emulator, url: str) -> bytes:
    return ask(fal, "GET", url, key=None).body


# Uploads.


def test_a_file_goes_past_us_to_where_fal_wants_it(fal: Emulator, tmp_path: Path, form: Form):
    door = Door(instance(fal, tmp_path), form)
    place = door.ask("POST", INITIATE, FILE).json
    assert ask(fal, "PUT", place["upload_url"], b"a cat", key=None).status == 200
    assert fetched(fal, place["file_url"]) == b"a cat"


def test_a_file_in_parts_goes_past_us_too(fal: Emulator, tmp_path: Path, form: Form):
    door = Door(instance(fal, tmp_path), form)
    place = door.ask("POST", MULTIPART, FILE).json
    here, _, signature = place["upload_url"].partition("?")
    parts = [
        ask(fal, "PUT", f"{here}/{number}?{signature}", content, key=None).json
        for number, content in ((1, b"a "), (2, b"cat"))
    ]
    done = ask(fal, "POST", f"{here}/complete?{signature}", {"parts": parts}, key=None)
    assert done.status == 200
    assert fetched(fal, place["file_url"]) == b"a cat"


@pytest.mark.parametrize("url", [INITIATE, MULTIPART, COMPLETE])
def test_an_uploads_body_and_nothing_else_reaches_fal(canned: CannedFal, door: Doors, url: str):
    body = {"file_url": "https://v3.fal.media/files/a", "parts": [{"partNumber": 1, "etag": "é"}]}
    answer = door().ask("POST", url, body | FILE, x_fal_tags="a=b", x_fal_store_io="1")
    assert (answer.status, answer.json) == (200, {"token": "t.o.k"})
    [heard] = canned.heard
    assert (heard.method, heard.url) == ("POST", url)
    assert json.loads(heard.body) == body | FILE
    assert heard.headers["authorization"] == f"Key {FAL_KEY}"
    assert KEY not in str(heard)
    assert [name for name in heard.headers if name.startswith("x-")] == []


def test_an_upload_that_names_no_store_goes_to_fals_present_one(canned: CannedFal, door: Doors):
    assert door().ask("POST", INITIATE.partition("?")[0], FILE).status == 200
    assert canned.heard[0].url == INITIATE


@pytest.mark.parametrize("query", ["?storage_type=gcs", "?storage_type=", "?x=1"])
def test_other_stores_are_refused(canned: CannedFal, door: Doors, query: str):
    answer = door().ask("POST", f"{UPLOADS}/initiate{query}", FILE)
    assert refused(answer, 412, "target_refused")
    assert canned.heard == []


@pytest.mark.parametrize(
    "url",
    [
        "https://rest.fal.ai/storage/auth/token?storage_type=fal-cdn-v3",
        "https://rest.fal.ai/storage/upload/complete",
        "https://rest.fal.ai/storage/upload",
        "https://rest.fal.ai/tokens/other",
        "https://rest.fal.ai/keys",
        "https://api.fal.ai/v1/models/pricing",
        "https://v3.fal.media/files/upload",
    ],
)
def test_nothing_else_of_fals_platform_is_reached(canned: CannedFal, door: Doors, url: str):
    for method in ("POST", "GET", "PUT"):
        answer = door().ask(method, url, FILE)
        assert refused(answer, 412, "target_refused")
    assert canned.heard == []


@pytest.mark.parametrize("url", [INITIATE, MULTIPART])
@pytest.mark.parametrize("seconds", [0, 60, 31_536_000])
def test_a_caller_may_say_how_long_its_file_is_kept(
    canned: CannedFal, door: Doors, url: str, seconds: int
):
    wish = json.dumps({"expiration_duration_seconds": seconds}, separators=(",", ":"))
    assert door().ask("POST", url, FILE, **{LIFETIME: wish}).status == 200
    sent = canned.heard[0].headers[LIFETIME]
    assert json.loads(sent) == {"expiration_duration_seconds": seconds}


@pytest.mark.parametrize(
    "wish",
    [
        '{"initial_acl": {"default": "hide"}}',
        '{"expiration_duration_seconds": 60, "initial_acl": {"default": "hide"}}',
        '{"expiration_duration_seconds": 60, "expiration_duration_seconds": null}',
        '{"expiration_duration_seconds": "60"}',
        '{"expiration_duration_seconds": 1.5}',
        '{"expiration_duration_seconds": true}',
        '{"expiration_duration_seconds": null}',
        "{}",
        "[]",
        "60",
        "NaN",
        '"x"',
        "{",
        "",
        "[" * 1000,
        '{"expiration_duration_seconds": 60}\r\nx-fal-store-io: 1',
        '{"expiration_duration_seconds": 60}é',
    ],
)
def test_who_may_see_a_file_is_not_the_callers_to_say(canned: CannedFal, door: Doors, wish: str):
    answer = door().ask("POST", INITIATE, FILE, **{LIFETIME: wish})
    assert refused(answer, 400, "invalid_input")
    assert LIFETIME in answer.json["detail"]
    assert canned.heard == []


@pytest.mark.parametrize("url", [INITIATE, COMPLETE, TOKENS, REALTIME])
def test_only_json_objects_are_passed_on(canned: CannedFal, door: Doors, url: str):
    asked = door().request("POST", url, FILE)
    for kind, content, status in [
        ("text/plain", b"{}", 415),
        ("image/png", b"\x89PNG", 415),
        ("application/json", b"[1]", 400),
        ("application/json", b"{", 400),
    ]:
        headers = dict(asked.headers) | {"content-type": kind}
        request = a_request("POST", asked.path, raw=content, query=asked.query, headers=headers)
        assert read(door().one.app(request)).status == status
    assert canned.heard == []


@pytest.mark.parametrize("kind", ["429", "500", "503"])
def test_fals_refusal_of_an_upload_or_a_token_is_passed_on(
    fal: Emulator, tmp_path: Path, form: Form, kind: str
):
    door = Door(instance(fal, tmp_path), form)
    for url, body, on in [
        (INITIATE, FILE, "upload"),
        (TOKENS, {"allowed_apps": ["flux"]}, "token"),
    ]:
        fal.fault(kind, on=on)
        answer = door.ask("POST", url, body)
        assert answer.status == int(kind)
        assert isinstance(answer.json["detail"], str)


# Tokens.


def test_a_token_opens_a_stream_past_us_and_is_no_key(fal: Emulator, tmp_path: Path, form: Form):
    door = Door(instance(fal, tmp_path), form)
    wish = {"allowed_apps": ["flux"], "token_expiration": 120}
    answer = door.ask("POST", TOKENS, wish)
    token = answer.json
    assert isinstance(token, str)  # a bare string, as both of fal's clients read it
    opened = ask(fal, "POST", f"{RUN}/{SCHNELL}/stream?fal_jwt_token={token}", CAT, key=None)
    assert len(opened.events) == 4
    other = ask(fal, "POST", f"{RUN}/fal-ai/flux-2/stream?fal_jwt_token={token}", CAT, key=None)
    assert other.status == 401
    assert door.submit(key=token).status == 401


def test_a_realtime_token_is_given_in_its_own_shape(fal: Emulator, tmp_path: Path, form: Form):
    door = Door(instance(fal, tmp_path), form)
    answer = door.ask("POST", REALTIME, {"allowed_apps": ["fal-ai/flux/realtime"], "duration": 9})
    assert answer.status == 200
    assert isinstance(answer.json["token"], str)


@pytest.mark.parametrize("url", LIVES)
def test_fal_hears_of_a_tokens_apps_and_life_and_of_nothing_else(
    canned: CannedFal, door: Doors, url: str
):
    wish = {"allowed_apps": ["flux", "fal-ai/flux-2"], LIVES[url]: 300, "role": "admin"}
    assert door().ask("POST", url, wish, x_fal_tags="a=b").status == 200
    [heard] = canned.heard
    assert heard.url == url
    assert json.loads(heard.body) == {
        "allowed_apps": ["flux", "fal-ai/flux-2"],
        LIVES[url]: 300,
    }
    assert "x-fal-tags" not in heard.headers


@pytest.mark.parametrize("url", LIVES)
def test_a_token_that_names_no_life_has_that_of_fals_clients(
    canned: CannedFal, door: Doors, url: str
):
    assert door().ask("POST", url, {"allowed_apps": ["flux"]}).status == 200
    assert json.loads(canned.heard[0].body)[LIVES[url]] == 120


@pytest.mark.parametrize("url", LIVES)
@pytest.mark.parametrize("life", [301, 0, -1, 10**12, 1.5, "120", None, True, [120]])
def test_a_token_lives_for_five_minutes_at_most(
    canned: CannedFal, door: Doors, url: str, life: object
):
    answer = door().ask("POST", url, {"allowed_apps": ["flux"], LIVES[url]: life})
    assert refused(answer, 400, "invalid_input")
    assert LIVES[url] in answer.json["detail"]
    assert canned.heard == []


APPS: Any = {  # globs; what a token may be for; what it may not, for it opens the whole app
    "the default": (
        None,
        ["flux", "flux-2", "flux-pro", "fal-ai/flux", SCHNELL, "fal-ai/flux-2/klein/realtime"],
        ["fast-sdxl", "fal-ai/fast-sdxl", "somebody/flux", "fal-ai/veo3/fast"],
    ),
    "one model": (SCHNELL, [], ["flux", "fal-ai/flux", SCHNELL, "fal-ai/flux/dev"]),
    "one model without a path": (
        "fal-ai/fast-lcm-diffusion",
        [],
        ["fast-lcm-diffusion", "fal-ai/fast-lcm-diffusion", "fal-ai/fast-lcm-diffusion/realtime"],
    ),
    "below an app and not the app": ("fal-ai/flux/**", [], ["flux", "fal-ai/flux", SCHNELL]),
    "one part below an app": (
        "fal-ai/flux,fal-ai/flux/*",
        [],
        ["flux", "fal-ai/flux", SCHNELL, "fal-ai/flux/dev/redux"],
    ),
    "some parts below an app": (
        "fal-ai/kling,fal-ai/kling/*,fal-ai/kling/*/*",
        [],
        ["kling", "fal-ai/kling", "fal-ai/kling/v2/pro", "fal-ai/kling/v2/pro/text-to-image"],
    ),
    "an app and all below": (
        "fal-ai/flux,fal-ai/flux/**",
        ["flux", "fal-ai/flux", SCHNELL, "fal-ai/flux/dev/redux"],
        ["flux-2", "fal-ai/flux-2"],
    ),
    "somebody else's": (
        "somebody/**",
        ["somebody/app", "somebody/app/path"],
        ["app", "flux", "fal-ai/flux", "workflows/somebody/app"],
    ),
    "a namespace": (
        "workflows/somebody/**",
        ["workflows/somebody/app", "workflows/somebody/app/path"],
        ["somebody/app", "workflows/another/app", "workflows/somebody", "workflows"],
    ),
    "everything": ("**", ["flux", "somebody/app", "workflows/somebody/app"], []),
}


@pytest.mark.parametrize("url", LIVES)
@pytest.mark.parametrize("globs", APPS)
def test_a_token_is_for_apps_of_which_every_model_is_allowed(
    canned: CannedFal, door: Doors, url: str, globs: str
):
    models, good, bad = APPS[globs]
    at = door(FAL_IMAGE_MODELS=models)
    for app in good:
        assert at.ask("POST", url, {"allowed_apps": [app]}).status == 200, app
    heard = len(canned.heard)
    assert heard == len(good)
    for app in bad:
        answer = at.ask("POST", url, {"allowed_apps": [app]})
        assert refused(answer, 403, "token_refused"), app
        assert app in answer.json["detail"]
        assert at.ask("POST", url, {"allowed_apps": [*good, app]}).status == 403
    assert len(canned.heard) == heard


@pytest.mark.parametrize(
    "app",
    [
        "",
        "*",
        "**",
        "fal-ai/*",
        "fal-ai/flux*",
        "fal-ai/flux/**",
        "fal-ai/flux/../veo3",
        "fal-ai/flux/../../somebody/app",
        "fal-ai/flux/.",
        "/fal-ai/flux",
        "fal-ai/flux/",
        "fal-ai//flux",
        "fal-ai/flux%2F..%2Fveo3",
        "fal-ai/flux\\..\\veo3",
        "fal-ai/flux?x",
        "fal-ai/flux#x",
        "fal-ai/flux,fal-ai/veo3",
        "fal-ai/flux fal-ai/veo3",
        "fal-ai/flux\n",
        "fal-ai/flux\0",
        "fal-ai/flüx",
        "fal-ai/flux:dev",
    ],
)
def test_a_name_that_could_mean_something_else_opens_nothing(
    canned: CannedFal, door: Doors, app: str
):
    at = door(FAL_IMAGE_MODELS="fal-ai/flux*,fal-ai/flux*/**,fal-ai/*,fal-ai/**")
    for url in LIVES:
        assert at.ask("POST", url, {"allowed_apps": [app]}).status in {400, 403}
    assert canned.heard == []


@pytest.mark.parametrize(
    "apps", [None, [], "flux", {"flux": 1}, [7], [None], [["flux"]], ["flux"] * 21]
)
def test_apps_are_a_short_list_of_names(canned: CannedFal, door: Doors, apps: object):
    for url in LIVES:
        answer = door().ask("POST", url, {"allowed_apps": apps})
        assert refused(answer, 400, "invalid_input")
        assert "allowed_apps" in answer.json["detail"]
        assert refused(door().ask("POST", url, {}), 400, "invalid_input")
    assert canned.heard == []


def test_with_a_budget_there_are_no_tokens(canned: CannedFal, door: Doors, tmp_path: Path):
    at = door(FAL_IMAGE_DAILY_BUDGET_USD="100")
    for url in LIVES:
        answer = at.ask("POST", url, {"allowed_apps": ["flux"]})
        assert refused(answer, 403, "token_refused")
        assert "budget" in answer.json["detail"]
    assert canned.heard == []
    assert at.ask("POST", INITIATE, FILE).status == 200  # uploads cost nothing
    assert spent_usd(tmp_path) == 0


def test_strangers_get_neither(canned: CannedFal, door: Doors):
    for key in (None, "k-nobodys", FAL_KEY):
        for url, body in ((INITIATE, FILE), (TOKENS, {"allowed_apps": ["flux"]})):
            answer = door().ask("POST", url, body, key=key)
            assert refused(answer, 401, "unauthorized")
    assert canned.heard == []


def test_tokens_and_signatures_are_not_logged(
    fal: Emulator, tmp_path: Path, form: Form, capfd: pytest.CaptureFixture[str]
):
    door = Door(instance(fal, tmp_path), form)
    token = door.ask("POST", TOKENS, {"allowed_apps": ["flux"]}).json
    signature = door.ask("POST", INITIATE, FILE).json["upload_url"].partition("signature=")[2]
    lines = capfd.readouterr().err
    assert '"target": "token"' in lines
    assert '"target": "upload"' in lines
    for secret in (token, signature, FAL_KEY, KEY, FILE["file_name"]):
        assert secret not in lines

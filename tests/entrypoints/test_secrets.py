"""A canary in every secret: it must not come out in an answer, a log line or a repr.

What an answer is for is no leak: a ticket for who mints it, a link for whose picture it is.
"""

import itertools
import json
import logging
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from fal_image import tickets
from fal_image.app import build, compose
from fal_image.dev.emulator import Emulator
from fal_image.fal import webhooks
from fal_image.keyring import KeyUnavailable
from fal_image.settings import load
from fal_image.web import Platform, Request
from support import storages
from support.entrypoints import FAL_KEY, KEY, KEY_SHA256, THROUGH, request
from support.instances import CAT, NOWHERE, Answer, Instance, environment, instance, read
from support.proxy_calls import Door

Configure = Callable[..., None]
CURL = {"prompt": "canary0prompt of a cat"}

SECRETS = ("canary0new0secret0of0this0rotation", "canary0old0secret0of0this0rotation")
CLOUDS = {
    "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY0000",
    "AWS_SECRET_ACCESS_KEY": "canary0aws0secret",
    "AWS_SESSION_TOKEN": "canary0aws0session",
    "TENCENTCLOUD_SECRETID": "AKIDcanary0tencent0id",
    "TENCENTCLOUD_SECRETKEY": "canary0tencent0key",
    "TENCENTCLOUD_SESSIONTOKEN": "canary0tencent0session",
    "CLOUDBASE_APIKEY": "canary0cloudbase0key",
}
SPELLINGS = ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_FILE")  # and in Parameter Store, on AWS


@pytest.fixture
def spelled(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Mapping[str, str | None]]:
    """Gives the settings that hold a key of fal's in one of its spellings."""

    def apply(spelling: str, key: str) -> Mapping[str, str | None]:
        if spelling == "FAL_KEY":
            return {"FAL_KEY": key}
        if spelling == "FAL_KEY_ID":
            key_id, _, secret = key.partition(":")
            return {"FAL_KEY": None, "FAL_KEY_ID": key_id, "FAL_KEY_SECRET": secret}
        if spelling == "FAL_KEY_FILE":
            path = tmp_path / "key"
            path.write_text(f"{key}\n", encoding="utf-8")
            return {"FAL_KEY": None, "FAL_KEY_FILE": str(path)}
        for name, value in storages.AWS_ENVIRON.items():
            monkeypatch.setenv(name, value)
        url = str(request.getfixturevalue("moto"))
        client: Any = boto3.client("ssm", endpoint_url=url, region_name="eu-central-1")
        client.put_parameter(Name="/fal/key", Value=key, Type="SecureString", Overwrite=True)
        client.close()
        return {
            **storages.AWS_ENVIRON,
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL_SSM": url,
            "FAL_KEY": None,
            "FAL_KEY_SSM_PARAM": "/fal/key",
        }

    return apply


Spelled = Callable[[str, str], Mapping[str, str | None]]


@pytest.mark.parametrize(
    ("cloud", "spelling"),
    [("aws", "FAL_KEY_SSM_PARAM"), *itertools.product(sorted(THROUGH), SPELLINGS)],
)
def test_no_secret_and_no_prompt_is_in_any_answer_or_log_line(
    configured: Configure,
    spelled: Spelled,
    fal: Emulator,
    cloud: str,
    spelling: str,
    capfd: pytest.CaptureFixture[str],
):
    configured(FAL_IMAGE_SECRET=",".join(SECRETS), **spelled(spelling, FAL_KEY))
    through = THROUGH[cloud]
    said = []

    def ask(**changes: object) -> None:
        response = through(request(**({"body": CURL} | changes)))  # type: ignore[arg-type]
        said.append(response.read().decode("utf-8", "replace"))
        said.extend(f"{name}: {value}" for name, value in response.headers)

    ask()
    ask(key=FAL_KEY)
    ask(key="canary0wrong0key")
    ask(headers={"x-api-key": "canary0wrong0key"}, key=None)
    ask(path="/links", body={"fileID": "file:///canary"})
    for kind, on in [
        ("429", "submit"),
        ("503", "submit"),
        ("502-nginx", "submit"),
        ("lost", "submit"),
        ("error", "result"),
        ("null-payload", "result"),
        ("vanished", "file"),
        ("mistyped", "file"),
    ]:
        fal.fault(kind, on=on)
        ask()
    configured(**spelled(spelling, "revoked:canary0secret"))
    ask()
    configured(FAL_IMAGE_SECRET="canary0short", **spelled(spelling, "canary0no:canary0 colon"))
    ask()
    configured(**{**spelled(spelling, FAL_KEY), "FAL_KEY": FAL_KEY, "FAL_KEY_ID": "canary0id"})
    ask()
    captured = capfd.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines() if line.startswith("{")]
    assert len([line for line in lines if line["message"] == "request"]) == len(
        [text for text in said if text.startswith("{")]
    )
    for text in [*said, captured.out, captured.err]:
        # The answer may repeat the prompt to whoever sent it; nothing else may repeat anything.
        assert "canary" not in text.replace("canary0prompt of a cat", "") or text is captured.err
    assert "canary" not in captured.err


@pytest.fixture
def working(fal: Emulator, tmp_path: Path) -> dict[str, str]:
    """An environment with a canary in everything."""
    return environment(fal, tmp_path, FAL_IMAGE_SECRET=",".join(SECRETS), **CLOUDS)


def every_secret(*more: str) -> list[str]:
    return [*FAL_KEY.split(":"), *SECRETS, *CLOUDS.values(), KEY, *more]


def leaked(text: str, *more: str) -> list[str]:
    return [secret for secret in every_secret(*more) if secret in text]


def test_what_a_careless_line_says_of_any_secret_is_taken_out(
    working: dict[str, str], capfd: pytest.CaptureFixture[str]
):
    build(working)
    logger = logging.getLogger("fal_image")
    for secret in every_secret():
        if secret != KEY:  # of which the process knows the SHA-256 only
            logger.error("lost: %s", secret, extra={"fields": {"detail": [secret]}})
    captured = capfd.readouterr()
    assert captured.err.count("lost: ***") == len(every_secret()) - 1
    assert leaked(captured.err) == []


def test_credentials_that_an_invocation_brings_are_taken_out_too(
    fal: Emulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    one = instance(fal, tmp_path)
    own = {name: f"of0this0invocation0{place}" for place, name in enumerate(CLOUDS)}
    one.app(Request("GET", "/health", Platform("wsgi", "r-1", environment=own)))
    for secret in own.values():
        logging.getLogger("fal_image").error(secret)
    assert "of0this0invocation0" not in capfd.readouterr().err


def test_no_secret_is_in_the_repr_of_anything_that_is_wired(working: dict[str, str]):
    services = compose(load(working), environ=working)
    assert leaked(repr(services)) == []
    assert leaked(repr(build(working)), KEY_SHA256) == []


def test_no_secret_is_in_the_traceback_of_a_start_that_failed(
    working: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in (storages.AWS_ENVIRON | CLOUDS).items():
        monkeypatch.setenv(name, value)
    working |= {"FAL_KEY_SSM_PARAM": "/fal/key", "AWS_REGION": "eu-central-1"}
    del working["FAL_KEY"]
    working["AWS_ENDPOINT_URL_SSM"] = NOWHERE
    with pytest.raises(KeyUnavailable, match="FAL_KEY_SSM_PARAM") as raised:
        build(working)
    assert leaked("".join(traceback.format_exception(raised.value))) == []


def minted(one: Instance, **wish: object) -> str:
    answer = one.ask("POST", "/tickets", {"uses": 3, **wish})
    assert answer.status in {200, 201}, answer.body
    return str(answer.json["ticket"])


def test_tickets_are_told_to_nobody_but_who_mints_them(
    fal: Emulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    one = instance(fal, tmp_path)
    ticket = minted(one)
    flipped = ticket[:-2] + ("AA" if ticket[-2:] != "AA" else "BB")
    over = tickets.sealed(tickets.Ticket("canary0over", "web", 1), SECRETS[0])
    said: list[Answer] = [one.generate(key=ticket), one.ask("GET", "/models", key=ticket)]
    for shown in (ticket, flipped, over):
        said += [
            one.generate(key=shown),
            one.ask("POST", "/tickets", {"models": [shown], "user": shown}, key=shown),
            one.ask("GET", f"/{shown}"),
            one.ask("GET", f"/jobs/{shown}", key=shown),
            one.ask("GET", f"/files/{shown}"),
            one.generate({**CAT, "model": shown}),
            one.generate(prefer=shown, idempotency_key=shown),
            one.ask("POST", "/links", {"fileIDs": [shown]}),
        ]
        said.append(Door(one).ask("GET", f"https://queue.fal.run/fal-ai/flux/requests/{shown}"))
    lines = capfd.readouterr().err
    for shown in (ticket, flipped, over):
        payload, _, signature = shown.partition(".")[2].partition(".")
        assert shown not in lines
        assert payload not in lines
        assert signature not in lines
    # What was sent where no credential belongs may be repeated to its sender, and to nobody else.
    refused = [answer for answer in said if answer.status == 401]
    assert len(refused) >= 6
    assert not [answer for answer in refused if b"t1." in answer.body]


def test_links_and_uploads_are_signed_for_their_askers_only(
    fal: Emulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    one = instance(fal, tmp_path)
    job = one.generate().json
    upload = one.ask("POST", "/uploads", {"contentType": "image/png", "bytes": 10}).json
    link, put = job["tempFileURL"], upload["upload"]["url"]
    for url, method in ((link, "GET"), (put, "PUT"), (link + "0", "GET")):
        parts = urlsplit(url)
        query = tuple((name, values[0]) for name, values in parse_qs(parts.query).items())
        read(one.app(request(method, parts.path, raw=b"x" * 10, query=query, key=None)))
    one.ask("POST", "/links", {"fileID": link})
    one.generate({**CAT, "image_url": link})
    lines = capfd.readouterr().err
    signatures = [parse_qs(urlsplit(url).query)["sig"][0] for url in (link, put)]
    assert [signature for signature in signatures if signature in lines] == []


def test_a_webhooks_token_is_told_to_fal_only(
    fal: Emulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    one = instance(fal, tmp_path, FAL_IMAGE_SECRET=",".join(SECRETS))
    job_id = one.submitted()["jobId"]
    said = [one.job(job_id)]
    tokens = [webhooks.token((secret,), job_id) for secret in SECRETS] + ["canary0wrong"]
    for token in tokens:
        for path in (f"/webhooks/fal/{job_id}/{token}", f"/webhooks/fal/{job_id}/{token}/more"):
            said += [one.ask(method, path, {}).json for method in ("POST", "PUT")]
    fal.fault("lost", on="submit")
    said.append(one.generate().json)
    text = json.dumps(said) + capfd.readouterr().err
    assert [token for token in tokens if token in text] == []


def test_fals_own_tokens_are_told_to_who_asks_for_them_only(
    fal: Emulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    one = instance(fal, tmp_path)
    door = Door(one)
    token = door.ask("POST", "https://rest.fal.ai/tokens/", {"allowed_apps": ["flux"]}).json
    assert isinstance(token, str)
    door.ask("POST", f"https://fal.run/fal-ai/flux/schnell/stream?fal_jwt_token={token}", CAT)
    one.ask("GET", f"/{token}")
    one.generate(key=token)
    lines = capfd.readouterr().err
    assert token not in lines
    assert token.rpartition(".")[2] not in lines

"""docs/deploy.md: each curl gets the answer that stands below it, from what is deployed there."""

from __future__ import annotations

import json
import re
import shlex
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams, build_app
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.events.cloudbase import handle
from fal_image.server import bind, running
from fal_image.settings import load
from fal_image.web import App, Request
from support import entrypoints, storages
from support.deploy_page import commands, simple, topics
from support.entrypoints import KEY, KEY_SHA256, ROOT
from support.fake_cloudbase import FakeCloudbase

CLOUDBASERC = json.loads((ROOT / "cloudbaserc.json").read_text(encoding="utf-8"))

# What is another one with each picture and each cloud.
CHANGING = {"jobId", "fileID", "tempFileURL", "requestId"}

Ask = Callable[[Request], Any]


def curl(way: str) -> tuple[str, Request]:
    """The URL that the section's shell has, and its curl as a request."""
    export, sent = [shlex.split(line) for line in commands(topics()[f"{way}: ask"])]
    url = export[1].partition("=")[2]
    assert sent[:2] == ["curl", "$URL/"]
    options = list(zip(sent[2::2], sent[3::2], strict=True))
    headers = [value.partition(": ")[::2] for name, value in options if name == "-H"]
    assert dict(headers) == {
        "Authorization": "Bearer $KEY",
        "Content-Type": "application/json",
    }
    path = re.sub(r"^https?://[^/]*", "", url) + "/"
    return url, entrypoints.request(path=path, body=json.loads(dict(options)["-d"]), key=KEY)


def told(way: str) -> dict[str, Any]:
    (block,) = re.findall(r"^```json\n(.*?)^```", topics()[f"{way}: ask"], re.M | re.S)
    answer: dict[str, Any] = json.loads(block)
    return answer


def looks(job: dict[str, Any]) -> dict[str, Any]:
    """A job by what stays: values, or of the changing ones their scheme and kind."""
    return {
        name: (type(value).__name__, str(value).partition("://")[0] if name == "fileID" else "")
        if name in CHANGING
        else value
        for name, value in job.items()
    }


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def settings(fal: Emulator, tmp_path: Path) -> dict[str, str]:
    return {
        "FAL_KEY": "any:key",
        "FAL_IMAGE_EMULATOR_URL": fal.url,
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        "FAL_IMAGE_SECRET": "s" * 32,
        "FAL_IMAGE_DATABASE_URL": f"sqlite://{tmp_path}/jobs.db",
    }


@pytest.fixture
def on_aws(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ask]:
    with storages.moto_server() as moto, storages.RIGS["s3"](tmp_path, moto) as rig:
        entrypoints.clear_environment(monkeypatch)
        for name, value in {**settings, **rig.environ, "FAL_IMAGE_STORAGE_URL": rig.url}.items():
            monkeypatch.setenv(name, value)
        yield lambda asked: json.loads(entrypoints.through_aws(asked).read())


@pytest.fixture
def of_cloudbase(settings: dict[str, str]) -> Iterator[Callable[[int, str], App]]:
    """The app with the settings of a function of cloudbaserc.json, but for the database."""
    with FakeCloudbase().serving() as fake:

        def make(function: int, api_key: str) -> App:
            named = CLOUDBASERC["functions"][function]["envVariables"]
            environ = {
                **{
                    name: text.replace("{{env.ENV_ID}}", fake.env_id)
                    for name, text in named.items()
                },
                **settings,
                "CLOUDBASE_APIKEY": api_key and fake.api_key,
            }
            return build_app(load(environ), environ=environ, seams=Seams(detours=fake.detours))

        yield make


@pytest.fixture
def on_cloudbase(of_cloudbase: Callable[[int, str], App]) -> Ask:
    names = ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN")
    variables = dict(zip(names, FakeCloudbase().keys, strict=True))
    app = of_cloudbase(0, "")

    def ask(asked: Request) -> Any:
        context = platforms.cloudbase_context("scf-1", variables=variables)
        reply = handle(platforms.cloudbase_event(asked), context, app)
        return json.loads(platforms.read_cloudbase_reply(reply).read())

    return ask


def over_http(app: App, stack: ExitStack) -> Ask:
    url = stack.enter_context(running(app, bind("127.0.0.1", 0)))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(asked: Request) -> Any:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        sent = urllib.request.Request(url + asked.path, asked.body, headers, method="POST")
        with opener.open(sent, timeout=20) as response:
            return json.load(response)

    return ask


@pytest.fixture
def on_http_function(of_cloudbase: Callable[[int, str], App]) -> Iterator[Ask]:
    with ExitStack() as stack:
        yield over_http(of_cloudbase(1, "the fake's"), stack)


@pytest.fixture
def in_container(settings: dict[str, str], tmp_path: Path) -> Iterator[Ask]:
    """With what the section puts into .env; the directory is another one."""
    lines = simple(topics()["Container: what you need"])
    named = dict(words[1].split("=", 1) for words in lines)
    assert named["FAL_IMAGE_STORAGE_URL"] == "file:///data"
    environ = {**named, **settings, "FAL_IMAGE_STORAGE_URL": (tmp_path / "data").as_uri()}
    with ExitStack() as stack:
        yield over_http(build_app(load(environ), environ=environ), stack)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("way", "asker"),
    [
        ("AWS", "on_aws"),
        ("CloudBase", "on_cloudbase"),
        ("HTTP function", "on_http_function"),
        ("Container", "in_container"),
    ],
)
def test_each_curl_gets_the_answer_that_stands_below_it(
    way: str, asker: str, request: pytest.FixtureRequest
):
    ask: Ask = request.getfixturevalue(asker)
    url, asked = curl(way)
    job = ask(asked)
    printed = told(way)
    assert looks({name: job[name] for name in printed}) == looks(printed)
    key = job["fileID"].partition("ai-images/")[2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/[0-9a-z]{26}-0\.jpg", key)
    assert key.replace(key[:37], "") == printed["fileID"].partition("ai-images/")[2][37:]
    assert url.startswith("https://") or way == "Container"

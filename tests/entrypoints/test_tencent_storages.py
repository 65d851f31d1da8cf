"""A CloudBase function with CloudBase's storage: the whole way, with keys of one invocation."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fal_image.app import Seams, build_app
from fal_image.dev.emulator import Emulator
from fal_image.dev.platforms import cloudbase_context, cloudbase_event, read_cloudbase_reply
from fal_image.events import cloudbase
from fal_image.settings import Settings
from fal_image.web import App
from support.entrypoints import request
from support.fake_cloudbase import FakeCloudbase

CURL = {"prompt": "a calico cat at sunset"}


@pytest.fixture
def fake() -> Iterator[FakeCloudbase]:
    with FakeCloudbase().serving() as served:
        yield served


@pytest.fixture
def app(fake: FakeCloudbase) -> Iterator[App]:
    with Emulator() as fal:
        settings = Settings(
            fal_key="id:secret",
            emulator_url=fal.url,
            storage_url=f"cloudbase://{fake.env_id}/ai-images",
            allow_anonymous=True,
        )
        yield build_app(settings, environ={}, seams=Seams(detours=fake.detours))


def ask(app: App, keys: tuple[str, str, str], body: object = CURL, path: str = "/") -> Any:
    names = ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN")
    context = cloudbase_context("scf-1", variables=dict(zip(names, keys, strict=True)))
    event = cloudbase_event(request(body=body, path=path, key=None))
    return json.loads(read_cloudbase_reply(cloudbase.handle(event, context, app)).read())


def test_a_picture_gets_a_cloud_id_that_mini_programs_understand(app: App, fake: FakeCloudbase):
    job = ask(app, fake.keys)
    assert job["fileID"].startswith(f"{fake.start}ai-images/")
    assert job["images"][0]["expiresAt"] is None
    key = job["fileID"].removeprefix(fake.start)
    assert len(fake.objects[key].content) == job["images"][0]["bytes"]
    renewed = ask(app, fake.keys, {"fileID": job["fileID"]}, "/links")
    assert renewed["tempFileURL"]


def test_each_invocation_brings_keys_of_its_own(app: App, fake: FakeCloudbase):
    assert ask(app, fake.keys)["state"] == "done"
    fake.keys = ("AKIDNEXT", "canary-next-key", "canary-next-token")
    assert ask(app, fake.keys)["state"] == "done"
    assert len(fake.tokens) == 2


def test_without_keys_the_paid_picture_is_still_named(app: App, fake: FakeCloudbase):
    problem = ask(app, ("", "", ""))
    assert problem["error"] == "upload_failed"
    assert problem["sourceUrls"]


def test_keys_are_in_no_answer_and_no_log_line(
    app: App, fake: FakeCloudbase, capfd: pytest.CaptureFixture[str]
):
    wrong = ("AKIDWRONG", "canary-wrong-key", "canary-wrong-token")
    said = json.dumps([ask(app, fake.keys), ask(app, wrong)])
    assert "canary" not in said + capfd.readouterr().err

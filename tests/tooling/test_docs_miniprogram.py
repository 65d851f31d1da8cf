"""What `docs/miniprogram.zh-CN.md` shows is run: in Node, on an imitated WeChat and CloudBase."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scripts.deploying import cloudbase

from fal_image.app import Seams, build_app
from fal_image.dev.emulator import Emulator
from fal_image.server import bind, running
from fal_image.settings import load
from fal_image.web import App, Request, Response, json_response
from support import mini_program
from support.deploy_page import PAGE as DEPLOY_PAGE
from support.deploy_page import commands
from support.entrypoints import KEY, KEY_SHA256, ROOT, clear_environment
from support.fake_cloudbase import FakeCloudbase
from support.mini_program import MiniProgram, added_settings, blocks, invoke, laid_out
from support.pictures import png

CLOUDBASERC = json.loads((ROOT / "cloudbaserc.json").read_text(encoding="utf-8"))
EDIT = "fal-ai/flux-pro/kontext"

node = pytest.mark.needs("node >= 20")


def test_every_block_is_counted_for_the_tests_below():
    languages = re.findall(r"^```(\w+)$", mini_program.PAGE, re.MULTILINE)
    assert sorted(languages) == ["js"] * 5 + ["json"] * 2 + ["python", "sh", "xml"]


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator(run_s=0.01) as emulator:
        yield emulator


@pytest.fixture
def fake() -> Iterator[FakeCloudbase]:
    with FakeCloudbase().serving() as fake:
        yield fake


@pytest.fixture
def environ(fal: Emulator, fake: FakeCloudbase, tmp_path: Path) -> dict[str, str]:
    """What cloudbaserc.json and the page give the function, but for the database."""
    named = CLOUDBASERC["functions"][0]["envVariables"]
    filled = {name: text.replace("{{env.ENV_ID}}", fake.env_id) for name, text in named.items()}
    return {
        **filled,
        **added_settings(),
        "FAL_KEY": "any:key",
        "FAL_IMAGE_EMULATOR_URL": fal.url,
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        "FAL_IMAGE_SECRET": "s" * 32,
        "FAL_IMAGE_DATABASE_URL": f"sqlite://{tmp_path}/jobs.db",
    }


@pytest.fixture
def app(environ: dict[str, str], fake: FakeCloudbase) -> App:
    settings = load(environ)
    assert (settings.problems, settings.warnings) == ((), ())
    return build_app(settings, environ=environ, seams=Seams(detours=fake.detours))


@pytest.fixture
def phone(app: App, fake: FakeCloudbase, tmp_path: Path) -> Iterator[MiniProgram]:
    folder = laid_out(tmp_path / "project")
    with bind("127.0.0.1", 0) as listener, running(mini_program.cloud(app, fake), listener) as url:
        yield MiniProgram(folder, url, fake.url)


@node
def test_the_page_shows_a_picture_by_its_file_id(
    phone: MiniProgram, fal: Emulator, fake: FakeCloudbase
):
    opened = phone.call("press", "a calico cat")
    assert (opened["env"], opened["pages"]) == ("my-env-3gabc", ["pages/paint/paint"])
    assert opened["data"]["message"] == ""
    assert opened["data"]["fileID"].startswith(fake.start + "ai-images/")
    assert (opened["states"][0], opened["states"][-1]) == ("submitting", "done")
    first, *polls = opened["asked"]
    assert first == "POST /generate"
    assert polls
    assert all(route.startswith("GET /jobs/") for route in polls)
    assert len(fal.ledger) == 1


@node
def test_the_page_says_what_failed(phone: MiniProgram, fal: Emulator):
    opened = phone.call("press", " ")
    assert opened["states"] == ["submitting", "failed"]
    assert "prompt" in opened["data"]["message"]
    assert opened["data"]["fileID"] == ""
    assert fal.ledger == []


LOST_POST = "POST /generate"
LOST_LOOK = "GET /jobs/"


def posts(opened: dict[str, Any]) -> int:
    return list(opened["asked"]).count("POST /generate")


@node
def test_a_look_that_fails_ends_nothing(phone: MiniProgram, fal: Emulator):
    opened = phone.call("press", "a calico cat", ["tap"], [LOST_LOOK])
    assert (opened["data"]["state"], opened["data"]["message"]) == ("done", "")
    assert "failed" not in opened["states"]
    assert (posts(opened), len(fal.ledger)) == (1, 1)


@node
def test_a_tap_after_a_lost_answer_is_the_same_job(phone: MiniProgram, fal: Emulator):
    opened = phone.call("press", "a calico cat", ["tap", "tap"], [LOST_POST])
    assert opened["states"][:3] == ["submitting", "failed", "submitting"]
    assert opened["data"]["fileID"]
    assert (posts(opened), len(fal.ledger)) == (2, 1)


@node
def test_a_page_that_is_opened_anew_goes_on(phone: MiniProgram, fal: Emulator):
    opened = phone.call("press", "a calico cat", ["tap", "reopen"], [LOST_POST])
    assert opened["data"]["fileID"]
    assert opened["data"]["prompt"] == "a calico cat"
    assert len(fal.ledger) == 1


@node
@pytest.mark.parametrize("act", ["tap", "reopen"])
def test_a_job_that_could_not_be_looked_at_is_kept(phone: MiniProgram, fal: Emulator, act: str):
    opened = phone.call("press", "a calico cat", ["tap", act], [LOST_LOOK] * 6)
    assert opened["states"][:3] == ["submitting", "failed", "submitting"]
    assert opened["data"]["fileID"]
    assert (posts(opened), len(fal.ledger)) == (1, 1)


@node
def test_the_button_is_off_from_the_tap_to_the_end(phone: MiniProgram, fal: Emulator):
    opened = phone.call("press", "a calico cat", ["tap twice"])
    assert opened["busy"] == [True, False]
    assert (posts(opened), len(fal.ledger)) == (1, 1)


@node
def test_after_a_picture_or_a_refusal_a_tap_is_a_new_one(phone: MiniProgram, fal: Emulator):
    opened = phone.call("press", "a calico cat", ["tap", "tap"])
    assert (opened["data"]["state"], posts(opened), len(fal.ledger)) == ("done", 2, 2)
    refused = phone.call("press", " ", ["tap", "reopen"])
    assert (refused["data"]["state"], posts(refused)) == ("", 1)


@node
def test_a_job_that_failed_is_not_asked_for_again(phone: MiniProgram, fal: Emulator):
    source = phone.folder / "miniprogram" / "pages" / "paint" / "paint.js"
    text = source.read_text(encoding="utf-8")
    bent = text.replace("paint({ prompt", 'paint({ model: "fal-ai/none", prompt')
    assert bent != text
    source.write_text(bent, encoding="utf-8")
    opened = phone.call("press", "a calico cat", ["tap", "reopen"])
    assert (opened["states"], posts(opened)) == (["submitting", "failed"], 1)
    assert fal.ledger == []


@node
def test_what_the_page_binds_is_there(phone: MiniProgram):
    (wxml,) = blocks("xml")
    tree = ElementTree.fromstring(f'<page xmlns:wx="wechat">{wxml}</page>')
    opened = phone.call("press", " ")
    values = [value for element in tree.iter() for value in element.attrib.values()]
    values += [element.text or "" for element in tree.iter()]
    bound = {
        element.attrib[name]
        for element in tree.iter()
        for name in element.attrib
        if name[:4] == "bind"
    }
    shown = {word for value in values for word in re.findall(r"\{\{(\w+)", value)}
    assert bound == {"onInput", "onPaint"} == set(opened["handlers"]) - {"onLoad", "show"}
    assert {"fileID", "isBusy"} <= shown
    assert shown <= set(opened["fields"])


@node
def test_links_are_made_anew_and_a_picture_is_its_users(
    phone: MiniProgram, app: App, fake: FakeCloudbase
):
    made = phone.call("press", "a calico cat")
    (link,) = phone.call("links", [made["data"]["fileID"]])
    assert link["tempFileURL"].startswith("https://")
    job = made["asked"][1]
    assert phone.call("call", job, {})["state"] == "done"
    assert invoke(app, {"route": job}, "o-ben", fake)["error"] == "not_found"
    assert invoke(app, {"route": job}, "", fake)["error"] == "unauthorized"


@node
def test_a_picture_of_the_phone_is_edited(phone: MiniProgram, fal: Emulator, photo: Path):
    job = phone.call("edit", str(photo), "at night")
    assert (job["state"], job["model"]) == ("done", EDIT)
    assert len(fal.ledger) == 1
    again = phone.call("edit", str(photo), "at night", [LOST_POST])
    assert again["state"] == "done"
    assert len(fal.ledger) == 2


@node
def test_a_picture_is_uploaded_for_the_function_to_hand_to_fal(
    phone: MiniProgram, app: App, fake: FakeCloudbase, fal: Emulator, photo: Path
):
    file_id = phone.call("upload", str(photo))
    assert fake.objects[file_id.removeprefix(fake.start)].content == photo.read_bytes()
    body = {"prompt": "at night", "model": EDIT, "image_url": file_id}
    invoke(app, {"route": "POST /generate", "body": body}, "o-ada", fake)
    assert len(fal.ledger) == 1  # which cannot read the imitated storage
    others = invoke(app, {"route": "POST /generate", "body": body}, "o-ben", fake)
    assert others["error"] == "not_found"


def test_an_upload_of_the_mini_programs_own_is_no_file_id_here(app: App, fake: FakeCloudbase):
    body = {"prompt": "at night", "model": EDIT, "image_url": f"{fake.start}inputs/1-a.jpg"}
    answer = invoke(app, {"route": "POST /generate", "body": body}, "o-ada", fake)
    assert answer["error"] in ("not_found", "invalid_input")


def test_all_users_together_stop_at_the_total(
    environ: dict[str, str], fake: FakeCloudbase, fal: Emulator
):
    bent = environ | {"FAL_IMAGE_TOTAL_DAILY_BUDGET_USD": "0.007"}
    app = build_app(load(bent), environ=bent, seams=Seams(detours=fake.detours))
    answers = [invoke(app, {"prompt": "a cat"}, f"o-{n}", fake) for n in range(3)]
    assert [answer.get("state") for answer in answers[:2]] == ["done", "done"]
    assert answers[2]["error"] == "budget_exceeded"
    assert len(fal.ledger) == 2


def test_tickets_are_for_keys_and_batches_for_everybody(app: App, fake: FakeCloudbase):
    assert invoke(app, {"route": "POST /tickets"}, "o-ada", fake)["error"] == "unauthorized"
    rows = {"route": "POST /batches", "body": {"rows": [{"prompt": "a cat"}]}}
    assert "batchId" in invoke(app, rows, "o-ada", fake)


def test_the_settings_may_be_deployed(tmp_path: Path):
    config = json.loads(json.dumps(CLOUDBASERC))
    config["functions"][0]["envVariables"] |= added_settings()
    (tmp_path / "cloudbaserc.json").write_text(json.dumps(config), encoding="utf-8")
    shell = {
        "ENV_ID": "my-env-3gabc",
        "FAL_KEY": "any:key",
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        "FAL_IMAGE_SECRET": "s" * 32,
        "CLOUDBASE_APIKEY": "key",
    }
    plan, problems = cloudbase.planned("cloudbase", tmp_path, shell)
    assert problems == []
    assert plan is not None


def test_the_commands_that_deploy_are_those_of_the_english_page():
    told = commands(mini_program.PAGE)
    assert told
    assert set(told) <= set(commands(DEPLOY_PAGE))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png())
    return path


# The owner's own entrypoint, which asks somebody about every text


@pytest.fixture
def checked(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Calls the page's `main` for a user; texts with 「坏」 in them are refused by the check."""

    def check(request: Request) -> Response:
        asked = json.loads(request.body)
        is_fine = "坏" not in asked["content"] and asked["openid"] == "o-ada"
        return json_response(200, {"allowed": is_fine})

    source = tmp_path / "handler.py"
    source.write_text(blocks("python")[0], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("owners_handler", source)
    assert spec
    assert spec.loader
    with bind("127.0.0.1", 0) as listener, running(check, listener) as url:
        clear_environment(monkeypatch)
        local = {"FAL_IMAGE_STORAGE_URL": (tmp_path / "pictures").as_uri(), "CHECK_URL": url}
        for name, value in {**environ, **local}.items():
            monkeypatch.setenv(name, value)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

        def ask(route: str, body: object = None, *, openid: str = "o-ada", **more: Any) -> Any:
            data = {"route": route, "body": body or {}, **more}
            return invoke(lambda request: module.app(request), data, openid)

        yield ask


def test_a_text_that_the_check_refuses_costs_nothing(checked: Callable[..., Any], fal: Emulator):
    bad: list[dict[str, Any]] = [
        {"prompt": "坏东西"},
        {"prompt": "好猫", "negative_prompt": "坏东西"},
        {"prompt": "好猫", "transforms": {"watermark": {"text": "坏东西"}}},
    ]
    assert [checked("POST /generate", body)["error"] for body in bad] == ["content_refused"] * 3
    assert fal.ledger == []
    assert checked("POST /generate", {"prompt": "好猫"})["state"] == "done"


def test_users_have_few_routes_and_keys_have_all(checked: Callable[..., Any]):
    closed = ["POST /batches", "POST /api/fal/proxy", "GET /models", "POST /v1/images/generations"]
    assert [checked(route)["error"] for route in closed] == ["not_open"] * len(closed)
    with_key = checked("GET /models", openid="", headers={"x-api-key": KEY})
    assert "models" in with_key


def test_a_check_that_does_not_answer_refuses(
    checked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CHECK_URL", "http://127.0.0.1:9")
    assert checked("POST /generate", {"prompt": "好猫"})["error"] == "content_refused"

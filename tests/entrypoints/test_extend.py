"""The owner's own code: what `docs/extend.md` shows is run, and what it promises is kept."""

import importlib.util
import json
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.errors import RateLimited
from fal_image.extend import Hooks
from fal_image.jobs import Image, Job
from fal_image.server import bind, running, url_of
from fal_image.web import Request, Response, json_response
from support.entrypoints import NOON, ROOT
from support.entrypoints import request as a_request
from support.instances import CAT, Answer, Calendar, Postbox, extended, instance, kept, read
from support.receiver import Receiver
from support.world import errors_logged

Configure = Callable[..., None]
Ask = Callable[..., Answer]

PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
PLAIN = "Your own code around it"
TWO = {**CAT, "num_images": 2}
HOST = "hooks.example.com"


def shown(heading: str) -> str:
    """The code under a heading of the page."""
    part = re.split(rf"^##? {heading}$", PAGE, flags=re.MULTILINE)[1]
    return part.partition("```python\n")[2].partition("```\n")[0]


def loaded(source: str, directory: Path) -> Any:
    path = directory / "handler.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("owners_handler", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def on_aws(heading: str, directory: Path) -> Ask:
    """Asks the entrypoint that the page shows, as Lambda does for a Function URL."""
    main = loaded(shown(heading), directory)

    def ask(*request: Any, **changes: Any) -> Answer:
        event = platforms.function_url_event(a_request(*request, **changes), at=NOON)
        context = platforms.LambdaContext("lambda-1", timeout_s=60.0, clock=time.monotonic)
        return read(platforms.read_lambda_reply(main(event, context)))

    return ask


def warnings_of(answer: Any) -> list[str]:
    return [warning["code"] for warning in answer["warnings"]]


def second_only(job: Job, image: Image) -> bool:
    return image.index != 1


def test_the_plain_entrypoint_of_the_page_serves_both_clouds(
    configured: Configure, fal: Emulator, tmp_path: Path
):
    assert on_aws(PLAIN, tmp_path)(body=CAT).json["state"] == "done"
    imported = re.search(r"`(from fal_image\.events\.cloudbase import handle)`", PAGE)
    assert imported
    source = shown(PLAIN).replace("from fal_image.events.aws import handle", imported[1])
    event = platforms.cloudbase_event(a_request(body=CAT))
    reply = loaded(source, tmp_path)(event, platforms.cloudbase_context("scf-1"))
    assert json.loads(platforms.read_cloudbase_reply(reply).read())["state"] == "done"
    assert len(fal.ledger) == 2


def test_the_example_that_counts_refuses_who_asks_too_much(
    configured: Configure, fal: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ask = on_aws("Count answers, and refuse who asks too much", tmp_path)
    answers = [ask(body=CAT) for _ in range(4)]
    assert [one.status for one in answers] == [200, 200, 200, 429]
    assert [one.headers["x-rate-limit-remaining"] for one in answers] == ["2", "1", "0", "0"]
    assert (answers[3].json["error"], answers[3].headers["retry-after"]) == ("rate_limited", "60")
    assert len(fal.ledger) == 3
    assert ask("GET", "/models").status == 200
    assert ask(body=CAT, key="nobody's").status == 401
    lines = [json.loads(line)["analytics"] for line in capsys.readouterr().out.splitlines()]
    assert [one["status"] for one in lines] == [200, 200, 200, 429, 200, 401]
    assert [one["caller"] for one in lines] == ["web"] * 5 + [None]


@pytest.mark.parametrize("database", [True, False])
def test_the_example_with_a_table_has_one_row_for_each_picture(
    with_database: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: bool
):
    if not database:
        with_database(FAL_IMAGE_DATABASE_URL=None)
    monkeypatch.setenv("PICTURES_TABLE", str(tmp_path / "mine.db"))
    job = on_aws("A row in your own table", tmp_path)(body=TWO).json
    again = on_aws("A row in your own table", tmp_path)(body=CAT).json
    assert (warnings_of(job), warnings_of(again)) == ([], [])
    table = sqlite3.connect(tmp_path / "mine.db")
    rows = table.execute("SELECT file_id, job_id, caller, prompt FROM pictures").fetchall()
    table.close()
    expected = [(one, image["fileID"]) for one in (job, again) for image in one["images"]]
    assert sorted(rows) == sorted(
        (file_id, one["jobId"], "web", CAT["prompt"]) for one, file_id in expected
    )


def test_the_example_with_a_check_withholds_what_the_check_refuses(
    with_database: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def check(request: Request) -> Response:
        asked.append(json.loads(request.body)["url"])
        return json_response(200, {"allowed": "-1." not in asked[-1]})

    ask = on_aws("Withhold what a check does not like", tmp_path)
    with bind("127.0.0.1", 0) as listener, running(check, listener):
        monkeypatch.setenv("CHECK_URL", url_of(listener))
        job = ask(body=TWO).json
    first, second = job["images"]
    assert asked[0] == first["tempFileURL"]
    assert (second["tempFileURL"], second["expiresAt"]) == (None, None)
    assert warnings_of(job) == ["withheld"]
    assert "image 1" in job["warnings"][0]["message"]

    later = ask("GET", f"/jobs/{job['jobId']}").json
    assert [bool(image["tempFileURL"]) for image in later["images"]] == [True, False]
    assert warnings_of(later) == ["withheld"]
    files = ask("POST", "/links", {"fileIDs": [first["fileID"], second["fileID"]]}).json
    assert [one["error"] for one in files["fileList"]] == [None, "not_found"]
    assert len(asked) == 2

    silent = ask(body={**CAT, "seed": 8}).json  # nobody answers at CHECK_URL any more
    assert (warnings_of(silent), silent["tempFileURL"]) == (["withheld"], None)


@pytest.mark.parametrize("database", [{}, {"FAL_IMAGE_DATABASE_URL": None}])
def test_every_stored_picture_is_shown_once(fal: Emulator, tmp_path: Path, database: Any):
    seen: list[tuple[str, int, str, bool]] = []

    def look(job: Job, image: Image) -> None:
        seen.append((job.job_id, image.index, job.state, image.url is not None))

    one = extended(fal, tmp_path, Hooks(on_image=look), **database)
    job = one.generate(TWO).json
    assert seen == [(job["jobId"], index, "storing", True) for index in (0, 1)]
    if not database:
        one.job(job["jobId"])
        one.tick()
    assert len(seen) == 2
    assert job["warnings"] == []


@pytest.mark.parametrize("database", [{}, {"FAL_IMAGE_DATABASE_URL": None}])
def test_a_failing_on_image_is_a_warning_and_the_picture_is_linked(
    fal: Emulator, tmp_path: Path, database: Any
):
    def fail(job: Job, image: Image) -> bool:
        raise RuntimeError("canary of the owner's own")

    one = extended(fal, tmp_path, Hooks(on_image=fail), **database)
    with errors_logged() as logged:
        answer = one.generate(TWO)
    assert (answer.status, answer.json["state"]) == (200, "done")
    assert all(image["tempFileURL"] for image in answer.json["images"])
    assert warnings_of(answer.json) == ["on_image_failed"]
    assert b"canary" not in answer.body
    assert logged == ["on_image failed"] * 2


def test_without_a_database_a_withheld_picture_leaves_without_link(fal: Emulator, tmp_path: Path):
    hooks = Hooks(on_image=second_only)
    job = extended(fal, tmp_path, hooks, FAL_IMAGE_DATABASE_URL=None).generate(TWO).json
    assert [bool(image["tempFileURL"]) for image in job["images"]] == [True, False]
    assert warnings_of(job) == ["withheld"]


def test_what_is_withheld_stays_so_for_an_instance_without_the_hook(fal: Emulator, tmp_path: Path):
    job_id = extended(fal, tmp_path, Hooks(on_image=second_only)).generate(TWO).json["jobId"]
    images: Any = kept(tmp_path, job_id).body["images"]
    assert [image["withheld"] for image in images] == [False, True]
    later = instance(fal, tmp_path).job(job_id)
    assert [bool(image["tempFileURL"]) for image in later["images"]] == [True, False]
    assert warnings_of(later) == ["withheld"]


def test_a_withheld_picture_is_no_input_either(fal: Emulator, tmp_path: Path):
    one = extended(fal, tmp_path, Hooks(on_image=second_only))
    images = one.generate(TWO).json["images"]
    for image, status in zip(images, (200, 404), strict=True):
        edit = {"model": "fal-ai/flux/dev/image-to-image", "image_url": image["fileID"]}
        assert one.generate({**CAT, **edit}).status == status
    assert len(fal.ledger) == 2


def test_fals_webhook_and_the_notice_withhold_too(fal: Emulator, tmp_path: Path):
    with Receiver() as receiver, Postbox(fal) as box:
        seams = Seams(now=Calendar(), detours={HOST: receiver.url.partition("/hook")[0]})
        settings = {"FAL_IMAGE_WEBHOOK_HOSTS": HOST, "FAL_IMAGE_PUBLIC_URL": box.url}
        one = extended(fal, tmp_path, Hooks(on_image=second_only), seams=seams, **settings)
        one.submitted({**TWO, "webhookUrl": f"https://{HOST}/pictures"})
        assert one.deliver(box.next()).status == 200
        told = receiver.next()[1]["data"]
    assert [bool(image["tempFileURL"]) for image in told["images"]] == [True, False]
    assert warnings_of(told) == ["withheld"]


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (RateLimited("not so fast"), 429, "rate_limited"),
        (RuntimeError("canary of the owner's own"), 500, "internal"),
        ("no answer at all", 500, "internal"),
    ],
)
def test_a_refusal_before_spends_nothing(
    fal: Emulator, tmp_path: Path, refusal: Any, status: int, code: str
):
    def before(request: Request, caller: str | None) -> Any:
        if isinstance(refusal, Exception):
            raise refusal
        return refusal

    answer = extended(fal, tmp_path, Hooks(before=before)).generate()
    assert (answer.status, answer.json["error"]) == (status, code)
    assert b"canary" not in answer.body
    assert fal.ledger == []


def test_before_and_after_see_requests_of_callers_alone(fal: Emulator, tmp_path: Path):
    begun: list[tuple[str, str | None]] = []
    ended: list[tuple[str, int, str | None]] = []

    def before(request: Request, caller: str | None) -> None:
        begun.append((request.path, caller))

    def after(request: Request, response: Response, caller: str | None) -> Response:
        ended.append((request.path, response.status, caller))
        return response

    with Postbox(fal) as box:
        hooks = Hooks(before, after)
        one = extended(fal, tmp_path, hooks, FAL_IMAGE_PUBLIC_URL=box.url)
        job_id = one.submitted()["jobId"]
        assert one.deliver(box.next()).status == 200
        one.tick()
        link = one.job(job_id)["tempFileURL"]
        assert one.ask("GET", "/" + link.split("/", 3)[3].partition("?")[0]).status == 404
        assert one.ask("GET", "/health").status == 200
        assert one.ask("GET", "/nowhere").status == 404
        assert one.ask("OPTIONS", "/models").status in (200, 204)
        assert one.ask("GET", "/models", key="nobody's").status == 401
    job = f"/jobs/{job_id}"
    assert begun == [("/generate", "web"), (job, "web")]
    assert ended == [("/generate", 202, "web"), (job, 200, "web"), ("/models", 401, None)]


@pytest.mark.parametrize("given", [RuntimeError("canary of the owner's own"), None])
def test_a_failing_after_costs_nobody_a_picture(fal: Emulator, tmp_path: Path, given: Any):
    def after(request: Request, response: Response, caller: str | None) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    with errors_logged() as logged:
        answer = extended(fal, tmp_path, Hooks(after=after)).generate()
    assert (answer.status, answer.json["state"]) == (200, "done")
    assert logged == ["after failed"]

"""The command against an endpoint elsewhere: FAL_IMAGE_URL instead of settings of its own."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli.conftest import Terminal
from fal_image.app import build_app
from fal_image.cli.deployed import Deployment
from fal_image.cli.output import Stopped
from fal_image.dev.emulator import Emulator
from fal_image.endpoint import Answer, EndpointFailed
from fal_image.server import bind, running, url_of
from fal_image.settings import Settings
from fal_image.web import Headers

TOKEN = "fi_a-key-of-the-endpoint"


@contextmanager
def endpoint(fal: Emulator, folder: Path, **settings: Any) -> Iterator[str]:
    listener = bind("127.0.0.1", 0)
    url = url_of(listener)
    whole = Settings(
        **{
            "fal_key": "any:key",
            "emulator_url": fal.url,
            "storage_url": (folder / "bucket").as_uri(),
            "database_url": (folder / "jobs.db").as_uri().replace("file:", "sqlite:"),
            "public_url": url,
            "secrets": ("s" * 32,),
            "api_keys": (("web", hashlib.sha256(TOKEN.encode()).hexdigest()),),
            "default_model": "fal-ai/flux/dev",
            "model_aliases": (("fast", "fal-ai/flux/schnell"),),
            **settings,
        }
    )
    with running(build_app(whole, environ={}), listener):
        yield url


@pytest.fixture
def there(fal: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal that knows the endpoint and nothing else."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with endpoint(fal, tmp_path) as url:
        yield Terminal(here, {"FAL_IMAGE_URL": url, "FAL_IMAGE_TOKEN": TOKEN})


def test_a_picture_is_made_there_and_written_here(fal: Emulator, there: Terminal):
    done = there("generate", "a cat", "--size", "64x64", "-o", "cats/cat.png")
    assert done.json["model"] == "fal-ai/flux/dev"
    assert done.json["images"][0]["contentType"] == "image/png"
    with Image.open(there.folder / "cats" / "cat.png") as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
    assert [path.name for path in there.folder.iterdir()] == ["cats"]


def test_pictures_to_work_on_are_uploaded_there(fal: Emulator, tmp_path: Path, there: Terminal):
    photo = there.folder / "photo.png"
    Image.linear_gradient("L").resize((64, 48)).save(photo)
    model = "fal-ai/flux-pro/kontext"
    assert there("generate", "at night", "--image", "photo.png", "--model", model).code == 0
    assert [job.model for job in fal.ledger] == [model]
    (uploaded,) = (tmp_path / "bucket").rglob("uploads/*/*.png")
    assert uploaded.read_bytes() == photo.read_bytes()


def test_what_the_endpoint_would_refuse_is_not_uploaded(fal: Emulator, there: Terminal):
    Image.linear_gradient("L").resize((64, 48)).save(there.folder / "photo.png")
    words = ("--image", "photo.png", "--model", "fal-ai/flux-pro/kontext", "-n", "9")
    done = there("generate", "at night", *words)
    assert (done.code, done.error["error"]) == (2, "invalid_input")


def test_a_dry_run_says_what_would_be_sent_where(fal: Emulator, there: Terminal):
    words = ("generate", "a cat", "--model", "fast", "--dry-run")
    said = there(*words).json
    assert said["estimate"]["estimateUsd"] == 0.003
    assert said["request"] == {
        "method": "POST",
        "url": f"{there.settings['FAL_IMAGE_URL']}/generate",
        "body": {"prompt": "a cat", "model": "fast"},
    }
    assert fal.ledger == []


def test_a_price_is_asked_there(there: Terminal):
    assert there("estimate", "a cat", "--model", "fast", "-n", "2").json["estimateUsd"] == 0.006


def test_a_job_that_was_not_waited_for_is_asked_for_there(fal: Emulator, there: Terminal):
    job_id = there("generate", "a cat", "--async").json["jobId"]
    done = there("job", job_id, "--wait", "--download", "{job}.{ext}")
    assert done.json["paths"] == [f"{job_id}.jpg"]
    assert there("job", job_id).json["state"] == "done"
    cancelled = there("job", job_id, "--cancel")
    assert (cancelled.code, cancelled.error["error"]) == (1, "job_finished")
    assert there("job", "no/such?job").error["error"] == "not_found"


def test_a_reused_picture_costs_nothing_there_either(fal: Emulator, there: Terminal):
    words = ("generate", "a cat", "--seed", "7", "--reuse")
    assert [there(*words).json["cached"] for _ in range(2)] == [False, True]
    assert len(fal.ledger) == 1


def test_without_a_database_there_is_no_job_to_ask_for(
    fal: Emulator, tmp_path: Path, type_in: Terminal
):
    with endpoint(fal, tmp_path, database_url=None) as url:
        there = type_in.knowing(FAL_IMAGE_URL=url, FAL_IMAGE_TOKEN=TOKEN)
        assert there("generate", "a cat").json["state"] == "done"
        done = there("generate", "a cat", "--async")
    assert (done.code, done.error["error"]) == (2, "database_required")


def test_the_endpoints_errors_are_told_as_they_are(fal: Emulator, there: Terminal):
    wrong = there("generate", "a cat", FAL_IMAGE_TOKEN="fi_wrong")
    assert (wrong.code, wrong.error["error"]) == (2, "unauthorized")
    fal.fault("lost", on="submit")
    lost = there("generate", "a cat")
    assert (lost.code, lost.error["error"]) == (3, "submit_unknown")
    assert lost.error["jobId"]


@pytest.mark.parametrize(
    ("url", "code", "error"),
    [
        ("http://127.0.0.1:9", 1, "no_answer"),
        ("ftp://example.com", 2, "misconfigured"),
        ("https://user:secret@example.com", 2, "misconfigured"),
    ],
)
def test_an_endpoint_that_is_none_is_named(there: Terminal, url: str, code: int, error: str):
    done = there("generate", "a cat", FAL_IMAGE_URL=url)
    assert (done.code, done.error["error"]) == (code, error)
    assert "secret" not in done.err


@contextmanager
def gateway(status: int, body: bytes) -> Iterator[str]:
    """What stands in front of an endpoint, and answers itself."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (504, b"<html>Gateway Timeout</html>", 3),
        (403, json.dumps({"message": "Forbidden"}).encode(), 1),
        (200, b"<html>Wait</html>", 3),
        (302, b"", 1),
    ],
)
def test_a_gateways_own_answer_is_no_job(type_in: Terminal, status: int, body: bytes, code: int):
    """After a gateway gave up waiting, the picture may have been paid."""
    with gateway(status, body) as url:
        done = type_in("generate", "a cat", FAL_IMAGE_URL=url)
    assert (done.code, done.error["error"]) == (code, "no_answer")
    assert str(status) in done.error["message"]


def test_only_the_pictures_own_bytes_are_written(fal: Emulator, tmp_path: Path, there: Terminal):
    job_id = there("generate", "a cat").json["jobId"]
    (stored,) = (tmp_path / "bucket").rglob("*.jpg")
    stored.write_bytes(stored.read_bytes()[:-2] + b"xx")
    done = there("job", job_id, "-o", "cat.jpg")
    assert (done.code, done.error["error"]) == (3, "not_written")
    assert f"`fal-image job {job_id} -o FILE`" in done.error["hint"]
    assert not (there.folder / "cat.jpg").exists()


NONE: Mapping[str, str] = {}


class Told:
    """An endpoint that answers what the test wants, one after the other."""

    def __init__(self, *answers: Answer | EndpointFailed | KeyboardInterrupt) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] = NONE,
        patience_s: float = 0,
    ) -> Answer:
        self.asked.append(f"{method} {path}")
        self.headers.append(dict(headers))
        answer = self._answers.pop(0)
        if not isinstance(answer, Answer):
            raise answer
        return answer

    def fetch(self, link: str, *, max_bytes: int, patience_s: float = 0) -> bytes:
        raise AssertionError("no link was asked for")


def job(state: str, **headers: str) -> Answer:
    return Answer(200, Headers(headers.items()), {"jobId": "j", "state": state, "error": None})


SILENCE = EndpointFailed("no answer", sent=True)
GONE = Answer(404, Headers(), {"error": "not_found", "message": "no such job"})


def test_waiting_looks_as_often_as_the_endpoint_wants_it():
    told = Told(job("submitted", **{"retry-after": "5"}), job("storing"), job("done"))
    pauses: list[float] = []
    found = Deployment("https://x", told, pauses.append).wait("j", lambda text: None)
    assert (found["state"], pauses) == ("done", [5, 1.0])


def test_waiting_survives_an_endpoint_that_is_silent_for_a_while():
    told = Told(SILENCE, Answer(502, Headers(), {}), job("submitted"), SILENCE, job("done"))
    assert (
        Deployment("https://x", told, lambda s: None).wait("j", lambda t: None)["state"] == "done"
    )


@pytest.mark.parametrize("answers", [[SILENCE] * 9, [job("submitted"), GONE]])
def test_a_job_out_of_sight_was_paid_for_all_the_same(answers: list[Answer | EndpointFailed]):
    told = Told(
        Answer(202, Headers(), {"jobId": "j", "state": "submitted", "error": None}), *answers
    )
    with pytest.raises(Stopped) as stopped:
        Deployment("https://x", told, lambda s: None).make({}, is_async=False, say=lambda t: None)
    assert stopped.value.exit_code == 3
    assert stopped.value.facts == {"jobId": "j"}
    assert told.asked.count("POST /generate") == 1
    assert len(told.asked) <= 6


KEYED = {"prefer": "respond-async", "idempotency-key": "k"}
NO_DATABASE = Answer(501, Headers(), {"error": "database_required", "message": "no database"})


def made(told: Told, **body: object) -> Any:
    found = Deployment("https://x", told, lambda seconds: None, lambda: "k")
    return found.make(body, is_async=False, say=lambda text: None)


def test_a_job_is_one_bill_however_often_the_answer_is_lost():
    told = Told(SILENCE, Answer(504, Headers(), {}), job("submitted"), job("done"))
    assert made(told)["state"] == "done"
    assert told.asked == ["POST /generate"] * 3 + ["GET /jobs/j"]
    assert told.headers[:3] == [KEYED] * 3


def test_a_wish_to_reuse_takes_no_key():
    told = Told(job("done"))
    made(told, reuse=True)
    assert told.headers == [{"prefer": "respond-async"}]


def test_an_endpoint_that_keeps_no_jobs_is_asked_once_and_waited_for():
    told = Told(NO_DATABASE, SILENCE)
    with pytest.raises(Stopped) as stopped:
        made(told)
    assert stopped.value.exit_code == 3
    assert told.headers == [KEYED, {}]


def test_answers_that_stay_lost_leave_the_key_to_ask_again_with():
    told = Told(SILENCE, SILENCE, EndpointFailed("no way there", sent=False))
    with pytest.raises(Stopped) as stopped:
        made(told)
    assert (stopped.value.exit_code, stopped.value.facts) == (3, {"idempotencyKey": "k"})


@pytest.mark.parametrize(
    ("answers", "facts"),
    [
        ([KeyboardInterrupt()], {"idempotencyKey": "k"}),
        ([job("submitted"), KeyboardInterrupt()], {"jobId": "j"}),
        ([NO_DATABASE, KeyboardInterrupt()], {}),
    ],
)
def test_interrupted_it_names_what_it_has_begun(answers: list[Any], facts: dict[str, str]):
    with pytest.raises(Stopped) as stopped:
        made(Told(*answers))
    assert (stopped.value.exit_code, stopped.value.facts) == (130, facts)


def test_only_the_endpoint_is_named_in_what_is_in_force(there: Terminal):
    said = there("config").json
    assert said["problems"] == []
    assert said["settings"]["FAL_IMAGE_URL"]["value"] == there.settings["FAL_IMAGE_URL"]
    assert TOKEN not in json.dumps(said)
    assert said["settings"]["FAL_IMAGE_TOKEN"]["value"].startswith("fi_a")

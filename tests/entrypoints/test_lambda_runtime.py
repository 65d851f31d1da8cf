"""The AWS function inside AWS's own runtime, in a process of its own."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.dev.platforms import GATEWAYS
from fal_image.web import Request
from support import runtime_api
from support.entrypoints import FAL_KEY, KEY, KEY_SHA256, NOON, request
from support.events import published, sqs_message
from support.runtime_api import VERSION, RuntimeApi, task_root

pytestmark = pytest.mark.needs("awslambdaric")

CURL = {"prompt": "a calico cat at sunset", "image_size": "landscape_16_9"}


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    with RuntimeApi() as api:
        yield api


@pytest.fixture
def settings(fal: Emulator, pictures: Path) -> dict[str, str]:
    return {
        "FAL_KEY": FAL_KEY,
        "FAL_IMAGE_EMULATOR_URL": fal.url,
        "FAL_IMAGE_STORAGE_URL": pictures.as_uri(),
        "FAL_IMAGE_PUBLIC_URL": "https://pictures.example.com",
        "FAL_IMAGE_SECRET": "canary0signing0secret0of0this0test",
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
    }


@pytest.fixture
def runtime(api: RuntimeApi, settings: dict[str, str], tmp_path: Path) -> Iterator[RuntimeApi]:
    """The API, with the whole function running on it."""
    with runtime_api.running(api, task_root(tmp_path / "task"), settings):
        yield api


def event(gateway: str, *args: object, **changes: object) -> dict[str, Any]:
    return GATEWAYS[gateway].event(request(*args, **changes), at=NOON)  # type: ignore[arg-type]


def problem(reply: dict[str, Any]) -> dict[str, Any]:
    return json.loads(reply["body"])  # type: ignore[no-any-return]


def test_a_cold_start_makes_a_picture_and_a_warm_one_makes_the_next(
    runtime: RuntimeApi, pictures: Path
):
    assert runtime.asked.wait(10)
    ids = set()
    for _ in range(2):
        report = runtime.invoke(event("function-url", body=CURL))
        assert report.kind == "response"
        assert report.json["statusCode"] == 200
        job = problem(report.json)
        assert (job["state"], job["prompt"]) == ("done", CURL["prompt"])
        assert (pictures / job["fileID"].removeprefix("file:///")).is_file()
        ids.add(job["jobId"])
    assert len(ids) == 2


def test_the_time_that_lambda_has_left_ends_the_wait(
    api: RuntimeApi, settings: dict[str, str], tmp_path: Path
):
    with Emulator(run_s=30) as slow:
        settings["FAL_IMAGE_EMULATOR_URL"] = slow.url
        with runtime_api.running(api, task_root(tmp_path / "task"), settings):
            assert api.asked.wait(10)
            began = time.monotonic()
            report = api.invoke(event("function-url", body=CURL), timeout_s=3.5)
            took_s = time.monotonic() - began
        (job,) = slow.ledger
    assert problem(report.json)["error"] == "deadline_exceeded"
    assert problem(report.json)["falRequestId"] == job.request_id
    assert job.is_cancelled
    assert took_s < 3.5


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request("GET", "/图 é 🎨"), 404),
        (request("HEAD", "/health"), 200),
        (request("OPTIONS", "/generate"), 204),
        (request(body={"prompt": "x" * 200_000, "num_inference_steps": 99}), 400),
    ],
)
def test_every_gateway_can_read_what_the_runtime_reports(
    runtime: RuntimeApi, asked: Request, status: int
):
    answers = []
    for gateway in GATEWAYS.values():
        report = runtime.invoke(gateway.event(asked, at=NOON), request_id="r-1")
        assert (report.kind, report.headers["content-type"]) == ("response", "application/json")
        answer = gateway.read_reply(report.json)
        answers.append((answer.status, answer.read(), sorted(answer.headers)))
    assert answers == [answers[0]] * len(GATEWAYS)
    assert answers[0][0] == status


def test_a_picture_goes_out_as_base64_through_every_gateway(runtime: RuntimeApi, pictures: Path):
    job = problem(runtime.invoke(event("function-url", body=CURL)).json)
    picture = (pictures / job["fileID"].removeprefix("file:///")).read_bytes()
    link = urlsplit(job["tempFileURL"])
    asked = request("GET", link.path, query=tuple(parse_qsl(link.query)), key=None)
    for gateway in GATEWAYS.values():
        reply = runtime.invoke(gateway.event(asked, at=NOON)).json
        assert reply["isBase64Encoded"] is True
        assert gateway.read_reply(reply).read() == picture


def test_events_that_are_not_http_get_objects(runtime: RuntimeApi):
    assert runtime.invoke(published("aws_schedule")).json == {"swept": 0}
    assert runtime.invoke(published("aws_schedule_input")).json == {"swept": 0}
    batch = {"Records": [sqs_message("m-1"), sqs_message("m-2", None)]}
    assert runtime.invoke(batch).json == {
        "batchItemFailures": [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-2"}]
    }
    assert runtime.invoke({"route": "GET /health"}).json["status"] == "ok"
    assert runtime.invoke(CURL).json["state"] == "done"  # a direct call needs no key
    strange_events: tuple[object, ...] = ([], "text", 7, None, {"prompt": None})
    for strange in strange_events:
        assert runtime.invoke(strange).json["status"] == 400


def test_an_event_that_is_no_json_is_the_runtimes_to_refuse_and_the_next_is_served(
    runtime: RuntimeApi,
):
    report = runtime.invoke(b'{"prompt": ')
    assert (report.kind, report.json["errorType"]) == ("error", "Runtime.UnmarshalError")
    assert runtime.invoke({"route": "GET /health"}).json["status"] == "ok"


def test_a_package_without_its_adapters_is_reported_as_an_import_error_and_ends(
    api: RuntimeApi, settings: dict[str, str], tmp_path: Path
):
    root = task_root(tmp_path / "task", without={"events"})
    with runtime_api.running(api, root, settings) as process:
        report = api.initial_report()
        assert process.wait(10) == 1
    assert report.headers["lambda-runtime-function-error-type"] == "Runtime.ImportModuleError"
    assert report.json["errorType"] == "Runtime.ImportModuleError"
    assert "fal_image.events" in report.json["errorMessage"]
    assert not api.asked.is_set()


def test_a_package_with_other_parts_missing_answers_and_names_them_in_the_log_alone(
    api: RuntimeApi, settings: dict[str, str], tmp_path: Path
):
    root = task_root(tmp_path / "task", without={"generate"})
    with runtime_api.running(api, root, settings) as process:
        report = api.invoke(event("function-url", body=CURL))
        process.terminate()
        log = process.communicate()[0]
    assert report.json["statusCode"] == 500
    assert problem(report.json)["error"] == "misconfigured"
    assert "fal_image.generate" not in report.json["body"]
    assert "fal_image.generate" in log


def test_the_log_has_one_json_line_per_invocation_and_no_key(
    api: RuntimeApi, settings: dict[str, str], tmp_path: Path
):
    with runtime_api.running(api, task_root(tmp_path / "task"), settings) as process:
        api.invoke(event("rest-api", body=CURL))
        api.invoke(published("aws_schedule"))
        process.terminate()
        out, err = process.communicate()
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["route"] for line in lines] == ["POST /", "timer"]
    assert not any(secret in out + err for secret in (KEY, FAL_KEY, CURL["prompt"]))


@pytest.mark.parametrize(("place", "status"), [(0, 400), (-1, 400), (None, 202)])
def test_the_fake_refuses_a_report_whose_request_id_has_one_other_character(
    api: RuntimeApi, place: int | None, status: int
):
    letters = list(api.offer({}, request_id="aaaa").id)
    assert api.next() is not None
    if place is not None:
        letters[place] = "b"
    connection = http.client.HTTPConnection(api.address, timeout=5)
    path = f"/{VERSION}/runtime/invocation/{''.join(letters)}/response"
    connection.request("POST", path, b"{}")
    assert connection.getresponse().status == status
    connection.close()

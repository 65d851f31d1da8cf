"""Batches over HTTP: one story from the upload to the results."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.errors import InvalidInput
from fal_image.inputs import parse_upload
from fal_image.uploads import JSONL, MAX_JSONL_BYTES, largest_by_type
from support.batch_house import SMALL, House, house

ROWS = b'{"prompt":"a cat","rowId":"one"}\n{"prompt":"a dog","rowId":"two"}\n'


@pytest.fixture
def anyones(fal: Emulator, tmp_path: Path) -> Iterator[House]:
    with house(fal, tmp_path, allow_anonymous=True) as opened:
        yield opened


def call(
    home: House, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{home.settings.public_url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json", **headers},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def uploaded(home: House, content: bytes) -> str:
    status, offered = call(home, "POST", "/uploads", {"contentType": JSONL, "bytes": len(content)})
    assert status == 200
    put = urllib.request.Request(
        offered["upload"]["url"],
        data=content,
        headers=offered["upload"]["headers"],
        method=offered["upload"]["method"],
    )
    with urllib.request.urlopen(put, timeout=10):
        return str(offered["fileID"])


def test_an_uploaded_file_becomes_results_behind_a_link(anyones: House):
    body = {"file": uploaded(anyones, ROWS), "defaults": SMALL, "window": 2}
    status, begun = call(anyones, "POST", "/batches", body)
    assert (status, begun["state"]) == (202, "running")
    path = f"/batches/{begun['batchId']}"
    done = anyones.wait_for(
        lambda: (found := call(anyones, "GET", path)[1])["state"] == "done" and found
    )
    with urllib.request.urlopen(done["resultsUrl"], timeout=10) as answer:
        lines = [json.loads(line) for line in answer.read().splitlines()]
    assert [(one["rowId"], one["state"]) for one in lines] == [("one", "done"), ("two", "done")]


def test_a_batch_is_stopped_and_continued(fal: Emulator, anyones: House):
    body = {"rows": [{"prompt": "cat"}] * 20, "defaults": SMALL, "window": 1}
    _, begun = call(anyones, "POST", "/batches", body)
    path = f"/batches/{begun['batchId']}"
    assert call(anyones, "DELETE", path)[1]["state"] == "stopping"
    assert call(anyones, "POST", f"{path}/continue", {})[1]["state"] == "running"
    anyones.wait_for(lambda: call(anyones, "GET", path)[1]["state"] == "done")
    assert len(fal.ledger) == 20


def test_a_key_makes_one_batch_of_many_requests(fal: Emulator, anyones: House):
    body = {"rows": [{"prompt": "cat"}] * 3, "defaults": SMALL}
    first, second = (
        call(anyones, "POST", "/batches", body, **{"idempotency-key": "mine"})[1]["batchId"]
        for _ in range(2)
    )
    assert first == second
    anyones.wait_for(lambda: call(anyones, "GET", f"/batches/{first}")[1]["state"] == "done")
    assert len(fal.ledger) == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/batches", {}, 400),
        ("POST", "/batches", {"rows": [{}], "model": "x"}, 400),
        ("POST", "/batches", {"file": "file:///ai-images/x.jsonl"}, 404),
        ("GET", "/batches/none", None, 404),
        ("DELETE", "/batches/none", None, 404),
        ("POST", "/batches/none/continue", {}, 404),
    ],
)
def test_what_cannot_be_a_batch_is_answered_with_its_error(
    anyones: House, method: str, path: str, body: object, status: int
):
    answer = call(anyones, method, path, body)
    assert answer[0] == status
    assert answer[1]["hint"]


def test_files_of_rows_have_a_limit_of_their_own():
    most = largest_by_type(1_000)
    assert parse_upload({"contentType": JSONL, "bytes": MAX_JSONL_BYTES}, max_bytes=most)
    for body in (
        {"contentType": JSONL, "bytes": MAX_JSONL_BYTES + 1},
        {"contentType": "image/png", "bytes": 1_001},
    ):
        with pytest.raises(InvalidInput, match="length"):
            parse_upload(body, max_bytes=most)

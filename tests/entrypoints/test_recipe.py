"""The recipe's whole story through the real entrypoints: its answer, and each of its errors."""

import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from PIL import Image

from fal_image.dev.emulator import Emulator
from fal_image.web import Response
from support.entrypoints import THROUGH, request, through_aws

CURL = {"prompt": "a calico cat at sunset", "image_size": "landscape_16_9"}

Configure = Callable[..., None]
Through = Callable[..., Response]


@pytest.fixture(params=sorted(THROUGH))
def through(request: pytest.FixtureRequest) -> Through:
    return THROUGH[request.param]


def body(response: Response) -> dict[str, object]:
    return json.loads(response.read())  # type: ignore[no-any-return]


def assert_error(response: Response, status: int, code: str) -> dict[str, object]:
    """The error in the one shape all errors have."""
    problem = body(response)
    assert (response.status, problem["error"]) == (status, code)
    assert problem["status"] == status
    assert problem["message"] == problem["detail"]
    assert problem["requestId"]
    assert problem["hint"]
    assert dict(response.headers)["content-type"] == "application/problem+json"
    return problem


def test_the_recipes_curl_gets_the_recipes_answer(configured: Configure, through: Through):
    answer = body(through(request(body=CURL)))
    assert answer["fileID"]
    assert answer["tempFileURL"]
    assert answer["model"] == "fal-ai/flux/schnell"
    assert answer["prompt"] == "a calico cat at sunset"
    assert answer["state"] == "done"
    assert answer["cost"] == {
        "estimate": 0.003,
        "actual": 0.003,
        "billableUnits": 1,
        "currency": "USD",
    }


def test_the_link_leads_to_the_picture(configured: Configure, through: Through):
    answer = body(through(request(body=CURL)))
    link = urlsplit(str(answer["tempFileURL"]))
    picture = through(request("GET", link.path, query=tuple(parse_qsl(link.query)), key=None))
    assert picture.status == 200
    with Image.open(io.BytesIO(picture.read())) as image:
        assert image.size == (1024, 576)


def test_the_picture_is_on_disk_under_its_key(configured: Configure, pictures: Path):
    answer: Any = body(through_aws(request(body=CURL)))
    (image,) = answer["images"]
    path = pictures / image["fileID"].removeprefix("file:///")
    assert path.stat().st_size == image["bytes"]
    assert path.parent.parent == pictures / "ai-images"


def test_all_pictures_of_a_job_are_kept(configured: Configure):
    answer = body(through_aws(request(body=CURL | {"num_images": 4})))
    images = answer["images"]
    assert isinstance(images, list)
    assert [image["index"] for image in images] == [0, 1, 2, 3]
    assert len({image["sha256"] for image in images}) == 4


@pytest.mark.parametrize("path", ["/", "/generate", "/generate/"])
def test_the_route_has_two_names(configured: Configure, path: str):
    assert through_aws(request(path=path, body=CURL)).status == 200


def test_invalid_json(configured: Configure, through: Through):
    assert_error(through(request(raw=b'{"prompt": ')), 400, "invalid_json")


@pytest.mark.parametrize("given", [{}, {"prompt": None}, {"prompt": " "}, {"prompt": 7}])
def test_missing_prompt(configured: Configure, through: Through, given: object, fal: Emulator):
    assert_error(through(request(body=given)), 400, "missing_prompt")
    assert fal.ledger == []


def test_fal_failed(configured: Configure, through: Through, fal: Emulator):
    fal.fault("error", on="result")
    problem = assert_error(through(request(body=CURL)), 502, "fal_failed")
    assert problem["falErrorType"] == "runner_disconnected"
    assert problem["falRequestId"]


def test_no_image_returned(configured: Configure, through: Through, fal: Emulator):
    fal.fault("no-images", on="result")
    problem = assert_error(through(request(body=CURL)), 502, "no_image_returned")
    assert problem["retryable"] is False


def test_a_null_payload_is_no_image(configured: Configure, fal: Emulator):
    fal.fault("null-payload", on="result")
    assert_error(through_aws(request(body=CURL)), 502, "no_image_returned")


def test_fetch_image_failed(configured: Configure, through: Through, fal: Emulator):
    fal.fault("vanished", on="file")
    problem = assert_error(through(request(body=CURL)), 502, "fetch_image_failed")
    assert problem["upstreamStatus"] == 404
    assert str(problem["sourceUrls"]).startswith("['https://v3.fal.media/")
    assert problem["retryable"] is False


def test_upload_failed(configured: Configure, through: Through, pictures: Path):
    pictures.parent.mkdir(exist_ok=True)
    pictures.write_text("a file where the directory should be", encoding="utf-8")
    problem = assert_error(through(request(body=CURL)), 500, "upload_failed")
    assert problem["sourceUrls"]
    assert str(pictures) not in json.dumps(problem)


def test_a_missing_key_is_the_owners_to_mend(configured: Configure, through: Through):
    configured(FAL_KEY=None)
    problem = assert_error(through(request(body=CURL)), 502, "fal_auth_failed")
    assert "FAL_KEY" in str(problem["hint"])


def test_a_revoked_key_is_the_owners_to_mend(configured: Configure, fal: Emulator):
    configured(FAL_KEY="revoked:canary0secret")
    problem = assert_error(through_aws(request(body=CURL)), 502, "fal_auth_failed")
    assert "FAL_KEY" in str(problem["hint"])
    assert fal.ledger == []


def test_a_misspelt_model_is_answered_with_the_right_one(configured: Configure, through: Through):
    answer = through(request(body=CURL | {"model": "fal-ai/flux-schnell"}))
    problem = assert_error(answer, 502, "fal_failed")
    assert "fal-ai/flux/schnell" in str(problem["hint"])


@pytest.mark.parametrize("prefix", ["../up", "a/../b", "käse", "a b"])
def test_a_key_prefix_no_storage_takes_is_named_before_any_money(
    configured: Configure, fal: Emulator, prefix: str
):
    configured(FAL_IMAGE_STORAGE_URL=f"s3://a-bucket/{prefix}")
    problem = assert_error(through_aws(request(body=CURL)), 500, "misconfigured")
    assert "FAL_IMAGE_STORAGE_URL" in str(problem["detail"])
    assert fal.ledger == []


def test_a_function_with_three_seconds_says_so_in_time(configured: Configure, fal: Emulator):
    with Emulator(run_s=30) as slow:
        configured(FAL_IMAGE_EMULATOR_URL=slow.url)
        answer = through_aws(request(body=CURL), timeout_s=3.5)
        problem = assert_error(answer, 500, "deadline_exceeded")
        (job,) = slow.ledger
    assert problem["falRequestId"] == job.request_id
    assert job.is_cancelled
    assert problem["retryable"] is False
    assert "60 s" in str(problem["hint"])


def test_no_way_out_to_the_internet(configured: Configure, through: Through):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    configured(FAL_IMAGE_EMULATOR_URL=f"http://127.0.0.1:{port}")
    problem = assert_error(through(request(body=CURL)), 502, "fal_failed")
    assert problem["retryable"] is True
    assert "public network access" in str(problem["hint"])


def test_a_lost_submit_is_one_bill_and_says_so(configured: Configure, fal: Emulator):
    fal.fault("lost", on="submit")
    problem = assert_error(through_aws(request(body=CURL)), 500, "submit_unknown")
    assert problem["retryable"] is False
    assert len(fal.ledger) == 1

"""Every route but the main one, and who may use which."""

import json
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.web import Response
from support.entrypoints import request, through_aws

Configure = Callable[..., None]
CURL = {"prompt": "a calico cat at sunset"}


def ask(*args: object, **changes: object) -> Response:
    return through_aws(request(*args, **changes))  # type: ignore[arg-type]


def body(response: Response) -> dict[str, object]:
    return json.loads(response.read())  # type: ignore[no-any-return]


def generated() -> dict[str, object]:
    response = ask(body=CURL)
    assert response.status == 200
    return body(response)


@pytest.mark.parametrize(
    ("method", "path", "payload"),
    [
        ("POST", "/", CURL),
        ("POST", "/generate", CURL),
        ("POST", "/links", {"fileID": "file:///x"}),
        ("GET", "/models", None),
    ],
)
def test_a_paid_route_is_closed_without_a_key(
    configured: Configure, fal: Emulator, method: str, path: str, payload: object
):
    answer = ask(method, path, payload, key=None)
    assert answer.status == 401
    assert body(answer)["error"] == "unauthorized"
    assert dict(answer.headers)["www-authenticate"] == "Bearer"
    assert fal.calls.total() == 0


def test_without_configured_callers_the_refusal_says_what_opens_the_door(configured: Configure):
    configured(FAL_IMAGE_API_KEYS=None)
    answer = body(ask(body=CURL))
    assert "FAL_IMAGE_API_KEYS" in str(answer["hint"])


def test_anonymous_callers_are_let_in_when_the_owner_says_so(configured: Configure):
    configured(FAL_IMAGE_API_KEYS=None, FAL_IMAGE_ALLOW_ANONYMOUS="1")
    assert ask(body=CURL, key=None).status == 200


def test_links_are_renewed_by_file_id(configured: Configure):
    file_id = generated()["fileID"]
    answer = body(ask("POST", "/links", {"fileID": file_id, "maxAge": 60}))
    link = urlsplit(str(answer["tempFileURL"]))
    assert ask("GET", link.path, query=tuple(parse_qsl(link.query)), key=None).status == 200


def test_a_list_of_links_tells_good_from_bad(configured: Configure):
    file_id = str(generated()["fileID"])
    missing = file_id.replace("-0.", "-7.")
    answer = body(ask("POST", "/links", {"fileIDs": [file_id, missing, "file:///../etc/passwd"]}))
    files = answer["fileList"]
    assert isinstance(files, list)
    assert [file["error"] for file in files] == [None, "not_found", "not_found"]
    assert files[1]["tempFileURL"] is None


@pytest.mark.parametrize(
    "file_id",
    [
        "file:///ai-images/2026-11-21/00000000000000000000000000-0.png",
        "file:///secret",
        "file:///../secret",
        "s3://other-bucket/ai-images/2026-11-21/00000000000000000000000000-0.png",
        "",
        "x" * 5000,
    ],
)
def test_a_file_id_that_is_not_ours_looks_like_a_missing_one(configured: Configure, file_id: str):
    answer = ask("POST", "/links", {"fileID": file_id})
    assert (answer.status, body(answer)["error"]) == (404, "not_found")


@pytest.mark.parametrize("bend", ["sig", "exp", "key", "none"])
def test_a_bent_link_leads_nowhere(configured: Configure, bend: str):
    link = urlsplit(str(generated()["tempFileURL"]))
    query = dict(parse_qsl(link.query))
    path = link.path
    if bend == "sig":
        query["sig"] = query["sig"][:-1] + ("A" if query["sig"][-1] != "A" else "B")
    elif bend == "exp":
        query["exp"] = str(int(query["exp"]) + 1)
    elif bend == "key":
        path = path.replace("-0.", "-1.")
    else:
        query = {}
    assert ask("GET", path, query=tuple(query.items()), key=None).status == 404


def test_the_catalog_shows_what_is_allowed_here(configured: Configure):
    configured(FAL_IMAGE_MODELS="fal-ai/flux/*", FAL_IMAGE_MODEL_ALIASES="fast=fal-ai/flux/schnell")
    answer = body(ask("GET", "/models"))
    models = answer["models"]
    assert isinstance(models, list)
    ids = [model["id"] for model in models]
    assert "fal-ai/flux/schnell" in ids
    assert not any(model.startswith("fal-ai/flux-2") for model in ids)
    assert answer["aliases"] == {"fast": "fal-ai/flux/schnell"}


def test_a_model_outside_the_globs_is_refused_before_any_money(
    configured: Configure, fal: Emulator
):
    answer = ask(body=CURL | {"model": "fal-ai/minimax/video"})
    assert (answer.status, body(answer)["error"]) == (403, "model_not_allowed")
    assert fal.ledger == []


def test_a_field_out_of_range_is_named_before_any_money(configured: Configure, fal: Emulator):
    answer = ask(body=CURL | {"num_inference_steps": 99})
    problem = body(answer)
    assert (answer.status, problem["error"]) == (400, "invalid_input")
    assert problem["fields"][0]["field"] == "num_inference_steps"  # type: ignore[index]
    assert fal.ledger == []


def test_an_alias_and_fields_nobody_knows_reach_fal(configured: Configure, fal: Emulator):
    configured(FAL_IMAGE_MODEL_ALIASES="fast=fal-ai/flux/schnell")
    assert ask(body=CURL | {"model": "fast", "novel": 1, "sync_mode": True}).status == 200
    (job,) = fal.ledger
    assert job.model == "fal-ai/flux/schnell"
    assert job.input == CURL | {"novel": 1, "image_size": "landscape_16_9"}


def test_a_model_without_image_size_is_not_given_one(configured: Configure, fal: Emulator):
    assert ask(body=CURL | {"model": "fal-ai/flux-pro/v1.1-ultra"}).status == 200
    (job,) = fal.ledger
    assert "image_size" not in job.input  # type: ignore[operator]


def test_an_idempotency_key_needs_a_database(configured: Configure, fal: Emulator):
    answer = ask(body=CURL, headers={"idempotency-key": "k-1"})
    assert (answer.status, body(answer)["error"]) == (501, "database_required")
    assert fal.ledger == []


def test_a_body_that_is_not_declared_as_json_is_refused(configured: Configure):
    answer = ask(body=CURL, headers={"content-type": "text/plain"})
    assert (answer.status, body(answer)["error"]) == (415, "unsupported_media_type")


def test_health_is_open_and_asks_nobody(configured: Configure, fal: Emulator):
    answer = ask("GET", "/health", key=None)
    assert (answer.status, body(answer)["status"]) == (200, "ok")
    assert fal.calls.total() == 0


def test_wrong_settings_are_named_by_every_route_but_health(configured: Configure, fal: Emulator):
    configured(FAL_IMAGE_STORAGE="typo", FAL_IMAGE_LINK_TTL_S="soon")
    problem = body(ask(body=CURL))
    assert problem["error"] == "misconfigured"
    assert "FAL_IMAGE_STORAGE:" in str(problem["detail"])
    assert "FAL_IMAGE_LINK_TTL_S" in str(problem["detail"])
    assert body(ask("GET", "/health"))["status"] == "misconfigured"
    assert fal.calls.total() == 0


def test_a_cloud_function_does_not_keep_pictures_on_its_own_disk(configured: Configure):
    configured(FAL_IMAGE_EMULATOR_URL=None, AWS_LAMBDA_FUNCTION_NAME="fal-image")
    problem = body(ask(body=CURL))
    assert problem["error"] == "misconfigured"
    assert "bucket" in str(problem["detail"])


def test_local_links_need_a_secret(configured: Configure):
    configured(FAL_IMAGE_SECRET=None)
    assert "FAL_IMAGE_SECRET" in str(body(ask(body=CURL))["detail"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/files/", 404),
        ("GET", "/files", 404),
        ("PUT", "/generate", 405),
        ("GET", "/generate", 405),
        ("DELETE", "/health", 405),
    ],
)
def test_other_paths_and_methods_are_refused(
    configured: Configure, method: str, path: str, status: int
):
    answer = ask(method, path)
    assert answer.status == status
    if status == 405:
        assert "OPTIONS" in dict(answer.headers)["allow"]


def test_a_page_of_a_configured_origin_may_call(configured: Configure):
    configured(FAL_IMAGE_CORS_ORIGINS="https://a.example")
    page = {"origin": "https://a.example", "access-control-request-method": "POST"}
    preflight = ask("OPTIONS", "/generate", headers=page, key=None)
    assert preflight.status == 204
    assert dict(preflight.headers)["access-control-allow-origin"] == "https://a.example"
    refused = ask(body=CURL, headers=page, key=None)
    assert refused.status == 401
    assert dict(refused.headers)["access-control-allow-origin"] == "https://a.example"


def test_a_base_path_stands_before_every_route(configured: Configure):
    configured(FAL_IMAGE_BASE_PATH="/prod")
    assert ask("GET", "/prod/health").status == 200
    assert ask("GET", "/product/health").status == 404


def test_stages_are_told_in_the_server_timing_header(configured: Configure):
    header = dict(ask(body=CURL).headers)["server-timing"]
    stages = [part.partition(";")[0] for part in header.split(", ")]
    assert stages == ["queue", "inference", "fetch", "store", "total"]


def test_head_is_get_without_a_body(configured: Configure):
    answer = ask("HEAD", "/health", key=None)
    assert (answer.status, answer.read()) == (200, b"")

"""Input pictures, from the caller's PUT to what fal is asked, through the real entrypoints."""

import base64
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.storage.base import UploadLink
from fal_image.web import Response
from support import emulator, pictures, storages
from support.entrypoints import KEY_SHA256, THROUGH, request, through_aws

Configure = Callable[..., None]
Through = Callable[..., Response]

PHOTO = pictures.png(width=512, height=384)
IMAGE_TO_IMAGE = "fal-ai/flux/dev/image-to-image"
EDITS = [IMAGE_TO_IMAGE, "fal-ai/flux-pro/kontext", "fal-ai/flux-2/edit", "fal-ai/flux-2-pro/edit"]
SECRET = "canary0signing0secret0of0this0test"


@pytest.fixture(params=sorted(THROUGH))
def through(request: pytest.FixtureRequest) -> Through:
    return THROUGH[request.param]


@pytest.fixture
def on_s3(configured: Configure, moto: str) -> Configure:
    """The working configuration on a bucket of moto's, bent by keywords."""
    rig = storages.S3Rig(moto)

    def apply(**bent: str | None) -> None:
        configured(**{"FAL_IMAGE_STORAGE_URL": rig.url, **rig.environ, **bent})

    apply()
    return apply


def body(response: Response) -> Any:
    return json.loads(response.read())


def ask_for_upload(
    through: Through = through_aws, *, size: int = len(PHOTO), content_type: str = "image/png"
) -> Any:
    answer = through(request("POST", "/uploads", {"contentType": content_type, "bytes": size}))
    assert answer.status == 200, answer.read()
    return body(answer)


def put(
    upload: Any, content: bytes = PHOTO, through: Through = through_aws, **headers: str
) -> Response:
    """The PUT to an upload link of local storage."""
    url = urlsplit(upload["upload"]["url"])
    return through(
        request(
            upload["upload"]["method"],
            url.path,
            raw=content,
            query=tuple(parse_qsl(url.query)),
            key=None,
            headers=upload["upload"]["headers"] | headers,
        )
    )


def uploaded(content: bytes = PHOTO, through: Through = through_aws) -> str:
    """The file id of a file that was uploaded."""
    upload = ask_for_upload(through, size=len(content))
    assert put(upload, content, through).status == 200
    return str(upload["fileID"])


def edit(model: str, picture: object, through: Through = through_aws, **more: object) -> Response:
    field = "image_url" if model in EDITS[:2] else "image_urls"
    value = [picture] if field == "image_urls" else picture
    return through(request(body={"prompt": "at night", "model": model, field: value, **more}))


def refused(response: Response, status: int, code: str) -> Any:
    problem = body(response)
    assert (response.status, problem["error"]) == (status, code), problem
    assert problem["retryable"] is True
    return problem


def asked_of(fal: Emulator) -> Any:
    """The input of the one job that fal was asked for."""
    (job,) = fal.ledger
    return job.input


def at_fal(fal: Emulator, url: str) -> bytes:
    assert url.startswith("https://v3.fal.media/")
    return emulator.ask(fal, "GET", url, key=None).body


@pytest.mark.parametrize("model", EDITS)
def test_an_uploaded_picture_is_edited(
    configured: Configure, fal: Emulator, through: Through, model: str
):
    answer = body(edit(model, uploaded(through=through), through))
    assert answer["state"] == "done", answer
    assert answer["fileID"]
    given = asked_of(fal)
    (url,) = given["image_urls"] if "image_urls" in given else [given["image_url"]]
    assert at_fal(fal, url) == PHOTO


@pytest.mark.parametrize("model", EDITS)
def test_fal_reads_an_upload_in_a_bucket_by_a_link(on_s3: Configure, fal: Emulator, model: str):
    upload = ask_for_upload()
    assert sent(upload, PHOTO) == 200
    assert body(edit(model, upload["fileID"]))["state"] == "done"
    given = asked_of(fal)
    (url,) = given["image_urls"] if "image_urls" in given else [given["image_url"]]
    assert "X-Amz-Expires=3600" in url
    with urllib.request.urlopen(url) as link:
        assert link.read() == PHOTO


def sent(upload: Any, content: bytes) -> int:
    """The status of the PUT to an upload link of a bucket."""
    link = upload["upload"]
    return storages.send(UploadLink(link["url"], link["headers"], storages.wall_clock()), content)


def test_the_answer_says_where_and_until_when(configured: Configure):
    upload = ask_for_upload()
    assert upload["fileID"].startswith("file:///ai-images/uploads/")
    assert upload["fileID"].endswith(".png")
    assert upload["expiresAt"].endswith("Z")
    assert upload["upload"]["method"] == "PUT"
    assert upload["upload"]["url"].startswith("https://pictures.example.com/files/ai-images/")


def test_the_picture_can_be_looked_at_once_it_is_there(configured: Configure):
    upload = ask_for_upload()
    link = urlsplit(upload["imageUrl"])
    look = request("GET", link.path, query=tuple(parse_qsl(link.query)), key=None)
    assert through_aws(look).status == 404
    put(upload)
    assert through_aws(look).read() == PHOTO


def test_links_to_an_upload_are_renewed_for_its_caller_only(on_s3: Configure):
    upload = ask_for_upload()
    ids = {"fileID": upload["fileID"]}
    refused(through_aws(request("POST", "/links", ids)), 404, "not_found")
    sent(upload, PHOTO)
    with urllib.request.urlopen(
        body(through_aws(request("POST", "/links", ids)))["tempFileURL"]
    ) as link:
        assert link.read() == PHOTO
    on_s3(FAL_IMAGE_API_KEYS=f"other={KEY_SHA256}")
    refused(through_aws(request("POST", "/links", ids)), 404, "not_found")


def test_a_stored_picture_is_edited(configured: Configure, fal: Emulator):
    first = body(through_aws(request(body={"prompt": "a cat"})))
    assert body(edit(IMAGE_TO_IMAGE, first["fileID"]))["state"] == "done"
    given: Any = fal.ledger[1].input
    assert len(at_fal(fal, given["image_url"])) == first["images"][0]["bytes"]


def test_several_pictures_and_a_mask_go_in_their_order(configured: Configure, fal: Emulator):
    contents = [pictures.png(width=512 + n, height=512) for n in range(3)]
    ids = [uploaded(content) for content in contents]
    order = {"prompt": "x", "model": "fal-ai/flux-2-pro/edit", "image_urls": ids}
    assert through_aws(request(body=order)).status == 200
    given = asked_of(fal)
    assert [at_fal(fal, url) for url in given["image_urls"]] == contents


def test_a_mask_may_be_an_upload_too(configured: Configure, fal: Emulator):
    photo, mask = uploaded(), uploaded(pictures.png(width=512, height=384))
    order = {"prompt": "x", "image_url": photo, "mask_url": mask}
    answer = through_aws(request(body=order | {"model": "fal-ai/flux-lora/inpainting"}))
    assert answer.status == 200
    assert at_fal(fal, asked_of(fal)["mask_url"]) == PHOTO


def test_a_data_uri_is_a_picture_too_and_gets_its_true_type(configured: Configure, fal: Emulator):
    text = base64.b64encode(pictures.jpeg(width=512, height=512)).decode()
    assert edit(IMAGE_TO_IMAGE, f"data:image/png;base64,{text}").status == 200
    assert asked_of(fal)["image_url"] == f"data:image/jpeg;base64,{text}"


def test_any_other_address_is_left_to_fal(configured: Configure, fal: Emulator):
    url = "https://v3.fal.media/files/b/00000000/photo.png?a=1&b=%20"
    edit(IMAGE_TO_IMAGE, url)
    assert asked_of(fal)["image_url"] == url


@pytest.mark.parametrize(
    "picture",
    [
        "photo.png",
        "",
        "data:image/png;base64,aGVsbG8=",
        "data:image/png;base64,%%%",
        "data:image/png,plain",
        "data:",
    ],
)
def test_what_is_no_picture_is_refused_before_any_money(
    configured: Configure, fal: Emulator, through: Through, picture: str
):
    problem = refused(edit(IMAGE_TO_IMAGE, picture, through), 400, "invalid_input")
    assert problem["fields"][0]["field"] == "image_url"
    assert fal.calls.total() == 0


@pytest.mark.parametrize(
    "file_id",
    [
        "file:///etc/passwd",
        "file:///ai-images/../../etc/passwd",
        "file:///ai-images/uploads/2026-11-21/x.png",
        "file:///ai-images/uploads/2026-11-21/00000000000000000000000000000000.png",
        "file:///other/uploads/2026-11-21/00000000000000000000000000000000.png",
        "file:///ai-images/2026-11-21/01m7z8twx4w4rchddrd0pg6y5d-0.jpg",
        "s3://somebody-elses-bucket/ai-images/2026-11-21/01m7z8twx4w4rchddrd0pg6y5d-0.jpg",
        "cloud://env.bucket/ai-images/x.png",
        "gopher://x",
    ],
)
def test_an_id_that_is_not_ours_is_not_found(configured: Configure, fal: Emulator, file_id: str):
    problem = refused(edit("fal-ai/flux-2/edit", file_id), 404, "not_found")
    assert "image_urls" in problem["detail"]
    assert fal.calls.total() == 0


def test_an_upload_of_another_caller_looks_missing(configured: Configure, fal: Emulator):
    file_id = uploaded()
    configured(FAL_IMAGE_API_KEYS=f"other={KEY_SHA256}")
    others = refused(edit(IMAGE_TO_IMAGE, file_id), 404, "not_found")
    configured()
    missing = ask_for_upload()["fileID"]
    assert refused(edit(IMAGE_TO_IMAGE, missing), 404, "not_found")["detail"] == others["detail"]
    assert fal.ledger == []


def test_an_upload_outlives_the_rotation_of_the_secret(configured: Configure):
    file_id = uploaded()
    configured(FAL_IMAGE_SECRET=f"another0secret0for0the0next0years0,{SECRET}")
    assert edit(IMAGE_TO_IMAGE, file_id).status == 200
    configured(FAL_IMAGE_SECRET="another0secret0for0the0next0years0")
    assert edit(IMAGE_TO_IMAGE, file_id).status == 404


@pytest.mark.parametrize("content", [b"hello", b"<html></html>", PHOTO[:-1], PHOTO + b"x"])
def test_an_upload_that_is_no_whole_picture_is_refused_at_its_first_use(
    configured: Configure, fal: Emulator, content: bytes
):
    problem = refused(edit(IMAGE_TO_IMAGE, uploaded(content)), 400, "invalid_input")
    assert "whole picture" in problem["detail"]
    assert fal.calls.total() == 0


def test_an_upload_that_grew_too_large_is_refused_at_its_first_use(
    configured: Configure, fal: Emulator
):
    file_id = uploaded()
    configured(FAL_IMAGE_MAX_IMAGE_BYTES=str(len(PHOTO) - 1))
    refused(edit(IMAGE_TO_IMAGE, file_id), 400, "invalid_input")
    assert fal.calls.total() == 0


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/html"}])
def test_an_upload_link_takes_only_what_it_was_made_for(
    configured: Configure, through: Through, pictures: Path, headers: dict[str, str]
):
    upload = ask_for_upload(through)
    content = PHOTO if headers else PHOTO + b"more"
    refused(put(upload, content, through, **headers), 404, "not_found")
    assert not [path for path in pictures.rglob("*") if path.is_file()]


def test_an_upload_link_works_once(configured: Configure, through: Through):
    upload = ask_for_upload(through)
    assert put(upload, PHOTO, through).status == 200
    refused(put(upload, bytes(len(PHOTO)), through), 404, "not_found")
    assert edit(IMAGE_TO_IMAGE, upload["fileID"], through).status == 200


def test_a_link_to_read_does_not_write(configured: Configure):
    upload = ask_for_upload()
    reading = upload | {"upload": upload["upload"] | {"url": upload["imageUrl"]}}
    refused(put(reading), 404, "not_found")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"bytes": 5}, "contentType"),
        ({"contentType": "image/svg+xml", "bytes": 5}, "contentType"),
        ({"contentType": ["image/png"], "bytes": 5}, "contentType"),
        ({"contentType": "image/png"}, "bytes"),
        ({"contentType": "image/png", "bytes": 0}, "bytes"),
        ({"contentType": "image/png", "bytes": True}, "bytes"),
        ({"contentType": "image/png", "bytes": 1.5}, "bytes"),
        ({"contentType": "image/png", "bytes": 10**9}, "bytes"),
    ],
)
def test_a_wrong_wish_names_its_field(configured: Configure, wanted: object, field: str):
    problem = refused(through_aws(request("POST", "/uploads", wanted)), 400, "invalid_input")
    assert [one["field"] for one in problem["fields"]] == [field]


def test_uploads_are_closed_without_a_key(configured: Configure):
    answer = through_aws(
        request("POST", "/uploads", {"contentType": "image/png", "bytes": 5}, key=None)
    )
    assert answer.status == 401


def test_without_a_secret_only_uploads_are_misconfigured(on_s3: Configure):
    on_s3(FAL_IMAGE_SECRET=None)
    wanted = {"contentType": "image/png", "bytes": 5}
    problem = refused(through_aws(request("POST", "/uploads", wanted)), 500, "misconfigured")
    assert "FAL_IMAGE_SECRET" in problem["detail"]
    assert through_aws(request(body={"prompt": "a cat"})).status == 200


def test_files_of_a_bucket_are_not_put_through_us(on_s3: Configure):
    key = "/files/ai-images/uploads/2026-11-21/x.png"
    answer = through_aws(request("PUT", key, raw=PHOTO, query=(("exp", "1"), ("sig", "x"))))
    refused(answer, 404, "not_found")


@pytest.mark.parametrize("fault", ["500", "reset"])
def test_a_picture_that_fal_does_not_take_costs_nothing(
    configured: Configure, fal: Emulator, fault: str
):
    file_id = uploaded()
    fal.fault(fault, on="upload", times=9)
    refused(edit(IMAGE_TO_IMAGE, file_id), 502, "fal_failed")
    assert fal.ledger == []


def test_a_revoked_key_is_the_owners_to_mend(configured: Configure, fal: Emulator):
    file_id = uploaded()
    configured(FAL_KEY="revoked:canary0secret")
    refused(edit(IMAGE_TO_IMAGE, file_id), 502, "fal_auth_failed")

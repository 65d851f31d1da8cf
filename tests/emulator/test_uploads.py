"""Uploads as the bytes of both clients have them; the clients themselves are in their own tests."""

from __future__ import annotations

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import CDN, REST, Reply, ask

INITIATE = f"{REST}/storage/upload/initiate?storage_type=fal-cdn-v3"
INITIATE_PARTS = f"{REST}/storage/upload/initiate-multipart?storage_type=fal-cdn-v3"
PNG = {"content_type": "image/png", "file_name": "a cat (1).png"}


def cdn_token(emulator: Emulator) -> dict[str, str]:
    reply = ask(emulator, "POST", f"{REST}/storage/auth/token?storage_type=fal-cdn-v3", {})
    return {"authorization": f"{reply.json['token_type']} {reply.json['token']}"}


def downloaded(emulator: Emulator, url: str) -> Reply:
    return ask(emulator, "GET", url, key=None)


def test_the_cdn_token_names_the_emulator_and_says_when_it_dies(emulator: Emulator) -> None:
    reply = ask(emulator, "POST", f"{REST}/storage/auth/token?storage_type=fal-cdn-v3", {})

    assert reply.json["base_url"] == f"{emulator.url}/v3.fal.media"
    assert reply.json["expires_at"].endswith("+00:00")


def test_initiate_and_put_without_credentials_publishes_a_file(emulator: Emulator) -> None:
    place = ask(emulator, "POST", INITIATE, PNG).json
    url = place["upload_url"]

    before = downloaded(emulator, place["file_url"])
    put = ask(emulator, "PUT", url, b"bytes", key=None, headers={"content-type": "image/png"})
    after = downloaded(emulator, place["file_url"])

    assert url.startswith(f"{emulator.url}/v3.fal.media/files/")
    assert place["file_url"].startswith(f"{CDN}/files/")
    assert place["file_url"].endswith("a_cat__1_.png")
    assert (before.status, put.status, after.status) == (404, 200, 200)
    assert (after.body, after.headers["content-type"]) == (b"bytes", "image/png")


def test_a_put_with_another_signature_is_refused(emulator: Emulator) -> None:
    place = ask(emulator, "POST", INITIATE, PNG).json

    assert ask(emulator, "PUT", f"{place['upload_url']}x", b"bytes", key=None).status == 403
    assert downloaded(emulator, place["file_url"]).status == 404


def test_parts_are_joined_by_number_in_whatever_order_they_came(emulator: Emulator) -> None:
    place = ask(emulator, "POST", INITIATE_PARTS, PNG).json
    base, _, query = place["upload_url"].partition("?")
    parts = []
    for number, data in ((2, b"end"), (1, b"begin ")):
        part = ask(emulator, "PUT", f"{base}/{number}?{query}", data, key=None)
        assert part.headers["etag"] == part.json["etag"]
        parts.append(part.json)

    done = ask(emulator, "POST", f"{base}/complete?{query}", {"parts": parts}, key=None)

    assert done.status == 200
    assert downloaded(emulator, place["file_url"]).body == b"begin end"


@pytest.mark.parametrize("parts", [[{"partNumber": 9}], [{}], [None], "x", [{"partNumber": "x"}]])
def test_completing_parts_that_never_came_is_400(emulator: Emulator, parts: object) -> None:
    place = ask(emulator, "POST", INITIATE_PARTS, PNG).json
    base, _, query = place["upload_url"].partition("?")

    reply = ask(emulator, "POST", f"{base}/complete?{query}", {"parts": parts}, key=None)

    assert (reply.status == 400) is (parts != "x")


def test_a_direct_upload_shows_the_cdn_token(emulator: Emulator) -> None:
    headers = {"content-type": "text/plain", "x-fal-file-name": "note.txt"}
    token = cdn_token(emulator)

    refused = ask(emulator, "POST", f"{CDN}/files/upload", b"hello", headers=headers)
    taken = ask(
        emulator, "POST", f"{CDN}/files/upload", b"hello", key=None, headers=headers | token
    )

    assert refused.status == 401
    assert taken.json["access_url"].startswith(f"{CDN}/files/")
    assert taken.json["access_url"].endswith("note.txt")
    assert downloaded(emulator, taken.json["access_url"]).body == b"hello"


def test_a_direct_upload_in_parts_goes_to_the_emulator_itself(emulator: Emulator) -> None:
    token = cdn_token(emulator)
    base = f"{CDN}/files/upload/multipart"
    begun = ask(emulator, "POST", base, key=None, headers=token).json
    parts = f"{begun['access_url']}/multipart/{begun['uploadId']}"

    refused = ask(emulator, "PUT", f"{parts}/1", b"x", key=None)
    part = ask(emulator, "PUT", f"{parts}/1", b"whole", key=None, headers=token)
    body = {"parts": [{"partNumber": 1, "etag": part.headers["etag"]}]}
    done = ask(emulator, "POST", f"{parts}/complete", body, key=None, headers=token)

    assert begun["access_url"].startswith(emulator.url)
    assert (refused.status, done.status) == (401, 200)
    assert downloaded(emulator, begun["access_url"]).body == b"whole"


def test_another_storage_type_is_refused_as_fal_refuses_it(emulator: Emulator) -> None:
    reply = ask(emulator, "POST", f"{REST}/storage/upload/initiate?storage_type=gcs", PNG)

    assert (reply.status, reply.json) == (400, {"detail": "Invalid storage type"})


@pytest.mark.parametrize("tail", ["/multipart/other/1", "/multipart/", "/other"])
def test_a_place_that_was_not_reserved_is_404(emulator: Emulator, tail: str) -> None:
    path = ask(emulator, "POST", INITIATE_PARTS, PNG).json["upload_url"].partition("/multipart")[0]

    assert ask(emulator, "PUT", path + tail, b"x", headers=cdn_token(emulator)).status == 404

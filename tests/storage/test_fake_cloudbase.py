"""The fake refuses what CloudBase, COS and the CDN refuse: one flipped byte is enough."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest

from fal_image.tencent import TOKEN_PATH, Keys, tc3_authorization
from support.fake_cloudbase import MAX_ITEMS, FakeCloudbase

KEY = "ai-images/x.png"
NOW_S = 1_700_000_000.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def items(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
def fake() -> Iterator[FakeCloudbase]:
    with FakeCloudbase(now=lambda: NOW_S).serving() as fake:
        yield fake


def ask(
    fake: FakeCloudbase,
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] = {},
) -> Answer:
    request = urllib.request.Request(fake.where(url), body, dict(headers), method=method)
    client = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with client.open(request) as answer:
            return Answer(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())


def call(fake: FakeCloudbase, name: str, *items: object, bearer: str | None = None) -> Answer:
    url = f"https://{fake.gateway_host}/v1/storages/{name}"
    headers = {"authorization": f"Bearer {bearer or fake.api_key}"}
    return ask(fake, url, "POST", json.dumps(items).encode(), headers)


def upload_info(fake: FakeCloudbase, **signed: str) -> tuple[str, dict[str, str]]:
    """Where to PUT, and the headers of CloudBase's own example."""
    item = {"objectId": KEY, "signedHeader": {name: [value] for name, value in signed.items()}}
    (info,) = call(fake, "get-objects-upload-info", item).items
    return info["uploadUrl"], {
        "Authorization": info["authorization"],
        "X-Cos-Security-Token": info["token"],
        "X-Cos-Meta-Fileid": info["cloudObjectMeta"],
    }


def download_url(fake: FakeCloudbase, **more: object) -> str:
    (info,) = call(
        fake, "get-objects-download-info", {"cloudObjectId": fake.start + KEY, **more}
    ).items
    return str(info["downloadUrl"])


def flipped(text: str, at: int) -> str:
    return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]


def test_cloudbases_own_example_works(fake: FakeCloudbase):
    url, headers = upload_info(fake)

    assert ask(fake, url, "PUT", b"the bytes", headers).status == 200
    assert ask(fake, download_url(fake)).body == b"the bytes"


@pytest.mark.parametrize("name", ["Authorization", "X-Cos-Security-Token"])
def test_an_upload_with_one_flipped_byte_is_refused(fake: FakeCloudbase, name: str):
    url, headers = upload_info(fake)
    right = headers[name]

    for at in range(0, len(right), 7):
        answer = ask(fake, url, "PUT", b"x", headers | {name: flipped(right, at)})
        assert answer.status == 403, right[at:]
    assert fake.objects == {}


def test_an_upload_to_another_key_is_refused(fake: FakeCloudbase):
    url, headers = upload_info(fake)

    assert b"SignatureDoesNotMatch" in ask(fake, url + "2", "PUT", b"x", headers).body


@pytest.mark.parametrize("value", ["other", None])
def test_a_signed_header_must_be_sent_as_it_was_signed(fake: FakeCloudbase, value: str | None):
    url, headers = upload_info(fake, **{"x-cos-meta-sha256": "abc"})
    sent = {} if value is None else {"x-cos-meta-sha256": value}

    assert ask(fake, url, "PUT", b"x", headers | sent).status == 403
    assert ask(fake, url, "PUT", b"x", headers | {"x-cos-meta-sha256": "abc"}).status == 200


@pytest.mark.parametrize("passed_s", [-61, 7200])
def test_an_upload_outside_its_time_is_refused(fake: FakeCloudbase, passed_s: int):
    url, headers = upload_info(fake)
    fake.now = lambda: NOW_S + passed_s

    assert b"expired" in ask(fake, url, "PUT", b"x", headers).body


def test_a_body_with_one_flipped_byte_is_refused(fake: FakeCloudbase):
    url, headers = upload_info(fake)
    headers["Content-MD5"] = "ndTmPuCQLeNrGMjiN7uRFQ=="

    assert b"InvalidDigest" in ask(fake, url, "PUT", b"the bytes", headers).body


def test_an_existing_object_is_not_overwritten_when_that_is_forbidden(fake: FakeCloudbase):
    url, headers = upload_info(fake)
    headers["x-cos-forbid-overwrite"] = "true"
    ask(fake, url, "PUT", b"first", headers)
    second = ask(fake, url, "PUT", b"second", headers)

    assert (second.status, b"FileAlreadyExists" in second.body) == (409, True)
    assert ask(fake, download_url(fake)).body == b"first"


@pytest.mark.parametrize("at", [None, 0, 30])
def test_an_object_without_its_exact_fileid_has_no_link(fake: FakeCloudbase, at: int | None):
    url, headers = upload_info(fake)
    right = headers.pop("X-Cos-Meta-Fileid")
    if at is not None:
        headers["X-Cos-Meta-Fileid"] = flipped(right, at)

    assert ask(fake, url, "PUT", b"x", headers).status == 200
    (info,) = call(fake, "get-objects-download-info", {"cloudObjectId": fake.start + KEY}).items
    assert info["code"] == "OBJECT_NOT_EXIST"


def test_a_link_with_one_flipped_byte_is_refused(fake: FakeCloudbase):
    url, headers = upload_info(fake)
    ask(fake, url, "PUT", b"x", headers)
    link = download_url(fake)
    path = link.index(KEY)

    for at in (path, path + len(KEY) - 1, link.index("sign=") + 5, len(link) - 1):
        assert ask(fake, flipped(link, at)).status in {403, 404}, link[at:]
    assert ask(fake, link.partition("?")[0]).status == 403


def test_a_link_ends(fake: FakeCloudbase):
    url, headers = upload_info(fake)
    ask(fake, url, "PUT", b"x", headers)
    link = download_url(fake, maxAge=60)

    fake.now = lambda: NOW_S + 59
    assert ask(fake, link).status == 200
    fake.now = lambda: NOW_S + 60
    assert ask(fake, link).status == 403


@pytest.mark.parametrize("at", [0, 20])
def test_an_api_key_with_one_flipped_byte_is_refused(fake: FakeCloudbase, at: int):
    answer = call(fake, "get-objects-upload-info", {}, bearer=flipped(fake.api_key, at))

    assert answer.status == 401


def test_a_token_is_not_given_for_a_signature_with_one_flipped_byte(fake: FakeCloudbase):
    body = b'{"grant_type":"client_credentials"}'
    now = datetime.fromtimestamp(NOW_S, timezone.utc)
    right = tc3_authorization(Keys(*fake.keys), fake.gateway_host, TOKEN_PATH, body, now)

    def status(authorization: str, body: bytes = body) -> int:
        headers = {"authorization": authorization, "content-type": "application/json"}
        return ask(fake, f"https://{fake.gateway_host}{TOKEN_PATH}", "POST", body, headers).status

    assert status(right) == 200
    assert status(right, body.replace(b":", b": ")) == 401
    for at in range(0, len(right), 5):
        assert status(flipped(right, at)) == 401, right[at:]


def test_fifty_objects_are_the_most(fake: FakeCloudbase):
    items = [{"objectId": f"{number}.png"} for number in range(MAX_ITEMS + 1)]

    assert call(fake, "get-objects-upload-info", *items[:-1]).status == 200
    refused = call(fake, "get-objects-upload-info", *items)
    assert (refused.status, refused.items["code"]) == (400, "OBJECT_BATCH_TOO_LARGE")


def test_a_bad_object_among_good_ones_is_an_error_inside_a_200(fake: FakeCloudbase):
    good, bad = {"objectId": KEY}, {"objectId": "/x.png"}
    answer = call(fake, "get-objects-upload-info", good, bad, {}, good)

    assert answer.status == 200
    codes = [item.get("code") for item in answer.items]
    assert codes == [None, "INVALID_PARAM", "INVALID_PARAM", None]


def test_a_foreign_object_is_no_ones_to_read(fake: FakeCloudbase):
    item = {"cloudObjectId": f"cloud://env-2.bucket/{KEY}"}
    (info,) = call(fake, "get-objects-download-info", item).items

    assert info["code"] == "STORAGE_EXCEED_AUTHORITY"


def test_only_who_may_ask_deletes_and_only_what_is_theirs(fake: FakeCloudbase):
    url, headers = upload_info(fake)
    ask(fake, url, "PUT", b"the bytes", headers)
    own, foreign = (
        {"cloudObjectId": f"{start}{KEY}"} for start in (fake.start, "cloud://env-2.b/")
    )

    wrong = flipped(fake.api_key, 3)
    assert call(fake, "delete-objects", own, bearer=wrong).status == 401
    assert call(fake, "delete-objects", foreign).items[0]["code"] == "STORAGE_EXCEED_AUTHORITY"
    assert list(fake.objects) == [KEY]
    assert call(fake, "delete-objects", {}).items[0]["code"] == "INVALID_PARAM"
    first, second = call(fake, "delete-objects", own, own).items
    assert (first, second["code"]) == (own, "OBJECT_NOT_EXIST")

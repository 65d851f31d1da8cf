"""What is CloudBase's own: its calls and headers, its refusals, its links, what it keeps silent."""

from __future__ import annotations

import base64
import hashlib
import json
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fal_image import storage
from fal_image.errors import NotFound
from fal_image.storage.base import NotAllowed, ObjectStorage, StorageError
from fal_image.wire import Wire
from support.fake_cloudbase import (
    FakeCloudbase,
    Reply,
    cos_error,
    item_error,
    problem,
)
from support.storages import CANNOT, KEY, PREFIX, CloudbaseRig, put, read, sha256

NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=timezone.utc)
UPLOAD, DOWNLOAD = "get-objects-upload-info", "get-objects-download-info"
DELETE = "delete-objects"
PUT = f"PUT {KEY.rpartition('/')[2]}"
HEAD = f"HEAD {KEY.rpartition('/')[2]}"


@pytest.fixture
def fake() -> Iterator[FakeCloudbase]:
    with FakeCloudbase(now=NOON.timestamp).serving() as fake:
        yield fake


@pytest.fixture
def store(fake: FakeCloudbase) -> ObjectStorage:
    return a_store(fake)


def a_store(fake: FakeCloudbase, *, url: str = CloudbaseRig.url, **variables: str) -> ObjectStorage:
    environ = variables or {"CLOUDBASE_APIKEY": fake.api_key}
    return storage.open_storage(
        storage.parse(url),
        secrets=(),
        public_url=None,
        environ=environ,
        now=lambda: datetime.fromtimestamp(fake.now(), timezone.utc),
        wire=Wire(detours=fake.detours),
    )


def fetched(fake: FakeCloudbase, url: str, **request: Any) -> bytes:
    """What somebody gets who has nothing but a link."""
    client = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with client.open(urllib.request.Request(fake.where(url), **request)) as answer:
        return bytes(answer.read())


def refused(do: Callable[[], object]) -> str:
    with pytest.raises(StorageError) as caught:
        do()
    return str(caught.value)


def test_a_put_asks_where_looks_and_sends(fake: FakeCloudbase, store: ObjectStorage):
    put(store, b"the bytes")

    assert fake.paths() == [f"POST {UPLOAD}", f"POST {DOWNLOAD}", PUT]
    asked, _, sent = fake.asked
    signed = {"x-cos-meta-sha256": [sha256(b"the bytes")], "x-cos-forbid-overwrite": ["true"]}
    assert asked.json() == [{"objectId": KEY, "signedHeader": signed}]
    assert sent.body == b"the bytes"
    assert sent.headers["content-length"] == "9"
    assert sent.headers["content-type"] == "image/png"
    md5 = base64.b64encode(hashlib.md5(b"the bytes").digest()).decode()
    assert sent.headers["content-md5"] == md5
    assert "host;x-cos-forbid-overwrite;x-cos-meta-sha256" in sent.headers["authorization"]
    assert {"x-cos-security-token", "x-cos-meta-fileid"} <= set(sent.headers)


def test_the_file_id_is_the_one_that_cloudbase_resolves(fake: FakeCloudbase, store: ObjectStorage):
    stored = put(store, b"the bytes")

    assert stored.file_id == f"cloud://env-1.{fake.bucket}/{KEY}"
    body = json.dumps([{"cloudObjectId": stored.file_id}]).encode()
    headers = {"authorization": f"Bearer {fake.api_key}"}
    url = f"https://{fake.gateway_host}/v1/storages/{DOWNLOAD}"
    (answer,) = json.loads(fetched(fake, url, data=body, headers=headers))
    assert fetched(fake, answer["downloadUrl"]) == b"the bytes"


def test_a_put_that_may_replace_neither_looks_nor_forbids(
    fake: FakeCloudbase, store: ObjectStorage
):
    put(store, b"x", create_only=False)

    assert fake.paths() == [f"POST {UPLOAD}", PUT]
    assert "x-cos-forbid-overwrite" not in fake.asked[-1].headers


def test_a_bucket_that_had_versions_is_not_overwritten_either(
    fake: FakeCloudbase, store: ObjectStorage
):
    fake.versioned = True
    put(store, b"first")

    assert not put(store, b"second").created
    assert read(store) == b"first"


def test_a_writer_who_comes_second_after_looking_tells_the_facts_of_the_first(
    fake: FakeCloudbase, store: ObjectStorage
):
    put(store, b"first")
    fake.faults[DOWNLOAD] = [item_error("OBJECT_NOT_EXIST")]
    second = put(store, b"the second")

    assert (second.created, second.sha256) == (False, sha256(b"first"))


def test_an_object_that_vanishes_during_a_put_is_a_storage_error(
    fake: FakeCloudbase, store: ObjectStorage
):
    fake.faults["PUT"] = [cos_error(409, "FileAlreadyExists")]

    assert "deleted during a put" in refused(lambda: put(store, b"x"))


@pytest.mark.parametrize("code", ["OBJECT_NOT_EXIST", "STORAGE_FILE_NONEXIST"])
def test_both_of_cloudbases_words_mean_missing(
    fake: FakeCloudbase, store: ObjectStorage, code: str
):
    fake.faults[DOWNLOAD] = [item_error(code)]

    with pytest.raises(NotFound):
        store.head(KEY)


def test_a_gateway_that_gives_links_to_nothing_is_asked_once_more_at_the_cdn(
    fake: FakeCloudbase, store: ObjectStorage
):
    fake.tells_missing = False

    with pytest.raises(NotFound):
        store.head(KEY)
    with pytest.raises(NotFound), store.open(KEY):
        pass
    assert put(store, b"first").created
    assert not put(store, b"second").created


def test_a_cdn_that_keeps_the_metadata_has_the_object_read_and_hashed(
    fake: FakeCloudbase, store: ObjectStorage
):
    fake.shows_metadata = False
    put(store, b"the bytes")
    found = store.head(KEY)

    assert (found.bytes, found.sha256) == (9, sha256(b"the bytes"))
    assert found.content_type == "image/png"


def test_what_somebody_else_put_is_read_and_hashed(fake: FakeCloudbase, store: ObjectStorage):
    link = store.upload_link(KEY, content_type="image/png", bytes=9, ttl_s=60)
    fetched(fake, link.url, data=b"the bytes", method="PUT", headers=link.headers)

    assert store.head(KEY).sha256 == sha256(b"the bytes")


def test_a_server_without_ranges_is_read_from_where_it_is_told_to(
    fake: FakeCloudbase, store: ObjectStorage
):
    fake.has_ranges = False
    put(store, b"0123456789")

    assert [read(store, start=start) for start in (0, 4, 10, 99)] == [
        b"0123456789",
        b"456789",
        b"",
        b"",
    ]


def test_a_delete_names_the_file(fake: FakeCloudbase, store: ObjectStorage):
    file_id = put(store, b"the bytes").file_id
    store.delete(KEY)

    assert fake.paths()[-1] == f"POST {DELETE}"
    assert fake.asked[-1].json() == [{"cloudObjectId": file_id}]
    assert fake.objects == {}


@pytest.mark.parametrize("code", ["OBJECT_NOT_EXIST", "STORAGE_FILE_NONEXIST"])
def test_a_delete_is_done_when_both_words_say_missing(
    fake: FakeCloudbase, store: ObjectStorage, code: str
):
    fake.faults[DELETE] = [item_error(code)]
    store.delete(KEY)


@pytest.mark.parametrize(
    "reply",
    [
        item_error("STORAGE_EXCEED_AUTHORITY"),
        item_error("ACTION_FORBIDDEN"),
        problem(403, "ACTION_FORBIDDEN"),
    ],
)
def test_a_delete_without_the_right_is_told_from_other_refusals(
    fake: FakeCloudbase, store: ObjectStorage, reply: Reply
):
    fake.faults[DELETE] = [reply, item_error("SYS_ERR")]
    with pytest.raises(NotAllowed, match=DELETE):
        store.delete(KEY)
    with pytest.raises(StorageError, match="SYS_ERR") as refused:
        store.delete(KEY)
    assert not isinstance(refused.value, NotAllowed)


def test_a_cut_answer_is_a_storage_error(fake: FakeCloudbase, store: ObjectStorage):
    put(store, b"x")
    fake.faults["GET"] = [Reply(200, {}, b"half", missing_bytes=4)]

    assert "GET of an object" in refused(lambda: read(store))


def test_a_refused_signature_is_replaced_by_that_of_cloudbases_own_example(
    fake: FakeCloudbase, store: ObjectStorage
):
    fake.faults["PUT"] = [cos_error(403, "SignatureDoesNotMatch")]

    assert put(store, b"the bytes").created
    assert fake.paths().count(f"POST {UPLOAD}") == 2
    assert fake.asked[-3].json() == [{"objectId": KEY}]
    assert "x-cos-meta-sha256" not in fake.asked[-1].headers
    assert store.head(KEY).sha256 == sha256(b"the bytes")


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        (UPLOAD, item_error("SYS_ERR")),
        (UPLOAD, problem(500, "SYS_ERR")),
        (DOWNLOAD, problem(503, "")),
        ("PUT", cos_error(500, "InternalError")),
        ("PUT", cos_error(503, "SlowDown")),
        ("PUT", Reply(500, {}, b"<Error>", missing_bytes=9)),
    ],
)
def test_what_may_pass_is_tried_once_more_with_all_of_the_bytes(
    fake: FakeCloudbase, store: ObjectStorage, name: str, reply: Reply
):
    fake.faults[name] = [reply]

    assert put(store, b"the bytes").created
    assert read(store) == b"the bytes"
    assert "x-cos-meta-sha256" in fake.objects[KEY].headers


@pytest.mark.parametrize(
    ("name", "reply", "said", "times"),
    [
        ("PUT", cos_error(403, "SignatureDoesNotMatch"), "403 SignatureDoesNotMatch", 2),
        ("PUT", cos_error(500, "InternalError"), "500 InternalError", 2),
        ("PUT", cos_error(403, "AccessDenied"), "403 AccessDenied: as the test says", 1),
        ("PUT", cos_error(404, "NoSuchBucket"), "404 NoSuchBucket", 1),
        ("PUT", Reply(302, {"location": "https://evil.example.com/"}), "302", 1),
        (UPLOAD, item_error("SYS_ERR"), "SYS_ERR", 2),
        (UPLOAD, item_error("STORAGE_EXCEED_AUTHORITY"), "STORAGE_EXCEED_AUTHORITY as the", 1),
        (UPLOAD, item_error("COS_ACTION_FAILED"), "COS_ACTION_FAILED", 1),
        (UPLOAD, problem(403, "ACTION_FORBIDDEN"), "403 ACTION_FORBIDDEN as the test says", 1),
        (UPLOAD, problem(401, "INVALID_CREDENTIALS"), "401 INVALID_CREDENTIALS", 1),
    ],
)
def test_what_stays_refused_tells_the_owner_why(
    fake: FakeCloudbase, store: ObjectStorage, name: str, reply: Reply, said: str, times: int
):
    fake.faults[name] = [reply] * 9

    assert said in refused(lambda: put(store, b"x"))
    assert len(fake.faults[name]) == 9 - times
    assert fake.objects == {}


def test_an_error_about_one_object_is_an_error_of_every_call(
    fake: FakeCloudbase, store: ObjectStorage
):
    put(store, b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.head(KEY),
        lambda: read(store),
        lambda: store.link(KEY, 60),
        lambda: put(store, b"x"),
    ]
    for call in calls:
        fake.faults[DOWNLOAD] = [item_error("STORAGE_EXCEED_AUTHORITY")]
        assert "STORAGE_EXCEED_AUTHORITY" in refused(call)


@pytest.mark.parametrize("status", [401, 403, 500, 302])
def test_a_download_that_is_refused_is_not_missing(
    fake: FakeCloudbase, store: ObjectStorage, status: int
):
    put(store, b"x")
    fake.faults = {"HEAD": [Reply(status)], "GET": [Reply(status)]}

    assert str(status) in refused(lambda: store.head(KEY))
    assert str(status) in refused(lambda: read(store))


GOOD = {
    "cloudObjectId": f"cloud://env-1.bucket/{KEY}",
    "uploadUrl": "https://bucket.cos.ap-shanghai.myqcloud.com/x",
    "authorization": "q-sign-time=1;2",
    "token": "t",
    "cloudObjectMeta": "m",
}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "list of one"),
        ([], "list of one"),
        ([GOOD, GOOD], "list of one"),
        (["x"], "list of one"),
        ([{}], "lacks cloudObjectId"),
        ([GOOD | {"uploadUrl": ""}], "lacks uploadUrl"),
        ([GOOD | {"token": 7}], "lacks token"),
        ([GOOD | {"cloudObjectMeta": None}], "lacks cloudObjectMeta"),
        ([GOOD | {"uploadUrl": "http://bucket.cos.ap-shanghai.myqcloud.com/x"}], "https"),
        ([GOOD | {"uploadUrl": "https://u:p@bucket.cos.myqcloud.com/x"}], "https"),
        ([GOOD | {"cloudObjectId": f"cloud://env-2.bucket/{KEY}"}], "not supported"),
        ([GOOD | {"cloudObjectId": f"cloud://env-1.bucket/base/{KEY}"}], "not supported"),
        ([GOOD | {"cloudObjectId": "cloud://env-1.bucket/another.png"}], "not supported"),
    ],
)
def test_an_answer_of_another_shape_is_a_storage_error(
    fake: FakeCloudbase, store: ObjectStorage, answer: object, said: str
):
    fake.faults[UPLOAD] = [Reply(200, {}, json.dumps(answer).encode())]

    assert said in refused(lambda: put(store, b"x"))
    assert fake.paths() == [f"POST {UPLOAD}"]


@pytest.mark.parametrize(("ttl_s", "asked_s"), [(90, 90), (3600, 3600), (700_000, 3600)])
def test_a_links_age_is_asked_for_and_its_end_is_not_known(
    fake: FakeCloudbase, store: ObjectStorage, ttl_s: int, asked_s: int
):
    put(store, b"x")
    link = store.link(KEY, ttl_s)

    assert link.expires_at is None
    assert fake.asked[-1].json() == [{"cloudObjectId": store.file_id(KEY), "maxAge": asked_s}]
    fake.now = lambda: NOON.timestamp() + asked_s - 1
    assert fetched(fake, link.url) == b"x"
    fake.now = lambda: NOON.timestamp() + asked_s + 1
    with pytest.raises(urllib.error.HTTPError):
        fetched(fake, link.url)


def test_there_is_no_link_to_what_is_not_there(store: ObjectStorage):
    assert "not there" in refused(lambda: store.link(KEY, 60))


def test_an_upload_link_takes_a_picture_from_who_has_nothing_else(
    fake: FakeCloudbase, store: ObjectStorage
):
    link = store.upload_link(KEY, content_type="image/webp", bytes=9, ttl_s=60)
    fetched(fake, link.url, data=b"the bytes", method="PUT", headers=link.headers)

    assert read(store) == b"the bytes"
    assert store.head(KEY).content_type == "image/webp"
    assert set(link.headers) == {
        "authorization",
        "content-type",
        "x-cos-meta-fileid",
        "x-cos-security-token",
    }


@pytest.mark.parametrize(("ttl_s", "ends_s"), [(60, 60), (3600, 900)])
def test_an_upload_link_ends_with_its_time_or_its_signature(
    fake: FakeCloudbase, store: ObjectStorage, ttl_s: int, ends_s: int
):
    fake.upload_life_s = 900
    link = store.upload_link(KEY, content_type="image/png", bytes=9, ttl_s=ttl_s)

    assert link.expires_at == NOON.replace(microsecond=0) + timedelta(seconds=ends_s)


@pytest.mark.parametrize("times", ["", "q-sign-time=1", "q-sign-time=a;b", "xq-sign-time=1;2"])
def test_an_upload_signature_without_an_end_is_a_storage_error(
    fake: FakeCloudbase, store: ObjectStorage, times: str
):
    answer = [GOOD | {"authorization": f"q-sign-algorithm=sha1&{times}"}]
    fake.faults[UPLOAD] = [Reply(200, {}, json.dumps(answer).encode())]

    assert "when it ends" in refused(
        lambda: store.upload_link(KEY, content_type="image/png", bytes=1, ttl_s=60)
    )


def test_the_buckets_name_is_asked_for_once(fake: FakeCloudbase, store: ObjectStorage):
    assert store.key(store.file_id(KEY)) == KEY
    store.file_id(f"{PREFIX}/other.png")

    assert fake.paths() == [f"POST {UPLOAD}"]
    assert fake.objects == {}


def test_ids_of_another_environment_or_bucket_are_not_found(
    fake: FakeCloudbase, store: ObjectStorage
):
    for file_id in (f"cloud://env-2.{fake.bucket}/{KEY}", f"cloud://env-12.b/{KEY}", "cloud://x"):
        with pytest.raises(NotFound):
            store.key(file_id)
    assert fake.asked == []
    with pytest.raises(NotFound):
        store.key(f"cloud://env-1.another-bucket/{KEY}")


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("cloudbase://env-1/ai-images?region=ap-singapore", {"TENCENTCLOUD_REGION": "ap-shanghai"}),
        ("cloudbase://env-1/ai-images", {"TENCENTCLOUD_REGION": "ap-singapore"}),
    ],
)
def test_an_environment_outside_china_is_asked_at_its_own_gateway(
    url: str, variables: dict[str, str]
):
    with FakeCloudbase(zone="intl.").serving() as fake:
        store = a_store(fake, url=url, CLOUDBASE_APIKEY=fake.api_key, **variables)
        assert put(store, b"x").created


def test_keys_are_those_of_the_invocation_that_is_running(fake: FakeCloudbase):
    variables: dict[str, str] = {}
    store = storage.open_storage(
        storage.parse(CloudbaseRig.url),
        secrets=(),
        public_url=None,
        environ={"CLOUDBASE_APIKEY": "that of another invocation"},
        now=lambda: NOON,
        credentials=lambda: variables,
        wire=Wire(detours=fake.detours),
    )
    for keys in (fake.keys, ("AKIDNEXT", "the-next-key", "the-next-token")):
        fake.keys = keys
        names = ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN")
        variables |= dict(zip(names, keys, strict=True))
        put(store, b"x")

    assert fake.paths().count("POST clientCredential") == 2
    variables.clear()
    assert "CLOUDBASE_APIKEY" in refused(lambda: store.head(KEY))


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("PUT", cos_error(403, "AccessDenied")),
        ("HEAD", Reply(403)),
        ("GET", Reply(200, {}, b"half", missing_bytes=4)),
        (UPLOAD, problem(401, "INVALID_CREDENTIALS")),
        (DOWNLOAD, item_error("STORAGE_EXCEED_AUTHORITY")),
    ],
)
def test_secrets_appear_in_no_error_and_no_repr(fake: FakeCloudbase, name: str, reply: Reply):
    secret_id, secret_key, session_token = fake.keys
    store = a_store(
        fake,
        TENCENTCLOUD_SECRETID=secret_id,
        TENCENTCLOUD_SECRETKEY=secret_key,
        TENCENTCLOUD_SESSIONTOKEN=session_token,
    )
    if name in {"HEAD", "GET"}:
        put(store, b"x")
    link = store.upload_link(KEY, content_type="image/png", bytes=1, ttl_s=60)
    fake.faults = {name: [reply]}
    with pytest.raises(StorageError) as caught:
        read(store) if name == "GET" else put(store, b"x")
    told = repr(store) + "".join(traceback.format_exception(caught.value))

    signature = link.headers["authorization"].rpartition("=")[2]
    secrets = {secret_key, session_token, signature, link.headers["x-cos-security-token"]}
    assert not [secret for secret in secrets | set(fake.tokens) if secret in told]


def test_what_cloudbase_cannot_do_is_said_of_tests_that_exist():
    suite = Path(__file__).with_name("test_contract.py").read_text(encoding="utf-8")

    assert [name for name in CANNOT["cloudbase"] if f"def {name}(" not in suite] == []

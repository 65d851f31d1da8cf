"""What the contract suite does not ask of COS: keys, regions, the form of requests, refusals."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import logging
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from fal_image.errors import NotFound
from fal_image.storage.base import NotAllowed, ObjectStorage, StorageError, UploadLink
from fal_image.storage.cos import CosStorage
from fal_image.storage.cos_region import region_of
from support.fake_cos import ENVIRON, REQUEST_ID, Account, FakeCos
from support.fake_tcb import FakeTcb
from support.peer import RESET, Peer
from support.peer import answer as raw
from support.storages import KEY, PREFIX, Answer, ScriptedS3, put, read, sha256, wall_clock

BUCKET = "pictures-1250000000"
OWN_KEYS = {"TCB_SECRET_ID": "AKIDown", "TCB_SECRET_KEY": "own-secret-key"}
FUNCTION = ENVIRON | {"TCB_ENV": "env-1", "TENCENTCLOUD_REGION": "ap-guangzhou"}
MISSING = Answer(404)


def a_store(
    endpoint: str | None = None,
    *,
    region: str | None = "ap-shanghai",
    variables: Mapping[str, str] | Callable[[], Mapping[str, str]] = ENVIRON,
    api_url: str = "http://127.0.0.1:9",
) -> ObjectStorage:
    return CosStorage(
        BUCKET,
        prefix=PREFIX,
        region=region,
        credentials=variables if callable(variables) else lambda: variables,
        now=wall_clock,
        endpoint=endpoint,
        look_up=functools.partial(region_of, api_url=api_url),
    )


@pytest.fixture
def cos() -> FakeCos:
    return FakeCos()


@pytest.fixture
def endpoint(cos: FakeCos) -> Iterator[str]:
    with cos.serving() as address:
        yield address


@pytest.fixture
def sdk_log(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Whatever a program that logs everything would have written."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, root = Lines(), logging.getLogger()
    root.addHandler(handler)
    with caplog.at_level(logging.DEBUG):
        yield lines
    root.removeHandler(handler)


def upload(link: UploadLink, content: bytes, **headers: str) -> int:
    """The status of a PUT by somebody who has nothing but the link."""
    request = urllib.request.Request(link.url, content, {**link.headers, **headers}, method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def picture_link(store: ObjectStorage, content: bytes, ttl_s: int = 600) -> UploadLink:
    return store.upload_link(KEY, content_type="image/png", bytes=len(content), ttl_s=ttl_s)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def query_of(url: str) -> dict[str, str]:
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    return {name: values[0] for name, values in query.items()}


def test_a_link_is_signed_for_the_buckets_own_host():
    url = a_store().link(KEY, 600).url
    query = query_of(url)

    assert url.startswith(f"https://{BUCKET}.cos.ap-shanghai.myqcloud.com/{KEY}?")
    assert query["q-header-list"] == "host"  # nothing that a plain client would not send
    assert query["q-url-param-list"] == "x-cos-security-token"
    assert query["x-cos-security-token"] == ENVIRON["TENCENTCLOUD_SESSIONTOKEN"]


def test_a_link_with_permanent_keys_has_no_token():
    query = query_of(a_store(variables=OWN_KEYS).link(KEY, 600).url)

    assert query["q-ak"] == "AKIDown"
    assert "x-cos-security-token" not in query


def test_a_link_is_never_signed_for_longer_than_an_hour():
    link = a_store().link(KEY, 700_000)
    _, _, ends = query_of(link.url)["q-sign-time"].partition(";")

    assert int(ends) <= time.time() + 3600
    assert link.expires_at is not None
    assert link.expires_at.timestamp() <= int(ends)


def test_a_link_that_is_over_is_refused(cos: FakeCos, endpoint: str):
    store = a_store(endpoint)
    put(store, b"the bytes")
    url = store.link(KEY, 600).url
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    cos.clock = lambda: time.time() + 590
    with opener.open(url) as answer:
        assert answer.read() == b"the bytes"
    cos.clock = lambda: time.time() + 610
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(url)
    refused.value.close()
    assert refused.value.code == 403


def test_a_put_says_what_it_stores_and_creates_only(cos: FakeCos, endpoint: str):
    put(a_store(endpoint), b"the bytes")

    looked, asked = cos.asked
    assert (looked.method, looked.path) == ("HEAD", f"/{KEY}")
    assert (asked.method, asked.path, asked.body) == ("PUT", f"/{KEY}", b"the bytes")
    assert asked.headers["x-cos-forbid-overwrite"] == "true"
    assert asked.headers["x-cos-meta-sha256"] == sha256(b"the bytes")
    assert asked.headers["content-type"] == "image/png"
    assert asked.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert asked.headers["content-length"] == "9"
    assert (
        asked.headers["content-md5"]
        == base64.b64encode(hashlib.md5(b"the bytes").digest()).decode()
    )
    assert "transfer-encoding" not in asked.headers


def test_a_put_that_may_replace_is_unconditional(cos: FakeCos, endpoint: str):
    put(a_store(endpoint), b"x", create_only=False)

    (asked,) = cos.asked
    assert "x-cos-forbid-overwrite" not in asked.headers


def test_in_a_bucket_that_had_versions_a_second_put_changes_nothing_either(
    cos: FakeCos, endpoint: str
):
    cos.versioned = True
    store = a_store(endpoint)
    put(store, b"first")

    assert not put(store, b"second").created
    assert read(store) == b"first"


def test_a_writer_that_comes_in_between_is_first(cos: FakeCos, endpoint: str):
    first = a_store(endpoint)

    class Slow(io.BytesIO):
        """Bytes during whose reading somebody else stores others."""

        def read(self, size: int | None = -1) -> bytes:
            if cos.asked and not cos.objects:
                put(first, b"first")
            return super().read(size)

    content = b"the second"
    second = a_store(endpoint).put(
        KEY, Slow(content), content_type="image/png", sha256=sha256(content)
    )

    assert (second.created, second.sha256) == (False, sha256(b"first"))
    assert [ask.method for ask in cos.asked] == ["HEAD", "HEAD", "PUT", "PUT", "HEAD"]


def test_an_object_that_vanishes_during_a_put_is_a_storage_error():
    script = ScriptedS3([MISSING, Answer(409, "FileAlreadyExists"), MISSING])
    with script.serving() as url, pytest.raises(StorageError, match="deleted during a put"):
        put(a_store(url), b"x")


def test_a_broken_connection_is_tried_again_with_all_of_the_bytes():
    script = [raw(404), RESET, raw(200)]
    with Peer(script) as peer:
        assert put(a_store(peer.url), b"the bytes").created

    assert [request.partition(b"\r\n\r\n")[2] for request in peer.requests] == [
        b"",
        b"the bytes",
        b"the bytes",
    ]


def test_a_server_that_stumbles_is_asked_again():
    script = ScriptedS3([MISSING, Answer(503, "SlowDown"), Answer()])
    with script.serving() as url:
        assert put(a_store(url), b"the bytes").created

    assert [asked.body for asked in script.asked] == [b"", b"the bytes", b"the bytes"]


def test_an_answer_that_was_lost_leaves_one_object_and_tells_its_facts():
    standing = Answer(headers={"x-cos-meta-sha256": sha256(b"x"), "content-type": "image/png"})
    script = ScriptedS3(
        [MISSING, Answer(500, "InternalError"), Answer(409, "FileAlreadyExists"), standing]
    )
    with script.serving() as url:
        stored = put(a_store(url), b"x")

    assert (stored.created, stored.sha256) == (False, sha256(b"x"))


def test_a_server_that_is_not_there_is_a_storage_error():
    with pytest.raises(StorageError, match=f"HEAD of cos://{BUCKET}/{KEY}"):
        a_store(f"http://127.0.0.1:{closed_port()}").head(KEY)


def test_a_redirect_is_no_success():
    script = ScriptedS3([Answer(301, headers={"location": "http://127.0.0.1:9/"})] * 3)
    with script.serving() as url:
        store = a_store(url)
        with pytest.raises(StorageError, match="HTTP 301"):
            put(store, b"x", create_only=False)
        with pytest.raises(StorageError, match="HTTP 301"):
            store.head(KEY)
        with pytest.raises(StorageError, match="HTTP 301"):
            read(store)


def test_an_answer_that_is_cut_is_a_storage_error():
    script = ScriptedS3([Answer(missing_bytes=100)])
    with script.serving() as url, pytest.raises(StorageError, match="GET of cos://"):
        read(a_store(url))


def test_a_missing_bucket_is_not_a_missing_object():
    script = ScriptedS3([Answer(404, "NoSuchBucket"), MISSING, Answer(404, "NoSuchBucket")])
    with script.serving() as url:
        store = a_store(url)
        with pytest.raises(StorageError, match="NoSuchBucket"), store.open(KEY):
            pass
        with pytest.raises(StorageError, match="NoSuchBucket"):
            put(store, b"x")


def test_a_delete_without_the_right_is_told_from_other_refusals():
    denied, others = Answer(403, "AccessDenied"), ["SignatureDoesNotMatch", "InvalidAccessKeyId"]
    script = ScriptedS3([denied, *(Answer(403, code) for code in others)])
    with script.serving() as url:
        store = a_store(url)
        with pytest.raises(NotAllowed, match="DELETE of cos://.*HTTP 403 AccessDenied"):
            store.delete(KEY)
        for code in others:
            with pytest.raises(StorageError, match=code) as refused:
                store.delete(KEY)
            assert not isinstance(refused.value, NotAllowed)


def test_a_delete_is_done_when_a_server_says_that_nothing_is_there():
    script = ScriptedS3([MISSING, Answer(404, "NoSuchBucket")])
    with script.serving() as url:
        a_store(url).delete(KEY)
        with pytest.raises(StorageError, match="DELETE of cos://.*NoSuchBucket"):
            a_store(url).delete(KEY)


def test_a_delete_that_is_lost_is_sent_again():
    script = ScriptedS3([Answer(503, "SlowDown"), Answer(204)])
    with script.serving() as url:
        a_store(url).delete(KEY)

    assert [asked.method for asked in script.asked] == ["DELETE"] * 2


def test_an_object_without_a_digest_is_a_storage_error():
    script = ScriptedS3([Answer()])
    with script.serving() as url, pytest.raises(StorageError, match="no SHA-256"):
        a_store(url).head(KEY)


@pytest.mark.parametrize(
    "content", ["", "<html>no</html>", "<Error><Code>Odd</Code></Error>", "{}"]
)
def test_an_error_in_a_form_of_its_own_is_a_storage_error(content: str):
    with Peer([raw(403, content.encode())]) as peer:
        store = a_store(peer.url)
        for call in (lambda: store.head(KEY), lambda: read(store)):
            with pytest.raises(StorageError, match="HTTP 403"):
                call()


def test_a_refusal_tells_the_owner_why_and_which_request(endpoint: str):
    store = a_store(endpoint, variables=OWN_KEYS)

    with pytest.raises(StorageError, match="HTTP 403 InvalidAccessKeyId") as refused:
        read(store)
    assert REQUEST_ID in str(refused.value)
    with pytest.raises(StorageError, match="HTTP 403") as refused:
        store.head(KEY)
    assert REQUEST_ID in str(refused.value)


def test_keys_appear_in_no_error_and_no_log(endpoint: str, sdk_log: list[str]):
    wrong = ENVIRON | {"TENCENTCLOUD_SECRETKEY": "canary-wrong-secret-key"}
    store = a_store(endpoint, variables=wrong)
    told = [repr(store)]
    for call in (lambda: put(store, b"x", create_only=False), lambda: read(store)):
        with pytest.raises(StorageError, match="SignatureDoesNotMatch") as refused:
            call()
        told += [str(refused.value), repr(refused.value), repr(refused.value.__cause__)]
    told += sdk_log

    assert "canary" not in "\n".join(told)
    assert not [line for line in sdk_log if "q-sign" in line]


@pytest.mark.parametrize(
    "broken",
    [
        {"TENCENTCLOUD_SESSIONTOKEN": "canary\r\nx-cos-acl: public-read"},
        {"TENCENTCLOUD_SECRETID": "canary canary"},
        {"TENCENTCLOUD_SECRETID": "canary\N{CJK UNIFIED IDEOGRAPH-56FE}"},
    ],
)
def test_keys_that_no_header_can_hold_are_refused_without_showing_them(
    cos: FakeCos, endpoint: str, broken: dict[str, str]
):
    store = a_store(endpoint, variables=ENVIRON | broken)

    for call in (lambda: store.head(KEY), lambda: store.link(KEY, 60)):
        with pytest.raises(StorageError, match="no header") as refused:
            call()
        assert "canary" not in repr(refused.value)
    assert not cos.asked


@pytest.mark.parametrize("missing", ["TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY"])
def test_without_keys_nothing_is_signed_or_put(missing: str):
    store = a_store(variables={name: ENVIRON[name] for name in ENVIRON if name != missing})

    with pytest.raises(StorageError, match="TCB_SECRET_ID"):
        store.link(KEY, 60)
    with pytest.raises(StorageError, match="TCB_SECRET_ID"):
        put(store, b"x")


def test_keys_are_those_of_the_moment(cos: FakeCos, endpoint: str):
    variables = dict(ENVIRON)
    store = a_store(endpoint, variables=lambda: variables)
    put(store, b"the bytes")

    variables |= {"TENCENTCLOUD_SECRETID": "AKIDnext", "TENCENTCLOUD_SESSIONTOKEN": "next-token"}
    cos.account = Account("AKIDnext", ENVIRON["TENCENTCLOUD_SECRETKEY"], "next-token")
    assert read(store) == b"the bytes"


def test_an_operation_goes_to_the_buckets_own_host(monkeypatch: pytest.MonkeyPatch):
    with Peer([raw(407)]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(StorageError):
            a_store().head(KEY)

    assert {request.split(b" HTTP/")[0] for request in proxy.requests} == {
        f"CONNECT {BUCKET}.cos.ap-shanghai.myqcloud.com:443".encode()
    }


def test_an_upload_link_takes_one_body_of_its_type_and_length(cos: FakeCos, endpoint: str):
    store, content = a_store(endpoint), b"the bytes"
    link = picture_link(store, content)

    assert set(query_of(link.url)["q-header-list"].split(";")) == {
        "content-length",
        "content-type",
        "host",
        "x-cos-forbid-overwrite",
    }
    assert upload(link, content + b"!") == 403
    assert upload(link, content, **{"content-type": "image/jpeg"}) == 403
    assert upload(link, content, **{"x-cos-forbid-overwrite": "false"}) == 403
    assert not cos.objects
    assert upload(link, content) == 200
    assert upload(link, b"the bytez") == 409
    assert read(store) == content


def test_an_upload_link_ends(cos: FakeCos, endpoint: str):
    link = picture_link(a_store(endpoint), b"the bytes", ttl_s=60)

    cos.clock = lambda: link.expires_at.timestamp() + 2
    assert upload(link, b"the bytes") == 403


def test_an_upload_link_is_for_a_key_only():
    with pytest.raises(ValueError, match="not a storage key"):
        a_store().upload_link("../x.png", content_type="image/png", bytes=1, ttl_s=60)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")
def test_the_region_of_an_environments_bucket_is_looked_up_once():
    buckets = {"static-1250000000": "ap-beijing", BUCKET: "ap-guangzhou"}
    tcb = FakeTcb({"env-1": buckets})
    with tcb.serving() as url:
        store = a_store(region=None, variables=FUNCTION, api_url=url)
        links = [store.link(KEY, 60).url for _ in range(2)]

    assert [urlsplit(link).hostname for link in links] == [
        f"{BUCKET}.cos.ap-guangzhou.myqcloud.com"
    ] * 2
    (asked,) = tcb.asked
    assert asked.headers["x-tc-region"] == "ap-guangzhou"


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TCB_ENV": "env-2"}, "no bucket of environment env-2"),
        ({"TCB_ENV": "", "SCF_NAMESPACE": "default"}, "no bucket of environment default"),
        ({"TCB_ENV": ""}, "is not known"),
        ({"TENCENTCLOUD_SECRETID": "AKIDsomebody"}, "AuthFailure.SecretIdNotFound"),
        ({"TENCENTCLOUD_SESSIONTOKEN": ""}, "AuthFailure.TokenFailure"),
    ],
)
def test_a_region_that_cannot_be_looked_up_is_asked_for(variables: dict[str, str], said: str):
    with FakeTcb({"env-1": {BUCKET: "ap-shanghai"}}).serving() as url:
        store = a_store(region=None, variables=FUNCTION | variables, api_url=url)
        with pytest.raises(StorageError, match=said) as refused:
            put(store, b"x")

    assert "?region=" in str(refused.value)
    assert "canary" not in repr(refused.value)


def test_a_look_up_that_nobody_answers_is_a_storage_error():
    store = a_store(region=None, variables=FUNCTION, api_url=f"http://127.0.0.1:{closed_port()}")

    with pytest.raises(StorageError, match=r"DescribeEnvs of env-1: .*\?region="):
        store.link(KEY, 60)


def test_a_file_id_of_another_bucket_is_not_found():
    with pytest.raises(NotFound):
        a_store().key(f"cos://pictures-1250000001/{KEY}")

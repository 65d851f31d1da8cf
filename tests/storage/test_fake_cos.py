"""The fake COS refuses what COS refuses; else whatever the storage sends would pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlencode, urlsplit

import pytest

from fal_image.storage.base import ObjectStorage
from support import fake_cos, fake_tcb
from support.fake_cos import Account, Ask, FakeCos
from support.storages import KEY, CosRig, put
from support.values import replace

# COS docs, "Request Signature", the two worked examples with their keys.
DOCUMENTED = Account("AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q", "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz", "")
DOCUMENTED_OBJECT = "/exampleobject(%E8%85%BE%E8%AE%AF%E4%BA%91)"
DOCUMENTED_HOST = "examplebucket-1250000000.cos.ap-beijing.myqcloud.com"


def authorization(times: str, headers: str, params: str, signature: str) -> str:
    return (
        f"q-sign-algorithm=sha1&q-ak={DOCUMENTED.secret_id}&q-sign-time={times}&q-key-time={times}"
        f"&q-header-list={headers}&q-url-param-list={params}&q-signature={signature}"
    )


def documented_put() -> Ask:
    signed = "content-length;content-md5;content-type;date;host;x-cos-acl;x-cos-grant-read"
    return Ask(
        "PUT",
        DOCUMENTED_OBJECT,
        {
            "date": "Thu, 16 May 2019 06:45:51 GMT",
            "host": DOCUMENTED_HOST,
            "content-type": "text/plain",
            "content-length": "13",
            "content-md5": "mQ/fVh815F3k6TAUm8m0eg==",
            "x-cos-acl": "private",
            "x-cos-grant-read": 'uin="100000000011"',
            "authorization": authorization(
                "1557989151;1557996351", signed, "", "3b8851a11a569213c17ba8fa7dcf2abec6935172"
            ),
        },
        b"ObjectContent",
    )


def documented_get() -> Ask:
    query = {
        "response-content-type": "application/octet-stream",
        "response-cache-control": "max-age=600",
    }
    signed = "response-cache-control;response-content-type"
    return Ask(
        "GET",
        f"{DOCUMENTED_OBJECT}?{urlencode(query)}",
        {
            "date": "Thu, 16 May 2019 06:55:53 GMT",
            "host": DOCUMENTED_HOST,
            "authorization": authorization(
                "1557989753;1557996953", "date;host", signed, GET_SIGNATURE
            ),
        },
    )


GET_SIGNATURE = "01681b8c9d798a678e43b685a9f1bba0f6c0e012"


@pytest.fixture
def cos() -> FakeCos:
    return FakeCos()


@pytest.fixture
def store(cos: FakeCos) -> Iterator[ObjectStorage]:
    with cos.serving() as endpoint:
        yield CosRig(endpoint).open()


def a_put(cos: FakeCos, store: ObjectStorage) -> Ask:
    put(store, b"the bytes")
    return cos.asked[-1]


def a_link(cos: FakeCos, store: ObjectStorage) -> Ask:
    url = urlsplit(store.link(KEY, 600).url)
    return Ask("GET", f"{url.path}?{url.query}", {"host": "127.0.0.1"})


def an_upload(cos: FakeCos, store: ObjectStorage) -> Ask:
    link = store.upload_link(KEY, content_type="image/png", bytes=9, ttl_s=600)
    url = urlsplit(link.url)
    headers = {**link.headers, "host": "127.0.0.1", "content-length": "9"}
    return Ask("PUT", f"{url.path}?{url.query}", headers, b"the bytes")


def a_delete(cos: FakeCos, store: ObjectStorage) -> Ask:
    store.delete(KEY)
    return cos.asked[-1]


def flipped(text: str, at: int) -> str:
    """The text with the lowest bit of one character turned, still printable."""
    return f"{text[:at]}{chr(ord(text[at]) ^ 1)}{text[at + 1 :]}"


def is_refused(cos: FakeCos, ask: Ask) -> bool:
    return cos.answer(ask)[0] == 403


@pytest.mark.parametrize("ask", [documented_put(), documented_get()], ids=["PUT", "GET"])
def test_the_documented_requests_are_accepted(ask: Ask):
    DOCUMENTED.verify(ask, now_s=1557990000)


@pytest.mark.parametrize("ask", [documented_put(), documented_get()], ids=["PUT", "GET"])
@pytest.mark.parametrize("now_s", [1557989150, 1557999999])
def test_the_documented_requests_are_refused_outside_their_time(ask: Ask, now_s: int):
    with pytest.raises(fake_cos.Refused, match="AccessDenied"):
        DOCUMENTED.verify(ask, now_s)


@pytest.mark.parametrize("made", [a_put, a_link, an_upload, a_delete])
def test_what_the_storage_signs_is_accepted(
    cos: FakeCos, store: ObjectStorage, made: Callable[[FakeCos, ObjectStorage], Ask]
):
    ask = made(cos, store)
    cos.objects.clear()

    assert cos.answer(ask)[0] in {200, 204, 404}


@pytest.mark.parametrize("made", [a_put, a_link, an_upload, a_delete])
def test_one_flipped_byte_of_the_path_or_the_query_is_refused(
    cos: FakeCos, store: ObjectStorage, made: Callable[[FakeCos, ObjectStorage], Ask]
):
    ask = made(cos, store)

    for at in range(1, len(ask.target)):
        if ask.target[at] != "%":  # a broken escape is no other text
            broken = replace(ask, target=flipped(ask.target, at))
            if (broken.path, broken.query) != (ask.path, ask.query):
                assert is_refused(cos, broken), broken.target


@pytest.mark.parametrize("made", [a_put, an_upload])
def test_one_flipped_byte_of_a_signed_header_is_refused(
    cos: FakeCos, store: ObjectStorage, made: Callable[[FakeCos, ObjectStorage], Ask]
):
    ask = made(cos, store)
    listed = [name for name in ask.headers if name in ask.signed["q-header-list"].split(";")]
    if "authorization" in ask.headers:
        listed.append("authorization")

    assert {"host", "content-type", "content-length", "x-cos-forbid-overwrite"} <= set(listed)
    for name in listed:
        for at in range(len(ask.headers[name])):
            changed = flipped(ask.headers[name], at)
            assert is_refused(cos, replace(ask, headers={**ask.headers, name: changed})), changed


@pytest.mark.parametrize("made", [a_put, an_upload])
def test_a_signed_header_that_is_left_out_is_refused(
    cos: FakeCos, store: ObjectStorage, made: Callable[[FakeCos, ObjectStorage], Ask]
):
    ask = made(cos, store)

    for name in ask.signed["q-header-list"].split(";"):
        left = {other: value for other, value in ask.headers.items() if other != name}
        assert is_refused(cos, replace(ask, headers=left)), name


def test_a_link_is_for_its_method_only(cos: FakeCos, store: ObjectStorage):
    link = a_link(cos, store)

    assert [is_refused(cos, replace(link, method=verb)) for verb in ("HEAD", "PUT", "DELETE")] == [
        True
    ] * 3


def test_a_link_without_its_token_is_refused(cos: FakeCos, store: ObjectStorage):
    link = a_link(cos, store)
    target = link.target.partition("&x-cos-security-token=")[0]

    assert target != link.target
    assert is_refused(cos, replace(link, target=target))


def test_nobody_reads_without_a_signature(cos: FakeCos, store: ObjectStorage):
    put(store, b"the bytes")

    assert is_refused(cos, Ask("GET", f"/{KEY}", {"host": "127.0.0.1"}))


def test_bytes_that_are_not_those_of_their_md5_are_refused(cos: FakeCos, store: ObjectStorage):
    ask = a_put(cos, store)
    cos.objects.clear()

    status, _, content = cos.answer(replace(ask, body=b"the bytez"))
    assert (status, b"<Code>BadDigest</Code>" in content) == (400, True)
    assert not cos.objects


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")
def test_one_flipped_byte_of_a_look_up_is_refused():
    from fal_image.storage.cos_region import region_of
    from fal_image.tencent import keys_of

    tcb = fake_tcb.FakeTcb({"env-1": {"pictures-1250000000": "ap-shanghai"}})
    keys = keys_of(fake_cos.ENVIRON)
    assert keys
    with tcb.serving() as url:
        region_of("pictures-1250000000", keys, {"TCB_ENV": "env-1"}, api_url=url)
    (ask,) = tcb.asked

    assert b"Error" not in tcb.answer(ask)[2]
    for name in ("authorization", "host", "content-type", "x-tc-token"):
        for at in range(len(ask.headers[name])):
            changed = flipped(ask.headers[name], at)
            broken = replace(ask, headers={**ask.headers, name: changed})
            assert b"AuthFailure" in tcb.answer(broken)[2], changed
    assert b"AuthFailure" in tcb.answer(replace(ask, body=ask.body.replace(b"1", b"0")))[2]

"""What moto does not do: the form of a link, the headers of a put, conflicts, refusals."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import pytest

from fal_image import storage
from fal_image.errors import NotFound
from fal_image.storage.base import NotAllowed, ObjectStorage, StorageError
from support import sigv4
from support.storages import (
    AWS_ENVIRON,
    KEY,
    Answer,
    S3Rig,
    ScriptedS3,
    put,
    read,
    sha256,
    wall_clock,
)
from support.values import replace

CONFLICT = Answer(409, "ConditionalRequestConflict")
EXISTS = Answer(412, "PreconditionFailed")


def a_store(
    *, url: str = "s3://pictures/ai-images", region: str = "eu-central-1", endpoint: str = ""
) -> ObjectStorage:
    return storage.open_storage(
        storage.parse(url),
        secrets=(),
        public_url=None,
        environ={"AWS_REGION": region, "AWS_ENDPOINT_URL": endpoint},
        now=wall_clock,
    )


def link_of(store: ObjectStorage, ttl_s: int = 600) -> tuple[str, dict[str, str]]:
    """A link's address without its query, and its query."""
    url = urlsplit(store.link(KEY, ttl_s).url)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    return f"{url.scheme}://{url.netloc}{url.path}", query


def test_a_link_is_sigv4_on_the_regional_host_of_the_bucket():
    address, query = link_of(a_store())

    assert address == f"https://pictures.s3.eu-central-1.amazonaws.com/{KEY}"
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Credential"].endswith("/eu-central-1/s3/aws4_request")
    assert query["X-Amz-SignedHeaders"] == "host"  # nothing that a plain client would not send
    assert query["X-Amz-Expires"] == "600"
    assert len(query["X-Amz-Signature"]) == 64


def test_a_link_names_the_region_in_the_oldest_region_too():
    assert link_of(a_store(region="us-east-1"))[0].startswith(
        "https://pictures.s3.us-east-1.amazonaws.com/"
    )


def test_a_link_with_a_roles_credentials_carries_their_token():
    assert link_of(a_store())[1]["X-Amz-Security-Token"] == AWS_ENVIRON["AWS_SESSION_TOKEN"]


def test_a_link_is_never_signed_for_longer_than_an_hour():
    assert link_of(a_store(), ttl_s=700_000)[1]["X-Amz-Expires"] == "3600"


def test_a_link_ends_no_earlier_than_it_says():
    link = a_store().link(KEY, 600)
    signed_at = parse_qs(urlsplit(link.url).query)["X-Amz-Date"][0]
    signed = datetime.strptime(signed_at, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)

    assert link.expires_at is not None
    assert (link.expires_at - signed).total_seconds() <= 600


def test_an_upload_link_signs_length_type_and_that_nothing_stands_there():
    link = a_store().upload_link(KEY, content_type="image/png", bytes=5, ttl_s=60)
    query = parse_qs(urlsplit(link.url).query)

    assert query["X-Amz-SignedHeaders"] == ["content-length;content-type;host;if-none-match"]
    assert link.headers == {"content-type": "image/png", "if-none-match": "*"}
    assert not [name for name in query if "checksum" in name.lower()]  # of a body nobody knows


def test_a_flipped_byte_anywhere_in_a_link_is_refused(moto: str):
    rig = S3Rig(moto)
    link = rig.open().upload_link(KEY, content_type="image/png", bytes=5, ttl_s=60)
    start = link.url.index(KEY)

    for at in range(start, len(link.url), 7):
        flipped = "A" if link.url[at] != "A" else "B"
        bent = replace(link, url=link.url[:at] + flipped + link.url[at + 1 :])
        assert rig.send(bent, b"bytes") == 403, link.url[at - 5 : at + 5]
    assert rig.send(link, b"bytes") == 200


def test_a_link_that_has_ended_is_refused():
    link = a_store().link(KEY, 60)
    url = urlsplit(link.url)
    later = wall_clock() + timedelta(seconds=61)
    facts = ("GET", f"{url.path}?{url.query}", {"host": url.netloc})
    secret = AWS_ENVIRON["AWS_SECRET_ACCESS_KEY"]

    assert sigv4.refusal(*facts, secret=secret, now=wall_clock()) is None
    assert sigv4.refusal(*facts, secret=secret, now=later) == "AccessDenied"


def test_a_bucket_with_a_dot_is_in_the_path_where_the_certificate_fits():
    assert link_of(a_store(url="s3://my.pictures"))[0] == (
        f"https://s3.eu-central-1.amazonaws.com/my.pictures/{KEY}"
    )


def test_under_an_endpoint_with_a_path_everything_is_path_style():
    assert link_of(a_store(endpoint="http://127.0.0.1:9/gateway/s3/"))[0] == (
        f"http://127.0.0.1:9/gateway/s3/pictures/{KEY}"
    )


def test_the_endpoint_of_the_service_goes_before_the_general_one():
    store = storage.open_storage(
        storage.parse("s3://pictures"),
        secrets=(),
        public_url=None,
        environ={
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8",
        },
        now=wall_clock,
    )

    assert link_of(store)[0].startswith("http://127.0.0.1:8/")


def test_a_put_says_what_it_stores_and_creates_only():
    s3 = ScriptedS3([Answer()])
    with s3.serving() as url:
        put(a_store(endpoint=url), b"the bytes")

    (asked,) = s3.asked
    digest = base64.b64encode(hashlib.sha256(b"the bytes").digest()).decode()
    assert (asked.method, asked.path, asked.body) == ("PUT", f"/pictures/{KEY}", b"the bytes")
    assert asked.headers["if-none-match"] == "*"
    assert asked.headers["content-type"] == "image/png"
    assert asked.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert asked.headers["x-amz-checksum-sha256"] == digest
    assert asked.headers["x-amz-meta-sha256"] == sha256(b"the bytes")
    assert "x-amz-checksum-sha256" in asked.headers["authorization"]


def test_a_put_that_may_replace_is_unconditional():
    s3 = ScriptedS3([Answer()])
    with s3.serving() as url:
        put(a_store(endpoint=url), b"x", create_only=False)

    assert "if-none-match" not in s3.asked[0].headers


def test_a_conflict_is_tried_again_with_all_of_the_bytes():
    s3 = ScriptedS3([CONFLICT, CONFLICT, Answer()])
    with s3.serving() as url:
        stored = put(a_store(endpoint=url), b"the bytes")

    assert stored.created
    assert [asked.body for asked in s3.asked] == [b"the bytes"] * 3


def test_a_conflict_that_stays_is_given_up():
    s3 = ScriptedS3([CONFLICT] * 9)
    with s3.serving() as url, pytest.raises(StorageError, match="ConditionalRequestConflict"):
        put(a_store(endpoint=url), b"x")

    assert len(s3.asked) == 3


def test_an_object_that_vanishes_during_a_put_is_a_storage_error():
    s3 = ScriptedS3([EXISTS, Answer(404)])
    with s3.serving() as url, pytest.raises(StorageError, match="deleted during a put"):
        put(a_store(endpoint=url), b"x")


def test_a_refused_put_tells_the_owner_why():
    s3 = ScriptedS3([Answer(403, "AccessDenied")])
    with s3.serving() as url, pytest.raises(StorageError) as caught:
        put(a_store(endpoint=url), b"x")

    assert "HTTP 403 AccessDenied: as the script says" in str(caught.value)
    assert f"s3://pictures/{KEY}" in str(caught.value)


def test_a_refused_read_says_that_the_object_may_be_missing():
    s3 = ScriptedS3([Answer(403), Answer(403, "AccessDenied")])
    with s3.serving() as url:
        store = a_store(endpoint=url)
        with pytest.raises(StorageError, match="s3:ListBucket"):
            store.head(KEY)
        with pytest.raises(StorageError, match="s3:ListBucket"), store.open(KEY):
            pass


def test_a_delete_names_the_object_and_no_version():
    s3 = ScriptedS3([Answer(204)])
    with s3.serving() as url:
        a_store(endpoint=url).delete(KEY)

    (asked,) = s3.asked
    assert (asked.method, asked.path) == ("DELETE", f"/pictures/{KEY}")


def test_a_delete_is_done_when_a_server_says_that_nothing_is_there():
    s3 = ScriptedS3([Answer(404, "NoSuchKey"), Answer(404, "NoSuchBucket")])
    with s3.serving() as url:
        a_store(endpoint=url).delete(KEY)
        with pytest.raises(StorageError, match="DeleteObject of s3://.*NoSuchBucket"):
            a_store(endpoint=url).delete(KEY)


def test_a_delete_without_the_right_is_told_from_other_refusals():
    s3 = ScriptedS3([Answer(403, "AccessDenied"), Answer(403, "SignatureDoesNotMatch")])
    with s3.serving() as url:
        store = a_store(endpoint=url)
        with pytest.raises(NotAllowed, match="DeleteObject of s3://.*HTTP 403 AccessDenied"):
            store.delete(KEY)
        with pytest.raises(StorageError, match="SignatureDoesNotMatch") as refused:
            store.delete(KEY)
    assert not isinstance(refused.value, NotAllowed)


def test_a_delete_that_nobody_answers_is_a_storage_error(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StorageError, match="no AWS credentials"):
        a_store(endpoint="http://127.0.0.1:9").delete(KEY)


def test_a_missing_bucket_is_not_a_missing_object():
    s3 = ScriptedS3([Answer(404, "NoSuchBucket"), Answer(404, "NoSuchBucket")])
    with s3.serving() as url:
        store = a_store(endpoint=url)
        with pytest.raises(StorageError, match="NoSuchBucket"), store.open(KEY):
            pass
        with pytest.raises(StorageError, match="NoSuchBucket"):
            put(store, b"x")


def test_an_answer_that_is_cut_is_a_storage_error():
    s3 = ScriptedS3([Answer(missing_bytes=100)])
    with s3.serving() as url, pytest.raises(StorageError, match="GetObject"):
        read(a_store(endpoint=url))


def test_the_digest_of_what_somebody_else_put_is_that_of_s3():
    digest = hashlib.sha256(b"x")
    checksum = base64.b64encode(digest.digest()).decode()
    s3 = ScriptedS3([Answer(headers={"x-amz-checksum-sha256": checksum})])
    with s3.serving() as url:
        assert a_store(endpoint=url).head(KEY).sha256 == digest.hexdigest()

    assert s3.asked[0].headers["x-amz-checksum-mode"] == "ENABLED"


@pytest.mark.parametrize("headers", [{}, {"x-amz-checksum-sha256": "QUJD-2"}])
def test_an_object_without_a_digest_is_a_storage_error(headers: dict[str, str]):
    s3 = ScriptedS3([Answer(headers=headers)])
    with s3.serving() as url, pytest.raises(StorageError, match="no SHA-256"):
        a_store(endpoint=url).head(KEY)


def test_without_credentials_nothing_is_signed_or_put(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    store = a_store()

    with pytest.raises(StorageError, match="no AWS credentials"):
        store.link(KEY, 60)
    with pytest.raises(StorageError, match="no AWS credentials"):
        put(store, b"x")


def test_credentials_appear_in_no_error():
    s3 = ScriptedS3([Answer(403, "SignatureDoesNotMatch"), Answer(403)])
    told = []
    with s3.serving() as url:
        store = a_store(endpoint=url)
        for call in (lambda: put(store, b"x"), lambda: store.head(KEY)):
            with pytest.raises(StorageError) as caught:
                call()
            told += [str(caught.value), repr(caught.value), str(caught.value.__cause__)]

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert AWS_ENVIRON[name] not in "\n".join(told)


def test_two_buckets_of_one_server_do_not_meet(moto: str):
    first, second = S3Rig(moto).open(), S3Rig(moto).open()
    put(first, b"first")

    with pytest.raises(NotFound):
        second.head(KEY)
    with pytest.raises(NotFound):
        second.key(first.file_id(KEY))


@pytest.mark.parametrize(
    ("start", "headers", "holds"),
    [
        (0, {}, True),
        (0, {"x-amz-checksum-sha256": "QUJD-2"}, True),
        (0, {"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, False),
        (3, {"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, True),
    ],
)
def test_bytes_that_are_not_those_of_the_checksum_are_a_storage_error(
    start: int, headers: dict[str, str], holds: bool
):
    s3 = ScriptedS3([Answer(headers=headers, body=b"bytes")])
    with s3.serving() as url:
        if holds:
            assert read(a_store(endpoint=url), start=start) == b"bytes"
        else:
            with pytest.raises(StorageError, match="GetObject.*SHA-256"):
                read(a_store(endpoint=url), start=start)

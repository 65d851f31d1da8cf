"""Calls to a bucket: signed, asked again, followed to where the bucket is; and what it takes."""

from __future__ import annotations

import io
import os
import ssl
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.loaders
import botocore.session
import pytest
from botocore.config import Config
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from hypothesis import given
from hypothesis import strategies as st

from fal_image.errors import NotFound
from fal_image.storage.base import StorageError
from fal_image.storage.s3 import S3Storage
from fal_image.storage.s3_bucket import S3Bucket
from support import sigv4
from support.connects import watched
from support.front import certified
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

EXISTS = Answer(412, "PreconditionFailed")
HANGS_UP = Answer(0)
IN_IRELAND = {"x-amz-bucket-region": "eu-west-1"}


def a_store(url: str | None, naps: list[float], **environ: str) -> S3Storage:
    """It notes its pauses in place of making them."""
    return S3Storage(
        "pictures",
        prefix="ai-images",
        region="eu-central-1",
        endpoint_url=url,
        now=wall_clock,
        sleep=naps.append,
        environ={**AWS_ENVIRON, **environ},
    )


def test_every_call_is_signed_with_the_digest_of_what_it_carries():
    s3 = ScriptedS3([Answer(), Answer(headers={"x-amz-meta-sha256": "ab"}), Answer(), Answer(204)])
    with s3.serving() as url:
        store = a_store(url, [])
        put(store, b"the bytes")
        store.head(KEY)
        read(store, start=3)
        store.delete(KEY)

    assert [asked.method for asked in s3.asked] == ["PUT", "HEAD", "GET", "DELETE"]
    assert s3.asked[2].headers["range"] == "bytes=3-"
    for asked in s3.asked:
        assert (
            sigv4.call_refusal(
                asked.method,
                asked.path,
                asked.headers,
                asked.body,
                service="s3",
                secret=AWS_ENVIRON["AWS_SECRET_ACCESS_KEY"],
                now=wall_clock(),
            )
            is None
        )
        assert asked.headers["x-amz-security-token"] == AWS_ENVIRON["AWS_SESSION_TOKEN"]


@pytest.mark.parametrize(
    "passing", [Answer(500), Answer(503, "SlowDown"), Answer(400, "RequestTimeout"), HANGS_UP]
)
def test_what_passes_is_asked_again_with_all_of_the_bytes(passing: Answer):
    naps: list[float] = []
    s3 = ScriptedS3([passing, passing, Answer()])
    with s3.serving() as url:
        stored = put(a_store(url, naps), b"the bytes")

    assert stored.created
    assert [asked.body for asked in s3.asked] == [b"the bytes"] * 3
    assert len(naps) == 2
    assert naps[0] <= 0.5
    assert naps[1] <= 1


def test_what_does_not_pass_is_given_up_after_three_attempts():
    naps: list[float] = []
    s3 = ScriptedS3([Answer(503, "SlowDown")] * 9)
    with s3.serving() as url, pytest.raises(StorageError, match="HTTP 503 SlowDown"):
        read(a_store(url, naps))

    assert (len(s3.asked), len(naps)) == (3, 2)


def test_an_address_that_nothing_can_be_sent_to_is_tried_once():
    naps: list[float] = []
    with pytest.raises(StorageError, match="cannot be read"):
        read(a_store("http://127.0.0.1:port", naps))

    assert not naps


def test_an_object_whose_answer_was_lost_is_told_from_a_new_one():
    digest = sha256(b"the bytes")
    found = Answer(headers={"x-amz-meta-sha256": digest}, body=b"the bytes")
    s3 = ScriptedS3([HANGS_UP, EXISTS, found])
    with s3.serving() as url:
        stored = put(a_store(url, []), b"the bytes")

    assert (stored.created, stored.sha256, stored.bytes) == (False, digest, 9)


def test_the_keys_of_the_environment_are_read_at_each_call():
    s3 = ScriptedS3([Answer(204), Answer(204)])
    with s3.serving() as url:
        environ = dict(AWS_ENVIRON)
        bucket = S3Bucket("pictures", region="eu-central-1", endpoint_url=url, environ=environ)
        bucket.call("DELETE", KEY, {}).close()
        environ |= {"AWS_ACCESS_KEY_ID": "AKIANEXT", "AWS_SESSION_TOKEN": "next"}
        bucket.call("DELETE", KEY, {}).close()

    assert "Credential=AKIANEXT/" in s3.asked[1].headers["authorization"]
    assert s3.asked[1].headers["x-amz-security-token"] == "next"


def test_a_connection_carries_one_call_after_the_other():
    """moto is asked over HTTP/1.0: only a script keeps connections."""
    s3 = ScriptedS3([Answer(), Answer(404, "NoSuchKey"), Answer(body=b"bytes"), Answer(204)])
    with s3.serving() as url:
        store = a_store(url, [])
        put(store, b"x")
        with pytest.raises(NotFound):
            store.head(KEY)
        read(store)
        store.delete(KEY)

    assert len({asked.port for asked in s3.asked}) == 1


def test_a_connection_is_there_before_the_first_call():
    s3 = ScriptedS3([Answer(204)])
    with s3.serving() as url:
        store = a_store(url, [])
        with watched() as first:
            store.prepare()
        with watched() as later:
            store.prepare()
            store.delete(KEY)

    assert first
    assert not later


def test_preparing_tells_nothing_of_what_is_wrong():
    a_store("http://127.0.0.1:9", []).prepare()
    a_store(None, [], AWS_ACCESS_KEY_ID="").prepare()


@pytest.mark.parametrize(
    "answers",
    [
        [Answer(301, "PermanentRedirect", IN_IRELAND)],
        [Answer(307, "TemporaryRedirect", IN_IRELAND)],
        [Answer(400, "IllegalLocationConstraintException", IN_IRELAND)],
        [Answer(400, body=b"<Error><Code>AuthorizationHeaderMalformed</Code>"
                b"<Region>eu-west-1</Region></Error>")],
        [Answer(301, "PermanentRedirect"), Answer(403, headers=IN_IRELAND)],
        [HANGS_UP, HANGS_UP, HANGS_UP, Answer(200, headers=IN_IRELAND)],
    ],
)  # fmt: skip
def test_a_bucket_in_another_region_is_followed_there(answers: list[Answer]):
    s3 = ScriptedS3([*answers, Answer(), Answer(204)])
    with s3.serving() as url:
        store = a_store(url, [])
        assert put(store, b"the bytes").created
        store.delete(KEY)

    *_, first, second = s3.asked
    assert (first.method, first.body) == ("PUT", b"the bytes")
    assert "/eu-west-1/s3/aws4_request" in first.headers["authorization"]
    assert "/eu-west-1/s3/aws4_request" in second.headers["authorization"]
    assert len(s3.asked) == len(answers) + 2
    (credential,) = parse_qs(urlsplit(store.link(KEY, 60).url).query)["X-Amz-Credential"]
    assert credential.endswith("/eu-west-1/s3/aws4_request")


def test_a_bare_refusal_of_a_head_may_mean_another_region():
    s3 = ScriptedS3([Answer(400, headers=IN_IRELAND), Answer(404)])
    with s3.serving() as url, pytest.raises(NotFound):
        a_store(url, []).head(KEY)

    assert "/eu-west-1/" in s3.asked[1].headers["authorization"]


@pytest.mark.parametrize("region", ["eu-central-1", "", "evil.example.com/"])
def test_a_redirect_that_names_no_other_region_is_an_error(region: str):
    redirect = Answer(301, "PermanentRedirect", {"x-amz-bucket-region": region} if region else {})
    s3 = ScriptedS3([redirect, Answer(403)])
    with s3.serving() as url, pytest.raises(StorageError, match="HTTP 301 PermanentRedirect"):
        put(a_store(url, []), b"x")

    assert [asked.method for asked in s3.asked[1:]] == ([] if region else ["HEAD"])


def test_the_host_changes_with_the_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also: AWS's hosts are spoken to over TLS, by those that AWS_CA_BUNDLE names."""
    hosts = [f"pictures.s3.{region}.amazonaws.com" for region in ("eu-central-1", "eu-west-1")]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified(tmp_path, *hosts))
    s3 = ScriptedS3([Answer(301, "PermanentRedirect", IN_IRELAND), Answer()], tls=context)
    with s3.serving() as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        trusting = {"AWS_CA_BUNDLE": str(tmp_path / "authority.pem")}
        store = a_store(None, [], **trusting)
        assert put(store, b"the bytes").created
        with pytest.raises(StorageError, match="CERTIFICATE_VERIFY_FAILED|local issuer"):
            a_store(None, []).delete(KEY)

    assert [asked.headers["host"] for asked in s3.asked] == hosts
    assert store.link(KEY, 60).url.startswith(f"https://{hosts[1]}/{KEY}?")


def test_a_bucket_is_where_botocores_rules_say():
    loader = botocore.loaders.Loader()
    rules = loader.load_service_model("s3", "endpoint-rule-set-1")
    partitions = loader.load_data("partitions")
    provider = EndpointProvider(rules, partitions)
    regions = [name for one in partitions["partitions"] for name in one["regions"]]
    compared = 0
    for region, fips, dual, name in product(
        [region for region in regions if not region.endswith("-global")],
        [False, True],
        [False, True],
        ["pictures", "my.pictures"],
    ):
        try:
            there = provider.resolve_endpoint(
                Region=region,
                Bucket=name,
                UseFIPS=fips,
                UseDualStack=dual,
                Accelerate=False,
                ForcePathStyle=False,
                UseGlobalEndpoint=False,
                DisableMultiRegionAccessPoints=False,
                DisableAccessPoints=False,
                UseArnRegion=True,
            )
        except EndpointProviderError:
            continue
        bucket = S3Bucket(
            name,
            region=region,
            endpoint_url=None,
            environ={
                **AWS_ENVIRON,
                "AWS_USE_FIPS_ENDPOINT": str(fips).lower(),
                "AWS_USE_DUALSTACK_ENDPOINT": str(dual),
            },
        )
        assert bucket.link("GET", KEY, {}, 60).startswith(f"{there.url}/{KEY}?"), there.url
        compared += 1
    assert compared > 300


@cache
def botocores_client() -> Any:
    config = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret"}
    session = botocore.session.get_session()
    return session.create_client("s3", region_name="eu-west-1", config=config, **keys)


@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_key_is_encoded_as_botocore_does(key: str):
    """Once, and nothing in it is read as a path: keys of ours have no such letters."""
    ours = S3Bucket("pictures", region="eu-west-1", endpoint_url=None, environ=AWS_ENVIRON)
    theirs = botocores_client().generate_presigned_url(
        "get_object", {"Bucket": "pictures", "Key": key}
    )
    assert ours.link("GET", key, {}, 60).partition("?")[0] == theirs.partition("?")[0]


def test_neither_boto3_nor_botocore_is_needed_with_keys_in_the_environment(moto: str):
    rig = S3Rig(moto)
    program = """
import os, sys
sys.modules["boto3"] = sys.modules["botocore"] = None  # as if they were not installed
from support.storages import KEY, open_anywhere, put, read
from fal_image import storage

assert storage.missing(storage.parse(sys.argv[1]), os.environ) == []
store = open_anywhere(sys.argv[1], os.environ)
assert put(store, b"the bytes").created
assert read(store) == b"the bytes"
assert KEY in store.link(KEY, 60).url
"""
    run = subprocess.run(
        [sys.executable, "-c", program, rig.url],
        env={**rig.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert run.returncode == 0, run.stderr


def test_a_refusal_repeats_nothing_of_the_request():
    """A refused signature's body holds what was signed, the session token included."""
    token = AWS_ENVIRON["AWS_SESSION_TOKEN"]
    body = (
        "<Error><Code>SignatureDoesNotMatch</Code><Message>The request signature &lt;x&gt;\n"
        f"x-amz-security-token:{token}</Message><CanonicalRequest>{token}</CanonicalRequest>"
        "<StringToSign>a</StringToSign></Error>"
    )
    s3 = ScriptedS3([Answer(403, body=body.encode())])
    with s3.serving() as url, pytest.raises(StorageError) as caught:
        put(a_store(url, []), b"x")

    assert str(caught.value).endswith("HTTP 403 SignatureDoesNotMatch: The request signature <x>")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"\xff\xfe",
        b'<!DOCTYPE e [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Error><Code>&b;</Code></Error>',
        b"<Error>" + b"<Code>" * 100_000,
    ],
)
def test_a_refusal_that_says_nothing_is_told_by_its_status(body: bytes):
    s3 = ScriptedS3([Answer(403, body=body)])
    with s3.serving() as url, pytest.raises(StorageError, match="PutObject of .*: HTTP 403"):
        put(a_store(url, []), b"x")


def test_a_file_that_cannot_be_read_is_a_storage_error():
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the disk is gone")

    s3 = ScriptedS3([HANGS_UP] * 9)
    with s3.serving() as url, pytest.raises(StorageError, match="the disk is gone"):
        a_store(url, []).put(KEY, Broken(b"x"), content_type="image/png", sha256=sha256(b"x"))

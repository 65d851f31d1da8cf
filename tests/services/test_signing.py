"""AWS's signature, version 4, byte for byte: as AWS publishes it, and as botocore computes it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode
from hypothesis import given
from hypothesis import strategies as st

from fal_image.aws import Keys, signed_headers, signed_url
from support import sigv4

REGION = "eu-central-1"
SECRET = "wJalrXUtnFEMI/K7MDENG"
EMPTY = hashlib.sha256().hexdigest()

# AWS S3 API, "Signature Calculations for the Authorization Header" and "Using Query Parameters".
PUBLISHED = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
BUCKET = "https://examplebucket.s3.amazonaws.com"
MAY_24 = datetime(2013, 5, 24, tzinfo=timezone.utc)

tokens = pytest.mark.parametrize("token", [None, "the/session+token=="])
object_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def keys(token: str | None) -> Keys:
    return Keys("AKIDEXAMPLE", SECRET, token)


def credentials(token: str | None) -> Credentials:
    return Credentials("AKIDEXAMPLE", SECRET, token)


def when(stamp: str) -> datetime:
    """The moment that botocore signed at."""
    return datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%SZ%z")


@tokens
@pytest.mark.parametrize(
    "url",
    [
        "https://dynamodb.eu-central-1.amazonaws.com/",
        "http://127.0.0.1:4566/",
        "https://aws.example.com/under/a-path/",
        "https://AWS.example.com:443/",
        "http://[::1]:80/",
    ],
)
@given(content=st.binary(max_size=60), target=st.sampled_from(["DynamoDB_20120810.PutItem", "a.B"]))
def test_the_signature_of_a_service_is_botocores(
    url: str, token: str | None, content: bytes, target: str
):
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": target}
    request = AWSRequest("POST", url, data=content, headers=dict(headers))
    botocore.auth.SigV4Auth(credentials(token), "dynamodb", REGION).add_auth(request)
    ours = signed_headers(
        "POST",
        url,
        headers,
        keys(token),
        body_sha256=hashlib.sha256(content).hexdigest(),
        service="dynamodb",
        region=REGION,
        now=when(request.headers["X-Amz-Date"]),
    )
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours.get("x-amz-security-token") == request.headers.get("X-Amz-Security-Token")


@tokens
@pytest.mark.parametrize(
    "bucket",
    [
        "https://pictures.s3.eu-central-1.amazonaws.com",
        "http://127.0.0.1:9000/gateway/s3/pictures",
    ],
)
@given(key=object_keys, content=st.binary(max_size=60), meta=st.text("ab \t", max_size=9))
def test_the_signature_of_a_call_to_s3_is_botocores(
    bucket: str, token: str | None, key: str, content: bytes, meta: str
):
    url = f"{bucket}/{percent_encode(key, safe='/-._~')}"
    headers = {"content-type": "image/png", "if-none-match": "*", "x-amz-meta-a": meta}
    request = AWSRequest("PUT", url, data=content, headers=dict(headers))
    botocore.auth.S3SigV4Auth(credentials(token), "s3", REGION).add_auth(request)
    ours = signed_headers(
        "PUT",
        url,
        headers,
        keys(token),
        body_sha256=hashlib.sha256(content).hexdigest(),
        service="s3",
        region=REGION,
        now=when(request.headers["X-Amz-Date"]),
    )
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]


@tokens
@pytest.mark.parametrize("method", ["GET", "PUT"])
@given(key=object_keys, life_s=st.integers(1, 3600), bytes=st.integers(0, 10**9))
def test_a_link_is_botocores(method: str, token: str | None, key: str, life_s: int, bytes: int):
    url = f"https://pictures.s3.eu-central-1.amazonaws.com/{percent_encode(key, safe='/-._~')}"
    headers = {}
    if method == "PUT":
        headers = {"content-type": "image/png", "content-length": str(bytes), "if-none-match": "*"}
    request = AWSRequest(method, url, headers=dict(headers))
    judge = botocore.auth.S3SigV4QueryAuth(credentials(token), "s3", REGION, expires=life_s)
    judge.add_auth(request)
    signed_at = parse_qs(urlsplit(request.url).query)["X-Amz-Date"][0]
    ours = signed_url(
        method,
        url,
        headers,
        keys(token),
        life_s=life_s,
        service="s3",
        region=REGION,
        now=when(signed_at),
    )
    assert ours == request.url


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {"range": "bytes=0-9"},
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            {
                "date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            },
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
    ],
)
def test_calls_are_signed_as_aws_shows(
    method: str, path: str, headers: dict[str, str], body: bytes, signature: str
):
    signed = signed_headers(
        method,
        f"{BUCKET}{path}",
        headers,
        PUBLISHED,
        body_sha256=hashlib.sha256(body).hexdigest(),
        service="s3",
        region="us-east-1",
        now=MAY_24,
    )
    assert signed["authorization"].endswith(f"Signature={signature}")


def test_a_link_is_signed_as_aws_shows():
    url = signed_url(
        "GET",
        f"{BUCKET}/test.txt",
        {},
        PUBLISHED,
        life_s=86400,
        service="s3",
        region="us-east-1",
        now=MAY_24,
    )
    assert url == (
        f"{BUCKET}/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_a_flipped_byte_anywhere_in_a_signed_call_is_refused():
    url, body = "https://pictures.s3.eu-central-1.amazonaws.com/a/b.png", b"the bytes"
    headers = signed_headers(
        "PUT",
        url,
        {"content-type": "image/png", "if-none-match": "*"},
        keys("token"),
        body_sha256=hashlib.sha256(body).hexdigest(),
        service="s3",
        region=REGION,
        now=MAY_24,
    )

    def refusal(headers: dict[str, str], path: str = "/a/b.png", body: bytes = body) -> str | None:
        return sigv4.call_refusal(
            "PUT", path, headers, body, service="s3", secret=SECRET, now=MAY_24
        )

    assert refusal(headers) is None
    assert refusal(headers, path="/a/c.png")
    assert refusal(headers, body=b"The bytes")
    start = headers["authorization"].index("Signature=") + len("Signature=")
    for name, value in headers.items():
        for at in range(start if name == "authorization" else 0, len(value), 5):
            flipped = "a" if value[at] != "a" else "b"
            bent = value[:at] + flipped + value[at + 1 :]
            assert refusal(headers | {name: bent}), (name, bent)


def test_what_signs_shows_no_secret():
    assert SECRET not in repr(keys("canary"))
    assert "canary" not in repr(keys("canary"))

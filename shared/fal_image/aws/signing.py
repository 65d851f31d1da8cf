"""AWS's signature, version 4: in the headers of a call, or in the query of a link (AWS IAM guide,
"Create a signed AWS API request"; AWS S3 guide, "Authenticating requests").

A URL's path is signed as it stands: who makes the URL has encoded it, once. Refuses to send.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlsplit

from .credentials import Keys

_ALGORITHM = "AWS4-HMAC-SHA256"
_IMPLIED_PORTS = {"http": ":80", "https": ":443"}


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    keys: Keys,
    *,
    body_sha256: str,
    service: str,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """The headers of a call, all of them signed, with the signature. The names of `headers` are in
    lower case, `url` has no query."""
    at = _stamp(now)
    signed = {**headers, "host": _host(url), "x-amz-date": at}
    if service == "s3":
        signed["x-amz-content-sha256"] = body_sha256
    if keys.token:
        signed["x-amz-security-token"] = keys.token
    names = ";".join(sorted(signed))
    scope = _scope(at, region, service)
    request = _request(method, url, "", signed, body_sha256)
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, "
        f"Signature={_signature(request, at, scope, keys)}"
    )
    return signed


def signed_url(
    method: str,
    url: str,
    headers: Mapping[str, str],
    keys: Keys,
    *,
    life_s: int,
    service: str,
    region: str,
    now: datetime,
) -> str:
    """The URL with a signature that holds for `life_s` seconds, for any body; who uses it must send
    these headers. Names in lower case, no query, as above."""
    at = _stamp(now)
    signed = {**headers, "host": _host(url)}
    scope = _scope(at, region, service)
    query = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{keys.access_key}/{scope}",
        "X-Amz-Date": at,
        "X-Amz-Expires": str(life_s),
        "X-Amz-SignedHeaders": ";".join(sorted(signed)),
    }
    if keys.token:
        query["X-Amz-Security-Token"] = keys.token
    pairs = [f"{name}={quote(value, safe='')}" for name, value in query.items()]
    request = _request(method, url, "&".join(sorted(pairs)), signed, "UNSIGNED-PAYLOAD")
    signature = _signature(request, at, scope, keys)
    return f"{url}?{'&'.join(pairs)}&X-Amz-Signature={signature}"


def _request(
    method: str, url: str, query: str, headers: Mapping[str, str], body_sha256: str
) -> str:
    """What is signed of a request, in its canonical form."""
    lines = [f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers)]
    names = ";".join(sorted(headers))
    path = urlsplit(url).path or "/"
    return f"{method}\n{path}\n{query}\n{''.join(lines)}\n{names}\n{body_sha256}"


def _signature(request: str, at: str, scope: str, keys: Keys) -> str:
    text = f"{_ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _stamp(now: datetime) -> str:
    return now.strftime("%Y%m%dT%H%M%SZ")


def _scope(at: str, region: str, service: str) -> str:
    return f"{at[:8]}/{region}/{service}/aws4_request"


def _host(url: str) -> str:
    """As clients write it into the Host header: without the port that the scheme implies."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(_IMPLIED_PORTS[parts.scheme])

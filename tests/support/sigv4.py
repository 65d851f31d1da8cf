"""What AWS checks of a signature, version 4: of a link of S3 in its query (AWS S3 guide,
"Authenticating requests: using query parameters"), of a call in its header (IAM guide, "Create a
signed AWS API request").

Written from the guides, not from the SDK that signs. Knows one secret; does not look at the region
and at session tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, quote

ALGORITHM = "AWS4-HMAC-SHA256"
CLOCK_SKEW_S = 300

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=[^/\s]+/"
    r"(?P<scope>(?P<date>[0-9]{8})/[a-z0-9-]+/(?P<service>[a-z0-9]+)/aws4_request), "
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


def refusal(
    method: str, target: str, headers: Mapping[str, str], *, secret: str, now: datetime
) -> str | None:
    """S3's error code for a link that does not hold, None for one that does.

    `target` is path and query as they stand on the wire; names of `headers` are in lower case.
    """
    path, _, text = target.partition("?")
    query = dict(parse_qsl(text, keep_blank_values=True))
    try:
        offered, signed = query.pop("X-Amz-Signature"), query["X-Amz-SignedHeaders"].split(";")
        asked_at = datetime.strptime(f"{query['X-Amz-Date']}+0000", "%Y%m%dT%H%M%SZ%z")
        life = timedelta(seconds=int(query["X-Amz-Expires"]))
        scope = query["X-Amz-Credential"].split("/", 1)[1]
    except (KeyError, ValueError, IndexError):
        return "AuthorizationQueryParametersError"
    if query.get("X-Amz-Algorithm") != ALGORITHM or not 0 < life.total_seconds() <= 604_800:
        return "AuthorizationQueryParametersError"
    if now > asked_at + life or "host" not in signed:
        return "AccessDenied"
    lines = [method, path, _canonical(query)]
    lines += [f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed]
    lines += ["", ";".join(signed), "UNSIGNED-PAYLOAD"]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    wanted = _sign(f"{ALGORITHM}\n{query['X-Amz-Date']}\n{scope}\n{digest}", secret, scope)
    return None if hmac.compare_digest(wanted, offered) else "SignatureDoesNotMatch"


def call_refusal(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    service: str,
    secret: str,
    now: datetime,
) -> str | None:
    """A service's error code for a call whose header does not hold, None for one that does; of S3
    those are the words of the others too."""
    said = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if not said:
        return "MissingAuthenticationTokenException"
    names, stamp = said["names"].split(";"), headers.get("x-amz-date", "")
    payload = hashlib.sha256(body).hexdigest()
    must = {"host", "x-amz-date"} | {name for name in headers if name.startswith("x-amz-")}
    if said["service"] != service or not must <= set(names) or names != sorted(names):
        return "IncompleteSignatureException"
    try:
        asked_at = datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%SZ%z")
    except ValueError:
        return "IncompleteSignatureException"
    is_late = abs((now - asked_at).total_seconds()) > CLOCK_SKEW_S
    if is_late or not stamp.startswith(said["date"]):
        return "InvalidSignatureException"
    if service == "s3" and headers.get("x-amz-content-sha256") != payload:
        return "XAmzContentSHA256Mismatch"
    path, _, query = target.partition("?")
    lines = [method, path if service == "s3" else quote(path, "/-_.~")]
    lines += [_canonical(dict(parse_qsl(query, keep_blank_values=True)))]
    lines += [f"{name}:{' '.join(headers.get(name, '').split())}" for name in names]
    lines += ["", said["names"], payload]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    wanted = _sign(f"{ALGORITHM}\n{stamp}\n{said['scope']}\n{digest}", secret, said["scope"])
    holds = hmac.compare_digest(wanted, said["signature"])
    return None if holds else "InvalidSignatureException"


def _canonical(query: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, "-_.~"), quote(value, "-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _sign(text: str, secret: str, scope: str) -> str:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()

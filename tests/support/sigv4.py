"""What S3 checks of a link: AWS Signature Version 4 in the query (AWS S3 guide, "Authenticating
requests: using query parameters").

Written from the guide, not from the SDK that signs. Knows one secret; does not look at the region
and at session tokens.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, quote

ALGORITHM = "AWS4-HMAC-SHA256"


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


def _canonical(query: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, "-_.~"), quote(value, "-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _sign(text: str, secret: str, scope: str) -> str:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()

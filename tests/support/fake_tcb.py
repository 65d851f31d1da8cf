"""The one call of CloudBase's control plane that finds a bucket, DescribeEnvs.

It verifies the request as Tencent Cloud's API 3.0 does (docs, "Signature v3"): TC3-HMAC-SHA256
over body, host and content type, the time within five minutes of its clock, and the token of
temporary keys. Errors come inside a 200, as there. It knows nothing else of an environment.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timezone

from .fake_cos import Account, Answer, Ask, serving

_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 "
    r"Credential=(?P<id>[^/]+)/(?P<date>[^/]+)/(?P<service>[a-z]+)/tc3_request, "
    r"SignedHeaders=content-type;host, Signature=(?P<signature>[0-9a-f]{64})"
)


class Refused(Exception):
    """The code of an error."""


@dataclass
class FakeTcb:
    """`environments` maps an environment to its buckets, each with its region."""

    environments: Mapping[str, Mapping[str, str]]
    account: Account = field(default_factory=Account)
    clock: Callable[[], float] = time.time
    asked: list[Ask] = field(default_factory=list)

    def serving(self) -> AbstractContextManager[str]:
        """The API's address."""
        return serving(self.answer)

    def answer(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        return told(lambda: {"EnvList": self._found(ask)})

    def _found(self, ask: Ask) -> list[dict[str, object]]:
        verify(ask, self.account, self.clock(), service="tcb", version="2018-06-08")
        if ask.headers.get("x-tc-action") != "DescribeEnvs":
            raise Refused("InvalidAction")
        name = json.loads(ask.body)["EnvId"]
        buckets = self.environments.get(name, {}).items()
        storages = [{"Bucket": bucket, "Region": region} for bucket, region in buckets]
        return [{"EnvId": name, "Storages": storages}] if name in self.environments else []


def told(found: Callable[[], Mapping[str, object]]) -> Answer:
    """What was found, or the error that was raised, as API 3.0 words both."""
    try:
        said = dict(found())
    except Refused as refused:
        said = {"Error": {"Code": str(refused), "Message": "as the documentation says"}}
    content = json.dumps({"Response": {**said, "RequestId": "1"}}).encode()
    return 200, {"content-type": "application/json"}, content


def verify(ask: Ask, account: Account, now_s: float, *, service: str, version: str) -> None:
    """Raises Refused unless the account signed the request for this version of the service."""
    said = _AUTHORIZATION.fullmatch(ask.headers.get("authorization", ""))
    stamp = ask.headers.get("x-tc-timestamp", "")
    if not said or said["service"] != service or not stamp.isdigit():
        raise Refused("AuthFailure.InvalidAuthorization")
    if said["id"] != account.secret_id:
        raise Refused("AuthFailure.SecretIdNotFound")
    if ask.headers.get("x-tc-token", "") != account.token:
        raise Refused("AuthFailure.TokenFailure")
    date = datetime.fromtimestamp(int(stamp), timezone.utc).strftime("%Y-%m-%d")
    if abs(int(stamp) - now_s) > 300 or said["date"] != date:
        raise Refused("AuthFailure.SignatureExpire")
    wanted = _signature(ask, account.secret_key, stamp, f"{date}/{service}/tc3_request")
    if not hmac.compare_digest(wanted, said["signature"]):
        raise Refused("AuthFailure.SignatureFailure")
    if ask.headers.get("x-tc-version") != version:
        raise Refused("NoSuchVersion")
    if not ask.headers.get("x-tc-region"):
        raise Refused("MissingParameter")


def _signature(ask: Ask, secret_key: str, stamp: str, scope: str) -> str:
    headers = "".join(f"{name}:{ask.headers.get(name)}\n" for name in ("content-type", "host"))
    body = hashlib.sha256(ask.body).hexdigest()
    request = f"{ask.method}\n{ask.target}\n\n{headers}\ncontent-type;host\n{body}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"TC3{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"TC3-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    return hmac.digest(key, text.encode(), "sha256").hex()

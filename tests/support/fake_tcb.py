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
    r"TC3-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<date>[^/]+)/tcb/tc3_request, "
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
        try:
            said: dict[str, object] = {"EnvList": self._found(ask)}
        except Refused as refused:
            said = {"Error": {"Code": str(refused), "Message": "as the documentation says"}}
        content = json.dumps({"Response": {**said, "RequestId": "1"}}).encode()
        return 200, {"content-type": "application/json"}, content

    def _found(self, ask: Ask) -> list[dict[str, object]]:
        self._verify(ask)
        if ask.headers.get("x-tc-action") != "DescribeEnvs":
            raise Refused("InvalidAction")
        if ask.headers.get("x-tc-version") != "2018-06-08":
            raise Refused("NoSuchVersion")
        if not ask.headers.get("x-tc-region"):
            raise Refused("MissingParameter")
        name = json.loads(ask.body)["EnvId"]
        buckets = self.environments.get(name, {}).items()
        storages = [{"Bucket": bucket, "Region": region} for bucket, region in buckets]
        return [{"EnvId": name, "Storages": storages}] if name in self.environments else []

    def _verify(self, ask: Ask) -> None:
        said = _AUTHORIZATION.fullmatch(ask.headers.get("authorization", ""))
        stamp = ask.headers.get("x-tc-timestamp", "")
        if not said or not stamp.isdigit():
            raise Refused("AuthFailure.InvalidAuthorization")
        if said["id"] != self.account.secret_id:
            raise Refused("AuthFailure.SecretIdNotFound")
        if ask.headers.get("x-tc-token", "") != self.account.token:
            raise Refused("AuthFailure.TokenFailure")
        date = datetime.fromtimestamp(int(stamp), timezone.utc).strftime("%Y-%m-%d")
        if abs(int(stamp) - self.clock()) > 300 or said["date"] != date:
            raise Refused("AuthFailure.SignatureExpire")
        if not hmac.compare_digest(self._signature(ask, stamp, date), said["signature"]):
            raise Refused("AuthFailure.SignatureFailure")

    def _signature(self, ask: Ask, stamp: str, date: str) -> str:
        headers = "".join(f"{name}:{ask.headers.get(name)}\n" for name in ("content-type", "host"))
        body = hashlib.sha256(ask.body).hexdigest()
        request = f"{ask.method}\n{ask.target}\n\n{headers}\ncontent-type;host\n{body}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"TC3-HMAC-SHA256\n{stamp}\n{date}/tcb/tc3_request\n{digest}"
        key = f"TC3{self.account.secret_key}".encode()
        for part in (date, "tcb", "tc3_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()

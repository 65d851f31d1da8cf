"""AWS's services that take JSON: one signed call with a JSON answer.

What DynamoDB, SQS and Parameter Store need is one form of request, so the signature is 20 lines and
no SDK is loaded: building boto3's client takes longer than everything else before a function's
first submit (`scripts/bench --only cold`). The credentials in the environment are read at each
call; where there are none, botocore finds others. Refuses to know what is called.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.utils
import urllib3.exceptions
from msgspec import Struct

from .connections import Tls, cause, new_session

ATTEMPTS = 3
CONNECT_TIMEOUT_S = 2.0
IDLE_S = 20.0  # a call may be sent again, so an older connection that is dead costs an attempt
PAUSE_S = 0.5  # before the second attempt at random up to this, before the third up to twice it

# Where a region's hosts are: by IPv4 only, and by IPv6 too (botocore's endpoints.json, partitions).
_SUFFIX = ["amazonaws.com", "api.aws"]
_SUFFIXES = (
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
)

# AWS SDKs reference guide, "Retry behavior", standard mode: what may work a moment later.
_PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
_PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


class AwsError(Exception):
    """The call was refused, or no whole answer came. The message is for the owner's log.

    `code` is AWS's own word, "" when it said none; `status` is 0 when no answer came. `said` is the
    whole body of a refusal. `may_pass`: the same call could work a moment later. `asked_again`: an
    earlier attempt may have been carried out.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: str = "",
        status: int = 0,
        said: Mapping[str, Any] | None = None,
        may_pass: bool = False,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.status = status
        self.said = said or {}
        self.may_pass = may_pass or status in _PASSING_STATUS or code in _PASSING_CODES
        self.asked_again = False


@dataclass(frozen=True)
class Keys:
    """An access key pair; `token` belongs to a temporary one."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Protocol(Struct, frozen=True):
    """How a service takes calls: the first half of X-Amz-Target, and the version of its JSON."""

    service: str
    target: str
    json_version: str


class AwsService:
    """One service in one region. Safe to share between threads.

    A call is sent up to ATTEMPTS times when no answer comes, or one that says to try again: it must
    be one that may be carried out twice.
    """

    def __init__(
        self,
        protocol: Protocol,
        *,
        region: str,
        endpoint_url: str | None,
        read_timeout_s: float,
        sleep: Callable[[float], None] = time.sleep,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """No call is made yet. `endpoint_url` is another server that speaks the protocol."""
        self._url = f"{endpoint_url or f'https://{_host(protocol.service, region, environ)}'}/"
        self._protocol = protocol
        self._region = region
        self._environ = environ
        self._timeout_s = (CONNECT_TIMEOUT_S, read_timeout_s)
        self._sleep = sleep
        servers = [endpoint_url] if endpoint_url else []
        self._session = new_session(Tls, servers, time.monotonic, max_idle_s=IDLE_S)
        self._session.verify = environ.get("AWS_CA_BUNDLE") or self._session.verify
        self._found: Callable[[], Keys] | None = None

    def call(self, operation: str, body: Mapping[str, object]) -> dict[str, Any]:
        """The answer of one operation. Raises AwsError."""
        content = json.dumps(body, separators=(",", ":")).encode()
        keys = self._keys()
        may_be_done = False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(operation, content, keys)
            except AwsError as error:
                error.asked_again = may_be_done
                if attempt == ATTEMPTS or not error.may_pass:
                    raise
                may_be_done = True
                self._sleep(random.uniform(0, PAUSE_S * attempt))
        raise AssertionError("unreachable: the last attempt raises")

    def _once(self, operation: str, content: bytes, keys: Keys) -> dict[str, Any]:
        headers = {
            "content-type": f"application/x-amz-json-{self._protocol.json_version}",
            "x-amz-target": f"{self._protocol.target}.{operation}",
        }
        signed = signed_headers(
            self._url,
            headers,
            content,
            keys,
            service=self._protocol.service,
            region=self._region,
            now=datetime.now(timezone.utc),
        )
        try:
            answer = self._session.post(
                self._url,
                data=content,
                headers={**signed, "accept-encoding": "identity"},
                timeout=self._timeout_s,
                allow_redirects=False,
                proxies=requests.utils.get_environ_proxies(self._url),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise AwsError(cause(error), may_pass=True) from error
        return _read(answer)

    def _keys(self) -> Keys:
        own = _own_keys(self._environ)
        if own is not None:
            return own
        if self._found is None:
            self._found = _found_elsewhere()
        return self._found()


def signed_headers(
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    keys: Keys,
    *,
    service: str,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """The headers of a POST to a service's root, with its signature (AWS IAM guide, "Create a
    signed AWS API request", version 4). The names of `headers` are in lower case."""
    at = now.strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "host": urlsplit(url).netloc, "x-amz-date": at}
    if keys.token:
        signed["x-amz-security-token"] = keys.token
    names = ";".join(sorted(signed))
    lines = [f"{name}:{signed[name]}\n" for name in sorted(signed)]
    path = urlsplit(url).path
    payload = hashlib.sha256(content).hexdigest()
    request = f"POST\n{path}\n\n{''.join(lines)}\n{names}\n{payload}"
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={keys.access_key}/{scope}"
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    )
    return signed


def _read(answer: requests.Response) -> dict[str, Any]:
    told = answer.headers.get("x-amz-crc32", "")
    if told.isdigit() and int(told) != zlib.crc32(answer.content):
        raise AwsError("the answer is not what its checksum says", may_pass=True)
    try:
        said = json.loads(answer.content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        status = answer.status_code
        raise AwsError(f"HTTP {status}: no JSON object", status=status, may_pass=status == 200)
    if answer.status_code == 200:
        return said
    code = str(said.get("__type", "")).rpartition("#")[2]
    # After its first line a refused signature's message repeats the session token.
    message = str(said.get("message") or said.get("Message") or "").partition("\n")[0]
    reason = f"HTTP {answer.status_code} {code}: {message}"
    raise AwsError(reason, code=code, status=answer.status_code, said=said)


def _own_keys(environ: Mapping[str, str]) -> Keys | None:
    access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not access or not secret:
        return None
    return Keys(access, secret, environ.get("AWS_SESSION_TOKEN"))


def _host(service: str, region: str, environ: Mapping[str, str]) -> str:
    """The service's host, with FIPS and dual-stack as every AWS SDK reads them (AWS SDKs reference
    guide, "Dual-stack and FIPS endpoints")."""
    suffix, dual_suffix = next(
        (suffixes for start, *suffixes in _SUFFIXES if region.startswith(start)), _SUFFIX
    )
    if environ.get("AWS_USE_DUALSTACK_ENDPOINT", "").lower() == "true":
        suffix = dual_suffix
    elif region.startswith("us-gov-") and service != "dynamodb":
        return f"{service}.{region}.{suffix}"  # which is FIPS by itself
    is_fips = environ.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true"
    return f"{service}{'-fips' if is_fips else ''}.{region}.{suffix}"


def _found_elsewhere() -> Callable[[], Keys]:
    """What botocore finds in profiles, containers and instances, renewed when it ends."""
    try:
        import botocore.session
    except ImportError:
        raise AwsError("there are no AWS credentials in the environment, and no botocore") from None
    with _finding():
        found = botocore.session.get_session().get_credentials()
    if found is None:
        raise AwsError("there are no AWS credentials: neither in the environment nor elsewhere")

    def current() -> Keys:
        with _finding():
            keys = found.get_frozen_credentials()
        return Keys(keys.access_key, keys.secret_key, keys.token)

    return current


@contextmanager
def _finding() -> Iterator[None]:
    """Whatever keeps botocore from credentials is an AwsError: it raises STS's refusals, a file
    that is not there and more as they come."""
    from botocore.exceptions import ConnectionError, HTTPClientError

    try:
        yield
    except Exception as error:
        # After its first line a refused signature's message repeats the session token, and a
        # traceback would repeat the message.
        words = str(error).partition("\n")[0]
        may_pass = isinstance(error, (ConnectionError, HTTPClientError))
        reason = f"no AWS credentials: {type(error).__name__}: {words}"
        raise AwsError(reason, may_pass=may_pass) from None

"""One bucket of S3, or of a server that speaks S3: signed calls to its objects, and signed links.

Follows the bucket to its region when it is in another one than was said. Refuses to know what
stands under a key, and what a refusal means to who asked.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime, timezone
from typing import BinaryIO
from urllib.parse import quote

from ..aws import (
    AwsError,
    Calls,
    Credentials,
    Keys,
    Reply,
    persist,
    s3_host,
    signed_headers,
    signed_url,
)
from ..vendors import REGION

READ_TIMEOUT_S = 20.0
_REFUSAL_BYTES = 64 * 1024
_NOTHING = hashlib.sha256().hexdigest()

# AWS S3 API, "List of error codes": what says that a bucket is in another region.
_ELSEWHERE = frozenset({"PermanentRedirect", "IllegalLocationConstraintException"})
_REDIRECTS = frozenset({301, 302, 307})


class S3Bucket:
    """Safe to share between threads.

    A call is sent up to three times when no answer comes, or one that says to try again, and once
    more where the bucket turns out to be in another region; that is remembered, for links too.
    """

    def __init__(
        self,
        name: str,
        *,
        region: str,
        endpoint_url: str | None,
        sleep: Callable[[float], None] = time.sleep,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """No call is made yet. Under `endpoint_url`, which may carry a path, the bucket is too."""
        self._name = name
        self._region = region
        self._endpoint_url = endpoint_url
        self._sleep = sleep
        self._environ = environ
        self._credentials = Credentials(environ)
        self._calls = Calls(endpoint_url, read_timeout_s=READ_TIMEOUT_S, environ=environ)

    def call(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        *,
        file: BinaryIO | None = None,
        sha256: str = _NOTHING,
    ) -> Reply:
        """The answer of S3 to a request that it carries out, still open. `sha256` is that of the
        file, and S3 refuses other bytes. Raises AwsError; what a refusal says of the bucket's
        region is `said["Region"]`."""
        keys, region = self._credentials.current(), self._region

        def once() -> Reply:
            return self._once(method, key, headers, keys, file, sha256)

        try:
            return persist(once, self._sleep)
        except AwsError as error:
            # S3 may refuse a body in its middle, by an end of the connection that tells no reason.
            is_lost = file is not None and error.status == 0
            may_be_elsewhere = is_lost or _is_elsewhere(error, method)
            if not (may_be_elsewhere and self._follow(error, keys, region)):
                raise
        return persist(once, self._sleep)

    def link(self, method: str, key: str, headers: Mapping[str, str], life_s: int) -> str:
        """The address of one call with these headers that needs no further credentials, for
        `life_s` seconds from now. Raises AwsError without credentials."""
        region = self._region
        return signed_url(
            method,
            self._url(key, region),
            headers,
            self._credentials.current(),
            life_s=life_s,
            service="s3",
            region=region,
            now=datetime.now(timezone.utc),
        )

    def prepare(self) -> None:
        """Find credentials and open a connection, for the next call. Raises AwsError."""
        self._credentials.current()
        self._calls.connect(self._url("", self._region))

    def _url(self, key: str, region: str) -> str:
        path = quote(key, safe="/")
        if self._endpoint_url:
            return f"{self._endpoint_url}/{self._name}/{path}"
        host = s3_host(region, self._environ)
        # A dot in the name does not fit the certificate of bucket.s3.region.amazonaws.com
        # (AWS S3 guide, "Virtual hosting of general purpose buckets").
        if "." in self._name:
            return f"https://{host}/{self._name}/{path}"
        return f"https://{self._name}.{host}/{path}"

    def _once(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        keys: Keys,
        file: BinaryIO | None,
        sha256: str,
    ) -> Reply:
        region = self._region  # read once: another call may just be finding out a better one
        url = self._url(key, region)
        signed = signed_headers(
            method,
            url,
            headers,
            keys,
            body_sha256=sha256,
            service="s3",
            region=region,
            now=datetime.now(timezone.utc),
        )
        reply = self._calls.send(method, url, signed, file)
        if reply.status < 300:
            return reply
        with closing(reply):
            raise _refusal(reply)

    def _follow(self, error: AwsError, keys: Keys, asked_in: str) -> bool:
        """Whether the bucket is in another region than it was asked in; it is from now on."""
        region = error.said.get("Region") or self._asked_region(keys)
        if region == asked_in or not REGION.fullmatch(region):
            return False
        self._region = region
        return True

    def _asked_region(self, keys: Keys) -> str:
        """What S3 says of the bucket's region to whoever asks, "" for nothing (HeadBucket)."""
        try:
            with closing(self._once("HEAD", "", {}, keys, None, _NOTHING)) as reply:
                return reply.headers.get("x-amz-bucket-region") or ""
        except AwsError as error:
            return str(error.said.get("Region", ""))


def _is_elsewhere(error: AwsError, method: str) -> bool:
    """Whether it may be another region that refuses. Of a HEAD only the status is told, and a
    signature for the wrong region is 400."""
    is_other_scope = error.code == "AuthorizationHeaderMalformed" and "Region" in error.said
    is_bare = method == "HEAD" and error.status == 400
    return error.status in _REDIRECTS or error.code in _ELSEWHERE or is_other_scope or is_bare


def _refusal(reply: Reply) -> AwsError:
    """S3's error without what it repeats of the request: of a refused signature that is every
    header, the session token among them."""
    text = reply.read(_REFUSAL_BYTES).decode("utf-8", "replace")
    code, message = _element("Code", text), _element("Message", text).partition("\n")[0]
    region = reply.headers.get("x-amz-bucket-region") or _element("Region", text)
    reason = f"HTTP {reply.status} {code}".rstrip() + (f": {message}" if message else "")
    said = {"Region": region} if region else {}
    return AwsError(reason, code=code, status=reply.status, said=said)


def _element(name: str, text: str) -> str:
    """The text of the first element of that name; there is nothing inside of those we read."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    if found is None:
        return ""
    import html  # of use for errors only

    return html.unescape(found[1]).strip()

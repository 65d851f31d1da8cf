"""CloudBase's HTTP gateway: where it is, who may call it, and one call with a JSON answer.

A call carries the environment's API key, or a token that Tencent Cloud keys were exchanged for.
The keys are those of the invocation that is running: they are read at each call and never kept,
but for the one pair the present token belongs to. Refuses to know what is called.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from .vendors import TENCENTS
from .wire import Wire, WireError

CALL_TIMEOUT_S = 15.0  # what CloudBase's own Node SDK waits
REFRESH_BEFORE_S = 60  # a token is not used in its last minute
MAX_ANSWER_BYTES = 16 * 1024 * 1024
TOKEN_PATH = "/auth/v1/token/clientCredential"

# Regions whose environments are behind the gateway in China; so is one that names no region
# (CloudBase Node SDK, the list of zones).
CHINA_REGIONS = frozenset(
    {
        "ap-beijing",
        "ap-chengdu",
        "ap-chongqing",
        "ap-guangzhou",
        "ap-hongkong",
        "ap-nanjing",
        "ap-shanghai",
        "ap-shanghai-fsi",
        "ap-shenzhen-fsi",
    }
)

Credentials = Callable[[], Mapping[str, str]]

NO_QUERY: Mapping[str, str] = MappingProxyType({})

# Two limits of requests are answered with 422 (CloudBase docs, NoSQL HTTP API, error codes).
_PASSING = {"SYS_ERR", "EXCEED_REQUEST_LIMIT", "EXCEED_CONCURRENT_REQUEST_LIMIT"}
_VISIBLE = re.compile(r"[!-~]+")
_SERVICE = "tcb"


class GatewayError(Exception):
    """The gateway refused or did not answer. The message is for the owner's log.

    `code` is CloudBase's own word, "" when it said none; `status` is 0 when no answer came.
    `may_pass` says that the same call could work a moment later.
    """

    def __init__(
        self, reason: str, *, code: str = "", status: int = 0, may_pass: bool = False
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.status = status
        self.may_pass = may_pass


@dataclass(frozen=True)
class Keys:
    """A Tencent Cloud key pair; `session_token` belongs to a temporary one."""

    secret_id: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class _Token:
    text: str = field(repr=False)
    keys: Keys
    ends_at: datetime


class Gateway:
    """Calls to one environment. Safe to share between threads."""

    def __init__(
        self,
        env_id: str,
        *,
        region: str | None,
        wire: Wire,
        credentials: Credentials,
        now: Callable[[], datetime],
    ) -> None:
        self._host = gateway_host(env_id, region)
        self._wire = wire
        self._credentials = credentials
        self._now = now
        self._token: _Token | None = None
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] = NO_QUERY,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Any:
        """Send `body` as JSON, None for nothing, and give the answer's. Raises GatewayError, also
        for a status that is not 2xx; what an answer with 200 says of its parts is the caller's to
        look at."""
        bearer = self._bearer()
        content = b"" if body is None else _json(body)
        try:
            return self._exchanged(method, path, f"Bearer {bearer}", content, query, timeout_s)
        except GatewayError as error:
            if error.status == 401:
                self._forget(bearer)
            raise

    def _bearer(self) -> str:
        variables = self._credentials()
        api_key = variables.get("CLOUDBASE_APIKEY", "").strip()
        if api_key:
            return _sendable("CLOUDBASE_APIKEY", api_key)
        keys = keys_of(variables)
        if keys is None:
            raise GatewayError(
                "no credentials for CloudBase: set CLOUDBASE_APIKEY, or TCB_SECRET_ID and "
                "TCB_SECRET_KEY"
            )
        with self._lock:  # pictures of one job arrive together and need one token
            token = self._token
            if token is None or token.keys != keys or self._now() >= token.ends_at:
                token = self._token = self._ask_for_token(keys)
            return token.text

    def _ask_for_token(self, keys: Keys) -> _Token:
        """A token for these keys (CloudBase HTTP API, "Get server token")."""
        asked_at, body = self._now(), _json({"grant_type": "client_credentials"})
        signed = tc3_authorization(keys, self._host, TOKEN_PATH, body, asked_at)
        answer = self._exchanged("POST", TOKEN_PATH, signed, body)
        text = answer.get("access_token") if isinstance(answer, dict) else None
        life_s = answer.get("expires_in") if isinstance(answer, dict) else None
        if not isinstance(text, str) or not isinstance(life_s, int):
            raise GatewayError(f"POST {TOKEN_PATH}: the answer holds no token")
        ends_at = asked_at + timedelta(seconds=life_s - REFRESH_BEFORE_S)
        return _Token(_sendable("the access token", text), keys, ends_at)

    def _forget(self, bearer: str) -> None:
        """Let the next call ask for a new token: this one is not accepted, or not any more."""
        with self._lock:
            if self._token is not None and self._token.text == bearer:
                self._token = None

    def _exchanged(
        self,
        method: str,
        path: str,
        authorization: str,
        body: bytes,
        query: Mapping[str, str] = NO_QUERY,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Any:
        """The JSON of one exchange with the gateway."""
        headers = {"accept": "application/json", "authorization": authorization}
        if body:
            headers["content-type"] = "application/json"
        asked = f"?{urlencode(query, quote_via=quote)}" if query else ""
        try:
            with self._wire.reach(
                method,
                f"https://{self._host}{path}{asked}",
                host=self._host,
                timeout_s=timeout_s,
                silence_s=timeout_s,
                headers=headers,
                body=body,
                max_bytes=MAX_ANSWER_BYTES,
            ) as reply:
                content = b"".join(reply.chunks)
        except WireError as error:
            raise GatewayError(f"{method} {path}: {error.reason}", may_pass=True) from error
        return _answer(reply.status, content, f"{method} {path}", authorization)


def gateway_host(env_id: str, region: str | None) -> str:
    """Environments outside China have a gateway of their own (CloudBase Node SDK)."""
    zone = "" if region is None or region in CHINA_REGIONS else "intl."
    return f"{env_id}.api.{zone}tcloudbasegateway.com"


def keys_of(variables: Mapping[str, str]) -> Keys | None:
    """The Tencent Cloud keys among an invocation's variables, None without a whole pair.

    The owner's own (TCB_SECRET_ID, TCB_SECRET_KEY) go before the temporary ones that SCF gives a
    function: those of an HTTP function may be dead, and nobody sets the others by accident.
    """
    own = _pair(variables, "TCB_SECRET_ID", "TCB_SECRET_KEY", None)
    return own or _pair(
        variables, "TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN"
    )


def _pair(
    variables: Mapping[str, str], id_name: str, key_name: str, token_name: str | None
) -> Keys | None:
    secret_id = variables.get(id_name, "").strip()
    secret_key = variables.get(key_name, "").strip()
    token = variables.get(token_name, "").strip() if token_name else ""
    return Keys(secret_id, secret_key, token) if secret_id and secret_key else None


def tc3_authorization(keys: Keys, host: str, path: str, body: bytes, now: datetime) -> str:
    """The Authorization of a POST of JSON, signed as Tencent Cloud's API 3.0 is (TC3-HMAC-SHA256).

    The time and a temporary pair's token stand at its end, as CloudBase's Node SDK puts them
    there. Raises GatewayError without Tencent's SDK, whose signing this is.
    """
    try:
        from tencentcloud.common.sign import Sign
    except ImportError as error:
        raise GatewayError(
            "keys are exchanged for a token with Tencent's SDK, which is not installed: "
            f"pip install {TENCENTS}, or set CLOUDBASE_APIKEY"
        ) from error
    timestamp = int(now.timestamp())
    date = now.astimezone(timezone.utc).strftime("%Y-%m-%d")
    headers = f"content-type:application/json\nhost:{host}\n"
    request = f"POST\n{path}\n\n{headers}\ncontent-type;host\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{date}/{_SERVICE}/tc3_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"TC3-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
    signature = Sign.sign_tc3(keys.secret_key, date, _SERVICE, text)
    credential = _sendable("the SecretId", keys.secret_id)
    parts = [
        f"TC3-HMAC-SHA256 Credential={credential}/{scope}",
        "SignedHeaders=content-type;host",
        f"Signature={signature}",
        f"Timestamp={timestamp}",
    ]
    if keys.session_token:
        parts.append(f"Token={_sendable('the session token', keys.session_token)}")
    return ", ".join(parts)


def _sendable(what: str, text: str) -> str:
    """The text itself. Raises GatewayError, without the text, for one that no header can hold."""
    if not _VISIBLE.fullmatch(text):
        raise GatewayError(f"{what} holds characters that no header can hold")
    return text


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _answer(status: int, content: bytes, asked: str, authorization: str) -> Any:
    """The JSON of an answer. Raises GatewayError for what is no JSON, or no success."""
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if 200 <= status < 300 and answer is not None:
        return answer
    problem = answer if isinstance(answer, dict) else {}
    code, message = str(problem.get("code", "")), str(problem.get("message", ""))[:300]
    for secret in re.findall(r"[^\s,=]{16,}", authorization):  # should the message repeat it
        message = message.replace(secret, "[hidden]")
    raise GatewayError(
        f"{asked}: HTTP {status} {code} {message}".rstrip(),
        code=code,
        status=status,
        may_pass=status >= 500 or status == 429 or code in _PASSING,
    )

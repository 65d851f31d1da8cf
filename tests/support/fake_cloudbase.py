"""A CloudBase environment on this machine: its gateway, its bucket at COS and its CDN.

It checks what they check: the bearer token, or the TC3 signature of whoever asks for one; at COS
the q-signature over method, path and listed headers, its time, the security token, Content-MD5 and
x-cos-forbid-overwrite; at the CDN the signed query and its end. It has written all of that down
itself, from Tencent's documents, and shares no code with what it checks. All time is `now`.

It does not imitate: HTTPS, permissions and security rules, codes of refused tokens (which no
document names), a bucket everybody may read, whether an environment really hands `signedHeader` on
or signs as much as it does here, what `t` in a download URL means (here it is the link's end), the
CDN's cache, multipart uploads, lists, copies, and PG environments.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from support.listening import listening

MAX_ITEMS = 50
MAX_BODY_BYTES = 5 * 2**30
TOKEN_LIFE_S = 7200
DEFAULT_LINK_S = 600
CLOCK_SKEW_S = 300

COS_PARTS = {
    "q-ak",
    "q-header-list",
    "q-key-time",
    "q-sign-algorithm",
    "q-sign-time",
    "q-signature",
    "q-url-param-list",
}

_PIECE_BYTES = 64 * 1024
_KEY = re.compile(r"[^/\0-\x1f\x7f][^\0-\x1f\x7f]{0,849}")


@dataclass(frozen=True)
class Reply:
    """One answer; `missing_bytes` are promised and not sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    missing_bytes: int = 0


@dataclass(frozen=True)
class Asked:
    """One request as it arrived, header names in lower case."""

    method: str
    host: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Stored:
    content: bytes
    headers: Mapping[str, str]


@dataclass
class FakeCloudbase:
    """Serves `<url>/<host>/<path>` for its three hosts.

    `faults` are given instead of the next answers to requests of that name, one each: the last
    part of the gateway's path, or PUT, GET, HEAD for the others. `versioned` makes COS ignore
    x-cos-forbid-overwrite; `tells_missing` off has the gateway sign links to what is not there;
    `shows_metadata` off has the CDN keep it; `has_ranges` off has it send everything.
    """

    env_id: str = "env-1"
    region: str = "ap-shanghai"
    api_key: str = "canary-api-key-of-the-environment"
    keys: tuple[str, str, str] = ("AKIDCANARY", "canary-secret-key", "canary-session-token")
    zone: str = ""
    now: Callable[[], float] = time.time
    upload_life_s: int = 7200
    versioned: bool = False
    tells_missing: bool = True
    shows_metadata: bool = True
    has_ranges: bool = True
    faults: dict[str, list[Reply]] = field(default_factory=dict)
    objects: dict[str, Stored] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.bucket = f"{self.env_id[:2].encode().hex()}-{self.env_id}-1250000000"
        self.gateway_host = f"{self.env_id}.api.{self.zone}tcloudbasegateway.com"
        self.cos_host = f"{self.bucket}.cos.{self.region}.myqcloud.com"
        self.cdn_host = f"{self.bucket}.tcb.qcloud.la"
        self._cos_key = ("AKIDofthegateway", secrets.token_hex(16))
        self._cos_token = secrets.token_urlsafe(48)
        self._cdn_key = secrets.token_hex(16)
        self.tokens: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def detours(self) -> dict[str, str]:
        """What a Wire needs to find this server."""
        return dict.fromkeys((self.gateway_host, self.cos_host, self.cdn_host), self.url)

    def where(self, url: str) -> str:
        """Where this server answers for an address of one of its hosts."""
        return f"{self.url}/{url.removeprefix('https://')}"

    @property
    def start(self) -> str:
        return f"cloud://{self.env_id}.{self.bucket}/"

    def paths(self) -> list[str]:
        """What was asked, in order and without its host: the method and the end of the path."""
        return [f"{asked.method} {asked.path.rpartition('/')[2]}" for asked in self.asked]

    def answer(self, asked: Asked) -> Reply:
        """What the host that was asked answers."""
        self.asked.append(asked)
        name = asked.path.rpartition("/")[2] if asked.host == self.gateway_host else asked.method
        if self.faults.get(name):
            return self.faults[name].pop(0)
        if asked.host == self.gateway_host:
            return self._gateway(asked)
        if asked.host == self.cos_host and asked.method == "PUT":
            return self._cos_put(asked)
        if asked.host == self.cdn_host and asked.method in {"GET", "HEAD"}:
            return self._cdn_read(asked)
        return Reply(404)

    # The gateway

    def _gateway(self, asked: Asked) -> Reply:
        if asked.method != "POST":
            return _problem(404, "INVALID_PATH", "no such API")
        if asked.path == "/auth/v1/token/clientCredential":
            return self._new_token(asked)
        if refusal := self._bearer_refusal(asked):
            return refusal
        calls = {
            "/v1/storages/get-objects-upload-info": self._upload_info,
            "/v1/storages/get-objects-download-info": self._download_info,
            "/v1/storages/delete-objects": self._deleted,
        }
        if asked.path not in calls:
            return _problem(404, "INVALID_PATH", "no such API")
        try:
            items = asked.json()
        except ValueError:
            items = None
        if not isinstance(items, list) or not items:
            return _problem(400, "INVALID_PARAM", "a list of objects is wanted")
        if len(items) > MAX_ITEMS:
            return _problem(400, "OBJECT_BATCH_TOO_LARGE", f"at most {MAX_ITEMS} objects")
        return _json([calls[asked.path](item) for item in items])

    def _bearer_refusal(self, asked: Asked) -> Reply | None:
        """The answer to who shows neither the API key nor a token of today."""
        kind, _, bearer = asked.headers.get("authorization", "").partition(" ")
        known = bearer == self.api_key or self.tokens.get(bearer, 0) > self.now()
        if kind == "Bearer" and known:
            return None
        return _problem(401, "INVALID_CREDENTIALS", f"unknown token {bearer}")

    def _new_token(self, asked: Asked) -> Reply:
        if asked.json() != {"grant_type": "client_credentials"}:
            return _problem(400, "INVALID_PARAM", "grant_type")
        if why := self._tc3_refusal(asked):
            return _problem(401, "SIGN_PARAM_INVALID", why)
        token = f"ey.{secrets.token_urlsafe(24)}"
        self.tokens[token] = self.now() + TOKEN_LIFE_S
        answer = {"token_type": "Bearer", "access_token": token, "expires_in": TOKEN_LIFE_S}
        return _json(answer)

    def _tc3_refusal(self, asked: Asked) -> str | None:
        """Why the TC3 signature of a request is not good, None when it is.

        Tencent Cloud API docs, "Signature v3"; the time and the token follow the signature.
        """
        algorithm, _, rest = asked.headers.get("authorization", "").partition(" ")
        parts = dict(part.split("=", 1) for part in rest.split(", ") if "=" in part)
        if algorithm != "TC3-HMAC-SHA256" or not parts.get("Timestamp", "").isdigit():
            return "no TC3-HMAC-SHA256 signature with a Timestamp"
        secret_id, secret_key, session_token = self.keys
        timestamp = int(parts["Timestamp"])
        if abs(timestamp - self.now()) > CLOCK_SKEW_S:
            return "the time of the signature is over"
        if parts.get("Token", "") != session_token:
            return "the token is not that of the key"
        date = datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%d")
        scope = f"{date}/tcb/tc3_request"
        if parts.get("Credential") != f"{secret_id}/{scope}":
            return "the credential is not known"
        names = parts.get("SignedHeaders", "").split(";")
        if names != sorted(names) or not {"content-type", "host"} <= set(names):
            return "content-type and host are not signed, in order"
        values = {**asked.headers, "host": asked.host}
        canonical = "".join(f"{name}:{values.get(name, '').strip().lower()}\n" for name in names)
        hashed = hashlib.sha256(asked.body).hexdigest()
        request = f"POST\n{asked.path}\n{asked.query}\n{canonical}\n{';'.join(names)}\n{hashed}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        secret = ("TC3" + secret_key).encode()
        for step in (date, "tcb", "tc3_request"):
            secret = hmac.digest(secret, step.encode(), "sha256")
        text = f"TC3-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
        wanted = hmac.digest(secret, text.encode(), "sha256").hex()
        return None if parts.get("Signature") == wanted else "the signature does not match"

    def _upload_info(self, item: Any) -> dict[str, str]:
        key = item.get("objectId") if isinstance(item, dict) else None
        if not isinstance(key, str) or not _KEY.fullmatch(key) or "//" in key:
            return {"code": "INVALID_PARAM", "message": "Invalid request param."}
        signed = {name.lower(): values[0] for name, values in item.get("signedHeader", {}).items()}
        path = "/" + quote(key)
        return {
            "objectId": key,
            "uploadUrl": f"https://{self.cos_host}{path}",
            "authorization": self._cos_authorization(path, {"host": self.cos_host, **signed}),
            "token": self._cos_token,
            "cloudObjectMeta": self._meta(key),
            "downloadUrl": self._link(path, DEFAULT_LINK_S),
            "downloadUrlEncoded": quote(self._link(path, DEFAULT_LINK_S), safe=":/"),
            "cloudObjectId": self.start + key,
        }

    def _download_info(self, item: Any) -> dict[str, str]:
        file_id = item.get("cloudObjectId") if isinstance(item, dict) else None
        max_age_s = item.get("maxAge", DEFAULT_LINK_S) if isinstance(item, dict) else None
        if not isinstance(file_id, str) or not isinstance(max_age_s, int) or max_age_s < 1:
            return {"code": "INVALID_PARAM", "message": "Invalid request param."}
        if not file_id.startswith(self.start):
            return {"code": "STORAGE_EXCEED_AUTHORITY", "message": "not of this environment"}
        key = file_id.removeprefix(self.start)
        stored = self.objects.get(key)
        known = stored is not None and stored.headers.get("x-cos-meta-fileid") == self._meta(key)
        if self.tells_missing and not known:
            return {"code": "OBJECT_NOT_EXIST", "message": "Object not exist."}
        url = self._link("/" + quote(key), max_age_s)
        encoded = quote(url, safe=":/")  # as in CloudBase's example: the "?" too
        return {"cloudObjectId": file_id, "downloadUrl": url, "downloadUrlEncoded": encoded}

    def _deleted(self, item: Any) -> dict[str, str]:
        file_id = item.get("cloudObjectId") if isinstance(item, dict) else None
        if not isinstance(file_id, str):
            return {"code": "INVALID_PARAM", "message": "Invalid request param."}
        if not file_id.startswith(self.start):
            return {"code": "STORAGE_EXCEED_AUTHORITY", "message": "not of this environment"}
        if self.objects.pop(file_id.removeprefix(self.start), None) is None:
            missing = {"code": "OBJECT_NOT_EXIST", "message": "Storage object not exists."}
            return {"cloudObjectId": file_id, **missing}
        return {"cloudObjectId": file_id}

    def _meta(self, key: str) -> str:
        """What an object must carry before there are links to it."""
        return hmac.digest(self._cdn_key.encode(), key.encode(), "sha256").hex()

    # COS

    def _cos_authorization(self, path: str, headers: Mapping[str, str]) -> str:
        began = int(self.now()) - 60
        times = f"{began};{began + 60 + self.upload_life_s}"
        return "&".join(
            (
                "q-sign-algorithm=sha1",
                f"q-ak={self._cos_key[0]}",
                f"q-sign-time={times}",
                f"q-key-time={times}",
                f"q-header-list={';'.join(sorted(headers))}",
                "q-url-param-list=",
                f"q-signature={self._cos_signature(path, headers, times, times)}",
            )
        )

    def _cos_signature(
        self, path: str, headers: Mapping[str, str], times: str, key_times: str
    ) -> str:
        """Of a PUT without a query: Tencent COS docs, "Request signature"."""
        pairs = "&".join(
            f"{quote(name, safe='')}={quote(headers.get(name, ''), safe='')}"
            for name in sorted(headers)
        )
        request = f"put\n{path}\n\n{pairs}\n"
        text = f"sha1\n{times}\n{hashlib.sha1(request.encode()).hexdigest()}\n"
        sign_key = hmac.digest(self._cos_key[1].encode(), key_times.encode(), "sha1").hex()
        return hmac.digest(sign_key.encode(), text.encode(), "sha1").hex()

    def _cos_put(self, asked: Asked) -> Reply:
        if why := self._cos_refusal(asked):
            return _cos_error(403, *why)
        if "content-length" not in asked.headers:
            return _cos_error(411, "MissingContentLength", "no Content-Length")
        if int(asked.headers["content-length"]) > MAX_BODY_BYTES:
            return _cos_error(400, "EntityTooLarge", "more than 5 GB")
        md5 = base64.b64encode(hashlib.md5(asked.body).digest()).decode()
        if asked.headers.get("content-md5", md5) != md5:
            return _cos_error(400, "InvalidDigest", "the Content-MD5 is not that of the body")
        kept = {
            name: value
            for name, value in asked.headers.items()
            if name == "content-type" or name.startswith("x-cos-meta-")
        }
        key = asked.path.removeprefix("/")
        with self._lock:
            forbids = asked.headers.get("x-cos-forbid-overwrite") == "true"
            if forbids and not self.versioned and key in self.objects:
                return _cos_error(409, "FileAlreadyExists", "The target file already exists")
            self.objects[key] = Stored(asked.body, kept)
        return Reply(200, {"etag": f'"{hashlib.md5(asked.body).hexdigest()}"'})

    def _cos_refusal(self, asked: Asked) -> tuple[str, str] | None:
        """The code and words for a signature that is not good, None when it is."""
        offered = _query(asked.headers.get("authorization", ""))
        parts = {name: values[0] for name, values in offered.items()}
        times = parts.get("q-sign-time", "")
        began, _, ends = times.partition(";")
        if set(parts) != COS_PARTS or parts["q-sign-algorithm"] != "sha1":
            return "AccessDenied", "no signature"
        if not began.isdigit() or not ends.isdigit() or parts["q-url-param-list"]:
            return "AccessDenied", "no signature of a request without a query"
        if parts["q-ak"] != self._cos_key[0]:
            return "InvalidAccessKeyId", "the key is not known"
        if asked.headers.get("x-cos-security-token") != self._cos_token:
            return "InvalidSecurityToken", "the token is not that of the key"
        if not int(began) <= self.now() < int(ends):
            return "AccessDenied", "Request has expired"
        values = {**asked.headers, "host": asked.host}
        names = parts["q-header-list"].split(";")
        signed = {name: values.get(name, "") for name in names}
        wanted = self._cos_signature(asked.path, signed, times, parts["q-key-time"])
        if parts["q-signature"] != wanted:
            return "SignatureDoesNotMatch", "the signature is not that of the request"
        return None

    # The CDN

    def _link(self, path: str, life_s: int) -> str:
        ends = int(self.now()) + life_s
        return f"https://{self.cdn_host}{path}?sign={self._cdn_sign(path, ends)}&t={ends}"

    def _cdn_sign(self, path: str, ends: int) -> str:
        return hashlib.md5(f"{self._cdn_key}{path}{ends}".encode()).hexdigest()

    def _cdn_read(self, asked: Asked) -> Reply:
        query = {name: values[0] for name, values in _query(asked.query).items()}
        ends = int(query["t"]) if query.get("t", "").isdigit() else 0
        if query.get("sign") != self._cdn_sign(asked.path, ends) or ends <= self.now():
            return Reply(403)
        stored = self.objects.get(asked.path.removeprefix("/"))
        if stored is None:
            return Reply(404, {"content-type": "application/xml"})
        headers = {
            name: value
            for name, value in stored.headers.items()
            if self.shows_metadata or not name.startswith("x-cos-meta-")
        }
        wanted = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
        if not wanted or not self.has_ranges:
            return Reply(200, headers, stored.content)
        start, size = int(wanted[1]), len(stored.content)
        if start >= size:
            return Reply(416, {"content-range": f"bytes */{size}"})
        headers["content-range"] = f"bytes {start}-{size - 1}/{size}"
        return Reply(206, headers, stored.content[start:])

    @contextmanager
    def serving(self) -> Iterator[FakeCloudbase]:
        """Listen on a free loopback port; `url` is then its address."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every answer's body waits for an ACK of its head

            def do_PUT(self) -> None:
                host, _, rest = self.path.lstrip("/").partition("/")
                target = urlsplit("/" + rest)
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = fake.answer(
                    Asked(self.command, host, target.path, target.query, headers, body)
                )
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body) + reply.missing_bytes))
                self.end_headers()
                self.close_connection = bool(reply.missing_bytes)
                if self.command != "HEAD":
                    for start in range(0, len(reply.body), _PIECE_BYTES):
                        self.wfile.write(reply.body[start : start + _PIECE_BYTES])

            do_GET = do_HEAD = do_PATCH = do_POST = do_PUT

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests look at `asked`."""

        with listening(Handler) as self.url:
            yield self


def item_error(code: str, message: str = "as the test says") -> Reply:
    """An error about the one object of a call, inside a 200."""
    return _json([{"code": code, "message": message}])


def cos_error(status: int, code: str) -> Reply:
    return _cos_error(status, code, "as the test says")


def problem(status: int, code: str) -> Reply:
    return _problem(status, code, "as the test says")


def _json(value: object, status: int = 200) -> Reply:
    return Reply(status, {"content-type": "application/json"}, json.dumps(value).encode())


def _problem(status: int, code: str, message: str) -> Reply:
    return _json({"code": code, "message": message, "requestId": "r-1"}, status)


def _cos_error(status: int, code: str, message: str) -> Reply:
    xml = f"<?xml version='1.0' ?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, {"content-type": "application/xml"}, xml.encode())


def _query(text: str) -> dict[str, list[str]]:
    return parse_qs(text, keep_blank_values=True)

"""A COS that believes nobody: one bucket on a loopback port, from what COS documents.

It verifies what COS verifies (COS docs, "Request Signature", "PUT Object", "GET Object", "Error
Codes"): the signature, in the header or in the query, over method, path, and the headers and
parameters it lists; the times it is good for, by a clock that a test may move; the token of
temporary keys; `x-cos-forbid-overwrite` (ignored once `versioned`), Content-MD5, Content-Length
and Range. As COS does, it quotes all that was signed when a signature is wrong.

It does not imitate: the bucket's own host name (it stands under a domain of the bucket, and its
port is no part of the name), permissions, ACLs, versions themselves, multipart and chunked
uploads, CORS, rate limits, CRC-64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from support.listening import listening
from support.values import replace

ENVIRON = {
    "TENCENTCLOUD_SECRETID": "AKIDcanarycanarycanary",
    "TENCENTCLOUD_SECRETKEY": "canary-secret-key",
    "TENCENTCLOUD_SESSIONTOKEN": "canary-session-token/+=",
}
SIGNATURE_FIELDS = {
    "q-sign-algorithm",
    "q-ak",
    "q-sign-time",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
    "q-signature",
}
REQUEST_ID = "NjQ0YWY5ZmNfOTBmYTUwNjRfNWFl"
_KEPT = re.compile(r"content-type|cache-control|x-cos-meta-.*")


class Refused(Exception):
    """What COS answers instead: HTTP status, code, message, and whatever it adds to them."""

    def __init__(self, status: int, code: str, message: str = "", **extra: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message or f"The request was answered with {code}."
        self.extra = extra


@dataclass(frozen=True)
class Ask:
    """One request as it came; header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def signed(self) -> dict[str, str]:
        """The fields of its signature, wherever they stand."""
        said = self.headers.get("authorization")
        if said is None:
            return {name: value for name, value in self.query.items() if name.startswith("q-")}
        return {name: value for name, _, value in (part.partition("=") for part in said.split("&"))}


@dataclass(frozen=True)
class Account:
    secret_id: str = ENVIRON["TENCENTCLOUD_SECRETID"]
    secret_key: str = field(default=ENVIRON["TENCENTCLOUD_SECRETKEY"], repr=False)
    token: str = field(default=ENVIRON["TENCENTCLOUD_SESSIONTOKEN"], repr=False)

    def verify(self, ask: Ask, now_s: float) -> None:
        """Raises Refused unless this account signed the request and the signature is good now."""
        said = ask.signed
        if not said:
            raise Refused(403, "AccessDenied", "Anonymous access is denied.")
        if set(said) != SIGNATURE_FIELDS or said["q-sign-algorithm"] != "sha1":
            raise Refused(403, "AccessDenied", "The signature is not one of sha1 in seven fields.")
        if said["q-ak"] != self.secret_id or self._token_of(ask) != self.token:
            raise Refused(403, "InvalidAccessKeyId", "There are no such keys, or no such token.")
        for name in ("q-sign-time", "q-key-time"):
            _check_time(said[name], now_s)
        text = _http_text(ask, said)
        digest = hashlib.sha1(text.encode()).hexdigest()
        to_sign = f"sha1\n{said['q-sign-time']}\n{digest}\n"
        key = _hmac(self.secret_key, said["q-key-time"])
        if not hmac.compare_digest(_hmac(key, to_sign), said["q-signature"]):
            raise Refused(
                403,
                "SignatureDoesNotMatch",
                "The signature is not that of the request.",
                StringToSign=to_sign,
                FormatString=text,
            )

    def _token_of(self, ask: Ask) -> str:
        name = "x-cos-security-token"
        return ask.headers.get(name) or ask.query.get(name, "")


def _check_time(window: str, now_s: float) -> None:
    found = re.fullmatch(r"(\d+);(\d+)", window)
    if not found or not int(found[1]) <= now_s < int(found[2]):
        raise Refused(403, "AccessDenied", "Request has expired.")


def _http_text(ask: Ask, said: Mapping[str, str]) -> str:
    """The request as it must have been signed: what the lists name, as it really came."""
    listed = []
    for list_name, there in (("q-url-param-list", ask.query), ("q-header-list", ask.headers)):
        found = {_encoded(name).lower(): _encoded(value) for name, value in there.items()}
        names = [name for name in said[list_name].split(";") if name]
        if names != sorted(names) or not set(names) <= set(found):
            raise Refused(403, "SignatureDoesNotMatch", f"The {list_name} names what is absent.")
        listed.append("&".join(f"{name}={found[name]}" for name in names))
    return "\n".join([ask.method.lower(), ask.path, *listed, ""])


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def _hmac(key: str, text: str) -> str:
    return hmac.digest(key.encode(), text.encode(), "sha1").hex()


@dataclass(frozen=True)
class Held:
    content: bytes
    headers: Mapping[str, str]


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class FakeCos:
    """The bucket and what it was asked; `clock` is its idea of the Unix time."""

    account: Account = field(default_factory=Account)
    clock: Callable[[], float] = time.time
    versioned: bool = False
    objects: dict[str, Held] = field(default_factory=dict)
    asked: list[Ask] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, ask: Ask) -> Answer:
        """What COS answers, and what it then keeps."""
        host = ask.headers.get("host", "").partition(":")[0]
        ask = replace(ask, headers={**ask.headers, "host": host})
        self.asked.append(ask)
        try:
            status, headers, content = self._done(ask)
        except Refused as refused:
            status, headers = refused.status, {"content-type": "application/xml"}
            content = b"" if ask.method == "HEAD" else _xml(ask, refused)
        return status, {**headers, "x-cos-request-id": REQUEST_ID}, content

    def _done(self, ask: Ask) -> Answer:
        self.account.verify(ask, self.clock())
        if ask.method == "PUT":
            return self._put(ask)
        if ask.method in {"GET", "HEAD"}:
            return self._get(ask)
        if ask.method == "DELETE":
            self.objects.pop(ask.path, None)
            return 204, {}, b""
        raise Refused(405, "MethodNotAllowed")

    def _put(self, ask: Ask) -> Answer:
        if "content-length" not in ask.headers:
            raise Refused(411, "MissingContentLength")
        if declared := ask.headers.get("content-md5"):
            if not re.fullmatch(r"[\w+/]{22}==", declared):
                raise Refused(400, "InvalidDigest")
            if base64.b64decode(declared) != hashlib.md5(ask.body).digest():
                raise Refused(400, "BadDigest")
        held = Held(ask.body, {name: ask.headers[name] for name in filter(_is_kept, ask.headers)})
        with self._lock:
            create_only = ask.headers.get("x-cos-forbid-overwrite") == "true"
            if create_only and not self.versioned and ask.path in self.objects:
                raise Refused(409, "FileAlreadyExists")
            self.objects[ask.path] = held
        return 200, {"etag": _etag(ask.body)}, b""

    def _get(self, ask: Ask) -> Answer:
        held = self.objects.get(ask.path)
        if held is None:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        headers = {"content-type": "application/octet-stream", **held.headers}
        headers |= {"etag": _etag(held.content), "accept-ranges": "bytes"}
        size = len(held.content)
        if not (found := re.fullmatch(r"bytes=(\d+)-(\d*)", ask.headers.get("range", ""))):
            return 200, headers, held.content
        first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
        if first > last:
            raise Refused(416, "InvalidRange")
        headers["content-range"] = f"bytes {first}-{last}/{size}"
        return 206, headers, held.content[first : last + 1]

    def serving(self) -> AbstractContextManager[str]:
        """The bucket's address."""
        return serving(self.answer)


@contextmanager
def serving(answer: Callable[[Ask], Answer]) -> Iterator[str]:
    """The address of a server that answers this way."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_PUT(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            size = int(headers.get("content-length", 0))
            body = self.rfile.read(size)
            if len(body) < size:  # the other side went away in the middle
                self.close_connection = True
                return
            status, more, content = answer(Ask(self.command, self.path, headers, body))
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else content)

        do_DELETE = do_GET = do_HEAD = do_POST = do_PUT

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the tests look at what was asked."""

    with listening(Handler) as url:
        yield url


def _is_kept(name: str) -> bool:
    return _KEPT.fullmatch(name) is not None


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _xml(ask: Ask, refused: Refused) -> bytes:
    said = {"Code": refused.code, "Message": refused.message, **refused.extra}
    said |= {"Resource": ask.path, "RequestId": REQUEST_ID, "TraceId": "OGVmYzZi"}
    inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in said.items())
    return f"<?xml version='1.0' encoding='utf-8' ?>\n<Error>{inside}</Error>".encode()

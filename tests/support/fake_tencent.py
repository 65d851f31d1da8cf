"""As much of Tencent Cloud as a deploy by the CloudBase CLI asks for: one environment, functions,
their triggers, the routes to them, and the bucket that packages are sent through.

Shapes: Tencent Cloud API 3.0 of scf (2018-04-16) and tcb (2018-06-08), COS multipart uploads.
Signatures are not looked at.
"""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

APP_ID = "1250000000"
UPLOAD = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
SIGN = "q-sign-algorithm=sha1&q-ak=a&q-sign-time=1;2&q-key-time=1;2&q-header-list="


class FakeTencent:
    """What an account holds: each call of the API in `calls`, the last package in `package`."""

    def __init__(self, env_id: str, port: int) -> None:
        self.env_id, self.port = env_id, port
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.functions: dict[str, dict[str, Any]] = {}
        self.package: dict[str, int] = {}  # the mode of each file
        self.refuses: str | None = None  # an action that the account may not do

    def asked(self, action: str) -> list[dict[str, Any]]:
        return [body for name, body in self.calls if name == action]

    def answer(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((action, body))
        if action == self.refuses:
            return _error("UnauthorizedOperation", "you may not")
        if action == "DescribeEnvs":
            return {"EnvList": [self._environment()]}
        if action == "DescribeTcbAccountInfo":
            return {"CloudAppId": APP_ID}
        if action == "GetTempCosInfo":
            return {"Date": "2026-01-01", "Sign": f"{SIGN}&q-url-param-list=&q-signature=0"}
        if action == "CreateFunction":
            if body["FunctionName"] in self.functions:
                return _error("ResourceInUse.FunctionName", "the name is taken")
            self.functions[body["FunctionName"]] = body
        if action == "GetFunction":
            return {**self.functions[body["FunctionName"]], "Status": "Active"}
        return {}

    def _environment(self) -> dict[str, Any]:
        region = {"Region": "ap-shanghai"}
        return {
            "EnvId": self.env_id,
            **region,
            "Status": "NORMAL",
            "Functions": [{"Namespace": self.env_id, **region}],
            "Storages": [{"Bucket": f"bucket-{APP_ID}", "AppId": APP_ID, **region}],
            "LogServices": [{"LogsetId": "logset", "TopicId": "topic", **region}],
        }

    def keep(self, content: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            self.package = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in entries}


def _error(code: str, message: str) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": message}}


@contextmanager
def fake_tencent(env_id: str) -> Iterator[FakeTencent]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            action = self.headers.get("x-tc-action")
            if action:
                answer = cloud.answer(action, json.loads(body))
                content = json.dumps({"Response": {**answer, "RequestId": "asked"}}).encode()
                self._send(content, "application/json")
            elif self.headers["x-meant-for"].endswith(".myqcloud.com"):
                if body.startswith(b"PK"):
                    cloud.keep(body)
                self._send(UPLOAD, "application/xml")
            else:  # how the CLI is used is counted by its makers; here it is not
                self._send(b"{}", "application/json")

        do_GET = do_PUT = do_POST

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            for name, value in {"content-type": kind, "etag": '"0"'}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        cloud = FakeTencent(env_id, server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield cloud
        finally:
            server.shutdown()
            thread.join()

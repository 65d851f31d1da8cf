"""The real entrypoints, loaded as a cloud loads them: the environment first, then the import."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fal_image.dev import platforms
from fal_image.web import Headers, Platform, Request, Response

ROOT = Path(__file__).parents[2]
KEY = "k-0123456789abcdef"
KEY_SHA256 = hashlib.sha256(KEY.encode()).hexdigest()
NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
FAL_KEY = "canary0id:canary0secret"


def load(cloud: str) -> Callable[[object, object], dict[str, Any]]:
    """`functions/<cloud>/handler.main` of a fresh import, under today's os.environ."""
    path = ROOT / "functions" / cloud / "handler.py"
    spec = importlib.util.spec_from_file_location(f"fresh_{cloud}_handler", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main  # type: ignore[no-any-return]


def request(
    method: str = "POST",
    path: str = "/",
    body: object = None,
    *,
    raw: bytes | None = None,
    query: tuple[tuple[str, str], ...] = (),
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
) -> Request:
    pairs = {"content-type": "application/json"} | dict(headers or {})
    if key is not None:
        pairs.setdefault("authorization", f"Bearer {key}")
    content = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
    return Request(method, path, Platform("wsgi", "r-1"), query, Headers(pairs.items()), content)


def through_aws(request: Request, *, timeout_s: float = 120.0) -> Response:
    """What the AWS function answers to a Function URL request."""
    event = platforms.function_url_event(request, at=NOON)
    context = platforms.LambdaContext("lambda-1", timeout_s=timeout_s, clock=time.monotonic)
    return platforms.read_lambda_reply(load("aws")(event, context))


def through_cloudbase(request: Request) -> Response:
    """What the CloudBase event function answers to an HTTP access request."""
    event = platforms.cloudbase_event(request)
    context = platforms.cloudbase_context("scf-1")
    return platforms.read_cloudbase_reply(load("cloudbase")(event, context))


THROUGH = {"aws": through_aws, "cloudbase": through_cloudbase}


def clear_environment(environ: Any) -> None:
    for name in list(os.environ):
        if name.startswith(("FAL_", "AWS_", "TENCENTCLOUD_")):
            environ.delenv(name)

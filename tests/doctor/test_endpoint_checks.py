"""The endpoint, as it is met from outside: our own server, and what may stand in front of it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fal_image import __version__, app, server
from fal_image.database.sqlite import SqliteDatabase
from fal_image.doctor.endpoint import WEBHOOK_PATH
from fal_image.drivers import SWEEP
from fal_image.jobs import rfc3339
from fal_image.settings import load
from support.examined import Found, environment, found

PAGE = "https://shop.example.com"
CALLER = f"web={'c0ffee' * 10}c0de"
WELL = ["health", "version", "closed", "cors", "webhook"]


def at(url: str, **settings: str) -> Found:
    """What is found of an endpoint by somebody whose own settings are these."""
    given = {"FAL_IMAGE_URL": url, "FAL_IMAGE_EMULATOR_URL": "http://127.0.0.1:9"} | settings
    return found(environment(FAL_IMAGE_STORAGE_URL="file:///pictures", **given), only="endpoint")


@contextmanager
def served(directory: Path, **settings: str) -> Iterator[str]:
    """Our own server under these settings."""
    working = {
        "FAL_IMAGE_API_KEYS": CALLER,
        "FAL_IMAGE_CORS_ORIGINS": PAGE,
        "FAL_IMAGE_STORAGE_URL": directory.as_uri(),
    }
    environ = environment(**{**working, **settings})
    listener = server.bind("127.0.0.1", 0)
    services = app.compose(load(environ), environ=environ)
    with server.running(app.front(services), listener) as url:
        yield url


Said = tuple[int, list[tuple[str, str]], bytes]
Way = Callable[[str, str], Said | None]
HEALTHY: Said = (
    200,
    [("content-type", "application/json"), ("access-control-allow-origin", PAGE)],
    json.dumps({"status": "ok", "version": __version__}).encode(),
)


def refusal(code: str, status: int) -> Said:
    body = {"error": code, "requestId": "1", "retryable": True, "detail": "why", "hint": "how"}
    return status, [("content-type", "application/problem+json")], json.dumps(body).encode()


PREFLIGHT: Said = (
    204,
    [
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-headers", "authorization, content-type"),
    ],
    b"",
)


@contextmanager
def gateway(way: Way) -> Iterator[str]:
    """Something in front: answers like an endpoint that is well, where `way` says nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            usual = {
                ("GET", "/health"): HEALTHY,
                ("POST", "/generate"): refusal("unauthorized", 401),
                ("OPTIONS", "/generate"): PREFLIGHT,
                ("POST", WEBHOOK_PATH): refusal("unauthorized", 401),
            }
            said = way(self.command, self.path) or usual[self.command, self.path]
            status, headers, body = said
            self.send_response(status)
            for name, value in [*headers, ("content-length", str(len(body)))]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_OPTIONS = answer

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


LOGIN: Said = (302, [("location", "https://login.example.com/?next=x")], b"")
SIGN_IN: Said = (200, [("content-type", "text/html")], b"<html>sign in</html>")
FORBIDDEN: Said = (403, [("content-type", "application/json")], b'{"Message":"Forbidden"}')


def test_our_own_server_is_well(tmp_path: Path):
    with served(tmp_path) as url:
        seen = at(url, FAL_IMAGE_CORS_ORIGINS=PAGE)
    assert seen.of("ok") == [f"endpoint.{name}" for name in WELL]
    assert len(seen.all) == len(WELL)


def test_the_stand_in_is_well_too():
    with gateway(lambda method, path: None) as url:
        assert at(url, FAL_IMAGE_CORS_ORIGINS=PAGE).of("ok") == [f"endpoint.{n}" for n in WELL]


def test_without_an_address_nothing_is_asked(tmp_path: Path):
    seen = found(environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri()), only="endpoint")
    assert seen.of("skipped") == ["endpoint"]
    assert "FAL_IMAGE_URL" in str(seen["endpoint"].fix)


def test_where_nobody_listens_is_a_failure(tmp_path: Path):
    with served(tmp_path) as url:
        pass
    seen = at(url)
    assert seen.of("failed") == ["endpoint.health"]
    assert "refused" in seen["endpoint.health"].said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (LOGIN, "login.example.com"),
        (SIGN_IN, "text/html"),
        (FORBIDDEN, "HTTP 403"),
        ((200, [], b"[" * 9999), "HTTP 200"),
        ((204, [], b""), "HTTP 204"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "check"),
    [
        ("GET", "/health", "endpoint.health"),
        ("POST", "/generate", "endpoint.closed"),
        ("POST", WEBHOOK_PATH, "endpoint.webhook"),
    ],
)
def test_whoever_answers_in_its_place_is_found(
    said: Said, words: str, method: str, path: str, check: str
):
    with gateway(lambda *asked: said if asked == (method, path) else None) as url:
        seen = at(url)
    assert seen.of("failed") == [check]
    assert words in seen[check].said
    assert "login" in str(seen[check].fix)


def test_an_older_version_is_a_warning():
    older: Said = (200, [], b'{"status": "ok", "version": "0.0.1"}')
    with gateway(lambda method, path: older if path == "/health" else None) as url:
        seen = at(url)
    assert seen.of("warning") == ["endpoint.version"]
    assert "0.0.1" in seen["endpoint.version"].said


def test_settings_that_the_endpoint_refuses_are_named(tmp_path: Path):
    with served(tmp_path, FAL_IMAGE_STORAGE_URL="s3://x") as url:
        seen = at(url)
    assert seen.of("failed") == ["endpoint.health", "endpoint.closed"]
    assert "misconfigured" in seen["endpoint.health"].said
    assert "FAL_IMAGE_STORAGE_URL" in seen["endpoint.closed"].said


@pytest.mark.parametrize(
    "model", ["fal-ai/flux/schnell", "fal-ai/flux/dev/redux", "fal-ai/not-allowed"]
)
def test_an_endpoint_that_is_open_is_a_warning_and_pays_nothing(tmp_path: Path, model: str):
    opened = {"FAL_IMAGE_API_KEYS": "", "FAL_IMAGE_ALLOW_ANONYMOUS": "1"}
    with served(tmp_path, **opened, FAL_IMAGE_DEFAULT_MODEL=model) as url:
        seen = at(url)
    assert seen.of("warning") == ["endpoint.closed"]
    assert "spend" in seen["endpoint.closed"].said


@pytest.mark.parametrize(("age_s", "verdict"), [(5, "ok"), (500, "failed"), (None, "warning")])
def test_the_endpoints_own_sweeps_are_looked_at(tmp_path: Path, age_s: int | None, verdict: str):
    path = tmp_path / "jobs.db"
    if age_s is not None:
        ended = datetime.now(timezone.utc) - timedelta(seconds=age_s)
        SqliteDatabase(path).create(SWEEP, {"endedAt": rfc3339(ended)})
    with served(tmp_path, FAL_IMAGE_DATABASE_URL=f"sqlite://{path}") as url:
        assert at(url)["endpoint.last_sweep"].verdict == verdict


def test_fal_cannot_reach_this_machine(tmp_path: Path):
    with served(tmp_path) as url:
        seen = at(url, FAL_IMAGE_EMULATOR_URL="")["endpoint.webhook"]
    assert seen.verdict == "warning"
    assert "FAL_IMAGE_PUBLIC_URL" in str(seen.fix)


@pytest.mark.parametrize(
    "doubled",
    [
        [("access-control-allow-origin", PAGE), ("access-control-allow-origin", PAGE)],
        [("access-control-allow-origin", f"{PAGE}, *")],
    ],
)
@pytest.mark.parametrize("path", ["/health", "/generate"])
def test_an_origin_that_is_allowed_twice_is_found(doubled: list[tuple[str, str]], path: str):
    def way(method: str, asked: str) -> Said | None:
        if asked != path or method == "POST":
            return None
        status, headers, body = HEALTHY if path == "/health" else PREFLIGHT
        others = [pair for pair in headers if pair[0] != "access-control-allow-origin"]
        return status, [*others, *doubled], body

    with gateway(way) as url:
        seen = at(url, FAL_IMAGE_CORS_ORIGINS=PAGE)
    assert seen.of("failed") == ["endpoint.cors"]
    assert "twice" in seen["endpoint.cors"].said
    assert "gateway" in str(seen["endpoint.cors"].fix)


def test_an_origin_that_is_not_allowed_there_is_found(tmp_path: Path):
    with served(tmp_path) as url:
        seen = at(url, FAL_IMAGE_CORS_ORIGINS=f"{PAGE},https://other.example.com")
    failures = {finding.said for finding in seen.by_check["endpoint.cors"]}
    assert len(failures) == 3
    assert all("https://other.example.com" in said for said in failures)


def test_headers_that_a_page_may_not_send_are_found():
    narrow: Said = (204, [("access-control-allow-origin", PAGE)], b"")
    with gateway(lambda method, path: narrow if method == "OPTIONS" else None) as url:
        seen = at(url, FAL_IMAGE_CORS_ORIGINS=PAGE)
    assert "authorization and content-type" in seen["endpoint.cors"].said

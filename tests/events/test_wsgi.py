from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest

from fal_image.events.wsgi import wsgi_app
from fal_image.web import App, Request, Response, json_response
from support.events import Recorder, echo


class Answer:
    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.chunks: Iterable[bytes] = ()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def call(app: App, *, body: bytes = b"", max_body_bytes: int = 1000, **environ: Any) -> Answer:
    answer = Answer()

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        answer.status, answer.headers = status, headers

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/generate",
        "REMOTE_ADDR": "203.0.113.7",
        "wsgi.input": io.BytesIO(body),
    } | environ
    serve = wsgi_app(
        app,
        public_url="https://img.example.com",
        max_body_bytes=max_body_bytes,
        new_id=lambda: "new-id",
    )
    answer.chunks = serve(environ, start_response)
    return answer


def received(**environ: Any) -> Request:
    app = Recorder()
    call(app, **environ)
    return app.request


def test_an_environ_becomes_a_request() -> None:
    request = received(
        REQUEST_METHOD="post",
        PATH_INFO="/jobs/图".encode().decode("latin-1"),
        QUERY_STRING="a=1&a=%E5%9B%BE&b=",
        CONTENT_TYPE="application/json",
        CONTENT_LENGTH="2",
        HTTP_X_API_KEY="k",
        body=b"{}",
    )
    assert (request.method, request.path, request.body) == ("POST", "/jobs/图", b"{}")
    assert request.query == (("a", "1"), ("a", "图"), ("b", ""))
    assert dict(request.headers) == {
        "content-type": "application/json",
        "content-length": "2",
        "x-api-key": "k",
    }
    platform = request.platform
    assert (platform.name, platform.request_id, platform.client_ip, platform.public_url) == (
        "wsgi",
        "new-id",
        "203.0.113.7",
        "https://img.example.com",
    )
    assert (platform.ends_at, platform.gateway_s, platform.caller) == (None, None, None)


def test_without_a_length_nothing_is_read_unless_the_server_marks_the_end() -> None:
    assert received(body=b"{}").body == b""
    assert received(body=b"{}", CONTENT_LENGTH="").body == b""
    assert received(body=b"{}", **{"wsgi.input_terminated": True}).body == b"{}"


def test_only_the_declared_length_is_read() -> None:
    assert received(body=b"{}next request", CONTENT_LENGTH="2").body == b"{}"


@pytest.mark.parametrize(
    "environ",
    [{"CONTENT_LENGTH": "1001"}, {"CONTENT_LENGTH": "9" * 18}, {"wsgi.input_terminated": True}],
)
def test_a_body_above_the_cap_is_refused(environ: dict[str, Any]) -> None:
    app = Recorder()
    answer = call(app, body=b"x" * 5000, **environ)
    assert not app.requests
    assert answer.status.startswith("413 ")
    assert json.loads(answer.body)["error"] == "body_too_large"


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "٣", "9" * 40])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    answer = call(Recorder(), CONTENT_LENGTH=length)
    assert answer.status == "400 Bad Request"


def test_a_body_that_was_cut_is_refused() -> None:
    app = Recorder()
    assert call(app, body=b'{"prompt', CONTENT_LENGTH="20").status == "400 Bad Request"
    assert not app.requests


def test_repeated_headers_go_out_repeated_and_in_order() -> None:
    headers = (("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-name", "图"))
    answer = call(lambda _: Response(200, b"hi", headers))
    assert answer.headers == [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-name", "图".encode().decode("latin-1")),
        ("Content-Length", "2"),
    ]


def test_an_iterator_body_is_streamed_chunk_by_chunk() -> None:
    sent: list[bytes] = []

    def chunks() -> Any:
        for chunk in (b"data: 1\n\n", b"data: 2\n\n"):
            sent.append(chunk)
            yield chunk

    answer = call(lambda _: Response(200, chunks()))
    stream = iter(answer.chunks)
    assert sent == []
    assert next(stream) == b"data: 1\n\n"
    assert len(sent) == 1
    assert not any(name == "Content-Length" for name, _ in answer.headers)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_body_declares_no_length(status: int) -> None:
    assert call(lambda _: Response(status)).headers == []


def test_head_sends_the_headers_alone() -> None:
    answer = call(echo, REQUEST_METHOD="HEAD")
    assert (answer.status, answer.body) == ("200 OK", b"")
    assert ("Content-Length", "0") not in answer.headers


def test_an_unknown_status_has_a_phrase_nevertheless() -> None:
    assert call(lambda _: json_response(299, {})).status == "299 Unknown"


def test_an_error_that_escapes_the_app_is_an_internal_problem() -> None:
    def broken(_request: Request) -> Response:
        raise RuntimeError("secret")

    answer = call(broken)
    assert answer.status == "500 Internal Server Error"
    problem = json.loads(answer.body)
    assert (problem["error"], problem["requestId"]) == ("internal", "new-id")
    assert "secret" not in str(problem)

"""The server for agents over HTTP: the endpoint's own keys open it, and no page of a browser."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from fal_image.dev.emulator import Emulator
from fal_image.endpoint import Deployed, EndpointFailed, InProcess
from fal_image.server import bind
from support.agents import COMMAND, Remembering, own_settings, played, program_environment, served
from support.entrypoints import KEY, KEY_SHA256
from support.instances import OTHER_KEY, instance, serving
from support.programs import heed_ctrl_c

CAT: dict[str, Any] = {"prompt": "a cat", "size": {"width": 64, "height": 64}}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def app(fal: Emulator, tmp_path: Path) -> Remembering:
    endpoint = InProcess(instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=None).app, caller=None)
    return Remembering(endpoint)


def posted(url: str, body: object = LIST, **headers: str) -> httpx2.Response:
    return httpx2.post(url, json=body, headers=ACCEPT | headers)


def made_with(url: str, key: str, tool: str = "generate_image", **arguments: Any) -> Any:
    """What a tool answers an agent that shows this key."""
    answers = []

    async def scene() -> None:
        headers = {"authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=15) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            answers.append(await client.call_tool(tool, arguments))

    played(scene)
    return answers[0]


def test_an_agent_with_a_key_is_that_keys_caller(fal: Emulator, app: Remembering):
    with served(app) as url:
        made = made_with(url, KEY, **CAT)
        assert made.structured_content["state"] == "done"
        job_id = made.structured_content["jobId"]
        assert not made_with(url, KEY, "get_job", job_id=job_id).is_error
        assert made_with(url, OTHER_KEY, "get_job", job_id=job_id).is_error


def test_a_deployed_endpoint_gets_the_agents_own_key(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path) as server, served(Deployed(server.url)) as url:
        made = made_with(url, KEY, **CAT)
        assert made.structured_content["state"] == "done"
        assert posted(url, authorization="Bearer wrong").status_code == 401


@pytest.mark.parametrize("shown", [None, "Bearer wrong", "Basic d2ViOng=", f"Bearer {KEY}x"])
def test_without_a_key_it_is_closed(app: Remembering, shown: str | None):
    with served(app) as url:
        answer = posted(url, **({} if shown is None else {"authorization": shown}))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["error"] == "unauthorized"
    assert {path for _, path, *_ in app.asked} == {"/models"}


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("origin", "https://evil.example", 403),
        ("origin", "http://127.0.0.1:1", 403),
        ("origin", "null", 403),
        ("host", "evil.example", 421),
        ("host", "127.0.0.1.evil.example:80", 421),
    ],
)
def test_pages_and_other_names_are_refused_even_with_a_key(
    app: Remembering, header: str, value: str, status: int
):
    with served(app) as url:
        answer = posted(url, authorization=f"Bearer {KEY}", **{header: value})
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_its_own_origin_is_no_other_page(app: Remembering):
    with served(app) as url:
        origin = f"http://{urlsplit(url).netloc}"
        assert posted(url, authorization=f"Bearer {KEY}", origin=origin).status_code == 200


def test_a_key_that_was_let_in_is_not_asked_about_each_time(app: Remembering):
    with served(app) as url:
        for _ in range(3):
            assert posted(url, authorization=f"Bearer {KEY}").status_code == 200
    assert [path for _, path, *_ in app.asked] == ["/models"]


def test_an_endpoint_that_does_not_answer_is_said_to(app: Remembering):
    app.failures = [EndpointFailed("reset", sent=True) for _ in range(3)]
    with served(app) as url:
        answer = posted(url, authorization=f"Bearer {KEY}")
    assert (answer.status_code, answer.json()["detail"]) == (503, "reset")


def test_a_body_without_end_is_refused(app: Remembering):
    with served(app) as url:
        answer = posted(url, {"x": "y" * 5_000_000}, authorization=f"Bearer {KEY}")
    assert answer.status_code == 413


@pytest.mark.long
@pytest.mark.timeout(40)
def test_the_command_serves_until_ctrl_c(fal: Emulator, tmp_path: Path):
    settings = {**own_settings(fal), "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}"}
    program = subprocess.Popen(
        [*COMMAND, "--http", "--port", "0"],
        env=program_environment(**settings),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=heed_ctrl_c,
    )
    assert program.stderr is not None
    try:
        lines = iter(program.stderr)
        found = (
            re.search(r"tools for agents on (http://127\.0\.0\.1:\d+/mcp)", one) for one in lines
        )
        (url,) = next(match for match in found if match).groups()
        assert made_with(url, KEY, **CAT).structured_content["state"] == "done"
        assert posted(url).status_code == 401
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=10)
    finally:
        program.kill()
        program.wait()
    assert (program.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert KEY not in err


def test_a_port_that_is_taken_ends_it_with_2(fal: Emulator, tmp_path: Path):
    with bind("127.0.0.1", 0) as listener:
        done = subprocess.run(
            [*COMMAND, "--http", "--port", str(listener.getsockname()[1])],
            env=program_environment(**own_settings(fal)),
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=20,
        )
    assert done.returncode == 2
    assert "choose another --port" in done.stderr

"""`fal-image mcp` as a host starts it, with the SDK's own client in front."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import jsonschema  # type: ignore[import-untyped]
import pytest

from fal_image import __version__
from fal_image.dev.emulator import Emulator
from support.agents import (
    COMMAND,
    links_of,
    own_settings,
    played,
    previews_of,
    program_environment,
    started,
    text_of,
)
from support.entrypoints import KEY
from support.instances import serving
from support.programs import heed_ctrl_c

SMALL = {"width": 64, "height": 64}

# What a host says first (MCP specification 2025-06-18, lifecycle).
HELLO: list[dict[str, Any]] = [
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "a test", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
]


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def wired(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def tool_call(name: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}


def begun(cwd: Path, *options: str, **settings: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *options],
        env=program_environment(**settings),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_ctrl_c,
    )


def ended(program: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    """The exit code, and what was said, of a program that ends by itself."""
    try:
        out, err = program.communicate(timeout=10)
    finally:
        program.kill()
        program.wait()
    return program.returncode, out, err.decode()


@pytest.mark.timeout(40)
def test_an_agent_makes_finds_edits_and_renews(fal: Emulator, tmp_path: Path):
    heard: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async def scene() -> None:
        async with started(tmp_path, "--home", "kept", **own_settings(fal)) as client:
            info = client.server_info
            assert info is not None
            assert (info.name, info.version) == ("fal-image", __version__)
            schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}

            async def call(name: str, **arguments: Any) -> Any:
                result = await client.call_tool(name, arguments, progress_callback=hear)
                jsonschema.validate(result.structured_content, schemas[name])
                return result

            made = await call("generate_image", prompt="a cat", seed=7, size=SMALL)
            (image,) = made.structured_content["images"]
            assert (len(links_of(made)), len(previews_of(made))) == (1, 1)
            found = await call("get_job", job_id=made.structured_content["jobId"])
            assert found.structured_content["images"][0]["fileID"] == image["fileID"]
            edited = await call("edit_image", prompt="a hat", images=[image["fileID"]])
            assert edited.structured_content["state"] == "done"
            renewed = await call("renew_link", file_ids=[image["fileID"]])
            assert renewed.structured_content["links"][0]["url"] == image["url"]
            price = await call("estimate_cost", prompt="a cat", number=2)
            assert price.structured_content["estimateUsd"] == pytest.approx(0.006)
            refused = await call("generate_image", prompt="x", model="fal-ai/veo3")
            assert refused.is_error
            path = tmp_path / "kept" / "pictures" / image["fileID"].removeprefix("file:///")
            assert image["url"] == path.as_uri(), "a link that no server signs is the file itself"
            assert path.is_file()

    played(scene)
    assert [progress for progress, _ in heard[:2]] == [1, 2]
    assert heard[1][1] == "the pictures are stored"
    assert (tmp_path / "kept" / "secret").stat().st_mode & 0o077 == 0


@pytest.mark.timeout(40)
def test_a_deployed_endpoint_is_asked_with_its_key(fal: Emulator, tmp_path: Path):
    async def scene(url: str) -> None:
        async with started(tmp_path, FAL_IMAGE_URL=url, FAL_IMAGE_TOKEN=KEY) as client:
            made = await client.call_tool("generate_image", {"prompt": "a cat", "size": SMALL})
            assert made.structured_content["state"] == "done"
            assert made.structured_content["images"][0]["url"].startswith(f"{url}/files/")
            assert len(previews_of(made)) == 1
            gone = await client.call_tool("get_job", {"job_id": "0" * 26})
            assert gone.is_error

    with serving(fal, tmp_path) as server:
        played(lambda: scene(server.url))
    assert not (tmp_path / ".fal-image").exists(), "nothing is kept where nothing is made"
    assert KEY not in (tmp_path / "stderr").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.timeout(40)
def test_a_slow_job_is_answered_before_the_host_gives_up(tmp_path: Path):
    async def scene(fal: Emulator) -> None:
        options = ("--wait-s", "0.5")
        async with started(tmp_path, *options, **own_settings(fal)) as client:
            with anyio.fail_after(10):
                made = await client.call_tool("generate_image", {"prompt": "a cat"})
            job = made.structured_content
            assert (made.is_error, job["isOver"]) == (False, False)
            assert job["jobId"] in text_of(made)

    with Emulator(run_s=600) as fal:
        played(lambda: scene(fal))


@pytest.mark.long
@pytest.mark.timeout(40)
def test_a_cancelled_call_leaves_its_job(tmp_path: Path):
    given = {"prompt": "a cat", "size": SMALL, "idempotency_key": "once"}

    async def scene(fal: Emulator) -> None:
        async with started(tmp_path, **own_settings(fal)) as client:
            async with anyio.create_task_group() as host:
                host.start_soon(client.call_tool, "generate_image", given)
                while not fal.ledger:
                    await anyio.sleep(0.02)
                host.cancel_scope.cancel()
            made = await client.call_tool("generate_image", given)
            assert made.structured_content["state"] == "done"

    with Emulator(run_s=2) as fal:
        played(lambda: scene(fal))
        assert len(fal.ledger) == 1


@pytest.mark.long
@pytest.mark.timeout(30)
@pytest.mark.parametrize("calls", [0, 1])
def test_ctrl_c_ends_it_at_once(tmp_path: Path, calls: int):
    with Emulator(run_s=600) as fal:
        program = begun(tmp_path, **own_settings(fal))
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(wired([*HELLO, *[tool_call("generate_image", prompt="a")] * calls]))
        program.stdin.flush()
        assert json.loads(program.stdout.readline())["id"] == 1
        while len(fal.ledger) < calls:
            time.sleep(0.02)
        program.send_signal(signal.SIGINT)
        code, out, err = ended(program)
    assert code == 130
    assert "Traceback" not in err
    assert all(json.loads(line) for line in out.splitlines())


@pytest.mark.timeout(30)
def test_closed_stdin_ends_it_and_stdout_is_the_agents_alone(fal: Emulator, tmp_path: Path):
    program = begun(tmp_path, **own_settings(fal))
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(wired([*HELLO, tool_call("estimate_cost", prompt="a")]))
    program.stdin.flush()
    said = [json.loads(program.stdout.readline()) for _ in range(2)]
    program.stdin.close()
    program.stdin = None
    code, out, err = ended(program)
    assert (code, out) == (0, b"")
    assert [message["id"] for message in said] == [1, 2]
    assert '"route": "POST /estimate"' in err
    assert "secret" not in err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"FAL_IMAGE_URL": "ftp://x"}, "FAL_IMAGE_URL: must start with https://"),
        ({"FAL_IMAGE_MAX_WAIT_S": "soon"}, "FAL_IMAGE_MAX_WAIT_S: "),
    ],
)
def test_settings_that_cannot_be_used_end_it_with_2(
    tmp_path: Path, settings: dict[str, str], said: str
):
    code, out, err = ended(begun(tmp_path, **settings))
    assert (code, out) == (2, b"")
    assert said in err


def test_a_home_that_cannot_be_made_ends_it_with_2(tmp_path: Path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    code, out, err = ended(begun(tmp_path, "--home", "taken/kept", FAL_KEY="id:secret"))
    assert (code, out) == (2, b"")
    assert "name another --home" in err


WITHOUT_THE_SDK = """
import sys
sys.modules["mcp"] = sys.modules["mcp.server"] = sys.modules["mcp_types"] = None
from fal_image.cli import main
main()
"""


def test_without_the_extra_it_says_what_to_install(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_SDK, "mcp"],
        env=program_environment(),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )
    assert done.returncode == 2
    assert "pip install 'fal-image[mcp]'" in done.stderr
    assert done.stdout == ""


def test_the_rest_of_the_command_does_without_it(tmp_path: Path):
    look = (
        "import sys; from fal_image import cli; "
        "assert not {'mcp', 'mcp_types', 'uvicorn', 'starlette'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", look], cwd=tmp_path, check=True, timeout=20)

"""What `docs/agents.md` shows is run: configurations start servers, programs make pictures."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from typer.testing import CliRunner

from fal_image.cli.program import cli
from fal_image.dev.emulator import Emulator
from fal_image.endpoint import Deployed
from fal_image.mcp_server.tools import INSTRUCTIONS
from support.agents import COMMAND, own_settings, played, program_environment, served, tools_for
from support.entrypoints import KEY, ROOT
from support.instances import serving
from support.listening import listening
from support.node import FOLDER, run
from support.peer import RESET, Peer, answer

PAGE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
EXAMPLE_URL, EXAMPLE_KEY = "https://pictures.example.com", "an API key of the endpoint"

# The blocks by the name that the comment before each gives; those without one are shell commands.
BLOCKS = dict(
    re.findall(
        r"<!-- run by tests/agents/test_agents_doc\.py: (\w+).*? -->\n```\w+\n(.*?)^```$",
        PAGE,
        re.MULTILINE | re.DOTALL,
    )
)
SHELL = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def test_every_block_is_run_by_a_test():
    assert sorted(BLOCKS) == ["deployed", "here", "http", "mastra", "openai"]
    assert len(re.findall(r"^```\w+$", PAGE, re.MULTILINE)) == len(BLOCKS) + len(SHELL)
    assert SHELL == ["pip install 'fal-image[mcp]'\n", "fal-image mcp --http --port 9002\n"]


def test_the_options_that_it_names_are_there():
    shown = (
        CliRunner().invoke(cli, ["mcp", "--help"], env={"TERM": "dumb", "COLUMNS": "120"}).output
    )
    options = set(re.findall(r"--[a-z][a-z-]+", " ".join(SHELL) + PAGE.split("## Function")[0]))
    assert options == {"--home", "--http", "--port", "--wait-s"}
    assert all(option in shown for option in options)
    assert shlex.split(SHELL[1])[:2] == ["fal-image", "mcp"]


def test_every_tool_is_in_its_table_and_no_other():
    listed = {tool.name for tool in tools_for(Deployed(EXAMPLE_URL)).listed()}
    (table,) = re.findall(r"^### The tools\n\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == listed
    for text in (PAGE[PAGE.index("## Instructions") :], INSTRUCTIONS):
        assert set(re.findall(r"[a-z]+_(?:image|job|cost|link)\b", text)) <= listed


def server_of(block: str, **values: str) -> dict[str, Any]:
    """The one server of a configuration, with the reader's own values in it."""
    for example, own in values.items():
        assert example in block
        block = block.replace(example, own)
    (server,) = json.loads(block)["mcpServers"].values()
    assert isinstance(server, dict)
    return server


def as_a_host_does(server: dict[str, Any], cwd: Path, **more: str) -> dict[str, Any]:
    """What a host that starts such a server makes with it; the command is the tests' own."""
    assert server["command"] == "fal-image"
    assert server["args"][0] == "mcp"
    parameters = StdioServerParameters(
        command=COMMAND[0],
        args=[*COMMAND[1:], *server["args"][1:]],
        env=program_environment(**server["env"], **more),
        cwd=cwd,
    )
    jobs: list[Any] = []

    async def scene() -> None:
        with (cwd / "stderr").open("w", encoding="utf-8") as log:
            async with Client(stdio_client(parameters, errlog=log)) as client:
                made = await client.call_tool("generate_image", {"prompt": "a cat"})
                jobs.append(made.structured_content)

    played(scene)
    (job,) = jobs
    assert isinstance(job, dict)
    return job


@pytest.mark.timeout(30)
def test_the_configuration_for_a_deployed_endpoint_makes_a_picture(fal: Emulator, tmp_path: Path):
    with serving(fal, tmp_path) as endpoint:
        server = server_of(BLOCKS["deployed"], **{EXAMPLE_URL: endpoint.url, EXAMPLE_KEY: KEY})
        assert as_a_host_does(server, tmp_path)["state"] == "done"


@pytest.mark.long
@pytest.mark.timeout(30)
def test_the_configuration_without_an_endpoint_makes_a_picture(fal: Emulator, tmp_path: Path):
    home = str(tmp_path / "fal-image")
    server = server_of(BLOCKS["here"], **{"/home/ada/fal-image": home})
    settings = {**own_settings(fal)}
    del settings["FAL_KEY"]  # the configuration has one
    job = as_a_host_does(server, tmp_path, **settings)
    assert job["images"][0]["url"].startswith(f"file://{home}/pictures/")


def test_the_configuration_for_an_address_finds_the_tools(fal: Emulator, tmp_path: Path):
    with (
        serving(fal, tmp_path) as endpoint,
        served(Deployed(endpoint.url)) as url,
    ):
        assert "generate_image" in tools_at(url)


def tools_at(url: str) -> list[str]:
    """The tools that a host finds with the configuration for an address."""
    names: list[str] = []
    server = server_of(BLOCKS["http"], **{"http://127.0.0.1:9002/mcp": url, EXAMPLE_KEY: KEY})
    assert server["type"] == "http"

    async def scene() -> None:
        async with (
            httpx2.AsyncClient(headers=server["headers"]) as http,
            Client(streamable_http_client(server["url"], http_client=http)) as client,
        ):
            names.extend(tool.name for tool in (await client.list_tools()).tools)

    played(scene)
    return names


@pytest.mark.timeout(30)
def test_the_command_over_http_serves_the_tools_on_its_port(fal: Emulator, tmp_path: Path):
    (line,) = [line for line in SHELL if "--http" in line]
    name, *arguments = shlex.split(line)
    assert (name, arguments[0], arguments[-1]) == ("fal-image", "mcp", "9002")
    with serving(fal, tmp_path) as endpoint:
        program = subprocess.Popen(
            [*COMMAND, *arguments[1:-1], "0"],  # any free port in place of 9002
            env=program_environment(FAL_IMAGE_URL=endpoint.url),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            assert program.stderr is not None
            url = program.stderr.readline().rpartition(" on ")[2].strip()
            assert url.endswith("/mcp")
            assert "generate_image" in tools_at(url)
        finally:
            program.kill()
            program.communicate()


class Model(BaseHTTPRequestHandler):
    """A model that wants one picture and then says what it was told (OpenAI API reference, chat
    completions)."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        last = body["messages"][-1]
        message: dict[str, Any] = {"role": "assistant", "content": last["content"]}
        if last["role"] == "user":
            (tool,) = body["tools"]
            arguments = json.dumps({"prompt": "a calico cat", "image_size": "landscape_16_9"})
            function = {"name": tool["function"]["name"], "arguments": arguments}
            call = {"id": "call_abc", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m"}
        content = json.dumps({**answer, "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def of_functions(folder: Path, url: str) -> Any:
    """What the program with functions tells its model of the picture that it wants."""
    script = folder / "agent.py"
    script.write_text(BLOCKS["openai"], encoding="utf-8")
    with listening(Model) as model:
        environ = {
            "FAL_IMAGE_URL": url,
            "FAL_IMAGE_TOKEN": KEY,
            "OPENAI_BASE_URL": model,
            "OPENAI_API_KEY": "any",
        }
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, **environ},
            capture_output=True,
            encoding="utf-8",
            timeout=30,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


DATABASES = [{}, {"FAL_IMAGE_DATABASE_URL": None}]


@pytest.mark.timeout(40)
@pytest.mark.parametrize("bent", DATABASES, ids=["database", "none"])
def test_a_model_that_calls_functions_gets_its_picture(
    fal: Emulator, tmp_path: Path, bent: dict[str, Any]
):
    with serving(fal, tmp_path, **bent) as endpoint:
        told = of_functions(tmp_path, endpoint.url)
        assert told["state"] == "done"
        assert told["tempFileURL"].startswith(endpoint.url)
    assert len(fal.ledger) == 1


# A job that goes on, whose looks are lost at first or for ever.
OPEN = answer(202, {"jobId": "0" * 26, "state": "submitted", "error": None}, retry_after="0")
DONE = answer(200, {"jobId": "0" * 26, "state": "done", "error": None, "fileID": "s3://b/c.png"})
LOST = [answer(502, "<html>Bad Gateway</html>"), answer(200, "<html>"), RESET]


@pytest.mark.timeout(40)
@pytest.mark.parametrize(
    ("scripts", "state"),
    [([OPEN, *LOST, DONE], "done"), ([OPEN, answer(503, {"message": "x"})], "submitted")],
)
def test_looks_that_are_lost_lose_no_job_of_a_function(
    tmp_path: Path, scripts: list[bytes], state: str
):
    with Peer(scripts) as endpoint:
        told = of_functions(tmp_path, endpoint.url)
    assert (told["jobId"], told["state"]) == ("0" * 26, state)
    assert [path for path in endpoint.paths if path == "/generate"] == ["/generate"]
    assert b"\r\nIdempotency-Key: call_abc\r\n" in endpoint.requests[0]


# A module that Mastra's own is played by, and the call that an agent would make.
CREATE_TOOL = "export const createTool = (tool) => tool;\n"
CALL = """\
import { generateImage as tool } from "./tool.mjs";
const given = tool.inputSchema.parse(JSON.parse(process.argv[2]));
const context = JSON.parse(process.argv[3]);
try {
  const made = tool.outputSchema.parse(await tool.execute(given, context));
  console.log(JSON.stringify({ made }));
} catch (error) {
  console.log(JSON.stringify({ threw: error.message }));
}
"""


def of_mastra(folder: Path, url: str, call_id: str | None = None, **picture: object) -> Any:
    """What the tool for Mastra answers an agent."""
    core = folder / "node_modules" / "@mastra" / "core"
    if not core.exists():
        core.mkdir(parents=True)
        package = {"name": "@mastra/core", "type": "module", "exports": {"./tools": "./tools.js"}}
        core.joinpath("package.json").write_text(json.dumps(package), encoding="utf-8")
        core.joinpath("tools.js").write_text(CREATE_TOOL, encoding="utf-8")
        folder.joinpath("node_modules", "zod").symlink_to(FOLDER / "node_modules" / "zod")
        folder.joinpath("tool.mjs").write_text(BLOCKS["mastra"], encoding="utf-8")
        folder.joinpath("call.mjs").write_text(CALL, encoding="utf-8")
    context = {} if call_id is None else {"agent": {"toolCallId": call_id}}
    program = [str(folder / "call.mjs"), json.dumps(picture), json.dumps(context)]
    return json.loads(run(program, {"FAL_IMAGE_URL": url, "FAL_IMAGE_TOKEN": KEY}))


@pytest.mark.needs("node >= 20")
@pytest.mark.timeout(40)
def test_the_tool_for_mastra_makes_a_picture_or_says_why_not(fal: Emulator, tmp_path: Path):
    cat = {"prompt": "a calico cat", "image_size": "square_hd", "seed": 7}
    with serving(fal, tmp_path) as endpoint:
        made, again = (of_mastra(tmp_path, endpoint.url, "call-1", **cat) for _ in range(2))
        assert made["made"]["tempFileURL"].startswith(f"{endpoint.url}/files/")
        assert (made["made"]["state"], made["made"]["seed"]) == ("done", 7)
        assert again["made"]["jobId"] == made["made"]["jobId"]
        assert len(fal.ledger) == 1, "one call is one bill"
        fal.fault("error", on="result")
        assert "fal" in of_mastra(tmp_path, endpoint.url, prompt="a calico cat")["threw"]


@pytest.mark.needs("node >= 20")
@pytest.mark.timeout(40)
@pytest.mark.parametrize(
    ("scripts", "state"),
    [([OPEN, *LOST, DONE], "done"), ([OPEN, answer(503, {"message": "x"})], "submitted")],
)
def test_looks_that_are_lost_lose_no_job_of_mastra(
    tmp_path: Path, scripts: list[bytes], state: str
):
    with Peer(scripts) as endpoint:
        made = of_mastra(tmp_path, endpoint.url, prompt="a calico cat")["made"]
    assert (made["jobId"], made["state"]) == ("0" * 26, state)
    assert endpoint.paths.count("/generate") == 1
    assert b"\r\nidempotency-key: " in endpoint.requests[0].lower()

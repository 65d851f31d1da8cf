"""The MCP Inspector's command line, which is not ours, lists the tools and calls one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from scripts.setup import TOOLS_FOLDER

from fal_image.dev.emulator import Emulator
from support.agents import own_settings, program_environment

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(60),
    pytest.mark.needs("deploy tools"),
]

INSPECTOR = TOOLS_FOLDER / "node_modules" / ".bin" / "mcp-inspector"


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def inspected(fal: Emulator, folder: Path, *options: str) -> Any:
    """What the Inspector prints of one request to `fal-image mcp`."""
    script = folder / "fal-image.py"
    script.write_text("from fal_image.cli import main\nmain()\n", encoding="utf-8")
    given = [
        part for name, value in own_settings(fal).items() for part in ("-e", f"{name}={value}")
    ]
    done = subprocess.run(
        [str(INSPECTOR), "--cli", *given, sys.executable, str(script), "mcp", *options],
        env=program_environment(HOME=str(folder), MCP_CATALOG_PATH=str(folder / "catalog.json")),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_it_lists_the_tools(fal: Emulator, tmp_path: Path):
    tools = inspected(fal, tmp_path, "--method", "tools/list")["tools"]
    assert [tool["name"] for tool in tools] == [
        "generate_image", "edit_image", "get_job", "estimate_cost", "renew_link"
    ]  # fmt: skip
    for tool in tools:
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
        assert tool["outputSchema"]["type"] == "object"


def test_it_makes_a_picture(fal: Emulator, tmp_path: Path):
    call = ("--method", "tools/call", "--tool-name", "generate_image")
    arguments = ("--tool-arg", "prompt=a calico cat", "--tool-arg", "seed=7")
    made = inspected(fal, tmp_path, *call, *arguments)
    assert made["structuredContent"]["state"] == "done"
    assert [block["type"] for block in made["content"]] == ["text", "resource_link", "image"]
    assert len(fal.ledger) == 1

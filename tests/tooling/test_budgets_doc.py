"""What `docs/budgets.md` shows is what happens."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image import tickets
from fal_image.dev.emulator import Emulator
from support.entrypoints import KEY
from support.instances import Server, serving

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "budgets.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    budget: Any = {"FAL_IMAGE_TOTAL_DAILY_BUDGET_USD": "0.013", "FAL_IMAGE_RATE_LIMIT": "60/m"}
    with Emulator() as fal, serving(fal, tmp_path, **budget) as server:
        yield server


def curl(block: str, **environ: str) -> Any:
    """What the endpoint answers to a command of the page."""
    assert block.startswith("curl ")
    command = f"curl() {{ command curl --silent --noproxy '*' --max-time 15 \"$@\"; }}\n{block}"
    done = subprocess.run(
        ["sh", "-c", command],
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=18,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.needs("curl")
def test_the_commands_make_a_ticket_and_a_picture_until_it_is_used_up(server: Server):
    mint, generate = blocks("sh")
    refusal, shown = map(json.loads, blocks("json"))
    given = curl(mint, URL=server.url, KEY=KEY)
    assert set(given) == set(shown)
    assert given["caller"] == shown["caller"]
    for _ in range(4):
        made = curl(generate, URL=server.url, TICKET=given["ticket"])
        assert made["state"] == "done", made
    answer = curl(generate, URL=server.url, TICKET=given["ticket"])
    assert {name: answer[name] for name in ("error", "remainingUsd")} == {
        name: refusal[name] for name in ("error", "remainingUsd")
    }
    assert answer["resetsAt"][10:] == refusal["resetsAt"][10:]


def test_every_field_of_a_ticket_has_a_row():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert set(rows) >= set(tickets.TicketWish.__struct_encode_fields__)
    assert f"up to {tickets.MAX_MODELS} model ids" in PAGE
    assert (tickets.DEFAULT_LIFE_S, tickets.MAX_LIFE_S) == (3600, 7 * 24 * 3600)


def test_the_headers_of_a_refusal_are_those_that_are_shown(server: Server):
    (shown,) = blocks("http")
    answers = [server.http("POST", "/generate", {}) for _ in range(122)]  # the minute may turn
    refused = next(answer for answer in answers if answer.status == 429)
    lines = dict(line.split(": ", 1) for line in shown.splitlines()[1:])
    for name, value in lines.items():
        assert without_times(refused.headers[name.lower()]) == without_times(value)


def without_times(text: str) -> str:
    return re.sub(r"(^|t=)\d+$", r"\1N", text)

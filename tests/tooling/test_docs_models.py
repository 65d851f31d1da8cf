"""docs/models.md: every body that it shows is accepted, and every model of the catalog is there."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.docs import DOCS
from fal_image.dev.emulator import Emulator
from fal_image.dev.models_page import anchor
from fal_image.fal import catalog
from support.entrypoints import KEY
from support.instances import Instance, Server, instance, serving
from support.pictures import png
from support.shell import answer_of

PAGE = (DOCS / "models.md").read_text(encoding="utf-8")
BODIES: dict[str, Any] = {
    body["model"]: body
    for body in map(json.loads, re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S))
}
# What a row and a section say of the price, in the words of each.
_ROW = re.compile(r"([\d.]+)(?:, then ([\d.]+))? (?:an|a) (image|megapixel)$")
_SECTION = re.compile(
    r"\*\*([\d.]+) USD\*\* (?:(?:an|a) (image|megapixel)|for the first (megapixel), "
    r"([\d.]+) for each other one)"
)


@pytest.fixture(scope="module")
def fal() -> Iterator[Emulator]:
    with Emulator(run_s=0.01) as emulator:
        yield emulator


@pytest.fixture
def app(fal: Emulator, tmp_path: Path) -> Instance:
    return instance(fal, tmp_path)


@pytest.fixture
def server(fal: Emulator, tmp_path: Path) -> Iterator[Server]:
    with serving(fal, tmp_path) as server:
        yield server


def test_every_model_has_a_row_a_section_and_a_body():
    rows = re.findall(r"^\| \[`([^`]+)`\]\(#([^)]+)\)", PAGE, re.MULTILINE)
    assert rows == [(model_id, anchor(model_id)) for model_id in catalog.models()]
    assert [name for name, _ in rows] == list(BODIES)
    headings = re.findall(r"^## (fal-ai/.*)$", PAGE, re.MULTILINE)
    assert headings == list(BODIES)


# The unit, the price of one, and of each further one where that is another; None: not known.
Said = tuple[str, float, float | None] | None


def said_in_its_row(model_id: str) -> Said:
    (cell,) = re.findall(rf"^\| \[`{model_id}`\].*? \| \w+ \| (.*?) \|", PAGE, re.MULTILINE)
    if cell == "not known":
        return None
    found = _ROW.match(cell)
    assert found, cell
    return found[3], float(found[1]), float(found[2]) if found[2] else None


def said_in_its_section(model_id: str) -> Said:
    (line,) = re.findall(rf"^## {model_id}\n\n(.*)", PAGE, re.MULTILINE)
    if line.startswith("**No price was found.**"):
        return None
    found = _SECTION.match(line)
    assert found, line
    return found[2] or found[3], float(found[1]), float(found[4]) if found[4] else None


def test_every_body_is_priced_as_the_page_says(app: Instance):
    for model_id, body in BODIES.items():
        answer = app.ask("POST", "/estimate", body)
        assert answer.status == 200, (model_id, answer.body)
        told = answer.json
        price = (told["unit"], told["unitUsd"], told["furtherUnitUsd"])
        asked = None if told["unitUsd"] is None else price
        assert said_in_its_row(model_id) == said_in_its_section(model_id) == asked, model_id


@pytest.mark.parametrize("model_id", BODIES)
def test_a_body_makes_a_picture(app: Instance, model_id: str):
    room = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    body = re.sub(r"https://shop\.example\.com/\w+\.png", room, json.dumps(BODIES[model_id]))
    answer = app.generate(json.loads(body))
    assert (answer.status, answer.json["state"]) == (200, "done"), answer.body


@pytest.mark.needs("curl")
def test_the_curl_makes_a_picture(server: Server):
    (command,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    job = answer_of(command, URL=server.url, KEY=KEY)
    assert (job["state"], job["model"]) == ("done", "fal-ai/flux/schnell")


def test_a_misspelt_id_is_told_the_nearest(app: Instance):
    answer = app.generate({"model": "fal-ai/flux-schnell", "prompt": "a cat"})
    assert answer.json["error"] == "fal_failed"
    assert "fal-ai/flux/schnell" in answer.json["hint"]

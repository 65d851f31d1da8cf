"""Commands and examples that have no tests beside what they are about.

Those of the pages on jobs, prices, proxy, secrets and doctor, and the first steps of some others.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.docs import DOCS
from fal_image.dev.emulator import Emulator
from fal_image.settings import load
from support import frontend, node
from support.emulator import SCHNELL
from support.entrypoints import KEY, ROOT
from support.instances import CAT, Server, instance, serving
from support.proxy_house import TESTS, House, proxy_house
from support.shell import answer_of, shell

PAGES = ("jobs.md", "prices.md", "proxy.md", "secrets.md", "doctor.md", "deploy.md", "openai.md")
JOBS, PRICES, PROXY, SECRETS, DOCTOR, DEPLOY, OPENAI = [
    (DOCS / name).read_text(encoding="utf-8") for name in PAGES
]

curl = pytest.mark.needs("curl")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator(run_s=0.01) as emulator:
        yield emulator


@pytest.fixture
def server(fal: Emulator, tmp_path: Path) -> Iterator[Server]:
    with serving(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1") as server:
        yield server


@pytest.fixture
def own(fal: Emulator) -> dict[str, str]:
    """What the command needs on somebody's own machine."""
    return {"FAL_KEY": "any:key", "FAL_IMAGE_EMULATOR_URL": fal.url}


# docs/jobs.md


def test_the_requests_of_the_page_on_jobs_are_taken(fal: Emulator, tmp_path: Path):
    app = instance(fal, tmp_path, FAL_IMAGE_WEBHOOK_HOSTS="shop.example.com")
    answers = []
    for block in blocks(JOBS, "http"):
        head, _, body = block.partition("\n\n")
        (first, *lines) = head.splitlines()
        method, path = first.split()
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower().replace("-", "_"): value for name, value in pairs}
        answers.append(app.ask(method, path, json.loads(body), **headers))
    job, batch = answers
    assert (job.status, job.json["state"]) == (202, "submitted")
    assert job.headers["location"].endswith(f"/jobs/{job.json['jobId']}")
    assert int(job.headers["retry-after"]) > 0
    assert batch.json["counts"]["total"] == 2


def test_the_batch_of_the_page_on_jobs_is_run(own: dict[str, str], tmp_path: Path):
    (command,) = blocks(JOBS, "sh")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a cat"}\n', encoding="utf-8")
    done = shell(command, tmp_path, **own)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results.jsonl").read_text(encoding="utf-8"))["state"] == "done"


# docs/prices.md


@curl
def test_the_estimate_is_the_one_that_stands_below_it(server: Server):
    command, _ = blocks(PRICES, "sh")
    (printed,) = blocks(PRICES, "json")
    assert answer_of(command, URL=server.url, KEY=KEY) == json.loads(printed)


def test_the_command_estimates_as_the_endpoint_does(own: dict[str, str], tmp_path: Path):
    _, command = blocks(PRICES, "sh")
    (printed,) = blocks(PRICES, "json")
    said = answer_of(command, tmp_path, **own)
    assert list(said) == list(json.loads(printed))
    assert (said["images"], said["estimateUsd"]) == (4, 0.1)


# docs/proxy.md


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    return partial(proxy_house, tmp_path, monkeypatch)


Open = Callable[..., AbstractContextManager[House]]


@curl
def test_a_proxied_submit_is_answered_as_fal_answers(server: Server, fal: Emulator):
    command, _ = blocks(PROXY, "sh")
    answer = answer_of(command, URL=server.url, KEY=KEY)
    assert answer["request_id"] == fal.ledger[-1].request_id


def test_the_variables_lead_fal_client_to_us(house: Open):
    _, variables = blocks(PROXY, "sh")
    with house() as here:
        there = variables.replace("pictures.example.com", here.front.netloc)
        given = shlex.quote(json.dumps({"model": SCHNELL, "arguments": dict(CAT)}))
        run = f"exec {sys.executable} -m support.fal_client_user run {given}"
        done = shell(
            there + run,
            TESTS,
            KEY=KEY,
            SSL_CERT_FILE=str(here.front.ca),
            PYTHONPATH=os.pathsep.join(sys.path),
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["reached"], report["told"]["seed"]) == ([here.front.netloc], 7)


@pytest.mark.needs("node >= 20")
def test_the_ai_sdk_is_led_to_us(house: Open, tmp_path: Path):
    (block,) = blocks(PROXY, "js")
    module = tmp_path / "shown.mjs"
    (tmp_path / "node_modules").symlink_to(node.FOLDER / "node_modules")
    module.write_text(
        'import { createFal } from "@ai-sdk/fal";\nimport { generateImage } from "ai";\n'
        "export async function generate({ url, key, model, prompt }) {\n"
        f"{block}"
        "const { images } = await generateImage({ model: fal.image(model), prompt });\n"
        "return images.length;\n}\n",
        encoding="utf-8",
    )
    with house() as here:
        asked = {"url": here.front.url, "key": KEY, "model": SCHNELL, "prompt": "a calico cat"}
        assert here.call(os.path.relpath(module, node.FOLDER), "generate", **asked) == 1
        assert len(here.fal.ledger) == 1


def test_a_kept_result_has_the_members_that_are_shown(server: Server):
    (printed,) = [json.loads(block) for block in blocks(PROXY, "json")]
    headers = {"x_fal_target_url": f"https://fal.run/{SCHNELL}"}
    answer = server.http(
        "POST", "/api/fal/proxy", CAT, content_type="application/json", **headers
    ).json
    assert answer["seed"] == printed["seed"]
    assert set(answer["fal_image"]) == set(printed["fal_image"])
    for members in (lambda one: one["images"][0], lambda one: one["fal_image"]["images"][0]):
        assert set(members(printed)) <= set(members(answer))


# docs/secrets.md


def test_keys_and_secrets_are_made(tmp_path: Path):
    make, _, _ = blocks(SECRETS, "sh")
    done = shell(make, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fi_" in done.stdout + done.stderr
    secret = done.stdout.splitlines()[-1]
    assert load({"FAL_IMAGE_SECRET": secret}).secrets == (secret,)


def test_a_key_is_kept_in_a_file_of_its_own(own: dict[str, str], tmp_path: Path):
    _, keep, _ = blocks(SECRETS, "sh")
    environ = {"HOME": str(tmp_path), "FAL_IMAGE_EMULATOR_URL": own["FAL_IMAGE_EMULATOR_URL"]}
    done = shell(keep, tmp_path, 18, "any:key\n", **environ)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".fal-key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")


# docs/doctor.md


@pytest.mark.long
@pytest.mark.timeout(60)
def test_the_doctor_examines_as_shown(own: dict[str, str], server: Server, tmp_path: Path):
    """With what jq gets instead of what it makes of it: jq is the reader's."""
    shown, _ = blocks(DOCTOR, "sh")
    settings = {"FAL_IMAGE_STORAGE_URL": tmp_path.as_uri(), "FAL_IMAGE_SECRET": "s" * 32}
    for line in shown.replace("https://…", server.url).splitlines():
        done = shell(f"jq() {{ cat; }}; {line}", tmp_path, **own, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        if "--json" in line:
            assert {one["verdict"] for one in json.loads(done.stdout)["findings"]} >= {"ok"}
        assert ("endpoint.health" in done.stdout) == ("FAL_IMAGE_URL" in line)


# The first steps of docs/deploy.md, docs/frontend.md and docs/openai.md


def test_the_first_steps_make_a_file_that_only_its_owner_reads(tmp_path: Path):
    """All but the installation, which tests/tooling/test_setup.py looks at, and the editor."""
    first = blocks(DEPLOY, "sh")[0]
    stub = tmp_path / "scripts" / "setup"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\n", encoding="utf-8")
    stub.chmod(0o755)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    done = shell(first, tmp_path, EDITOR="true")
    assert done.returncode == 0, done.stderr
    env = tmp_path / ".env"
    assert env.stat().st_mode & 0o777 == 0o600
    name, _, value = env.read_text(encoding="utf-8").strip().partition("=")
    assert load({name: value}).secrets == (value,)


@pytest.mark.needs("node >= 20")
def test_node_reads_the_variables_of_a_site(tmp_path: Path):
    shown = frontend.shown()[".env.local"]
    named = [line.partition("=")[0] for line in shown.splitlines() if not line.startswith("#")]
    (tmp_path / ".env.local").write_text(shown, encoding="utf-8")
    say = "node --env-file=.env.local -p 'JSON.stringify(process.env)'"
    said = answer_of(say, tmp_path, PATH=os.environ["PATH"])
    assert named == ["FAL_IMAGE_URL", "FAL_IMAGE_TOKEN"]
    assert said["FAL_IMAGE_URL"].startswith("https://")
    assert said["FAL_IMAGE_TOKEN"]


def test_the_variables_lead_openais_client_to_us(tmp_path: Path):
    variables = blocks(OPENAI, "sh")[0]
    ask = "from openai import OpenAI; one = OpenAI(); print(one.base_url, one.api_key)"
    run = f"exec {sys.executable} -c {shlex.quote(ask)}"
    done = shell(variables + run, tmp_path, URL="https://pictures.example.com", KEY=KEY)
    assert (done.returncode, done.stdout) == (0, f"https://pictures.example.com/v1/ {KEY}\n")

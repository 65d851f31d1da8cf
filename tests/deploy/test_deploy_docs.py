"""docs/deploy.md: its commands exist, and its names and numbers are the project's."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from scripts.deploying import aws, cloudbase
from scripts.packaging.targets import CLOUDS

from fal_image.settings import FAL_KEY_NAMES, TABLE
from support.deploy_page import PAGE, commands, simple, topics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SERVERLESS = (ROOT / "serverless.yml").read_text(encoding="utf-8")
CLOUDBASERC = json.loads((ROOT / "cloudbaserc.json").read_text(encoding="utf-8"))
TOOLS = ROOT / "tests" / "deploy" / "tools" / "node_modules" / ".bin"

TOPICS = ["ask", "examine", "logs", "update, roll back", "cost", "clean up"]
WAYS = {"AWS": "deploy", "CloudBase": "deploy", "HTTP function": "deploy", "Container": "run"}
MOST_COMMANDS = 5


ALL = list(simple(PAGE))


@pytest.mark.parametrize("way", WAYS)
def test_each_way_has_every_topic(way: str):
    wanted = [f"{way}: {topic}" for topic in ["what you need", WAYS[way], *TOPICS]]
    assert [heading for heading in topics() if heading.startswith(f"{way}: ")] == wanted


def test_no_topic_takes_more_than_five_commands():
    assert len(ALL) > 40
    assert {
        heading: count
        for heading, text in topics().items()
        if (count := len(commands(text))) > MOST_COMMANDS
    } == {}


def test_there_is_no_program_in_it_that_is_not_looked_at_below():
    ours = {words[0] for words in ALL if words[0].startswith(("scripts/", ".venv/"))}
    assert {name for name in ours if name.startswith("scripts/")} == {
        "scripts/deploy",
        "scripts/setup",
    }
    others = {"aws", "curl", "docker", "echo", "export", "git", "grep", "install", "npm", "osls"}
    assert {words[0] for words in ALL} - ours - others == {".", "set", "tcb", "${EDITOR:-vi}"}


def test_every_target_of_a_deploy_is_one():
    targets = [words[1] for words in ALL if words[0] == "scripts/deploy"]
    assert set(targets) == set(CLOUDS)
    options = {word for words in ALL if words[0] == "scripts/deploy" for word in words[2:]}
    assert options == {"--check"}


@pytest.mark.timeout(60)
def test_every_command_of_ours_knows_its_options():
    asked = {}
    for words in ALL:
        start = 3 if words[:2] == ["docker", "exec"] else 0
        if not words[start].endswith("fal-image"):
            continue
        names = [word for word in words[start + 1 :] if not word.startswith("-")]
        asked[tuple(names[:2] if names[0] == "keys" else names[:1])] = words
    assert set(asked) == {("keys", "new"), ("doctor",)}
    for command, words in asked.items():
        said = subprocess.run(
            [ROOT / ".venv/bin/fal-image", *command, "--help"],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        )
        assert said.returncode == 0
        assert [word for word in words if word[:2] == "--" and word not in said.stdout] == []


@pytest.mark.long
@pytest.mark.needs("deploy tools")
@pytest.mark.needs("node >= 20")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("program", ["osls", "tcb"])
def test_every_command_of_the_clouds_programs_knows_its_options(program: str, tmp_path: Path):
    helps: dict[tuple[str, ...], str] = {}
    for words in [words for words in ALL if words[0] == program]:
        command = tuple(re.match(r"(?: ?(?!fal-|ai-)[a-z]+)*", " ".join(words[1:]))[0].split())  # type: ignore[index]
        if command not in helps:
            said = subprocess.run(
                [TOOLS / program, *command, "--help"],
                capture_output=True,
                encoding="utf-8",
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            )
            helps[command] = said.stdout + said.stderr
        first = " ".join(command) if program == "osls" else f"Usage: tcb {' '.join(command)}"
        assert first in helps[command], words
        options = [word for word in words if word.startswith("-")]
        assert [option for option in options if option not in helps[command]] == [], words
    assert len(helps) > 3


def test_both_ways_to_log_in_are_told_and_whose_keys_they_take():
    text = topics()["CloudBase: what you need"]
    logins = [words[2:] for words in simple(text) if words[:2] == ["tcb", "login"]]
    assert [login[::2] for login in logins] == [[], ["--apiKeyId", "--apiKey"]]
    assert "**SecretId and SecretKey**" in text


def test_the_versions_of_the_clouds_programs_are_the_ones_that_deploy_uses():
    installed = [words[-1] for words in ALL if words[:2] == ["npm", "install"]]
    assert installed == [aws.OSLS, cloudbase.CLI]


def test_the_parameters_are_those_of_serverless_yml():
    told = re.findall(r"^\| `--param (\w+)=", PAGE, re.MULTILINE)
    assert sorted(told) == sorted(set(re.findall(r"\$\{param:(\w+)", SERVERLESS)))
    assert sorted(told) == sorted(aws.PARAMETERS)


def test_every_variable_is_a_setting_or_the_clouds_own():
    named = set(re.findall(r"\b([A-Z][A-Z_]{4,})=", PAGE))
    known = {row.name for row in TABLE} | set(FAL_KEY_NAMES)
    assert named - known == {
        *("AWS_REGION", "CLOUDBASE_APIKEY", "ENV_ID", "FAL_IMAGE_URL"),
        *("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY"),
    }


def test_time_and_memory_are_what_is_deployed():
    (timeout_s,) = re.findall(r"^  timeout: (\d+)", SERVERLESS, re.MULTILINE)
    (memory_mb,) = re.findall(r"^  memorySize: (\d+)", SERVERLESS, re.MULTILINE)
    functions = CLOUDBASERC["functions"]
    assert {function["timeout"] for function in functions} == {300}
    assert {function["memorySize"] for function in functions} == {512}
    told = f"`serverless.yml` has {timeout_s} s and {int(memory_mb):,} MB, "
    assert f"{told}`cloudbaserc.json` 300 s and 512 MB." in PAGE.replace("\n", " ")


def test_functions_paths_and_collection_are_those_of_cloudbaserc():
    for function in CLOUDBASERC["functions"]:
        address = f".service.tcloudbase.com{function['path']}"
        assert f"https://ENV_ID{address}" in PAGE
        assert function["envVariables"]["FAL_IMAGE_PUBLIC_URL"].endswith(address)
        assert f"tcb fn log {function['name']} " in PAGE
        kept = function["envVariables"]["FAL_IMAGE_DATABASE_URL"].rpartition("/")[2]
        assert f"make the collection `{kept}`" in PAGE


@pytest.mark.parametrize("page", ["deploy.md", "scale.md"])
def test_every_link_leads_somewhere(page: str):
    text = (DOCS / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(((?!https?:)[^)]+)\)", text)
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = (DOCS / name).resolve() if name else DOCS / page
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {
            re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
        }
        assert not anchor or anchor in anchors, link

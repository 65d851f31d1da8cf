"""What an owner asks the command: a key for a caller, the settings in force."""

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fal_image.access import Access
from fal_image.cli.owner import made_key, masked
from fal_image.settings import TABLE, load
from support.entrypoints import request

COMMAND = [sys.executable, "-c", "from fal_image.cli import main; main()"]
KEY_ID, KEY_SECRET = "canary-key-id-of-fal-0123456789", "canary-key-secret-of-fal-987654"
SECRETS = ("canary-first-secret-of-a-rotation-x1", "canary-other-secret-of-a-rotation-y2")
SHA256 = "c0ffee" * 10 + "c0de"
WORKING = {
    "FAL_KEY": f"{KEY_ID}:{KEY_SECRET}",
    "FAL_IMAGE_STORAGE_URL": "file:///pictures",
    "FAL_IMAGE_SECRET": ",".join(SECRETS),
    "FAL_IMAGE_API_KEYS": f"web={SHA256},shop={SHA256},web={SHA256}",
}


def environment(**settings: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    return base | settings


def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(**settings),
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )


def on_a_terminal(*arguments: str, **settings: str) -> tuple[int, str]:
    """The exit code and everything a person sees."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # Linux says so when the program has closed its end
        while chunk := os.read(ours, 65536):
            seen += chunk
    os.close(ours)
    return program.wait(20), seen.decode().replace("\r\n", "\n")


def shown(**settings: str) -> tuple[int, Any]:
    done = run("config", **settings)
    return done.returncode, json.loads(done.stdout)


def test_a_new_key_opens_the_endpoint_that_was_given_its_pair():
    done = run("keys", "new", "web")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["caller"] == "web"
    settings = load({"FAL_IMAGE_API_KEYS": f"other={SHA256},{made['apiKeys']}"})
    assert settings.problems == ()
    access = Access(api_keys=settings.api_keys)
    assert access.identify(request(key=made["key"])).name == "web"


def test_a_key_is_seen_to_be_one_of_ours_and_is_all_of_its_randomness():
    ones, _ = made_key("web", lambda count: b"\xff" * count)
    zeros, _ = made_key("web", lambda count: b"\0" * count)
    key, pair = made_key("web", os.urandom)
    for made in (key, ones, zeros):
        assert re.fullmatch(r"fi_[0-9a-z]{32}", made)
    assert pair == f"web={hashlib.sha256(key.encode()).hexdigest()}"
    assert sum(a != b for a, b in zip(ones[3:], zeros[3:], strict=True)) * 5 >= 128
    assert key not in pair


def test_a_key_is_shown_once_on_a_terminal():
    code, seen = on_a_terminal("keys", "new", "a.shop@example.com")
    (key,) = re.findall(r"fi_[0-9a-z]{32}", seen)
    assert code == 0
    assert f"a.shop@example.com={hashlib.sha256(key.encode()).hexdigest()}" in seen.split()


@pytest.mark.parametrize(
    "name", ["", "a b", "a=b", "a,b", "wx:o123", "web:7", "x" * 65, "anonymous", "iam", "cafés"]
)
def test_a_name_that_cannot_be_a_callers_gets_no_key(name: str):
    done = run("keys", "new", name)
    assert done.returncode == 2
    assert done.stdout == ""
    assert json.loads(done.stderr)["message"].startswith("NAME: must be")


def test_config_says_every_setting_and_whether_it_is_the_default():
    code, said = shown(**WORKING, FAL_IMAGE_MAX_IMAGES="2")
    assert code == 0, said
    assert said["problems"] == []
    assert set(said["settings"]) >= {row.name for row in TABLE}
    assert said["settings"]["FAL_IMAGE_MAX_IMAGES"] == {"value": "2", "default": False}
    assert said["settings"]["FAL_IMAGE_MAX_STEPS"] == {"value": "50", "default": True}
    assert said["settings"]["FAL_IMAGE_DATABASE_URL"] == {"value": None, "default": True}
    assert said["settings"]["FAL_IMAGE_API_KEYS"]["value"] == "web,shop"


def test_config_is_a_line_a_setting_on_a_terminal_and_the_problems_come_last():
    code, seen = on_a_terminal("config", **WORKING, FAL_IMAGE_MAX_IMAGES="many")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", seen).splitlines()
    assert code == 2
    assert "FAL_IMAGE_MAX_STEPS=50 (default)" in lines
    assert "FAL_IMAGE_MAX_IMAGES=(cannot be used)" in lines
    assert "FAL_IMAGE_DATABASE_URL (unset)" in lines
    assert lines[-1].startswith("problem: FAL_IMAGE_MAX_IMAGES: must be")


def test_secrets_are_masked():
    said = run("config", **WORKING).stdout + on_a_terminal("config", **WORKING)[1]
    for secret in (f"{KEY_ID}:{KEY_SECRET}", KEY_ID, *SECRETS):
        assert "cana" in said
        assert secret[1:] not in said
        assert secret[4:-2] not in said
    assert KEY_SECRET[:5] not in said
    assert SHA256 not in said
    assert "canary" not in said


@pytest.mark.parametrize(
    ("secret", "left"),
    [("short", "***"), ("nineteen-characters", "***"), ("twenty-characters-xy", "twen…xy")],
)
def test_of_a_short_secret_nothing_is_shown(secret: str, left: str):
    assert masked(secret) == left


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAL_KEY", "canarycanarycanarycanary"),
        ("FAL_KEY_SSM_PARAM", "canary:canary"),
        ("FAL_KEY_FILE", "canary:canary"),
        ("FAL_IMAGE_SECRET", "canary"),
        ("FAL_IMAGE_API_KEYS", "web=canary"),
        ("FAL_IMAGE_STORAGE_URL", "s3://canary:canary@bucket"),
        ("FAL_IMAGE_DATABASE_URL", "dynamodb://canary:canary@table"),
        ("FAL_IMAGE_PUBLIC_URL", "https://canary:canary@example.com"),
        ("FAL_IMAGE_EMULATOR_URL", "http://canary:canary@127.0.0.1:9001"),
        ("FAL_IMAGE_CORS_ORIGINS", "https://canary:canary@example.com"),
        ("FAL_IMAGE_FETCH_HOSTS", "canary:canary@example.com"),
        ("FAL_IMAGE_TOKEN", "canary"),
    ],
)
def test_what_stands_in_the_wrong_place_is_not_shown(name: str, value: str):
    working = {other: text for other, text in WORKING.items() if other != "FAL_KEY"}
    code, said = shown(**{**working, name: value})
    assert "canary" not in json.dumps(said).replace("cana…", "")
    if name not in {"FAL_IMAGE_EMULATOR_URL", "FAL_IMAGE_CORS_ORIGINS", "FAL_IMAGE_TOKEN"}:
        assert code == 2
        assert any(problem.startswith(f"{name}: ") for problem in said["problems"])


def test_a_key_in_a_file_is_tried_and_its_place_is_shown(tmp_path: Path):
    path = tmp_path / "fal-key"
    working = {name: value for name, value in WORKING.items() if name != "FAL_KEY"}
    code, said = shown(**working, FAL_KEY_FILE=str(path))
    assert (code, said["settings"]["FAL_KEY_FILE"]["value"]) == (2, "(cannot be used)")
    path.write_text(WORKING["FAL_KEY"], encoding="utf-8")
    path.chmod(0o644)
    code, said = shown(**working, FAL_KEY_FILE=str(path))
    assert (code, said["settings"]["FAL_KEY_FILE"]["value"]) == (0, str(path))
    assert [warning.partition(":")[0] for warning in said["warnings"]] == ["FAL_KEY_FILE"]


SILENT = {
    "FAL_KEY_SSM_PARAM": "/fal/key",
    "AWS_REGION": "eu-central-1",
    "AWS_ENDPOINT_URL_SSM": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY",
    "AWS_SECRET_ACCESS_KEY": "canary",
    "NO_PROXY": "127.0.0.1",
}


def test_a_parameter_store_that_does_not_answer_is_a_problem_beside_the_others():
    code, said = shown(**SILENT, FAL_IMAGE_MAX_IMAGES="many")
    names = {problem.partition(":")[0] for problem in said["problems"]}
    assert code == 2
    assert names == {"FAL_KEY_SSM_PARAM", "FAL_IMAGE_MAX_IMAGES", "FAL_IMAGE_STORAGE_URL"}


def test_a_command_that_cannot_fetch_the_key_failed_and_may_be_tried_again():
    done = run("generate", "a cat", **SILENT)
    assert done.returncode == 1
    assert json.loads(done.stderr)["message"].startswith(
        "FAL_KEY_SSM_PARAM: Parameter Store does not answer"
    )

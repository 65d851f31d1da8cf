"""scripts/dev's program, started as a newcomer starts it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from support.programs import heed_ctrl_c

COMMAND = [sys.executable, "-m", "fal_image.dev.runner"]
PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "http_proxy", "https_proxy")


def environment(**more: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    return base | more


def once(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "--once", "a calico cat", *arguments],
        env=environment(**environ),
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )


def answer_of(stdout: str) -> dict[str, object]:
    return json.loads(stdout[stdout.index("{\n") : stdout.rindex("\n}") + 2])  # type: ignore[no-any-return]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("platform", ["aws", "cloudbase", "wsgi"])
def test_once_makes_a_picture_through_a_platforms_events(platform: str):
    done = once("--as", platform)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"emulator, no money · events: {platform}" in done.stdout
    assert answer_of(done.stdout)["state"] == "done"
    path = re.search(r"^picture (.+)$", done.stdout, re.MULTILINE)
    assert path
    assert Path(path[1]).read_bytes().startswith(b"\xff\xd8")


def test_a_key_in_the_environment_is_not_used_and_proxies_do_not_matter():
    environ = dict.fromkeys(PROXIES, "socks5://127.0.0.1:1")
    done = once(FAL_KEY="canary:canary", FAL_IMAGE_STORAGE_URL="s3://canary", **environ)
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr
    assert str(answer_of(done.stdout)["fileID"]).startswith("file:///")


def test_a_port_that_is_taken_is_an_error_only_if_it_was_asked_for(taken_port: int):
    done = once("--port", str(taken_port))
    assert done.returncode == 2
    assert str(taken_port) in done.stderr
    assert done.stdout == ""


def test_the_next_free_port_is_taken_and_named():
    with ExitStack() as held:
        with suppress(OSError):  # somebody else may hold it, which serves as well
            held.enter_context(socket.create_server(("127.0.0.1", 9000)))
        done = once()
    assert done.returncode == 0, done.stderr
    assert "(port 9000 is taken)" in done.stdout


def test_live_without_a_key_says_what_is_missing():
    done = once("--live")
    assert done.returncode == 2
    assert "FAL_KEY" in done.stderr


def test_it_serves_until_ctrl_c():
    process = subprocess.Popen(
        COMMAND,
        env=environment(),
        preexec_fn=heed_ctrl_c,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("curl "):
            break
    url = line.split("'")[1]
    with urllib.request.urlopen(f"{url}/health", timeout=10) as health:
        assert json.load(health).items() >= {"status": "ok", "lastSweep": None}.items()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert "stopped" in out

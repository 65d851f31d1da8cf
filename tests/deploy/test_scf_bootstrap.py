"""scf_bootstrap, with which CloudBase starts an HTTP function: a fault in it shows as HTTP 405 and
no word of why. And the package that it lies in, started with it.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from functions.cloudbase_http import server
from scripts.deploying.cloudbase_schema import HttpFunction
from scripts.packaging.build import build

from fal_image.dev.emulator import Emulator
from support.cloudbaserc import HTTP, config
from support.entrypoints import FAL_KEY, KEY, KEY_SHA256, ROOT
from support.unpacked import target_here

FILE = "functions/cloudbase_http/scf_bootstrap"
BYTES = (ROOT / FILE).read_bytes()

# Where each runtime has its Python (CloudBase docs, "scf_bootstrap").
INTERPRETERS = {
    "Python3.10": "/var/lang/python310/bin/python3.10",
    "Python3.9": "/var/lang/python39/bin/python3.9",
    "Python3.7": "/var/lang/python37/bin/python3.7",
}


def interpreter() -> str:
    (found,) = re.findall(r"^exec (/\S+) ", BYTES.decode(), re.M)
    return str(found)


def test_git_keeps_it_executable():
    listed = subprocess.check_output(["git", "ls-files", "-s", FILE], cwd=ROOT, encoding="utf-8")
    assert listed.startswith("100755 ")


def test_it_is_read_as_a_script_of_bash():
    assert BYTES.startswith(b"#!/bin/bash\n")
    assert BYTES.endswith(b"\n")
    assert b"\r" not in BYTES
    assert BYTES.isascii()


def test_bash_finds_no_fault_in_it():
    subprocess.run(["bash", "-n", ROOT / FILE], check=True)


def test_its_python_is_the_one_of_the_runtime_in_cloudbaserc_json():
    assert interpreter() == INTERPRETERS[config()["functions"][HTTP]["runtime"]]


def test_no_other_runtime_can_be_chosen_there():
    runtime = HttpFunction.__annotations__["runtime"]
    assert re.findall(r"Python3\.\d+", runtime.partition("Meta")[0]) == ["Python3.10"]


@contextmanager
def started(tree: Path, fal: Emulator, data: Path) -> Iterator[subprocess.Popen[str]]:
    """A package through its scf_bootstrap, in which only the Python is another: that of the tests,
    without sight of what is installed for them."""
    script = tree / "scf_bootstrap"
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace(interpreter(), f"{sys.executable} -S"), encoding="utf-8")
    environ = {
        "PATH": "/usr/bin:/bin",
        "FAL_KEY": FAL_KEY,
        "FAL_IMAGE_API_KEYS": f"web={KEY_SHA256}",
        "FAL_IMAGE_SECRET": "canary0signing0secret0of0this0test",
        "FAL_IMAGE_STORAGE_URL": (data / "pictures").as_uri(),
        "FAL_IMAGE_DATABASE_URL": f"sqlite://{data}/jobs.db",
        "FAL_IMAGE_EMULATOR_URL": fal.url,
        "FAL_IMAGE_BASE_PATH": "/fal-image-gen-http",
    }
    with subprocess.Popen(
        [script],
        cwd="/",
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def health(client: httpx.Client, program: subprocess.Popen[str]) -> Any:
    """The server's own word for it, once it listens."""
    give_up_at = time.monotonic() + 30
    while program.poll() is None and time.monotonic() < give_up_at:
        try:
            return client.get("/health").json()
        except httpx.TransportError:
            time.sleep(0.05)
    program.kill()
    pytest.fail(f"nothing listened on {server.PORT}:\n{program.communicate()[0][-2000:]}")


@pytest.mark.long
@pytest.mark.timeout(120)
def test_the_package_started_through_it_listens_on_9000_makes_a_picture_and_stops_when_told(
    tmp_path: Path,
):
    package = build(target_here("cloudbase-http"), tmp_path / "built")
    with zipfile.ZipFile(package.zip) as archive:
        names = set(archive.namelist())
        kept = archive.getinfo("scf_bootstrap")
        assert kept.external_attr >> 16 == 0o100755
        assert archive.read(kept) == BYTES
    with (
        Emulator() as fal,
        httpx.Client(base_url="http://127.0.0.1:9000", trust_env=False, timeout=20) as client,
        started(package.tree, fal, tmp_path) as program,
    ):
        assert health(client, program)["status"] == "ok"
        keyed = {"authorization": f"Bearer {KEY}"}
        for path in ("/", "/fal-image-gen-http"):  # CloudBase may cut the route off, or not
            answer = client.post(path, json={"prompt": "a calico cat"}, headers=keyed)
            assert (answer.status_code, answer.json()["state"]) == (200, "done"), answer.text
        assert client.post("/", json={"prompt": "a cat"}).status_code == 401
        program.terminate()
        said, _ = program.communicate(timeout=20)
    assert program.returncode == -signal.SIGTERM, said
    assert [json.loads(line) for line in said.splitlines()]
    assert list((tmp_path / "pictures").rglob("*.jpg"))
    there = [path for path in package.tree.rglob("*") if path.is_file()]
    assert {path.relative_to(package.tree).as_posix() for path in there} == names

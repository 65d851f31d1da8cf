"""What README says is what happens, in English and in Chinese."""

from __future__ import annotations

import json
import re
import shlex
import socket
import struct
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import build_app
from fal_image.dev.emulator import Emulator
from fal_image.server import bind, running, url_of
from fal_image.settings import Settings
from support.entrypoints import KEY
from support.instances import Server, serving
from support.pictures import png
from support.shell import answer_of, shell

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
}
README = PAGES["README.md"]
PICTURES = {"docs/pictures/page-desktop.png": 1000, "docs/pictures/page-phone.png": 300}
MOST_BYTES = 250_000  # of a picture: whoever opens README loads both

both = pytest.mark.parametrize("page", PAGES)

# What differs from one picture to the next; everything else must be as printed.
CHANGING = {
    "jobId",
    "createdAt",
    "updatedAt",
    "finishedAt",
    "fileID",
    "tempFileURL",
    "expiresAt",
    "bytes",
    "sha256",
    "falRequestId",
    "requestId",
    "timingsMs",
}


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def block(first_words: str) -> str:
    (found,) = [block for block in blocks("sh") if block.startswith(first_words)]
    return found


def request_of(command: str) -> urllib.request.Request:
    """README's curl as a request: its URL, headers and body."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["curl", "-X", "POST"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert list(options) == ["-H", "-d"]
    name, _, value = options["-H"].partition(": ")
    return urllib.request.Request(words[3], options["-d"].encode(), {name: value}, method="POST")


def shape(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: shape(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner, name) for inner in value]
    return type(value).__name__ if name in CHANGING else value


def test_the_chinese_page_has_every_block_of_the_english_one():
    shown = {name: blocks(r"\w+", page) for name, page in PAGES.items()}
    assert len(shown["README.md"]) == 6
    assert shown["README.zh-CN.md"] == shown["README.md"]


def test_the_chinese_page_names_what_the_english_one_names():
    """Routes, settings, commands and links: a row that one of them lacks is seen here."""
    named = [
        {
            *re.findall(r"`((?:GET|POST) [^`]+|/[^`]+|FAL_IMAGE_\w+|fal-image [^`]+)`", page),
            *re.findall(r"\]\((docs/[^)]+)\)", page),
        }
        for page in PAGES.values()
    ]
    assert len(named[0]) > 50
    assert named[0] == named[1]


def test_the_curl_gets_the_answer_that_stands_below_it(tmp_path: Path):
    request = request_of(block("curl -X POST"))
    listener = bind("127.0.0.1", 0)
    url = url_of(listener)
    with Emulator(run_s=0.01) as fal:
        settings = Settings(
            fal_key="any:key",
            emulator_url=fal.url,
            storage_url=tmp_path.as_uri(),
            public_url=url,
            secrets=("s" * 32,),
            allow_anonymous=True,
        )
        with running(build_app(settings, environ={}), listener):
            assert request.full_url == "http://127.0.0.1:9000/"
            request.full_url = f"{url}/"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=10) as response:
                answer = json.load(response)
    (printed,) = [json.loads(block) for block in blocks("json")]
    timings = [list(job.pop("timingsMs")) for job in (answer, printed)]
    assert timings[0] == timings[1]
    assert shape(answer) == shape(printed)


def test_the_commands_of_the_first_screen_are_there():
    """They are carried out by tests/tooling/test_runner.py, and by whoever runs this."""
    lines = block("scripts/dev").splitlines()
    assert [line.split()[0] for line in lines] == ["scripts/dev", "scripts/test"]
    for line in lines:
        assert (ROOT / line.split()[0]).stat().st_mode & 0o111


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator(run_s=0.01) as emulator:
        yield emulator


@pytest.fixture
def server(fal: Emulator, tmp_path: Path) -> Iterator[Server]:
    with serving(fal, tmp_path) as server:
        yield server


@pytest.mark.needs("curl")
def test_a_picture_is_uploaded_and_edited_as_told(server: Server, tmp_path: Path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(png())
    told = block("bytes=")
    given = answer_of(told, tmp_path, URL=server.url, KEY=KEY)
    (upload,) = re.findall(r"^# (curl -T .*)$", told, re.MULTILINE)
    assert list(given["upload"]["headers"]) == ["content-type"]
    put = shell(upload.replace("http…", given["upload"]["url"]), tmp_path)
    assert (put.returncode, put.stdout) == (0, ""), put.stderr
    edit = {"prompt": "at night", "model": "fal-ai/flux/dev/image-to-image"}
    job = server.generate(edit | {"image_url": given["fileID"]}).json
    assert job["state"] == "done", job


@pytest.mark.long
@pytest.mark.timeout(60)
def test_the_commands_make_edit_estimate_and_batch(tmp_path: Path):
    """The block as it stands, but for the emulator's port, which others may have taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = block("fal-image emulator").replace(":9001", f":{port}")
    lines = told.replace("emulator &", f"emulator --port {port} --delay-s 0 &").splitlines()
    begun, *rest = lines
    until = f"until curl {url_of_port(port)}/ > /dev/null 2>&1; do sleep 0.1; done"
    script = "\n".join([begun, "trap 'kill $!; wait' EXIT", until, *rest])
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a cat"}\n', encoding="utf-8")
    done = shell(script, tmp_path, 55)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")
    said = list(objects(done.stdout))
    assert [job["state"] for job in said[:2]] == ["done", "done"]
    assert said[2]["estimateUsd"] == 0.1
    (line,) = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["state"] == "done"


def url_of_port(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def objects(text: str) -> Iterator[Any]:
    """The JSON objects that programs print one after the other."""
    decoder, start = json.JSONDecoder(), 0
    while (start := text.find("{", start)) >= 0:
        value, start = decoder.raw_decode(text, start)
        yield value


def test_the_commands_that_deploy_are_there():
    for line in block("scripts/deploy").splitlines():
        program, target, *_ = line.split()
        if program == "scripts/deploy":
            helped = subprocess.run(
                [ROOT / program, "--help"], capture_output=True, encoding="utf-8"
            )
            assert target in helped.stdout + helped.stderr
    assert (ROOT / "Dockerfile").exists()


@both
def test_every_file_that_is_named_exists(page: str):
    text = PAGES[page]
    named = {
        *re.findall(r"\]\(([a-zA-Z/_.-]+)[)#]", text),
        *re.findall(r'src="([^"]+)"', text),
        *re.findall(r"`((?:functions|scripts|docs)/[\w/.]+)`", text),
    }
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@both
def test_the_pages_lead_to_each_other(page: str):
    (other,) = set(PAGES) - {page}
    assert f"]({other})" in PAGES[page].partition("\n\n")[2].partition("\n\n")[0]


@both
def test_the_pictures_are_there_small_and_described(page: str):
    shown = dict(re.findall(r'<img src="([^"]+)"[^>]* alt="([^"]+)">', PAGES[page]))
    assert list(shown) == list(PICTURES)
    for name, width in PICTURES.items():
        content = (ROOT / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(content) < MOST_BYTES
        assert struct.unpack(">I", content[16:20])[0] >= width
        assert len(shown[name]) > 10

"""What README says is what happens."""

import json
import re
import shlex
import urllib.request
from pathlib import Path
from typing import Any

from fal_image.app import build_app
from fal_image.dev.emulator import Emulator
from fal_image.server import bind, running, url_of
from fal_image.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

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


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def curl() -> urllib.request.Request:
    """README's curl as a request: its URL, headers and body."""
    (command,) = [block for block in blocks("sh") if block.startswith("curl")]
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["curl", "-X", "POST"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    name, _, value = options["-H"].partition(": ")
    return urllib.request.Request(words[3], options["-d"].encode(), {name: value}, method="POST")


def shape(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: shape(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner, name) for inner in value]
    return type(value).__name__ if name in CHANGING else value


def test_the_curl_gets_the_answer_that_stands_below_it(tmp_path: Path):
    request = curl()
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
    first, *_ = blocks("sh")
    for line in first.splitlines():
        assert (ROOT / line.split()[0]).stat().st_mode & 0o111


def test_every_file_that_is_named_exists():
    named = re.findall(r"\]\(([a-zA-Z/_.]+)\)", README) + re.findall(
        r"`((?:functions|scripts|docs)/[\w/.]+)`", README
    )
    assert len(named) > 6
    assert [name for name in named if not (ROOT / name).exists()] == []

"""Dockerfile does what it says: its steps are performed, the server started and asked."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.cli.owner import made_key
from fal_image.dev.emulator import Emulator
from fal_image.server import bind
from support.dockerfile import CannotBuild, Image, build, ignoring, read

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = ignoring((ROOT / ".dockerignore").read_text(encoding="utf-8"))
KEY, PAIR = made_key("web", lambda count: bytes(range(count)))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The whole file, performed once."""
    return build(ROOT, tmp_path_factory.mktemp("image"))


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with bind("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


def settings(image: Image, fal: Emulator) -> dict[str, str]:
    """What `docker run -e` would give, with a volume for pictures and jobs."""
    data = image.path("/data")
    return {
        "FAL_KEY": "any:key",
        "FAL_IMAGE_API_KEYS": PAIR,
        "FAL_IMAGE_SECRET": "s" * 32,
        "FAL_IMAGE_STORAGE_URL": data.as_uri(),
        "FAL_IMAGE_DATABASE_URL": f"sqlite://{data}/jobs.db",
        "FAL_IMAGE_EMULATOR_URL": fal.url,
    }


def until_healthy(image: Image, server: subprocess.Popen[str], port: int) -> None:
    """Ask as Docker does, with the image's own check, until it says yes."""
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at and server.poll() is None:
        with image.start(image.health, port=port) as check:
            check.communicate(timeout=10)
        if check.returncode == 0:
            return
    server.kill()
    pytest.fail(f"the server never was healthy:\n{server.communicate()[0][-2000:]}")


def ask(url: str, body: object = None) -> Any:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with _opener.open(urllib.request.Request(url, data, headers), timeout=20) as response:
        return json.load(response)


def files(image: Image) -> dict[Path, int]:
    """Every file of the image but the volume's, and when it was written."""
    data = image.path("/data")
    return {
        path: path.lstat().st_mtime_ns
        for path in image.root.rglob("*")
        if path.is_file() and data not in path.parents
    }


def unreadable(image: Image) -> Iterator[Path]:
    """What nobody but its owner may use."""
    for path in image.root.rglob("*"):
        if not path.is_symlink() and path.stat().st_mode & 0o004 == 0:
            yield path


@pytest.mark.long
@pytest.mark.timeout(300)
def test_its_steps_make_a_server_that_is_healthy_makes_a_picture_and_stops_when_told(
    image: Image,
):
    assert list(unreadable(image)) == []
    before = files(image)
    port = free_port()
    with (
        Emulator() as fal,
        image.start(image.command, port=port, environ=settings(image, fal)) as server,
    ):
        until_healthy(image, server, port)
        job = ask(f"http://127.0.0.1:{port}/", {"prompt": "a calico cat", "seed": 7})
        assert (job["state"], job["model"]) == ("done", "fal-ai/flux/schnell")
        assert ask(f"http://127.0.0.1:{port}/health")["lastSweep"]["ageS"] < 60
        server.send_signal(image.stop_signal)
        said, _ = server.communicate(timeout=20)
    assert server.returncode == 0, said
    assert '"jobId"' in said
    assert files(image) == before, "a user who may write nothing could not have done this"
    assert list(image.path("/data/ai-images").rglob("*.jpg"))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_it_has_what_every_storage_and_database_needs(image: Image):
    imports = "import boto3, qcloud_cos, tencentcloud.tcb.v20180608.tcb_client, fal_image.app"
    with image.start(["python", "-c", imports], port=0) as python:
        said, _ = python.communicate(timeout=20)
    assert (python.returncode, said) == (0, "")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_container_with_a_wrong_setting_ends_at_once_and_names_it(image: Image):
    environ = {"FAL_KEY": "any:key", "FAL_IMAGE_STORAGE": "s3://pictures"}
    with image.start(image.command, port=free_port(), environ=environ) as server:
        said, _ = server.communicate(timeout=20)
    assert server.returncode == 2
    assert "FAL_IMAGE_STORAGE:" in said


def words_of(instruction: str) -> list[str]:
    return [step.words for step in read(TEXT) if step.instruction == instruction]


def test_the_base_is_a_tag_and_nothing_else_is_fetched_but_locked_packages():
    assert words_of("FROM") == ["python:3.13-slim"]
    installs = [words for words in words_of("RUN") if "pip install" in words]
    assert installs
    assert all("--require-hashes" in words or "--no-index" in words for words in installs)
    assert not any("curl" in words or "apt" in words for words in words_of("RUN"))


def test_nobody_needs_root_and_the_port_that_is_exposed_is_the_one_that_is_asked():
    (user,), (port,) = words_of("USER"), words_of("EXPOSE")
    assert user.partition(":")[0] not in {"0", "root"}
    assert f'"{port}"' in words_of("CMD")[0]
    assert f"'127.0.0.1', {port}," in words_of("HEALTHCHECK")[0]


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        ".fal-image/secret",
        "shared/.env.prod",
        "shared/fal_image/.env",
        "shared/fal_image/__pycache__/a.pyc",
    ],
)
def test_what_may_be_secret_or_stale_does_not_reach_a_build(path: str):
    assert IGNORED(path)


def test_whatever_is_copied_reaches_a_build():
    copied = [source for words in words_of("COPY") for source in words.split()[:-1]]
    assert len(copied) > 4
    assert [source for source in copied if IGNORED(source)] == []


@pytest.mark.parametrize(
    ("rules", "left_out", "let_in"),
    [
        ("*\n!shared", ["a", "a/shared"], ["shared", "shared/a/b"]),
        ("*\n!a/b", ["a/c"], ["a/b"]),
        ("**/*.pyc", ["x.pyc", "a/b/x.pyc"], ["x.py"]),
        ("a/*.txt\n# a comment\n", ["a/b.txt"], ["a/b/c.txt", "b.txt"]),
        ("a/", ["a/b"], ["b/a"]),
    ],
)
def test_lines_of_dockerignore_mean_what_docker_means(
    rules: str, left_out: list[str], let_in: list[str]
):
    is_ignored = ignoring(rules)
    assert [path for path in (*left_out, *let_in) if is_ignored(path)] == left_out


@pytest.mark.parametrize(
    "text",
    [
        "ADD https://example.com/a /",
        "FROM alpine",
        "FROM python:3.13-slim AS build",
        "COPY --chown=1 a b",
        "COPY missing ./",
        "COPY secret ./",
        "RUN exit 3",
        'RUN ["ls"]',
        "RUN --mount=type=cache,target=/x ls",
        "USER root",
        "CMD fal-image serve",
        "HEALTHCHECK NONE",
        "ENV A 1",
        "WORKDIR a \\",
    ],
)
def test_what_has_no_stand_in_or_fails_ends_the_build(text: str, tmp_path: Path):
    context, root = tmp_path / "context", tmp_path / "root"
    context.mkdir()
    root.mkdir()
    (context / "secret").touch()
    (context / ".dockerignore").write_text("secret", encoding="utf-8")
    (context / "Dockerfile").write_text(f"# a comment\n\n{text}\n", encoding="utf-8")
    with pytest.raises(CannotBuild, match="line 3: "):
        build(context, root)


def test_paths_are_the_images_and_what_is_set_is_seen_by_later_steps(tmp_path: Path):
    context, root = tmp_path / "context", tmp_path / "root"
    (context / "folder").mkdir(parents=True)
    root.mkdir()
    (context / "folder" / "program").write_text("#!/bin/sh\n", encoding="utf-8")
    (context / "folder" / "program").chmod(0o755)
    (context / ".dockerignore").touch()
    (context / "Dockerfile").write_text(
        "ENV WORD=said\nWORKDIR /app\nCOPY folder ./\n"
        'RUN ./program && mkdir /data \\\n    && echo "$WORD" > /data/a 2> /dev/null\n',
        encoding="utf-8",
    )
    image = build(context, root)
    assert image.path("/data/a").read_text(encoding="utf-8") == "said\n"
    assert image.path("program") == root / "app" / "program"

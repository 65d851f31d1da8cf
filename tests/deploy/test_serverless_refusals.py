"""The real osls with settings that cannot work: it ends before anything is packaged or made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from support import osls
from support.tiny_project import ROOT

pytestmark = [
    pytest.mark.needs("deploy tools"),
    pytest.mark.long,
    pytest.mark.timeout(90),
]


class Aws:
    """Refuses whatever it is asked, and remembers the calls."""

    def __init__(self) -> None:
        calls = self.calls = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                action = parse_qs(body.decode("utf-8", "replace")).get("Action", [self.path])
                calls.append(self.headers.get("x-amz-target") or action[0])
                self.send_response(403)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def shell(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@pytest.fixture
def aws() -> Iterator[Aws]:
    one = Aws()
    yield one
    one.server.shutdown()
    one.server.server_close()


def given(**changes: str) -> dict[str, str]:
    return {**osls.GIVEN, **changes}


@pytest.mark.parametrize(
    ("arguments", "environ", "named"),
    [
        (["deploy"], given(FAL_KEY=""), "FAL_KEY: "),
        (["deploy"], given(FAL_IMAGE_SECRET="canary-too-short"), "FAL_IMAGE_SECRET: "),
        (["deploy", "--param=buckt=x"], given(), "--param buckt: "),
        (["deploy", "function", "-f", "api"], given(FAL_IMAGE_MODLES="x"), "FAL_IMAGE_MODLES: "),
    ],
)
def test_nothing_is_packaged_or_made(
    arguments: list[str], environ: dict[str, str], named: str, aws: Aws, tmp_path: Path
):
    """`deploy` asks AWS who it is, as osls always does first; nothing else was asked."""
    ran = osls.run(tmp_path, *arguments, **environ, **aws.shell)
    assert ran.status != 0
    assert any(line.startswith(named) for line in ran.said.splitlines())
    assert (ran.asked, ran.template) == (None, None)
    assert set(aws.calls) <= {"GetCallerIdentity"}
    assert "canary" not in ran.said


def test_a_deployment_with_good_settings_does_ask_aws(aws: Aws, tmp_path: Path):
    ran = osls.run(tmp_path, "deploy", **given(), **aws.shell)
    assert ran.status != 0
    assert set(aws.calls) > {"GetCallerIdentity"}
    assert ran.asked is not None
    assert "canary" not in ran.said


def test_what_osls_writes_down_here_is_for_its_owner_alone(tmp_path: Path):
    ran = osls.run(tmp_path, "package", **given())
    assert ran.status == 0, ran.said
    left = list((tmp_path / "project" / ".serverless").iterdir())
    assert any(osls.FAL_KEY in path.read_text(encoding="utf-8") for path in left)
    assert [path.name for path in left if path.stat().st_mode & 0o077] == []


def test_a_setting_that_the_file_makes_itself_is_not_taken_from_the_shell(tmp_path: Path):
    ran = osls.run(tmp_path, "check", **given(FAL_IMAGE_STORAGE_URL="s3://of-the-shell"))
    assert ran.status == 0, ran.said
    assert "FAL_IMAGE_STORAGE_URL of the shell is not used" in ran.said


def checked(home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`scripts/deploy aws --check` with an osls on PATH."""
    path = f"{osls.OSLS.parent}:{os.environ['PATH']}"
    return subprocess.run(
        [ROOT / "scripts" / "deploy", "aws", "--check", "--stage", "prod"],
        env={"PATH": path, "HOME": str(home), **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def test_check_makes_nothing_and_says_nothing_when_all_is_well(tmp_path: Path):
    done = checked(tmp_path, **given())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_check_tells_every_problem_on_a_line_of_its_own(tmp_path: Path):
    done = checked(
        tmp_path, **given(FAL_IMAGE_SECRET="canary-too-short", FAL_IMAGE_MAX_WAIT_S="canary")
    )
    assert done.returncode == 2
    named = {line.partition(":")[0] for line in done.stderr.splitlines()}
    assert {"FAL_IMAGE_SECRET", "FAL_IMAGE_MAX_WAIT_S"} <= named
    assert "canary" not in done.stdout + done.stderr

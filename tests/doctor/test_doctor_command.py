"""The command: its lines, its JSON, its exit codes, and an end whatever hangs."""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fal_image import app, server
from fal_image.dev.emulator import Emulator
from fal_image.doctor import Case, Finding
from fal_image.doctor.case import Part
from fal_image.doctor.findings import failed, ok
from fal_image.settings import load
from support.examined import environment, found, program, run

CANARIES = {
    "FAL_KEY": "canary-key-id-0123456789:canary-key-secret-987654",
    "FAL_IMAGE_SECRET": "canary-secret-of-at-least-32-characters",
    "AWS_SECRET_ACCESS_KEY": "canary-secret-access-key",
    "AWS_SESSION_TOKEN": "canary-session-token",
    "CLOUDBASE_APIKEY": "canary-apikey-of-cloudbase",
}


def house(fal: Emulator, directory: Path, **more: str) -> dict[str, str]:
    return environment(
        fal,
        FAL_IMAGE_STORAGE_URL=(directory / "pictures").as_uri(),
        FAL_IMAGE_DATABASE_URL=f"sqlite://{directory / 'jobs.db'}",
        **more,
    )


def test_it_says_a_line_for_each_check_and_ends_with_0(fal: Emulator, tmp_path: Path):
    listener = server.bind("127.0.0.1", 0)
    environ = house(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=server.url_of(listener))
    services = app.compose(load(environ), environ=environ)
    with server.running(app.front(services), listener):
        done = program(environ=environ, cwd=tmp_path)
    *lines, last = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert all(re.match(r"(ok|warning|skipped) +[a-z0-9_.]+: |  ", line) for line in lines)
    assert "ok       fal.key: fal knows the key" in lines
    assert re.fullmatch(r"\d+ ok, .*", last)
    assert fal.ledger == []


def test_a_failure_has_its_fix_on_the_next_line_and_ends_with_1(fal: Emulator, tmp_path: Path):
    done = program(environ=house(fal, tmp_path, FAL_KEY="revoked:key"), cwd=tmp_path)
    lines = done.stdout.splitlines()
    (number,) = [at for at, line in enumerate(lines) if line.startswith("failed ")]
    assert done.returncode == 1
    assert "fal refuses the key" in lines[number]
    assert re.match(r" {9}\S.*FAL_KEY", lines[number + 1])


def test_json_is_one_object_with_the_same_findings(fal: Emulator, tmp_path: Path):
    ran = run(house(fal, tmp_path), tmp_path)
    assert ran.said["ok"] is True
    assert {"check", "verdict", "said", "fix"} == set(ran.said["findings"][0])
    assert {finding.verdict for finding in ran.all} <= {"ok", "warning", "skipped"}
    assert run(house(fal, tmp_path, FAL_KEY=""), tmp_path).said["ok"] is False


def test_settings_that_cannot_be_used_end_with_2_and_are_all_named(fal: Emulator, tmp_path: Path):
    environ = house(fal, tmp_path, FAL_IMAGE_MAX_IMAGES="many", FAL_IMAGE_STORAGE="x")
    ran = run(environ | {"FAL_IMAGE_URL": "ftp://x", "FAL_IMAGE_STORAGE_URL": ""}, tmp_path)
    named = {finding.said.partition(":")[0] for finding in ran.by_check["settings"]}
    assert ran.code == 2
    assert named == {
        "FAL_IMAGE_MAX_IMAGES",
        "FAL_IMAGE_STORAGE",
        "FAL_IMAGE_STORAGE_URL",
        "FAL_IMAGE_URL",
    }
    assert all(finding.fix for finding in ran.all)
    assert fal.calls.total() == 0


def test_a_key_that_cannot_be_fetched_is_a_finding(tmp_path: Path):
    environ = environment(
        FAL_KEY="",
        FAL_KEY_SSM_PARAM="/fal/key",
        AWS_REGION="eu-central-1",
        AWS_ENDPOINT_URL_SSM="http://127.0.0.1:9",
        FAL_IMAGE_STORAGE_URL=tmp_path.as_uri(),
    )
    ran = run(environ, tmp_path)
    assert (ran.code, ran.of("failed")) == (1, ["settings"])
    assert ran["settings"].said.startswith("FAL_KEY_SSM_PARAM: Parameter Store does not answer")


def test_an_open_purse_is_a_warning(fal: Emulator, tmp_path: Path):
    environ = house(fal, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1", FAL_IMAGE_EMULATOR_URL="")
    (warned,) = found(environ, only="settings").of("warning")
    assert warned == "settings.FAL_IMAGE_TOTAL_DAILY_BUDGET_USD"


def test_no_secret_is_ever_printed(tmp_path: Path):
    def leak(case: Case) -> Iterator[Finding]:
        yield ok("leak", " ".join(CANARIES.values()))
        yield failed(
            "leak", "Authorization: Key a:canary-in-words", "https://me:canary@example.com"
        )
        raise RuntimeError(CANARIES["FAL_KEY"])

    environ = environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri(), **CANARIES)
    said = str([finding.to_json() for finding in found(environ, parts=[Part("leak", leak)]).all])
    assert "***" in said
    assert "canary" not in said


def test_a_check_that_breaks_is_a_finding_and_stops_no_other(tmp_path: Path):
    def breaking(case: Case) -> Iterator[Finding]:
        yield ok("first", "fine")
        raise KeyError("what nobody\nthought of")

    def sound(case: Case) -> Iterator[Finding]:
        yield ok("sound", "fine")

    parts = [Part("breaking", breaking), Part("sound", sound)]
    seen = found(environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri()), parts=parts)
    assert [finding.check for finding in seen.all] == ["first", "breaking", "sound"]
    assert seen["breaking"].verdict == "failed"
    assert "KeyError" in seen["breaking"].said
    assert "\n" not in seen["breaking"].said


def test_whatever_hangs_the_examination_ends_and_the_rest_is_told(tmp_path: Path):
    never = threading.Event()

    def hanging(case: Case) -> Iterator[Finding]:
        yield ok("before", "fine")
        never.wait(30)

    def sound(case: Case) -> Iterator[Finding]:
        yield ok("sound", "fine")

    parts = [Part("hanging", hanging), Part("hanging too", hanging), Part("sound", sound)]
    began_at = time.monotonic()
    environ = environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    seen = found(environ, parts=parts, limit_s=0.3)
    never.set()
    assert time.monotonic() - began_at < 5
    assert seen.of("failed") == ["hanging", "hanging too"]
    assert seen.of("ok") == ["before", "before", "sound"]
    assert "did not end within 0.3 s" in seen["hanging"].said


def test_findings_come_as_they_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    told = threading.Event()

    def first(case: Case) -> Iterator[Finding]:
        yield ok("first", "fine")
        assert told.wait(10)
        yield ok("second", "fine")

    from fal_image.doctor import examine

    environ = environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    case = Case(app.compose(load(environ), environ=environ), environ)
    findings = examine(case, [Part("slow", first)])
    assert next(findings).check == "first"
    told.set()
    assert next(findings).check == "second"
    assert json.dumps([finding.to_json() for finding in findings]) == "[]"

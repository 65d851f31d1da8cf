"""The way out, the key, the models and the clock."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.seams import Seams
from support.examined import Found, environment, found
from support.front import Front


def fals(fal: Emulator, directory: Path, seams: Seams | None = None, **settings: str) -> Found:
    environ = environment(fal, FAL_IMAGE_STORAGE_URL=directory.as_uri(), **settings)
    return found(environ, only="fal", seams=seams or Seams())


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def closed() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def out(directory: Path, address: str, **settings: str) -> Found:
    """What is found of the way out when all of fal's hosts are this address."""
    hosts = ("queue.fal.run", "rest.fal.ai", "v3.fal.media", "api.fal.ai")
    environ = environment(FAL_IMAGE_STORAGE_URL=directory.as_uri(), **settings)
    return Found(
        finding
        for part in ("egress", "fal")
        for finding in found(
            environ, only=part, seams=Seams(detours=dict.fromkeys(hosts, address)), patience_s=0.3
        ).all
    )


def test_a_way_out_is_one_finding_for_each_of_fals_hosts(fal: Emulator, tmp_path: Path):
    seen = out(tmp_path, fal.url)
    hosts = ["egress.queue.fal.run", "egress.rest.fal.ai", "egress.v3.fal.media"]
    assert seen.of("ok") == [*hosts, "fal.key", "fal.clock", "fal.model"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (lambda: "http://fal.invalid", "EAI_AGAIN"),
        (closed, "refused"),
    ],
)
def test_why_fal_is_not_reached_is_told_apart(
    tmp_path: Path, address: Callable[[], str], words: str
):
    seen = out(tmp_path, address())
    assert len(seen.of("failed")) == 3
    assert words in seen["egress.queue.fal.run"].said
    assert words in seen["egress.v3.fal.media"].said
    assert seen["fal.key"].verdict == "skipped"
    assert words in seen["fal.key"].said


def test_an_answer_that_does_not_come_is_told_apart(tmp_path: Path):
    with silent() as address:
        seen = out(tmp_path, address)
    assert len(seen.of("failed")) == 3
    assert "in time" in seen["egress.rest.fal.ai"].said


def test_tls_that_is_not_fals_is_told_apart(fal: Emulator, tmp_path: Path):
    with Front(tmp_path) as front:
        front.to(fal.url)
        seen = out(tmp_path, front.url)
    assert "TLS failed" in seen["egress.queue.fal.run"].said
    assert "certificates" in str(seen["egress.queue.fal.run"].fix)


def test_an_emulator_that_is_not_there_is_named(fal: Emulator, tmp_path: Path):
    address = closed()
    environ = environment(FAL_IMAGE_EMULATOR_URL=address, FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    seen = found(environ, only="egress")["egress.queue.fal.run"]
    assert address in seen.said
    assert "fal-image emulator" in str(seen.fix)


def test_a_missing_key_is_a_failure(fal: Emulator, tmp_path: Path):
    seen = fals(fal, tmp_path, FAL_KEY="")
    assert seen.of("failed") == ["fal.key"]
    assert "FAL_KEY" in str(seen["fal.key"].fix)


def test_an_account_without_balance_is_told_from_a_wrong_key(fal: Emulator, tmp_path: Path):
    seen = fals(fal, tmp_path, FAL_KEY="locked:key")["fal.key"]
    assert (seen.verdict, "balance" in seen.said) == ("failed", True)
    assert "billing" in str(seen.fix)


@pytest.mark.parametrize("fault", ["500", "503", "429", "502-nginx"])
def test_fals_own_trouble_is_no_verdict_on_the_key(fal: Emulator, tmp_path: Path, fault: str):
    fal.fault(fault, on="prices")
    seen = fals(fal, tmp_path)
    assert seen["fal.key"].verdict == "warning"
    assert seen["fal.model"].verdict == "skipped"


@pytest.mark.parametrize(
    ("off", "verdict"),
    [
        (timedelta(), "ok"),
        (timedelta(seconds=60), "warning"),
        (timedelta(seconds=-60), "warning"),
        (timedelta(seconds=400), "failed"),
        (timedelta(days=-1), "failed"),
    ],
)
def test_a_clock_is_compared_with_fals(fal: Emulator, tmp_path: Path, off: timedelta, verdict: str):
    seen = fals(fal, tmp_path, Seams(now=lambda: datetime.now(timezone.utc) + off))
    assert seen["fal.clock"].verdict == verdict
    if off:
        assert ("ahead" if off > timedelta() else "behind") in seen["fal.clock"].said


def test_a_model_that_the_endpoint_itself_forbids_is_a_failure(fal: Emulator, tmp_path: Path):
    seen = fals(fal, tmp_path, FAL_IMAGE_MODELS="fal-ai/flux/dev")
    assert seen["fal.model"].verdict == "failed"
    assert "FAL_IMAGE_MODELS" in seen["fal.model"].said


def test_every_alias_is_asked_about(fal: Emulator, tmp_path: Path):
    aliases = "a=fal-ai/flux/dev,b=fal-ai/flux/dve,c=fal-ai/flux/schnell"
    seen = fals(fal, tmp_path, FAL_IMAGE_MODEL_ALIASES=aliases)
    assert "fal-ai/flux/dve" in seen["fal.model"].said
    assert "fal-ai/flux/dev" in str(seen["fal.model"].fix)
    assert fal.calls["prices"] == 3


def test_nothing_is_paid(fal: Emulator, tmp_path: Path):
    found(environment(fal, FAL_IMAGE_STORAGE_URL=tmp_path.as_uri()))
    assert fal.ledger == []
    assert fal.calls["submit"] + fal.calls["run"] == 0

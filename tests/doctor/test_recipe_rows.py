"""Every row of the table of common errors in CloudBase's recipe for fal, found before anybody
calls: the error as a user meets it, and the finding that tells it with its fix."""

import json
from pathlib import Path

import pytest

from fal_image.cli import doctor as command
from fal_image.dev.emulator import Emulator
from fal_image.doctor.scf_function import API_HOST
from fal_image.seams import Seams
from support.deployments import CLOUDBASE_TOLD, scf
from support.examined import environment, run
from support.fake_cos import ENVIRON
from support.fake_scf import FakeScf

TENCENTS_SDK = pytest.mark.filterwarnings(
    "ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning"
)


def test_401_authentication_required_is_a_finding_about_the_key(fal: Emulator, tmp_path: Path):
    environ = environment(fal, FAL_KEY="revoked:key", FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    found = run(environ, tmp_path)
    assert (found.code, found.of("failed")) == (1, ["fal.key"])
    assert "401" in found["fal.key"].said
    assert "deploy it again" in str(found["fal.key"].fix)
    assert "fal.ai/dashboard/keys" in str(found["fal.key"].fix)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("FAL_IMAGE_DEFAULT_MODEL", "fal-ai/flux-schnell"),
        ("FAL_IMAGE_MODEL_ALIASES", "fast=fal-ai/flux-schnell"),
    ],
)
def test_model_not_found_is_a_finding_with_the_right_id(
    fal: Emulator, tmp_path: Path, setting: str, value: str
):
    environ = environment(fal, FAL_IMAGE_STORAGE_URL=tmp_path.as_uri(), **{setting: value})
    found = run(environ, tmp_path)
    assert (found.code, found.of("failed")) == (1, ["fal.model"])
    assert setting in found["fal.model"].said
    assert "404" in found["fal.model"].said
    assert "Did you mean fal-ai/flux/schnell?" in str(found["fal.model"].fix)


@pytest.mark.parametrize("prefix", ["../pictures", "/pictures", "pictures/a b", "a/$(id)"])
def test_cloudpath_invalid_is_a_finding_about_the_prefix(
    fal: Emulator, tmp_path: Path, prefix: str
):
    environ = environment(
        fal, FAL_IMAGE_STORAGE_URL=f"cloudbase://env-1/{prefix}", CLOUDBASE_APIKEY="x"
    )
    found = run(environ, tmp_path)
    assert (found.code, found.of("failed")) == (2, ["settings"])
    assert "FAL_IMAGE_STORAGE_URL" in found["settings"].said
    assert "no leading '/'" in found["settings"].said
    assert fal.calls.total() == 0


def test_eai_again_is_a_finding_about_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    hosts = ("queue.fal.run", "rest.fal.ai", "v3.fal.media", "api.fal.ai")
    nowhere = Seams(detours=dict.fromkeys(hosts, "http://fal.invalid"))
    environ = environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    code = command.report(environ, as_json=True, seams=nowhere)
    findings = json.loads(capsys.readouterr().out)["findings"]
    failed = {finding["check"]: finding for finding in findings if finding["verdict"] == "failed"}
    assert code == 1
    assert set(failed) == {f"egress.{host}" for host in hosts[:3]}
    for finding in failed.values():
        assert "EAI_AGAIN" in finding["said"]
        assert "public network access" in finding["fix"]
        assert "NAT" in finding["fix"]


@TENCENTS_SDK
def test_disconnects_after_3_seconds_is_a_finding_about_the_time_out(
    fal: Emulator, capsys: pytest.CaptureFixture[str]
):
    failed = failed_functions(fal, capsys, scf(Timeout=3))
    assert set(failed) == {"function.timeout"}
    assert "ended after 3 s" in failed["function.timeout"]["said"]
    assert '"timeout": 60' in failed["function.timeout"]["fix"]


@TENCENTS_SDK
def test_a_slow_model_in_60_seconds_is_a_finding_about_the_time_out(
    fal: Emulator, capsys: pytest.CaptureFixture[str]
):
    told = {**CLOUDBASE_TOLD, "FAL_IMAGE_DEFAULT_MODEL": "fal-ai/flux-kontext/dev"}
    warned = failed_functions(fal, capsys, scf(told, Timeout=60), verdict="warning")
    assert '"timeout": 120' in warned["function.timeout"]["fix"]


@TENCENTS_SDK
@pytest.mark.parametrize(("memory_mb", "verdict"), [(128, "failed"), (256, "warning")])
def test_out_of_memory_is_a_finding_about_the_memory(
    fal: Emulator, capsys: pytest.CaptureFixture[str], memory_mb: int, verdict: str
):
    found = failed_functions(fal, capsys, scf(MemorySize=memory_mb), verdict=verdict)
    assert "out of memory" in found["function.memory"]["said"]
    assert '"memorySize": 512' in found["function.memory"]["fix"]


@TENCENTS_SDK
def test_eai_again_in_the_function_is_a_finding_about_its_network(
    fal: Emulator, capsys: pytest.CaptureFixture[str]
):
    closed = {"PublicNetStatus": "DISABLE"}
    failed = failed_functions(fal, capsys, scf(PublicNetConfig=closed))
    assert "EAI_AGAIN" in failed["function.network"]["said"]
    assert "Network, Public Access" in failed["function.network"]["fix"]
    assert "NAT" in failed["function.network"]["fix"]


def failed_functions(
    fal: Emulator, capsys: pytest.CaptureFixture[str], cloud: FakeScf, verdict: str = "failed"
) -> dict[str, dict[str, str]]:
    """What the command says of the function in CloudBase, by check."""
    environ = environment(
        fal,
        **ENVIRON,
        FAL_IMAGE_STORAGE_URL="cloudbase://my-env/ai-images",
        FAL_IMAGE_DATABASE_URL="",
    )
    with cloud.serving() as url:
        gateway = "my-env.api.tcloudbasegateway.com"
        seams = Seams(detours={API_HOST: url, gateway: url})
        command.report(environ, as_json=True, seams=seams)
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {
        found["check"]: found
        for found in findings
        if found["verdict"] == verdict and found["check"].startswith("function")
    }

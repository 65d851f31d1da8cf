"""The locks and pyproject.toml say the same, for every Python and system the project runs on."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
import tomli
from packaging.requirements import Requirement

from support.tiny_project import ROOT

PROJECT = tomli.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))
GROUPS = PROJECT["dependency-groups"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
AT_RUN_TIME = PROJECT["project"]["dependencies"] + EXTRAS["aws"]
FUNCTIONS = ("aws", "cloudbase", "cloudbase_http")
DIRECT = {
    "requirements.lock": AT_RUN_TIME + GROUPS["build"],
    "requirements-dev.lock": AT_RUN_TIME
    + EXTRAS["tencent"]
    + GROUPS["build"]
    + [entry for entry in GROUPS["dev"] if isinstance(entry, str)],
}
FUNCTION_LOCKS = [f"functions/{name}/requirements.lock" for name in FUNCTIONS]
MACHINES = [
    {"python_version": version, "python_full_version": f"{version}.1", **system}
    for version, system in itertools.product(
        ["3.10", "3.11", "3.12", "3.13", "3.14"],
        [
            {"sys_platform": "linux", "platform_machine": "x86_64"},
            {"sys_platform": "linux", "platform_machine": "aarch64"},
            {"sys_platform": "darwin", "platform_machine": "x86_64"},
            {"sys_platform": "darwin", "platform_machine": "arm64"},
        ],
    )
]


def text_of(lock: str) -> str:
    return ROOT.joinpath(lock).read_text(encoding="utf-8")


def pins(lock: str) -> list[Requirement]:
    return [Requirement(line) for line in re.findall(r"^(\w.*==.*?) \\$", text_of(lock), re.M)]


def requested(path: str) -> Iterator[str]:
    """The packages that a file of requirements names, itself or by another file."""
    for line in text_of(path).splitlines():
        if line.startswith("-r "):
            yield from requested(str(PurePosixPath(path).parent / line.removeprefix("-r ")))
        elif name := line.partition("#")[0].strip():
            yield name


def pinned_on(machine: dict[str, str], lock: str) -> Iterator[tuple[str, str]]:
    for pin in pins(lock):
        if pin.marker is None or pin.marker.evaluate(machine):
            yield pin.name, str(pin.specifier).removeprefix("==")


@pytest.mark.parametrize("lock", DIRECT)
def test_every_requirement_is_pinned_once_to_a_version_it_allows(lock: str):
    for machine in MACHINES:
        found = list(pinned_on(machine, lock))
        versions = dict(found)
        assert len(versions) == len(found), machine
        for requirement in map(Requirement, DIRECT[lock]):
            if requirement.marker and not requirement.marker.evaluate(machine):
                continue
            version = versions.get(requirement.name, "nothing")
            assert requirement.specifier.contains(version), (requirement, version, machine)


def test_the_test_tools_leave_the_run_time_pins_alone():
    for machine in MACHINES:
        run_time, tests = (dict(pinned_on(machine, lock)) for lock in DIRECT)
        assert run_time.items() <= tests.items(), machine


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_gets_what_it_asks_for_in_the_versions_that_are_tested(function: str):
    asked = set(requested(f"functions/{function}/requirements.in"))
    assert asked <= {Requirement(line).name for line in DIRECT["requirements-dev.lock"]}
    for machine in MACHINES:
        tested = dict(pinned_on(machine, "requirements-dev.lock"))
        deployed = dict(pinned_on(machine, f"functions/{function}/requirements.lock"))
        assert deployed.items() <= tested.items(), machine
        assert asked <= deployed.keys(), machine


def test_no_function_carries_an_sdk_of_the_other_cloud_or_what_is_for_terminals():
    names = {lock: {pin.name for pin in pins(lock)} for lock in FUNCTION_LOCKS}
    aws, cloudbase, http = names.values()
    everywhere = {"boto3", "botocore", "mcp", "pycryptodome", "rich", "typer"}
    assert [lock for lock, found in names.items() if found & everywhere] == []
    assert not {name for name in aws if name.startswith(("cos-", "crcmod", "tencentcloud"))}
    assert http - cloudbase == {"waitress"}
    assert cloudbase < http


@pytest.mark.parametrize("lock", [*DIRECT, *FUNCTION_LOCKS])
def test_a_lock_holds_pins_and_hashes_and_names_no_index(lock: str):
    text = text_of(lock)
    pin_or_hash = re.compile(r"\w\S*==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert [line for line in lines if not pin_or_hash.fullmatch(line)] == []
    assert "://" not in text


def test_the_one_package_without_a_wheel_is_not_installed_for_a_first_picture():
    assert "crcmod" in {pin.name for pin in pins("requirements-dev.lock")}
    assert "crcmod" not in {pin.name for pin in pins("requirements.lock")}

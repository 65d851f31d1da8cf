"""The real packages: what is in them, and whether their cloud can load it.

They hold the locked packages, which the first run fetches.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.tags import Tag, cpython_tags, parse_tag
from scripts.packaging.build import Package, build
from scripts.packaging.bytecode import compiler
from scripts.packaging.targets import AWS, CLOUDBASE, CLOUDBASE_HTTP, Target

from support.tiny_project import ROOT
from support.unpacked import locked_versions

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

TARGETS = {
    "aws": Target(AWS, "3.13", "arm64"),
    "aws on x86_64": Target(AWS, "3.13", "x86_64"),
    "cloudbase": Target(CLOUDBASE, "3.10", "x86_64"),
    "cloudbase-http": Target(CLOUDBASE_HTTP, "3.10", "x86_64"),
}
HERE = "{}.{}".format(*sys.version_info)  # the one version whose bytecode can always be made
ELF_MACHINES = {"x86_64": 62, "arm64": 183}  # the ELF header's e_machine
NEVER = {
    "boto3",
    "botocore",
    "typer",
    "rich",
    "Crypto",
    "pytest",
    "moto",
    "pip",
    "mcp",
    "uvicorn",
}
UNWANTED = re.compile(
    r"(.+/)?(tests?|bin)/.*|\..*|.+\.(pyi|lock|in|toml|h)"
    r"|fal_image/(dev|doctor|cli|endpoint|mcp).*"
)


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


@pytest.fixture(scope="module")
def package(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return build(target, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def files(package: Package) -> dict[str, bytes]:
    with zipfile.ZipFile(package.zip) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def fitting(target: Target) -> set[Tag]:
    """Every tag that a wheel may have to be loaded by the target, by the rules of the tags."""
    major, minor = (int(part) for part in target.python.split("."))
    machine = target.markers["platform_machine"]
    named = [f"manylinux{name}_{machine}" for name in ("1", "2010", "2014")]
    numbered = [f"manylinux_2_{older}_{machine}" for older in range(target.glibc[1] + 1)]
    compiled = cpython_tags((major, minor), platforms=[*named, *numbered])
    return {*compiled, *parse_tag("py3-none-any"), *parse_tag(f"py{major}{minor}-none-any")}


def test_each_wheel_fits_the_target(files: dict[str, bytes], target: Target):
    wheels = {
        name: re.findall(rb"^Tag: (\S+)", content, re.M)
        for name, content in files.items()
        if name.endswith(".dist-info/WHEEL")
    }
    assert len(wheels) > 15
    for name, said in wheels.items():
        tags = {tag for text in said for tag in parse_tag(text.decode())}
        assert tags & fitting(target), name


def test_each_compiled_file_is_for_the_targets_python_machine_and_c_library(
    files: dict[str, bytes], target: Target
):
    version, machine = target.python.replace(".", ""), target.markers["platform_machine"]
    loadable = re.compile(rf".+\.(cpython-{version}-{machine}-linux-gnu|abi3)\.so")
    compiled = {name: raw for name, raw in files.items() if raw.startswith(b"\x7fELF")}
    assert compiled
    libraries = {name for name in files if re.fullmatch(r"pillow\.libs/.+\.so[.\d]*", name)}
    assert {name for name in files if name.endswith(".so")} | libraries == set(compiled)
    assert [name for name in compiled.keys() - libraries if not loadable.fullmatch(name)] == []
    for name, raw in compiled.items():
        assert int.from_bytes(raw[18:20], "little") == ELF_MACHINES[target.arch], name
        needed = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", raw)]
        assert (2, max(needed, default=0)) <= target.glibc, name


def test_the_versions_are_the_locked_ones(files: dict[str, bytes], target: Target):
    folders = {name.split("/")[0] for name in files if ".dist-info/" in name}
    installed = {tuple(name.removesuffix(".dist-info").rsplit("-", 1)) for name in folders}
    # A package without a wheel has no .dist-info folder.
    locked = {pin for pin in locked_versions(target).items() if pin[0] != "crcmod"}
    assert installed == locked


def test_nothing_is_there_that_a_function_does_not_need(files: dict[str, bytes]):
    assert {name.split("/")[0] for name in files} & NEVER == set()
    assert [name for name in files if UNWANTED.fullmatch(name)] == []


def test_bytecode_is_there_for_the_targets_python_if_this_machine_has_it(
    package: Package, files: dict[str, bytes], target: Target
):
    bytecode = {name for name in files if name.endswith(".pyc")}
    assert bool(bytecode) == (compiler(target.python) is not None)
    assert bool(bytecode) == (package.bytecode_bytes > 0)
    ending = f".cpython-{target.python.replace('.', '')}.pyc"
    sources = {name.replace("__pycache__/", "").removesuffix(ending) + ".py" for name in bytecode}
    assert sources <= set(files)
    assert sources or not bytecode
    assert not re.search(re.escape(str(ROOT)).encode(), b"".join(files[name] for name in bytecode))


def test_the_package_without_a_wheel_is_there_for_tencent_and_python_only(
    files: dict[str, bytes], target: Target
):
    endings = {Path(name).suffix for name in files if name.startswith("crcmod/")}
    assert endings - {".pyc"} == (set() if target.cloud is AWS else {".py"})


def test_the_zip_is_within_its_limit_and_keeps_no_dates_and_odd_modes(
    package: Package, target: Target
):
    assert package.zip.stat().st_size <= target.cloud.max_zip_bytes
    with zipfile.ZipFile(package.zip) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    modes = {entry.filename: entry.external_attr >> 16 for entry in entries}
    executable = {name for name, mode in modes.items() if mode == 0o100755}
    assert executable == ({"scf_bootstrap"} if target.cloud is CLOUDBASE_HTTP else set())
    assert set(modes.values()) <= {0o100644, 0o100755}


@pytest.mark.parametrize("cloud", ["aws", "cloudbase-http"])
def test_fetched_twice_and_built_twice_the_zip_is_the_same(cloud: str, tmp_path: Path):
    zips = []
    for number, zone in enumerate(["Pacific/Kiritimati", "America/Lima"]):
        project = tmp_path / f"place {number}"
        for part in ("functions", "scripts", "shared"):
            junk = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, project / part, ignore=junk)
        subprocess.run(
            [sys.executable, "-m", "scripts.packaging", cloud, "--python", HERE],
            cwd=project,
            env=os.environ | {"TZ": zone, "PYTHONHASHSEED": str(number)},
            umask=0o077 if number else 0o022,
            check=True,
            capture_output=True,
        )
        zips.append((project / ".build" / f"{cloud}.zip").read_bytes())
    assert zips[0] == zips[1]

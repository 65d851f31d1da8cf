"""scripts/package on a copy of this project, with packages that are small enough to look into."""

from __future__ import annotations

import base64
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.tiny_backend import write_wheel
from support.tiny_project import ROOT
from support.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_a_package_holds_the_function_fal_image_and_the_locked_packages(workshop: Workshop):
    workshop.pin("runs", {"runs/__init__.py": "", "runs/data.json": "{}"})
    done = workshop.package("aws")
    assert done.returncode == 0, done.stderr
    files = workshop.made()
    assert files["functions/aws/handler.py"] == (ROOT / "functions/aws/handler.py").read_bytes()
    data = {"fal_image/fal/catalog.json", "fal_image/page/index.html", "runs/data.json"}
    assert {"fal_image/app.py", *data} <= set(files)
    assert {name.split("/")[0] for name in files} == {
        "fal_image",
        "functions",
        "runs",
        "runs-1.dist-info",
    }


def test_the_folder_holds_what_the_zip_holds(workshop: Workshop):
    workshop.pin("runs", {"runs.py": "x = 1\n"})
    workshop.package("cloudbase-http")
    tree = workshop.folder / ".build" / "cloudbase-http"
    found = {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file()
    }
    assert found == workshop.made("cloudbase-http")
    assert os.access(tree / "scf_bootstrap", os.X_OK)


def test_a_strict_umask_does_not_shut_the_function_out(workshop: Workshop):
    workshop.pin("runs", {"runs/inner/core.py": ""})
    workshop.package("cloudbase", umask=0o077)
    tree = workshop.folder / ".build" / "cloudbase"
    folders = [tree, tree / "runs" / "inner", tree / "fal_image"]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o755] * 3
    assert (tree / "index.py").stat().st_mode & 0o777 == 0o644


def test_ctrl_c_ends_it_without_a_traceback_and_the_next_build_is_whole(workshop: Workshop):
    workshop.pin("runs", {"runs.py": ""})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}"
        building = workshop.begun("aws", PIP_NO_INDEX="0", PIP_INDEX_URL=index)
        assert building.stderr is not None
        assert building.stderr.readline().startswith("fetching")
        building.send_signal(signal.SIGINT)
        assert building.communicate(timeout=10) == ("", "")
    assert building.returncode == 130
    assert workshop.package("aws").returncode == 0
    assert "runs.py" in workshop.made()


def test_two_builds_at_once_both_end_well(workshop: Workshop):
    workshop.pin("runs", {"runs.py": ""})
    builds = [workshop.begun("aws", "--arch", arch) for arch in ("arm64", "x86_64")]
    assert [build.communicate(timeout=20)[1].count("Traceback") for build in builds] == [0, 0]
    assert [build.returncode for build in builds] == [0, 0]
    assert "runs.py" in workshop.made()


def test_cloudbase_finds_the_handler_at_the_root_too(workshop: Workshop):
    workshop.package("cloudbase")
    files = workshop.made("cloudbase")
    assert files["index.py"] == files["functions/cloudbase/handler.py"]
    assert "fal_image/server.py" not in files


def test_only_the_http_function_has_the_server(workshop: Workshop):
    workshop.package("cloudbase-http")
    files = workshop.made("cloudbase-http")
    assert files["scf_bootstrap"].startswith(b"#!/bin/bash\n")
    assert {"fal_image/server.py", "functions/cloudbase_http/server.py"} <= set(files)


def test_what_is_for_terminals_and_development_stays_out(workshop: Workshop):
    shared = workshop.folder / "shared" / "fal_image"
    bytecode = "__pycache__/app.cpython-313.pyc"
    terminals = ("cli/new.py", "mcp_server/new.py", "endpoint.py", "__main__.py")
    for name in (".DS_Store", bytecode, "notes/secret.txt", *terminals):
        shared.joinpath(name).parent.mkdir(exist_ok=True)
        shared.joinpath(name).write_text("stale", encoding="utf-8")
    workshop.package("aws")
    files = workshop.made()
    inside = [name.removeprefix("fal_image/") for name in files]
    assert [
        name for name in inside if name.startswith(("dev/", "doctor/", "cli", "mcp", "."))
    ] == []
    assert not set(terminals) & set(inside)
    assert [name for name in inside if "secret" in name] == []
    assert b"stale" not in files.values()


def test_wheels_are_opened_without_their_tests_commands_and_bytecode(workshop: Workshop):
    workshop.pin(
        "runs",
        {
            "runs/core.py": "",
            "runs/core.pyi": "",
            "runs/tests/test_core.py": "",
            "runs/__pycache__/core.cpython-313.pyc": "stale",
            "runs-1.data/scripts/run": "",
            "runs-1.data/platlib/runs/more.py": "",
            "runs-1.dist-info/licenses/LICENSE": "MIT",
            "tests/test_runs.py": "",
        },
    )
    workshop.package("aws")
    files = workshop.made()
    assert b"stale" not in files.values()
    kept = {name for name in files if "__pycache__" not in name}
    assert {name for name in kept if name.startswith(("runs", "tests"))} == {
        "runs/core.py",
        "runs/more.py",
        "runs-1.dist-info/METADATA",
        "runs-1.dist-info/WHEEL",
        "runs-1.dist-info/licenses/LICENSE",
    }


def test_the_same_files_give_the_same_bytes_anywhere(tmp_path: Path):
    zips = []
    circumstances = [
        {"umask": 0o077, "LC_ALL": "C", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "1"},
        {"umask": 0o002, "LC_ALL": "C.UTF-8", "TZ": "America/Lima", "PYTHONHASHSEED": "2"},
    ]
    for number, circumstance in enumerate(circumstances):
        workshop = Workshop(tmp_path / f"place {number}")
        names = ["b", "a", "c"] if number else ["c", "b", "a"]
        for name in names:
            workshop.pin(name, {f"{name}.py": f"# {name}\n", f"{name}é.txt": "é"})
        for path in workshop.folder.rglob("*.py"):
            os.utime(path, (number * 10**9, number * 10**9))
            path.chmod(0o600 if number else 0o777)
        done = workshop.package(
            *("cloudbase-http", "--python", "{}.{}".format(*sys.version_info)),
            **circumstance,  # type: ignore[arg-type]
        )
        assert done.returncode == 0, done.stderr
        assert "bytecode, made by" in done.stdout
        zips.append((workshop.folder / ".build" / "cloudbase-http.zip").read_bytes())
    assert zips[0] == zips[1]


@pytest.mark.parametrize(
    ("target", "tags"),
    [
        (
            ("aws",),
            [
                "cp313-cp313-manylinux2014_aarch64",
                "cp313-cp313-manylinux_2_17_aarch64",
                "cp313-cp313-manylinux_2_24_aarch64",
                "cp311-abi3-manylinux_2_28_aarch64",
                "cp313-cp313-manylinux_2_31_aarch64",
                "cp313-cp313-manylinux_2_34_aarch64",
            ],
        ),
        (
            ("aws", "--arch", "x86_64"),
            [
                "cp313-cp313-manylinux1_x86_64",
                "cp313-cp313-manylinux2010_x86_64",
                "cp313-cp313-manylinux_2_34_x86_64",
            ],
        ),
        (("aws", "--python", "3.11"), ["cp311-cp311-manylinux_2_26_aarch64"]),
        (
            ("cloudbase",),
            ["cp310-cp310-manylinux_2_17_x86_64", "cp37-abi3-manylinux2014_x86_64"],
        ),
    ],
)
def test_wheels_that_the_target_can_load_are_taken(
    workshop: Workshop, target: tuple[str, ...], tags: list[str]
):
    for letter, tag in zip("abcdef", tags, strict=False):
        workshop.pin(letter, {f"{letter}.py": ""}, tag=tag)
    done = workshop.package(*target)
    assert done.returncode == 0, done.stderr
    files = workshop.made(target[0])
    for letter, tag in zip("abcdef", tags, strict=False):
        assert tag in files[f"{letter}-1.dist-info/WHEEL"].decode()


@pytest.mark.parametrize(
    ("target", "tag"),
    [
        (("aws",), "cp313-cp313-manylinux_2_35_aarch64"),
        (("aws",), "cp313-cp313-manylinux_2_28_x86_64"),
        (("aws", "--python", "3.11"), "cp311-cp311-manylinux_2_28_aarch64"),
        (("cloudbase",), "cp310-cp310-manylinux_2_28_x86_64"),
        (("cloudbase",), "cp311-abi3-manylinux_2_17_x86_64"),
    ],
)
def test_a_pin_without_a_wheel_for_the_target_is_no_older_release(
    workshop: Workshop, target: tuple[str, ...], tag: str
):
    workshop.pin("runs", {"runs.py": ""}, tag=tag)
    write_wheel(workshop.wheels, "runs", {"runs.py": ""}, version="0.9")
    done = workshop.package(*target)
    assert done.returncode == 1
    assert "runs==1" in done.stderr
    assert "could not be fetched" in done.stderr
    assert not list((workshop.folder / ".build").glob(f"{target[0]}*"))


def test_a_wheel_that_is_not_the_locked_one_is_refused(workshop: Workshop):
    workshop.pin("runs", {"runs.py": ""})
    write_wheel(workshop.wheels, "runs", {"runs.py": "import os"})
    done = workshop.package("aws")
    assert done.returncode == 1
    assert "sha256" in done.stderr


def test_markers_are_asked_of_the_target_and_not_of_this_machine(workshop: Workshop):
    workshop.pin("always", {"always.py": ""})
    workshop.pin("old", {"old.py": ""}, marker=" ; python_full_version < '3.11'")
    workshop.pin("new", {"new.py": ""}, marker=" ; python_full_version >= '3.11'")
    workshop.pin("arm", {"arm.py": ""}, marker=" ; platform_machine == 'aarch64'")
    workshop.pin("mac", {"mac.py": ""}, marker=" ; sys_platform == 'darwin'")
    own = {"always.py", "old.py", "new.py", "arm.py", "mac.py"}
    workshop.package("aws")
    assert own & set(workshop.made()) == {"always.py", "new.py", "arm.py"}
    workshop.package("cloudbase")
    assert own & set(workshop.made("cloudbase")) == {"always.py", "old.py"}


def test_somebodys_pip_settings_change_nothing(workshop: Workshop, tmp_path: Path):
    workshop.pin("runs", {"runs.py": ""}, tag="cp313-cp313-manylinux_2_28_aarch64")
    done = workshop.package(
        "aws",
        PIP_DEST=str(tmp_path / "elsewhere"),
        PIP_PLATFORM="win_amd64",
        PIP_PYTHON_VERSION="3.10",
        PIP_NO_BINARY=":all:",
        PIP_REQUIRE_VIRTUALENV="1",
    )
    assert done.returncode == 0, done.stderr
    assert "runs.py" in workshop.made()
    assert not (tmp_path / "elsewhere").exists()


def test_fetched_wheels_serve_until_the_lock_changes(workshop: Workshop):
    workshop.pin("runs", {"runs.py": ""})
    assert "fetching" in workshop.package("aws").stderr
    again = workshop.package("aws", online=False)
    assert (again.returncode, again.stderr) == (0, "")
    workshop.pin("more", {"more.py": ""})
    assert workshop.package("aws", online=False).returncode == 1
    assert workshop.package("aws").returncode == 0
    assert "more.py" in workshop.made()
    assert len(list((workshop.folder / ".build" / "wheels").iterdir())) == 1


def test_a_failed_build_leaves_no_package_of_before(workshop: Workshop):
    workshop.package("aws")
    assert workshop.made()
    workshop.pin("runs", {"runs.py": ""}, tag="cp313-cp313-win_amd64")
    assert workshop.package("aws").returncode == 1
    assert not list((workshop.folder / ".build").glob("aws*"))


def test_two_packages_with_one_file_are_refused(workshop: Workshop):
    workshop.pin("one", {"same.py": "1"})
    workshop.pin("two", {"same.py": "2"})
    done = workshop.package("aws")
    assert done.returncode == 1
    assert done.stderr.endswith("same.py of two-1-py3-none-any.whl is in another package too\n")


def test_a_package_above_the_limit_is_not_made(workshop: Workshop):
    noise = base64.b64encode(random.Random(1).randbytes(21_000_000)).decode()
    workshop.pin("large", {"large.txt": noise})
    done = workshop.package("aws")
    assert done.returncode == 1
    assert "MB zipped (large.txt 21." in done.stderr
    assert "the limit is 20 MB" in done.stderr
    assert not list((workshop.folder / ".build").glob("aws*"))


def test_the_size_and_the_largest_parts_are_told(workshop: Workshop):
    for letter in "abcdefghij":
        workshop.pin(letter, {f"{letter}.py": f"# {letter}\n" * 10})
    lines = workshop.package("cloudbase").stdout.splitlines()
    archive = workshop.folder / ".build" / "cloudbase.zip"
    assert lines[0].startswith(f"{archive}: Python 3.10, x86_64, 0.")
    assert lines[0].endswith("MB zipped of at most 25")
    assert lines[1].endswith(" KB  fal_image")
    assert len(lines) == 10


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "target"),
        (("gcp",), "'gcp'"),
        (("aws", "--python", "3.9"), "'3.9'"),
        (("aws", "--arch", "sparc"), "'sparc'"),
        (("cloudbase", "--arch", "arm64"), "cloudbase runs on x86_64, not on arm64"),
        (("cloudbase-http", "--arch", "arm64"), "not on arm64"),
        (("aws", "cloudbase"), "cloudbase"),
    ],
)
def test_wrong_arguments_are_named(workshop: Workshop, arguments: tuple[str, ...], named: str):
    done = workshop.package(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert not (workshop.folder / ".build").exists()


def test_the_script_is_started_from_anywhere(tmp_path: Path):
    done = subprocess.run(
        [ROOT / "scripts" / "package", "gcp"], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: scripts/package ")

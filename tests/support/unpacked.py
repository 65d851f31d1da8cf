"""A function's package, made for the Python and machine of the tests, and a Python to start it."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from scripts.packaging.targets import CLOUDS, Target

from support.tiny_project import ROOT

# What lies beside a function on Lambda and in no package (AWS Lambda guide, Python runtimes).
BROUGHT_BY_LAMBDA = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six.py")


def target_here(cloud: str) -> Target:
    """The cloud, but on the Python and machine that run the tests."""
    arch = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return Target(CLOUDS[cloud], "{}.{}".format(*sys.version_info), arch)


def locked_versions(target: Target) -> dict[str, str]:
    """The pins of a function's lock that are for the target; names as in file names."""
    lock = ROOT.joinpath(target.cloud.lock).read_text(encoding="utf-8")
    found = [Requirement(line) for line in re.findall(r"^(\w.*==.*?) \\$", lock, re.M)]
    return {
        re.sub(r"[-.]", "_", pin.name): str(pin.specifier).removeprefix("==")
        for pin in found
        if pin.marker is None or pin.marker.evaluate(target.markers)
    }


def lambda_runtime(folder: Path) -> Path:
    """A folder like Lambda's own: boto3 and what it needs, from this environment."""
    folder.mkdir()
    for name in BROUGHT_BY_LAMBDA:
        (folder / name).symlink_to(Path(sysconfig.get_path("purelib")) / name)
    return folder


def run_alone(
    program: str, *folders: Path, environ: Mapping[str, str] | None = None, given: object = None
) -> Any:
    """The JSON that a program prints in a Python that sees these folders and its own library only.

    `given` lies on its stdin as JSON. What the environment of the tests holds is out of its sight.
    """
    found = f"import sys; sys.path[:0] = {[str(path) for path in folders]}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", found + program],
        input=json.dumps(given),
        env=dict(environ or {}),
        cwd=folders[0],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

"""What a package is made for: the cloud, its Python, its machine, and what it can load.

Knows no file of this project but by its path, and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}  # our word: what wheels and markers say
_ALIASES = {(2, 5): "manylinux1", (2, 12): "manylinux2010", (2, 17): "manylinux2014"}
_OLDEST_GLIBC = {"x86_64": (2, 5), "aarch64": (2, 17)}  # PEP 600 names no older ones


@dataclass(frozen=True)
class Cloud:
    """One kind of package. `files` are those outside fal_image: where one lies in the package, and
    in this project; a package's own name is also the name of its folder and zip."""

    name: str
    folder: str
    files: Mapping[str, str]
    max_zip_bytes: int
    python: str
    arches: tuple[str, ...]  # the first is the default
    has_server: bool = False

    @property
    def lock(self) -> str:
        return f"{self.folder}/requirements.lock"


# The limits are ours. Lambda takes 50 MB and CloudBase 500 MB unpacked, but each new instance
# fetches and unpacks the whole zip before its first answer.
AWS = Cloud(
    "aws",
    "functions/aws",
    {"functions/aws/handler.py": "functions/aws/handler.py"},
    max_zip_bytes=20_000_000,
    python="3.13",
    arches=("arm64", "x86_64"),
)
CLOUDBASE = Cloud(
    "cloudbase",
    "functions/cloudbase",
    # CloudBase documents a handler in a file at the root: index.main.
    dict.fromkeys(["functions/cloudbase/handler.py", "index.py"], "functions/cloudbase/handler.py"),
    max_zip_bytes=25_000_000,
    python="3.10",
    arches=("x86_64",),
)
CLOUDBASE_HTTP = Cloud(
    "cloudbase-http",
    "functions/cloudbase_http",
    {
        "functions/cloudbase_http/server.py": "functions/cloudbase_http/server.py",
        "scf_bootstrap": "functions/cloudbase_http/scf_bootstrap",
    },
    max_zip_bytes=25_000_000,
    python="3.10",
    arches=("x86_64",),
    has_server=True,
)
CLOUDS = {cloud.name: cloud for cloud in (AWS, CLOUDBASE, CLOUDBASE_HTTP)}


@dataclass(frozen=True)
class Target:
    """A cloud with one Python ("3.13") on one machine ("arm64")."""

    cloud: Cloud
    python: str
    arch: str

    @property
    def name(self) -> str:
        return f"{self.cloud.name}-{self.python}-{self.arch}"

    @property
    def glibc(self) -> tuple[int, int]:
        """The C library that compiled wheels find there: Lambda's Python 3.12 and newer runs on
        Amazon Linux 2023, older on Amazon Linux 2 (AWS Lambda guide, runtimes). CloudBase does not
        name its own; its examples install for 2.17."""
        if self.cloud is not AWS:
            return 2, 17
        return (2, 34) if int(self.python.removeprefix("3.")) >= 12 else (2, 26)

    @property
    def platforms(self) -> list[str]:
        """Every platform tag that may be installed, the newest first.

        pip does not conclude from one tag that older ones fit too, and takes an older release
        when it finds none of the tags at the newer one.
        """
        machine = _MACHINES[self.arch]
        newest, oldest = self.glibc, _OLDEST_GLIBC[machine]
        tags = []
        for minor in range(newest[1], oldest[1] - 1, -1):
            tags.append(f"manylinux_2_{minor}_{machine}")
            if alias := _ALIASES.get((2, minor)):
                tags.append(f"{alias}_{machine}")
        return tags

    @property
    def markers(self) -> dict[str, str]:
        """What a pin's marker is asked of: the target, where pip would ask this machine."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": _MACHINES[self.arch],
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

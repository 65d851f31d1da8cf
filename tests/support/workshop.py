"""A copy of this project that packages from a small index of its own, without a network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from support.programs import heed_ctrl_c
from support.tiny_backend import write_wheel
from support.tiny_project import DEAD_INDEX, ROOT


class Workshop:
    """`folder` is the project; its locks pin nothing until `pin` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.wheels = folder / "index"
        self.wheels.mkdir(parents=True)
        junk = shutil.ignore_patterns("__pycache__")
        for part in ("functions", "scripts", "shared"):
            shutil.copytree(ROOT / part, self.folder / part, ignore=junk)
        for lock in self._locks():
            lock.write_text("# nothing yet\n", encoding="utf-8")

    def pin(
        self, name: str, files: dict[str, str], *, tag: str = "py3-none-any", marker: str = ""
    ) -> Path:
        """Put version 1 of a package on the index and into every lock."""
        wheel = write_wheel(self.wheels, name, files, tag=tag)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        for lock in self._locks():
            with lock.open("a", encoding="utf-8") as text:
                text.write(f"{name}==1{marker} \\\n    --hash=sha256:{digest}\n    # via you\n")
        return wheel

    def package(
        self, *arguments: str, online: bool = True, umask: int = 0o022, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run scripts/package as its shell part does; `environment` comes on top of a bare one."""
        process = self.begun(*arguments, online=online, umask=umask, **environment)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def begun(
        self, *arguments: str, online: bool = True, umask: int = 0o022, **environment: str
    ) -> subprocess.Popen[str]:
        """The same, still running; the caller waits for its end."""
        index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri()}
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.packaging", *arguments],
            cwd=self.folder,
            env={
                "PATH": os.defpath,
                "HOME": str(self.folder),
                "PIP_CONFIG_FILE": "/dev/null",
                **(index if online else DEAD_INDEX),
                **environment,
            },
            umask=umask,
            preexec_fn=heed_ctrl_c,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def made(self, cloud: str = "aws") -> dict[str, bytes]:
        """What the zip holds, by name. Raises FileNotFoundError if there is none."""
        with zipfile.ZipFile(self.folder / ".build" / f"{cloud}.zip") as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def _locks(self) -> list[Path]:
        return sorted(self.folder.glob("functions/*/requirements.lock"))

"""A Dockerfile, read and performed without Docker, in a directory that stands for the image.

The Python at hand stands for the base image's, paths of the image lie below the directory, and a
port of the container's is another one here. Knows the few instructions that a small file needs and
raises CannotBuild for every other, so that nothing is passed over. Refuses to know layers, caches
and users: what another user could not read or would write is for the test to find.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from scripts import setup

# How a build reaches an index is the matter of who builds; Docker has it from its own settings.
# HOME is where pip's settings of this user are.
PASSED_IN = setup.PIP_SETTINGS_KEPT | {
    *("HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
}

# A "/" that begins a word, and what follows is the image's; devices are this machine's.
_PATH = re.compile(r"""(?<![^\s"'=:(,])/(?!dev/)(?=[\w.])""")
_LINES_SHOWN = 12


class CannotBuild(Exception):
    """An instruction that is not known here, or one that failed; says its line."""


@dataclass(frozen=True)
class Step:
    line: int
    instruction: str
    words: str


def read(text: str) -> list[Step]:
    """The instructions of a Dockerfile, lines that go on joined, comments left out."""
    steps, begun = [], 0
    joined: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun if joined else number
        joined.append(line.strip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            instruction, _, words = " ".join(joined).partition(" ")
            steps.append(Step(begun, instruction.upper(), words.strip()))
            joined = []
    if joined:
        raise CannotBuild(f"line {begun}: goes on after the end of the file")
    return steps


def ignoring(text: str) -> Callable[[str], bool]:
    """Whether a path of the build's context is left out by a .dockerignore: the last line that fits
    it or a folder around it decides (Dockerfile reference, ".dockerignore files")."""
    rules = [
        (line.startswith("!"), _as_regex(line.removeprefix("!").strip("/")))
        for line in map(str.strip, text.splitlines())
        if line and not line.startswith("#")
    ]

    def is_ignored(path: str) -> bool:
        around = [str(part) for part in (PurePosixPath(path), *PurePosixPath(path).parents)]
        ignored = False
        for is_exception, fits in rules:
            if any(fits.fullmatch(part) for part in around):
                ignored = not is_exception
        return ignored

    return is_ignored


def _as_regex(pattern: str) -> re.Pattern[str]:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces))


@dataclass
class Image:
    """What the steps made: files below `root`, and what a container of it is started with."""

    root: Path
    context: Path
    is_ignored: Callable[[str], bool]
    env: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0"
    port: int = 0
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    health_options: dict[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM

    def path(self, inside: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / PurePosixPath(self.folder, inside).relative_to("/")

    def here(self, words: str) -> str:
        """Words of the image with its paths as they are on this machine."""
        return _PATH.sub(f"{self.root}/", words)

    def environ(self, given: Mapping[str, str]) -> dict[str, str]:
        """All that a process of the image has around it."""
        programs = f"{self.root}/usr/local/bin:/usr/bin:/bin"
        return {"PATH": programs, "HOME": str(self.root), **self.env, **given}

    def start(
        self, words: list[str], *, port: int, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """A process of a container: its command, or its health check. `port` is where this machine
        has the container's port, for nobody else may have it here."""
        ports = re.compile(rf"(?<!\d){self.port}(?!\d)")
        return subprocess.Popen(
            [ports.sub(str(port), word) for word in words],
            executable=shutil.which(words[0], path=self.environ({})["PATH"]),
            cwd=self.path("."),
            env=self.environ(environ or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )


def build(context: Path, root: Path) -> Image:
    """Perform every step of the context's Dockerfile in an empty directory; raises CannotBuild."""
    rules = (context / ".dockerignore").read_text(encoding="utf-8")
    image = Image(root, context, ignoring(rules))
    text = (context / "Dockerfile").read_text(encoding="utf-8")
    for step in read(text):
        if step.instruction not in _INSTRUCTIONS:
            raise CannotBuild(f"line {step.line}: {step.instruction} is not known here")
        try:
            _INSTRUCTIONS[step.instruction](image, step.words)
        except ValueError as error:
            raise CannotBuild(f"line {step.line}: {step.instruction}: {error}") from error
    return image


def _from(image: Image, words: str) -> None:
    if not re.fullmatch(r"python:3\.\d+-slim(@sha256:[0-9a-f]{64})?", words):
        raise ValueError("only an official slim image of Python, by its tag, has a stand-in here")
    command = [sys.executable, "-I", "-m", "venv", str(image.root / "usr/local")]
    subprocess.run(command, check=True, capture_output=True)


def _env(image: Image, words: str) -> None:
    for pair in shlex.split(words):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError("only name=value is known here")
        image.env[name] = image.here(value)


def _workdir(image: Image, words: str) -> None:
    image.folder = str(PurePosixPath(image.folder, words))
    image.path(".").mkdir(parents=True, exist_ok=True)


def _copy(image: Image, words: str) -> None:
    *sources, target = shlex.split(words)
    if not sources or any(word.startswith("-") for word in sources):
        raise ValueError("only COPY FROM... TO, without options, is known here")
    for source in sources:
        if not any(list(_copied(image, source, target))):
            raise ValueError(f"{source} is not in the build's context")


def _copied(image: Image, source: str, target: str) -> Iterator[Path]:
    """Copy one source: a folder's contents, or a file, with its mode."""
    start = image.context / source
    found = sorted(start.rglob("*")) if start.is_dir() else [start]
    for file in found:
        if not file.is_file() or image.is_ignored(file.relative_to(image.context).as_posix()):
            continue
        inside = file.relative_to(start) if start.is_dir() else Path(file.name)
        into = image.path(target)
        to = into / inside if start.is_dir() or target.endswith("/") else into
        to.parent.mkdir(parents=True, exist_ok=True)
        yield Path(shutil.copy(file, to))


def _run(image: Image, words: str) -> None:
    if words.startswith(("[", "-", "<")):
        raise ValueError("only the shell's form, without options, is known here")
    passed_in = {name: value for name, value in os.environ.items() if name in PASSED_IN}
    done = subprocess.run(
        ["/bin/sh", "-c", image.here(words)],
        cwd=image.path("."),
        env=image.environ(passed_in),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-_LINES_SHOWN:])
        raise ValueError(f"{words} ended with {done.returncode}\n{last}")


def _user(image: Image, words: str) -> None:
    if not re.fullmatch(r"\d+(:\d+)?", words):
        raise ValueError("only numbers are known here")
    image.user = words


def _expose(image: Image, words: str) -> None:
    image.port = int(words)


def _healthcheck(image: Image, words: str) -> None:
    while words.startswith("--"):
        option, _, words = words.partition(" ")
        name, _, value = option.removeprefix("--").partition("=")
        image.health_options[name] = value
    kind, _, words = words.partition(" ")
    if kind != "CMD":
        raise ValueError("only CMD is known here")
    image.health = _exec_form(words)


def _stopsignal(image: Image, words: str) -> None:
    image.stop_signal = signal.Signals[words]


def _cmd(image: Image, words: str) -> None:
    image.command = _exec_form(words)


def _exec_form(words: str) -> list[str]:
    """The words of a JSON list. Raises ValueError for the shell's form, whose shell would keep
    signals from the program."""
    command = json.loads(words)
    if not isinstance(command, list) or any(word.startswith("/") for word in command):
        raise ValueError("only a JSON list of words, none of them a path, is known here")
    return command


_INSTRUCTIONS: dict[str, Callable[[Image, str], None]] = {
    "FROM": _from,
    "ENV": _env,
    "WORKDIR": _workdir,
    "COPY": _copy,
    "RUN": _run,
    "USER": _user,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "STOPSIGNAL": _stopsignal,
    "CMD": _cmd,
}

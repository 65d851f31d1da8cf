"""Make .venv, once: the locked packages and the fal-image command.

With --bench also the npm packages that scripts/bench compares with, and with --all those and what
the tests of deploying run: programs in an environment of their own.
Run by scripts/setup with any Python 3.10-3.14 before anything is installed, so it uses the standard
library only and knows nothing of fal_image. It speaks on stderr; stdout belongs to whoever called.
Exit codes: 0 complete, 1 not complete (--check), 2 could not be done, 130 interrupted. Whatever
stopped it, running it again is safe.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - any Python may be asked to run this file
    sys.stderr.write(f"fal-image needs Python 3.10 or newer; this is {sys.version.split()[0]}\n")
    sys.exit(2)

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "fal-image-setup.json"
RUN_LOCK, TEST_LOCK, PROJECT = "requirements.lock", "requirements-dev.lock", "pyproject.toml"
TOOLS_LOCK = "requirements.lock"
NODE_FOLDER = ROOT / "tests" / "node"
PEERS_FOLDER = ROOT / "scripts" / "benchmarks" / "peers"
TOOLS_FOLDER = ROOT / "tests" / "deploy" / "tools"
TOOLS_VENV = TOOLS_FOLDER / ".venv"
TOOLS_STAMP = TOOLS_VENV / "fal-image-setup.json"
NEED_NPM = {
    NODE_FOLDER: "the tests that need Node",
    PEERS_FOLDER: "the measures of scripts/bench beside Node and Express",
    TOOLS_FOLDER: "the tests of deploying that need npm's programs",
}
MIN_NODE = 20
LINES_SHOWN = 12
WITHOUT_WHEEL = "crcmod"  # Tencent's SDK needs it; without a compiler it becomes Python only
PIP_INSTALL = ["-I", "-m", "pip", "install", "--no-user", "--no-compile"]
LOCKED = ["--require-hashes", "--no-deps", "--only-binary=:all:"]

# How to reach an index is the user's business. Every other setting of pip's (user, target, prefix,
# constraint ...) could send the packages elsewhere or change them.
PIP_SETTINGS_KEPT = {
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_KEYRING_PROVIDER",
    "PIP_NO_CACHE_DIR",
    "PIP_NO_INDEX",
    "PIP_PROXY",
    "PIP_RETRIES",
    "PIP_TIMEOUT",
    "PIP_TRUSTED_HOST",
    "PIP_USE_FEATURE",
}


class CannotSetUp(Exception):
    """Carries the words for the user. What was begun has no stamp, so it will be built anew."""


def main(arguments: list[str]) -> int:
    if set(arguments) - {"--check", "--tests", "--bench", "--all"}:
        say("scripts/setup knows --tests, --bench, and --all for the programs of tests/deploy too")
        return 2
    everything = "--all" in arguments
    bench = everything or "--bench" in arguments
    tests = bench or "--tests" in arguments
    node_folders = [NODE_FOLDER] * (everything or "--tests" in arguments)
    node_folders += [PEERS_FOLDER] * bench + [TOOLS_FOLDER] * everything
    if "--check" in arguments:
        is_complete = venv_is_complete(tests) and all(map(npm_has_no_work, node_folders))
        return 0 if is_complete and (not everything or tools_are_complete()) else 1
    try:
        with (ROOT / ".venv.lock").open("w", encoding="utf-8") as lock:
            wait_for(lock.fileno())
            if not venv_is_complete(tests):
                make_venv(tests, lock.fileno())
            for folder in node_folders:
                if not npm_has_no_work(folder):
                    install_node_packages(lock.fileno(), folder)
            if everything and not tools_are_complete():
                make_tools(lock.fileno())
    except (CannotSetUp, OSError) as problem:
        say(str(problem))
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def say(words: str) -> None:
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def wait_for(lock_fd: int) -> None:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another set-up of .venv to finish")
        fcntl.flock(lock_fd, fcntl.LOCK_EX)


def venv_is_complete(tests: bool) -> bool:
    return python_runs() and wanted_stamp(tests).items() <= read_stamp().items()


def python_runs() -> bool:
    """False too if .venv is a leftover whose base Python was removed or replaced."""
    try:
        return subprocess.run([PYTHON, "-I", "-c", ""], capture_output=True).returncode == 0
    except OSError:
        return False


def wanted_stamp(tests: bool) -> dict[str, str]:
    """What a complete .venv says of itself: where it is, for which Python, made from which files.

    The project file is one of them because the fal-image command is made from it.
    """
    files = [RUN_LOCK, PROJECT, TEST_LOCK] if tests else [RUN_LOCK, PROJECT]
    return {
        "location": str(VENV),
        "python": f"{sys.implementation.cache_tag} {os.uname().machine}",
        **{name: sha256_of(ROOT / name) for name in files},
    }


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_stamp() -> dict[str, str]:
    """Empty if there is none: a stamp is written last, so whatever is half-made has none."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp: dict[str, str]) -> None:
    draft = STAMP.with_suffix(".draft")
    draft.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    draft.replace(STAMP)


def make_venv(tests: bool, lock_fd: int) -> None:
    """Bring .venv to what `wanted_stamp` says: by adding where that is enough, else from nothing.

    The stamp is gone while packages change. It comes back if the attempt fails before any did, so a
    .venv that serves scripts/dev survives scripts/test without a network.
    """
    wanted, stamp = wanted_stamp(tests), read_stamp()
    if not can_grow(stamp, wanted):
        stamp = {}
        remove_venv()
    packages = VENV.joinpath("lib", "python{}.{}".format(*sys.version_info), "site-packages")
    changed_before = packages.stat().st_mtime_ns if stamp else None
    STAMP.unlink(missing_ok=True)
    try:
        if not stamp:
            make = [sys.executable, "-I", "-m", "venv", str(VENV)]
            run(make, lock_fd, "Python could not make a virtual environment in .venv.")
        install_packages(TEST_LOCK if tests else RUN_LOCK, stamp, lock_fd)
        install_project(lock_fd)
    except BaseException:
        if stamp and packages.stat().st_mtime_ns == changed_before:
            write_stamp(stamp)
        raise
    write_stamp({**stamp, **wanted})


def can_grow(stamp: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether this .venv lacks only the test tools, or only a new look at the project file.

    A changed lock is built from nothing: what it no longer names would stay installed and hide a
    missing requirement.
    """
    known = (stamp.keys() & wanted.keys()) - {PROJECT}
    return RUN_LOCK in known and all(stamp[key] == wanted[key] for key in known) and python_runs()


def remove_venv() -> None:
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        say("making .venv anew: it was unfinished, moved, or made from other versions")
        shutil.rmtree(VENV)


def install_packages(lock_name: str, stamp: dict[str, str], lock_fd: int) -> None:
    if lock_name in stamp:
        return
    there_already = count_for_here(RUN_LOCK) if RUN_LOCK in stamp else 0
    count = count_for_here(lock_name) - there_already
    say(f"installing {count} packages into .venv, once")
    # --no-deps: the lock is complete. --no-compile: Python compiles what is really imported.
    run(
        [str(PYTHON), *PIP_INSTALL, *LOCKED]
        + [f"--no-binary={WITHOUT_WHEEL}", "-r", str(ROOT / lock_name)],
        lock_fd,
        "The packages could not be installed: check the network and pip's index settings, then"
        " start again.",
    )


def count_for_here(lock_name: str) -> int:
    """How many pins of the lock are for this Python and system; pip knows how to read them."""
    lock = (ROOT / lock_name).read_text(encoding="utf-8")
    pins = re.findall(r"^([^\s#].*==.*?) *\\?$", lock, re.MULTILINE)
    program = (
        "import sys; from pip._vendor.packaging.requirements import Requirement;"
        "markers = [Requirement(pin).marker for pin in sys.argv[1:]];"
        "print(sum(marker is None or marker.evaluate() for marker in markers))"
    )
    return int(subprocess.check_output([PYTHON, "-I", "-c", program, *pins]))


def install_project(lock_fd: int) -> None:
    """Make the fal-image command, which imports fal_image from shared/; needs no network."""
    run(
        [
            str(PYTHON),
            *PIP_INSTALL,
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "-e",
            str(ROOT),
        ],
        lock_fd,
        "fal-image itself could not be installed into .venv.",
    )


def run(command: list[str], lock_fd: int, on_failure: str) -> None:
    """Run it without the settings that would lead it elsewhere; raises CannotSetUp if it fails.

    It inherits the lock: should this program be killed, no other touches .venv until it ends too.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in PIP_SETTINGS_KEPT or not name.startswith(("PIP_", "PYTHON"))
    }
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    done = subprocess.run(
        command,
        env=environment,
        pass_fds=[lock_fd],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode != 0:
        raise CannotSetUp(f"{last_lines(done.stdout)}\n{on_failure}")


def last_lines(output: str) -> str:
    return "\n".join(f"  {line}" for line in output.rstrip().splitlines()[-LINES_SHOWN:])


def node_runs() -> bool:
    """Whether this machine has npm and a Node that the tests in tests/node can use."""
    if not (shutil.which("npm") and shutil.which("node")):
        return False
    said = subprocess.run(["node", "--version"], capture_output=True).stdout
    found = re.match(rb"v(\d+)\.", said)
    return found is not None and int(found[1]) >= MIN_NODE


def node_packages_match(folder: Path = NODE_FOLDER) -> bool:
    """Whether the folder's node_modules is complete and made from the lock beside it."""
    lock, stamp = folder / "package-lock.json", node_stamp(folder)
    if not lock.exists():
        return True
    return stamp.exists() and stamp.read_text(encoding="utf-8") == sha256_of(lock)


def node_stamp(folder: Path) -> Path:
    return folder / "node_modules" / ".fal-image-setup"


def npm_has_no_work(folder: Path) -> bool:
    return node_packages_match(folder) or not node_runs()


def install_node_packages(lock_fd: int, folder: Path = NODE_FOLDER) -> None:
    """`npm ci`; if it fails, what needs the packages is not run, and the rest is."""
    say(f"installing the npm packages of {folder.relative_to(ROOT)}, once")
    command = ["npm", "ci", "--prefix", str(folder)]
    command += ["--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        run(command, lock_fd, f"npm ci failed, so {NEED_NPM[folder]} will not run.")
    except CannotSetUp as problem:
        say(str(problem))
        return
    node_stamp(folder).write_text(sha256_of(folder / "package-lock.json"), encoding="utf-8")


def tools_are_complete() -> bool:
    try:
        return TOOLS_STAMP.read_text(encoding="utf-8") == wanted_tools()
    except OSError:
        return False


def wanted_tools() -> str:
    return f"{TOOLS_VENV} {sys.implementation.cache_tag} {sha256_of(TOOLS_FOLDER / TOOLS_LOCK)}"


def make_tools(lock_fd: int) -> None:
    """The environment of the programs that stand in for a cloud: their pins are not ours."""
    say(f"installing the programs of {TOOLS_FOLDER.relative_to(ROOT)}, once")
    shutil.rmtree(TOOLS_VENV, ignore_errors=True)
    make = [str(PYTHON), "-I", "-m", "venv", str(TOOLS_VENV)]
    run(make, lock_fd, "Python could not make an environment for the tests of deploying.")
    install = [str(TOOLS_VENV / "bin" / "python"), *PIP_INSTALL, *LOCKED]
    run(
        [*install, "-r", str(TOOLS_FOLDER / TOOLS_LOCK)],
        lock_fd,
        "The programs for the tests of deploying could not be installed.",
    )
    TOOLS_STAMP.write_text(wanted_tools(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

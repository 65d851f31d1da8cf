"""What goes to which stream, and how a command ends: as a program, on a terminal and piped."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.programs import heed_ctrl_c

COMMAND = [sys.executable, "-c", "from fal_image.cli import main; main()"]


def environment(fal: Emulator, **more: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    settings = {"FAL_KEY": "id:secret", "FAL_IMAGE_EMULATOR_URL": fal.url, "TERM": "dumb"}
    return base | settings | more


class OnTerminal:
    """A command that believes it is looked at."""

    def __init__(self, fal: Emulator, cwd: Path, *words: str, **more: str) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [*COMMAND, *words],
            env=environment(fal, **more),
            cwd=cwd,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def end(self) -> tuple[int, str]:
        """Its exit code and what stood on the screen."""
        said = b""
        try:
            while chunk := os.read(self._ours, 4096):
                said += chunk
        except OSError:  # so a Linux terminal says that nobody writes any more
            pass
        os.close(self._ours)
        return self._process.wait(20), said.decode().replace("\r\n", "\n")


def test_a_terminal_gets_words_unless_it_wants_json(fal: Emulator, tmp_path: Path):
    cat = ("estimate", "a cat")
    words, as_json, wrong, wrong_as_json, usage, usage_as_json = [
        OnTerminal(fal, tmp_path, *line)
        for line in (
            cat,
            (*cat, "--json"),
            (*cat, "-n", "9"),
            (*cat, "-n", "9", "--json"),
            (*cat, "--colour"),
            (*cat, "--colour", "--json"),
        )
    ]
    assert words.end() == (
        0,
        "fal-ai/flux/schnell: 0.003 USD by the catalog (1 megapixel at 0.003 USD)\n",
    )
    code, said = as_json.end()
    assert (code, json.loads(said)["estimateUsd"]) == (0, 0.003)
    code, said = wrong.end()
    assert (code, said.startswith("invalid_input: num_images")) == (2, True)
    code, said = wrong_as_json.end()
    assert (code, json.loads(said)["error"]) == (2, "invalid_input")
    code, said = usage.end()
    assert (code, "`fal-image estimate --help`" in said) == (2, True)
    code, said = usage_as_json.end()
    assert (code, json.loads(said)["error"]) == (2, "usage")


def interrupted(cwd: Path, fal: Emulator, **settings: str) -> Any:
    """What a command says that was interrupted while fal was at work."""
    process = subprocess.Popen(
        [*COMMAND, "generate", "a cat"],
        env=environment(fal, **settings),
        cwd=cwd,
        preexec_fn=heed_ctrl_c,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    for _ in range(500):
        if fal.calls["stream"]:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=15)
    assert (process.returncode, out) == (130, "")
    said = json.loads(err.splitlines()[-1])
    assert (said["error"], said["retryable"]) == ("interrupted", False)
    return said


def test_interrupted_without_a_database_the_job_is_cancelled(tmp_path: Path):
    with Emulator(run_s=8) as fal:
        assert "cancel" in interrupted(tmp_path, fal)["message"]
        assert [job.is_cancelled for job in fal.ledger] == [True]


def test_interrupted_with_a_database_the_job_goes_on(tmp_path: Path):
    database = (tmp_path / "jobs.db").as_uri().replace("file:", "sqlite:")
    with Emulator(run_s=8) as fal:
        said = interrupted(
            tmp_path, fal, FAL_IMAGE_DATABASE_URL=database, FAL_IMAGE_SECRET="s" * 32
        )
        assert f"fal-image job {said['jobId']} --wait" in said["hint"]
        assert [job.is_cancelled for job in fal.ledger] == [False]


@pytest.mark.parametrize(
    "words", [("paint",), ("generate",), ("job",), ("generate", "a", "--size"), ("keys", "old")]
)
def test_a_line_that_cannot_be_read_is_one_json_object_on_stderr(
    fal: Emulator, tmp_path: Path, words: tuple[str, ...]
):
    done = subprocess.run(
        [*COMMAND, *words],
        env=environment(fal),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = json.loads(done.stderr)
    assert said["error"] == "usage"
    assert "--help" in said["hint"]


def test_a_reader_that_has_seen_enough_is_no_fault(fal: Emulator, tmp_path: Path):
    shell = f'"{sys.executable}" -c "from fal_image.cli import main; main()" config | true'
    done = subprocess.run(
        ["sh", "-c", shell],
        env=environment(fal),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_person_is_told_where_a_picture_is_that_was_paid_for(fal: Emulator, tmp_path: Path):
    (tmp_path / "file").touch()
    storage = (tmp_path / "file" / "bucket").as_uri()
    code, said = OnTerminal(fal, tmp_path, "generate", "a cat", FAL_IMAGE_STORAGE_URL=storage).end()
    lines = [line.partition(": ") for line in said.splitlines()]
    told = {name: value for name, colon, value in lines if colon}
    assert code == 3
    assert told["upload_failed"]
    assert told["sourceUrls"].startswith("https://v3.fal.media/")
    assert told["falRequestId"] == fal.ledger[0].request_id


def piped(fal: Emulator, cwd: Path, line: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """A line of a shell, in which the command is called `cli`."""
    command = f'cli() {{ "{sys.executable}" -c "from fal_image.cli import main; main()" "$@"; }}'
    return subprocess.run(
        ["bash", "-c", f"{command}\n{line}"],
        env=environment(fal, **more),
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )


@pytest.mark.parametrize(
    "line",
    [
        "cli generate cat > /dev/full",
        "cli generate cat | true; exit ${PIPESTATUS[0]}",
        "cli generate cat >&-",
    ],
)
def test_what_was_paid_for_is_named_where_it_cannot_be_printed(
    fal: Emulator, tmp_path: Path, line: str
):
    done = piped(fal, tmp_path, line)
    said = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, said["error"], said["retryable"]) == (3, "not_written", False)
    assert said["jobId"]
    assert len(said["fileIDs"]) == len(fal.ledger) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", ["cli config > /dev/full", "cli estimate cat > /dev/full"])
def test_what_cost_nothing_and_cannot_be_printed_has_failed(
    fal: Emulator, tmp_path: Path, line: str
):
    done = piped(fal, tmp_path, line, FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    assert (done.returncode, json.loads(done.stderr)["error"]) == (1, "not_written")


@pytest.mark.parametrize("line", ["cli generate cat 2> /dev/full", "cli generate cat 2>&-"])
def test_a_picture_is_made_without_anybody_to_talk_to(fal: Emulator, tmp_path: Path, line: str):
    done = piped(fal, tmp_path, line)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "done")


def test_a_stream_without_the_letters_gets_them_escaped(fal: Emulator, tmp_path: Path):
    latin = {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C.UTF-8"}
    done = piped(fal, tmp_path, "cli generate 猫 -o 猫.jpg", **latin)
    assert json.loads(done.stdout)["paths"] == ["猫.jpg"]
    wrong = piped(fal, tmp_path, "cli generate 猫 -o 猫.gif", **latin)
    assert json.loads(wrong.stderr)["error"] == "usage"


def test_a_prompt_that_is_not_utf8_is_refused(fal: Emulator, tmp_path: Path):
    done = piped(fal, tmp_path, "cli generate $'caf\\xe9'")
    assert (done.returncode, json.loads(done.stderr)["error"]) == (2, "usage")
    assert fal.ledger == []


def test_a_picture_goes_into_a_stream_that_is_open(fal: Emulator, tmp_path: Path):
    (tmp_path / "log").write_text("before\n", encoding="utf-8")
    inode = (tmp_path / "log").stat().st_ino
    done = piped(fal, tmp_path, "cli generate cat --size 64x64 -o /dev/stdout >> log")
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "log").read_bytes()
    assert content.startswith(b"before\n\xff\xd8\xff")
    assert json.loads(content.rpartition(b"\xff\xd9")[2])["state"] == "done"
    assert (tmp_path / "log").stat().st_ino == inode
    through = piped(
        fal, tmp_path, "cli generate cat --size 64x64 -o /dev/fd/5 5>&1 >/dev/null | wc -c"
    )
    assert int(through.stdout) > 100, through.stderr


def test_interrupted_while_it_is_loaded_it_says_nothing(tmp_path: Path):
    code = (
        "import sys\n"
        "class Late:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'fal_image.cli.program': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Late())\n"
        "from fal_image.cli import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

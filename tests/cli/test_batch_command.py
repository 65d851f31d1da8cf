"""`fal-image batch` as a program: run, interrupted, killed and run again, against the emulator."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.programs import heed_ctrl_c

COMMAND = [sys.executable, "-c", "from fal_image.cli import main; main()", "batch"]
SMALL = {"width": 64, "height": 64}


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def environment(fal: Emulator, **more: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    return base | {"FAL_KEY": "id:secret", "FAL_IMAGE_EMULATOR_URL": fal.url} | more


def prompts(folder: Path, count: int, *more: str, name: str = "prompts.jsonl") -> Path:
    lines = [
        json.dumps({"prompt": f"cat {row}", "rowId": f"r{row}", "image_size": SMALL})
        for row in range(count)
    ]
    path = folder / name
    path.write_text("\n".join([*lines, *more]), encoding="utf-8")
    return path


def run(
    fal: Emulator, cwd: Path, *options: str, **environ: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "prompts.jsonl", "--out", "results.jsonl", *options],
        env=environment(fal, **environ),
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )


def results(folder: Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    text = (folder / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def wait_until(is_so: Callable[[], object]) -> None:
    for _ in range(400):
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to that")


def test_every_line_becomes_a_picture_and_a_line_of_results(fal: Emulator, tmp_path: Path):
    prompts(tmp_path, 8)
    done = run(fal, tmp_path, "--window", "3")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["total"], answer["done"], answer["open"]) == (8, 8, 0)
    assert "8 of 8 rows" in done.stderr
    lines = results(tmp_path)
    assert [(one["row"], one["rowId"]) for one in lines] == [(row, f"r{row}") for row in range(8)]
    for one in lines:
        assert Path(one["images"][0]["tempFileURL"].removeprefix("file://")).is_file()
    assert len(fal.ledger) == 8
    assert [path.name for path in tmp_path.glob(".results*")] == []


def test_options_are_for_rows_that_say_nothing_else(fal: Emulator, tmp_path: Path):
    text = '{"prompt":"a"}\n{"prompt":"b","model":"fal-ai/flux/schnell"}\n'
    (tmp_path / "prompts.jsonl").write_text(text, encoding="utf-8")
    done = run(fal, tmp_path, "--model", "fal-ai/flux/dev", "--size", "64x64", "-n", "2")
    assert done.returncode == 0, done.stderr
    assert sorted(entry.model for entry in fal.ledger) == ["fal-ai/flux/dev", "fal-ai/flux/schnell"]
    assert [len(one["images"]) for one in results(tmp_path)] == [2, 2]


def test_a_row_that_fails_stops_no_other_and_exits_with_1(fal: Emulator, tmp_path: Path):
    fal.fault("error", on="result")
    prompts(tmp_path, 4, "oops")
    done = run(fal, tmp_path, "--window", "1")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert (answer["done"], answer["failed"], answer["open"]) == (3, 2, 0)
    assert [one["error"] and one["error"]["error"] for one in results(tmp_path)] == [
        "fal_failed", None, None, None, "invalid_json"
    ]  # fmt: skip


def test_the_same_command_again_pays_nothing_and_leaves_the_results(fal: Emulator, tmp_path: Path):
    prompts(tmp_path, 3)
    run(fal, tmp_path)
    before = (tmp_path / "results.jsonl").stat()
    again = run(fal, tmp_path)
    assert again.returncode == 0
    assert json.loads(again.stdout)["done"] == 3
    assert (tmp_path / "results.jsonl").stat().st_mtime_ns == before.st_mtime_ns
    (tmp_path / "results.jsonl").unlink()
    run(fal, tmp_path)
    assert len(results(tmp_path)) == len(fal.ledger) == 3


def test_rows_that_were_refused_before_anything_was_sent_are_tried_again(
    fal: Emulator, tmp_path: Path
):
    prompts(tmp_path, 4)
    first = run(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="0.0065")
    assert first.returncode == 1
    assert json.loads(first.stdout)["done"] == 2
    again = run(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="1")
    assert again.returncode == 0, again.stderr
    assert [one["state"] for one in results(tmp_path)] == ["done"] * 4
    assert len(fal.ledger) == 4


def test_other_options_are_another_batch(fal: Emulator, tmp_path: Path):
    prompts(tmp_path, 1)
    for options in ([], ["-n", "2"]):
        assert run(fal, tmp_path, *options).returncode == 0
    assert len(fal.ledger) == 2


def test_results_elsewhere_are_those_of_the_same_batch(fal: Emulator, tmp_path: Path):
    prompts(tmp_path, 2)
    (tmp_path / "others.jsonl").write_text('{"row": 0, "jobId": "another"}\n', encoding="utf-8")
    for options in ([], ["--out", "others.jsonl"]):
        assert run(fal, tmp_path, *options).returncode == 0
    assert results(tmp_path, "others.jsonl") == results(tmp_path)
    assert len(fal.ledger) == 2


def test_results_that_cannot_be_written_are_paid_and_written_by_the_next_run(
    fal: Emulator, tmp_path: Path
):
    prompts(tmp_path, 2)
    full = run(fal, tmp_path, "--out", "/dev/full")
    said = json.loads(full.stderr.splitlines()[-1])
    assert (full.returncode, said["error"], said["retryable"]) == (3, "not_written", False)
    assert said["batchId"]
    assert "same command" in said["hint"]
    assert run(fal, tmp_path).returncode == 0
    assert len(results(tmp_path)) == len(fal.ledger) == 2


@pytest.mark.parametrize("out", ["folder", "prompts.jsonl", "again.jsonl", "prompts.jsonl/r"])
def test_results_that_have_no_place_are_refused_before_anything_is_paid(
    fal: Emulator, tmp_path: Path, out: str
):
    before = prompts(tmp_path, 1).read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "again.jsonl").symlink_to("prompts.jsonl")
    done = run(fal, tmp_path, "--out", out)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["error"] == "usage"
    assert (tmp_path / "prompts.jsonl").read_bytes() == before
    assert fal.ledger == []


def test_rows_on_stdin_are_not_written_over_either(fal: Emulator, tmp_path: Path):
    rows = prompts(tmp_path, 1)
    with rows.open("rb") as stdin:
        done = subprocess.run(
            [*COMMAND, "-", "--out", "prompts.jsonl"],
            env=environment(fal), cwd=tmp_path, stdin=stdin, capture_output=True, timeout=20,
        )  # fmt: skip
    assert (done.returncode, fal.ledger) == (2, [])


def started(fal: Emulator, cwd: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, "prompts.jsonl", "--out", "results.jsonl", *options],
        env=environment(fal),
        cwd=cwd,
        preexec_fn=heed_ctrl_c,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_interrupted_and_started_again_it_pays_for_nothing_twice(tmp_path: Path):
    prompts(tmp_path, 12)
    with Emulator(run_s=0.8) as fal:
        process = started(fal, tmp_path, "--window", "4")
        wait_until(lambda: len(fal.ledger) >= 6)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
        assert process.returncode == 130, err
        assert "the same command goes on" in err
        assert json.loads(out)["open"] > 0
        assert not (tmp_path / "results.jsonl").exists()
        begun = len(fal.ledger)
        assert begun < 12
        done = run(fal, tmp_path, "--window", "12")
        assert done.returncode == 0, done.stderr
        assert [one["state"] for one in results(tmp_path)] == ["done"] * 12
        assert len(fal.ledger) == 12
        assert not any(entry.is_cancelled for entry in fal.ledger)


def test_killed_while_fal_works_it_picks_the_pictures_up(tmp_path: Path):
    prompts(tmp_path, 4)
    with Emulator(run_s=3) as fal:
        process = started(fal, tmp_path)
        wait_until(lambda: fal.calls["stream"] == 4)
        process.kill()
        process.communicate(timeout=10)
        done = run(fal, tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(fal.ledger) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prompts.jsonl"], "--out"),
        (["missing.jsonl", "--out", "r.jsonl"], "missing.jsonl"),
        (["empty.jsonl", "--out", "r.jsonl"], "no rows"),
        (["prompts.jsonl", "--out", "r.jsonl", "--window", "0"], "--window"),
    ],
)
def test_wrong_usage_exits_with_2_and_spends_nothing(
    fal: Emulator, tmp_path: Path, arguments: list[str], words: str
):
    prompts(tmp_path, 1)
    (tmp_path / "empty.jsonl").write_text("\n\n", encoding="utf-8")
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(fal),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert fal.ledger == []


def test_fal_refusing_the_key_leaves_the_rows_open(tmp_path: Path):
    prompts(tmp_path, 2)
    with Emulator() as fal:
        done = run(fal, tmp_path, FAL_KEY="")
        assert done.returncode == 1
        assert json.loads(done.stdout)["open"] == 2
        assert "FAL_KEY" in done.stderr
        assert run(fal, tmp_path).returncode == 0

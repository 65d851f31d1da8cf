"""Threads that read at once what this process has never read before."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.first_reads import READS

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("name", READS)
def test_a_thread_may_read_at_any_moment_of_another_threads_first_read(name: str):
    done = subprocess.run(
        [sys.executable, "-m", "support.first_reads", name],
        cwd=TESTS,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )
    assert done.returncode == 0, done.stdout + done.stderr

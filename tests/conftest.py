"""What tests may need of the machine, and what a run says of the needs that are not met.

A test marked `@pytest.mark.needs("node >= 20")` is skipped where the table below says so, and the
end of the run counts such tests in one line. With CI=true that is a failure: there, all tests run.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from scripts import setup

NEEDS: dict[str, Callable[[], bool]] = {
    "node >= 20": lambda: setup.node_runs() and setup.node_packages_match(),
    "awslambdaric": lambda: find_spec("awslambdaric") is not None,  # its wheels are for Linux
    "chromium": lambda: shutil.which("chromium") is not None,
    "curl": lambda: shutil.which("curl") is not None,
}

_not_run = pytest.StashKey["Counter[str]"]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Skip what cannot run; asks only for needs of tests that were chosen."""
    met: dict[str, bool] = {}
    not_run = session.config.stash.setdefault(_not_run, Counter())
    for item in session.items:
        for name in [mark.args[0] for mark in item.iter_markers("needs")]:
            if name not in NEEDS:
                raise pytest.UsageError(f"{item.nodeid} needs {name!r}; known: {', '.join(NEEDS)}")
            if name not in met:
                met[name] = NEEDS[name]()
            if not met[name]:
                item.add_marker(pytest.mark.skip(reason=f"needs {name}"))
                not_run[name] += 1


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    everything_must_run = os.environ.get("CI") == "true"
    if everything_must_run and session.config.stash.get(_not_run, None):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    verdict = ", and with CI=true that is a failure" if os.environ.get("CI") == "true" else ""
    for name, count in config.stash.get(_not_run, Counter()).items():
        noun = "test needs" if count == 1 else "tests need"
        terminalreporter.write_line(f"not run here: {count} {noun} {name}{verdict}")
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.items():
        if not reason.startswith("needs "):
            terminalreporter.write_line(f"skipped: {count} where {reason}")

"""What tests may need of the machine, and what a run says of the needs that are not met.

A test marked `@pytest.mark.needs("node >= 20")` is skipped where the table below says so, and the
end of the run counts such tests in one line. With CI=true that is a failure: there, all tests run.
A test marked `@pytest.mark.long` is left out, and counted too, unless the run has `--run-long`, as
`scripts/test --all` has it.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from scripts import setup

NEEDS: dict[str, Callable[[], bool]] = {
    "node >= 20": lambda: setup.node_runs() and setup.node_packages_match(),
    "bench peers": lambda: setup.node_runs() and setup.node_packages_match(setup.PEERS_FOLDER),
    "awslambdaric": lambda: find_spec("awslambdaric") is not None,  # its wheels are for Linux
    "chromium": lambda: shutil.which("chromium") is not None,
    "deploy tools": lambda: (
        sys.platform == "linux"  # functions are packaged for it
        and setup.tools_are_complete()
        and setup.node_packages_match(setup.TOOLS_FOLDER)
    ),
    "curl": lambda: shutil.which("curl") is not None,
}

_NEEDS = "Skipped: needs "
_LONG = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-long", action="store_true", help="the tests marked long, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.stash[_LONG] = len(left_out)
    if hasattr(config, "workeroutput"):  # one of several processes: the first speaks for all
        config.workeroutput["long"] = len(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LONG] = getattr(node, "workeroutput", {}).get("long", 0)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Skip what cannot run; asks only for needs of tests that were chosen."""
    met: dict[str, bool] = {}
    for item in session.items:
        for name in [mark.args[0] for mark in item.iter_markers("needs")]:
            if name not in NEEDS:
                raise pytest.UsageError(f"{item.nodeid} needs {name!r}; known: {', '.join(NEEDS)}")
            if name not in met:
                met[name] = NEEDS[name]()
            if not met[name]:
                item.add_marker(pytest.mark.skip(reason=f"needs {name}"))


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """An AWS for all tests of a process, which make buckets and tables of their own."""
    from support.storages import moto_server  # which most runs of a few tests do not need

    with moto_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """An app that a test builds sets up logging for a whole process; the next test has its own."""
    logger = logging.getLogger("fal_image")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def _reasons(config: pytest.Config) -> Counter[str]:
    """Why tests were skipped, wherever they ran: reports of all processes end in one place."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    return Counter(str(report.longrepr[2]) for report in skipped)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    everything_must_run = os.environ.get("CI") == "true"
    unmet = [reason for reason in _reasons(session.config) if reason.startswith(_NEEDS)]
    if everything_must_run and unmet:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left_out = config.stash.get(_LONG, 0)
    if left_out:
        noun = "1 long test; scripts/test --all runs it"
        if left_out > 1:
            noun = f"{left_out} long tests; scripts/test --all runs them"
        terminalreporter.write_line(f"not run here: {noun}")
    verdict = ", and with CI=true that is a failure" if os.environ.get("CI") == "true" else ""
    for reason, count in _reasons(config).items():
        if reason.startswith(_NEEDS):
            noun, name = "test needs" if count == 1 else "tests need", reason.removeprefix(_NEEDS)
            terminalreporter.write_line(f"not run here: {count} {noun} {name}{verdict}")
        else:
            why = reason.removeprefix("Skipped: ")
            terminalreporter.write_line(f"skipped: {count} where {why}")

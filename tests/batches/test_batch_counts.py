"""What a row of a batch asks of the database, of fal and of the storage, counted exactly.

A clock would say nothing on another machine; a count says when a row became dearer, wherever it
runs. What a row pays here it pays a hundred thousand times.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.counting import CountingDatabase, CountingSqlite
from support.effects import Effects
from support.world import Ask, World, webhook

ROWS = 7

# Told by its webhook, a row is read, taken up, stored and marked; its follower is made and sent.
OPERATIONS = {
    "get job": 1,
    "replace_if job": 3,
    "mark chunk": 1,
    "create job": 1,
}
BUDGETS = {"take spent": 1, "settle spent": 1}
# The units that fal bills stand in the result only; each picture has its manifest.
CALLS = {"fal submit": 1, "fal result": 1, "fal file": 1, "put": 2}
# Reading in SQLite is no transaction, and each write is one if nobody writes at the same time.
STATEMENTS = {"SELECT": 2, "BEGIN": 5, "COMMIT": 5, "UPDATE": 3, "INSERT": 2}
BUDGETS_STATEMENTS = {"SELECT": 2, "BEGIN": 2, "COMMIT": 2, "INSERT": 2, "DELETE": 1, "UPDATE": 1}


@dataclass
class Counts:
    operations: Counter[str]
    calls: Counter[str]
    statements: Counter[str]


class Counted:
    """A batch of ROWS with a window of one, so that no two threads write at the same time."""

    def __init__(self, file: Path, budget_usd_micro: int | None) -> None:
        self._sqlite = CountingSqlite(file)
        self._database = CountingDatabase(self._sqlite)
        self._effects = Effects()
        self.world = World(database=self._database, budget_usd_micro=budget_usd_micro)
        self._instance = self.world.instance(self._effects)
        rows = [{"prompt": f"cat {row}", "rowId": row} for row in range(ROWS)]
        begun = Ask("POST", "/batches", json.dumps({"rows": rows, "window": 1}))
        assert self._instance.ask(begun).status < 300

    def next_row(self) -> Counts:
        """What it takes to finish the row that is at fal, and to start its follower."""
        before = self._now()
        delivery = self.world.fal.delivery(self.world.fal.taken[-1])
        assert self._instance.ask(webhook(delivery)).status == 200
        after = self._now()
        return Counts(
            after.operations - before.operations,
            after.calls - before.calls,
            after.statements - before.statements,
        )

    def _now(self) -> Counts:
        outside = [name for name in self._effects.names if name in CALLS]
        kinds, statements = self._database.kinds, self._sqlite.statements
        return Counts(kinds.copy(), Counter(outside), statements.copy())


@pytest.mark.parametrize("budget_usd_micro", [None, 1_000_000])
def test_a_row_takes_exactly_so_much(tmp_path: Path, budget_usd_micro: int | None):
    counted = Counted(tmp_path / "jobs.db", budget_usd_micro)
    counted.next_row()  # fal's keys are read once
    operations, statements = Counter(OPERATIONS), Counter(STATEMENTS)
    if budget_usd_micro is not None:
        operations.update(BUDGETS)
        statements.update(BUDGETS_STATEMENTS)

    for _ in range(ROWS - 2):
        found = counted.next_row()
        assert found.operations == operations
        assert found.calls == CALLS
        assert found.statements == statements
    assert len(counted.world.fal.taken) == ROWS

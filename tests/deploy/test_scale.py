"""docs/scale.md: what one picture asks of the database, counted; and every sum on the page."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fal_image.database.memory import MemoryDatabase
from support.values import replace
from support.world import Instance, World, message, order, webhook

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "scale.md").read_text(encoding="utf-8")

ATTRIBUTES_BYTES = 250  # of an item besides its body: id, version, times, who wrote what
UNIT_BYTES = 1024  # of a write unit (AWS DynamoDB guide, read and write operations)
READS = {"get", "total"}


@dataclass
class Metered:
    """A database that counts what DynamoDB would bill for documents that are small."""

    inner: MemoryDatabase = field(default_factory=MemoryDatabase)
    calls: Counter[str] = field(default_factory=Counter)
    write_units: int = 0
    index_units: int = 0
    due_at: dict[str, datetime | None] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def metered(*arguments: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if name in {"create", "replace_if"}:
                self._written(arguments[0], arguments[-1], named.get("due_at"))
            return method(*arguments, **named)

        return metered

    def _written(self, id: str, body: object, due_at: datetime | None) -> None:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self.write_units += math.ceil((len(text.encode()) + ATTRIBUTES_BYTES) / UNIT_BYTES)
        before = self.due_at.get(id)
        if before != due_at:  # a changed key is one entry less and one more
            self.index_units += (before is not None) + (due_at is not None)
        self.due_at[id] = due_at

    @property
    def row(self) -> list[int]:
        reads = sum(count for name, count in self.calls.items() if name in READS)
        return [sum(self.calls.values()), self.write_units, self.index_units, reads]


def one_picture(how: str) -> list[int]:
    """What a picture took until it was stored."""
    metered = Metered()
    database: Any = metered
    world = World(database=database, budget_usd_micro=None)
    queued: list[str] = []

    def enqueue(job_ids: Sequence[str]) -> list[str]:
        queued.extend(job_ids)
        return []

    def instance() -> Instance:
        made = world.instance()
        if "queue" not in how:
            return made
        drivers = replace(made.services.drivers, enqueue=enqueue)
        return Instance(replace(made.services, drivers=drivers))

    prefer = None if how == "waiting" else "respond-async"
    said = instance().ask(order(prompt="x" * 200, prefer=prefer))
    if prefer:
        world.pass_s(2)
        (taken,) = world.fal.taken
        assert instance().ask(webhook(world.fal.delivery(taken))).status == 200
        for job_id in queued:
            assert instance().ask(message(job_id)).status == 200
    row = metered.row
    assert world.instance().job(said.job_id).state == "done"
    return row


@pytest.mark.parametrize(
    "how", ["waiting", "told by webhook", "told by webhook, copied through the queue"]
)
def test_what_a_picture_asks_of_the_database_is_as_printed(how: str):
    (printed,) = re.findall(rf"^\| {how} \| (\d.*) \|$", PAGE, re.MULTILINE)
    assert one_picture(how) == [int(cell) for cell in printed.split(" | ")]


def value_of(sum_: str) -> float:
    """A sum of numbers; brackets and words are none."""
    assert re.fullmatch(r"[\d. ×/+]+", sum_), sum_
    total = 0.0
    for part in sum_.split("+"):
        product, *divisors = part.split("/")
        value = math.prod(float(factor) for factor in product.split("×"))
        for divisor in divisors:
            value /= float(divisor)
        total += value
    return total


@pytest.mark.parametrize("page", ["scale.md", "deploy.md"])
def test_every_sum_is_right(page: str):
    sums = re.findall(r"`([\d. ×/+]+) = ([\d.]+)`", (DOCS / page).read_text(encoding="utf-8"))
    assert len(sums) > 10
    wrong = {}
    for sum_, result in sums:
        places = len(result.partition(".")[2])
        if abs(value_of(sum_) - float(result)) > 0.5 * 10**-places + 1e-9:
            wrong[sum_] = value_of(sum_)
    assert wrong == {}

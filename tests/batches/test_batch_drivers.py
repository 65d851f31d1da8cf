"""What happens to batches when drivers stop, die, run out of time, or work at once."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fal_image.batches.documents import Head, job_id_of
from fal_image.database.base import DatabaseError
from fal_image.database.memory import MemoryDatabase
from fal_image.dev.emulator import Emulator
from fal_image.errors import DatabaseUnavailable, InvalidInput
from support.batch_house import CALLER, SMALL, House, house
from support.breakable import breakable_database
from support.receiver import Receiver
from support.values import replace

HOOK = "https://hooks.example.com/batches"


def states(home: House, batch: Any) -> list[str]:
    return [one["state"] for one in home.results(batch)]


def finish_at_fal(home: House, batch_id: str, *rows: int) -> None:
    """Let drivers end the jobs of these rows and die before they say so."""
    steps = home.services.generator.steps
    for row in rows:
        job = steps.wait(steps.records.load(job_id_of(batch_id, row)), home.turn())
        assert job.is_over


def test_a_stopped_batch_starts_no_more_rows_and_writes_down_what_there_is(
    fal: Emulator, home: House
):
    batch_id = home.start(10, window=2, public=False)["batchId"]
    batches = home.services.batches
    assert batches.stop(batch_id, CALLER).state == "stopping"
    assert home.find(batch_id)["counts"]["running"] == 2
    batch = home.until(batch_id, "stopped", sweeps=True)
    assert (batch["counts"]["done"], batch["counts"]["pending"]) == (2, 8)
    assert states(home, batch) == ["done", "done"]
    assert len(fal.ledger) == 2
    assert batches.stop(batch_id, CALLER).state == "stopped"


def test_a_stopped_batch_goes_on_where_it_was(fal: Emulator, home: House):
    batch_id = home.start(10, window=2, public=False)["batchId"]
    home.services.batches.stop(batch_id, CALLER)
    home.until(batch_id, "stopped", sweeps=True)
    resumed = home.services.batches.resume(batch_id, CALLER, home.turn())
    assert (resumed.state, resumed.results_url) == ("running", None)
    batch = home.until(batch_id, sweeps=True)
    assert states(home, batch) == ["done"] * 10
    assert len(fal.ledger) == 10


def test_a_batch_that_is_done_can_neither_be_stopped_nor_continued(home: House):
    batch_id = home.start(1)["batchId"]
    home.until(batch_id)
    assert home.services.batches.stop(batch_id, CALLER).state == "done"
    assert home.services.batches.resume(batch_id, CALLER, home.turn()).state == "done"


def test_a_stopping_batch_stops_only_when_every_driver_knows(home: House):
    batch_id = home.start(4, window=2, public=False)["batchId"]
    finish_at_fal(home, batch_id, 0, 1)
    home.services.batches.stop(batch_id, CALLER)
    home.services.batches.sweep(batch_id, home.turn())
    assert home.find(batch_id)["state"] == "stopping"
    home.now.advance(seconds=11)
    home.services.batches.sweep(batch_id, home.turn())
    assert home.find(batch_id)["state"] == "stopped"


def test_the_sweep_takes_up_the_lane_of_a_driver_that_died(fal: Emulator, home: House):
    batch_id = home.start(6, window=2, public=False)["batchId"]
    finish_at_fal(home, batch_id, 0, 1)
    assert home.find(batch_id)["counts"]["done"] == 0
    home.now.advance(seconds=61)
    home.services.batches.sweep(batch_id, home.turn())
    assert home.find(batch_id)["counts"]["done"] == 2
    assert len(fal.ledger) == 4


def test_a_batch_ends_although_everybody_dies_after_the_last_job(fal: Emulator, home: House):
    batch_id = home.start(2, window=2, public=False)["batchId"]
    finish_at_fal(home, batch_id, 0, 1)
    home.now.advance(seconds=61)
    home.another().batches.sweep(batch_id, home.turn())
    assert home.find(batch_id)["state"] == "done"


class Dying(MemoryDatabase):
    """A database whose `dies_at`-th write from now on does not happen, nor any after it."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_at = 0

    def _write(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if self.dies_at:
            self.dies_at -= 1
            if self.dies_at == 0:
                self.dies_at = 1
                raise DatabaseError("dead")
        return call(*arguments, **named)

    def create(self, *arguments: Any, **named: Any) -> Any:
        return self._write(super().create, *arguments, **named)

    def replace_if(self, *arguments: Any, **named: Any) -> Any:
        return self._write(super().replace_if, *arguments, **named)

    def mark(self, *arguments: Any, **named: Any) -> Any:
        return self._write(super().mark, *arguments, **named)


@pytest.mark.parametrize("dies_at", range(1, 12))
def test_a_driver_may_die_before_any_of_its_writes(fal: Emulator, tmp_path: Path, dies_at: int):
    """The poll that ends the first job, starts the third and ends the batch at once is cut."""
    database = Dying()
    with house(fal, tmp_path, database) as home:
        rows = [{"prompt": "cat"}, {"prompt": ""}, {"prompt": "dog"}]
        batch_id = home.start(rows, window=1, public=False)["batchId"]
        services = home.services
        database.dies_at = dies_at
        for row in (0, 2):
            with suppress(Exception):  # whatever it says, it is dead
                services.drivers.poll(job_id_of(batch_id, row), CALLER, home.turn())
        database.dies_at = 0
        batch = home.until(batch_id, sweeps=True)
    counted = batch["counts"]
    assert (counted["total"], counted["failed"]) == (3, 1)
    assert counted["done"] + counted["unknown"] == 2
    assert len(fal.ledger) <= 2


def test_asking_after_a_row_that_is_over_does_not_walk_the_whole_lane(home: House):
    batch_id = home.start(30, window=1)["batchId"]
    home.until(batch_id)
    store = home.services.batches.store
    assert store.change(store.load(batch_id), state="running", due_at=None)
    for services in (home.services, home.another()):
        home.database.calls.clear()
        services.drivers.poll(job_id_of(batch_id, 0), CALLER, home.turn())
        assert sum(home.database.calls.values()) <= 5, home.database.calls


def test_two_sweeps_at_once_start_every_row_once(fal: Emulator, home: House):
    batch_id = home.start(60, window=20, public=False)["batchId"]
    finish_at_fal(home, batch_id, *range(20))
    home.now.advance(seconds=61)
    other = home.another()
    for services in (home.services, other):
        services.batches.sweep(batch_id, home.turn())
    batch = home.until(batch_id, sweeps=True)
    assert batch["counts"]["done"] == 60
    assert len(fal.ledger) == 60


def test_a_row_that_cannot_be_begun_now_is_begun_later(fal: Emulator, home: House):
    refuse = replace(home.services.generator.orders, key=None)
    batches = home.services.batches
    lanes = batches.lanes
    batches.lanes = replace(lanes, generator=replace(lanes.generator, orders=refuse))
    batch_id = home.start(3, public=False)["batchId"]
    assert home.find(batch_id)["counts"]["failed"] == 0
    batches.lanes = lanes
    assert home.until(batch_id, sweeps=True)["counts"]["done"] == 3
    assert len(fal.ledger) == 3


def test_a_database_that_is_down_fails_no_row(home: House):
    down = replace(home.services.batches.store, database=_down)
    home.services.batches.store = down
    with pytest.raises(DatabaseUnavailable):
        home.start(1)


def _down() -> Any:
    raise DatabaseError("down")


class Ticking:
    """A clock that goes on by a second with every look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


def test_a_long_file_is_counted_in_several_sweeps(home: House):
    rows = 12_345
    key = home.services.batches.files.key("b" * 26, home.now())
    home.services.batches.files.put(key, (b'{"rowId":%d}\n\n' % row for row in range(rows)))
    clock = Ticking()
    planning = home.services.batches.planning
    planning = replace(planning, store=replace(planning.store, clock=clock))
    now = home.now()
    head = planning.store.add(
        Head("b" * 26, key, "", now, now, window=1, default_model="m/m"), due_at=now
    )
    turns = 0
    while not head.is_planned:
        turns += 1
        turn = replace(home.turn(), answer_by=clock.now_s + 40)
        head = planning.plan(planning.store.load(head.batch_id), turn, due_at=now)
    assert 3 <= turns <= 8
    assert (head.total, head.chunks) == (rows, 124)
    for row in (0, 99, 100, 5_000, 12_299, 12_300, 12_344):
        chunk = planning.store.chunk(head.batch_id, row // 100)
        content = home.services.batches.files.row(key, chunk, row)
        assert content == b'{"rowId":%d}' % row


def test_rows_are_started_only_when_all_are_counted(fal: Emulator, home: House):
    rows = [{"prompt": "cat"}] * 3
    batch = home.services.batches.start(
        {"rows": rows, "defaults": SMALL}, CALLER, home.turn(left_s=0), None
    )
    assert (batch.total, batch.running, fal.ledger) == (0, 0, [])
    home.until(batch.batch_id, sweeps=True)
    assert len(fal.ledger) == 3


def test_results_that_were_not_whole_in_time_are_written_by_the_next_sweep(home: House):
    batch_id = home.start(2, window=2, public=False)["batchId"]
    finish_at_fal(home, batch_id, 0, 1)
    home.now.advance(seconds=61)
    home.services.batches.sweep(batch_id, home.turn(left_s=4))
    assert home.find(batch_id)["state"] == "running"
    home.services.batches.sweep(batch_id, home.turn())
    batch = home.find(batch_id)
    assert states(home, batch) == ["done", "done"]


def test_everything_about_a_batch_is_forgotten_when_its_time_is_over(fal: Emulator, tmp_path: Path):
    database = MemoryDatabase()
    with house(fal, tmp_path, database, job_retention_days=2) as home:
        done = home.until(home.start(2, public=False)["batchId"], sweeps=True)
        stopped = home.start(3, window=1, public=False)["batchId"]
        home.services.batches.stop(stopped, CALLER)
        home.until(stopped, "stopped", sweeps=True)
        home.now.advance(days=1)
        home.sweep()
        assert home.find(done["batchId"])["state"] == "done"
        for _ in range(2):
            home.now.advance(days=3)
            home.sweep()
    kept = [id for id in database._documents if not id.startswith("meta:")]
    assert kept == []


def test_the_owner_is_told_once_that_a_batch_is_done(fal: Emulator, tmp_path: Path):
    with (
        Receiver() as owner,
        house(
            fal,
            tmp_path,
            detours={"hooks.example.com": owner.url},
            webhook_hosts=("hooks.example.com",),
        ) as home,
    ):
        batch_id = home.start(2, webhookUrl=HOOK)["batchId"]
        home.until(batch_id)
        for _ in range(2):
            home.now.advance(seconds=61)
            home.sweep(tells=True)
        headers, notice = owner.next()
        assert headers["webhook-id"] == batch_id
        assert notice["type"] == "batch.done"
        assert notice["data"]["counts"]["done"] == 2
        assert owner.got.empty()


def test_a_webhook_that_may_not_be_told_is_refused(home: House):
    with pytest.raises(InvalidInput, match="webhookUrl"):
        home.start(1, webhookUrl=HOOK)


def run_counted(home: House, rows: int) -> tuple[Any, float]:
    """Carry out a batch by webhooks alone; it, and its database operations for each row."""
    batch_id = home.start(rows, window=100)["batchId"]
    store = home.services.batches.store
    unseen = replace(store, database=lambda: home.database.inner)

    def is_done() -> bool:
        return unseen.load(batch_id).state == "done"

    home.wait_for(is_done)
    operations = sum(home.database.calls.values()) / rows
    return home.find(batch_id), operations


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_thousand_rows_cost_at_most_seven_database_operations_each(fal: Emulator, home: House):
    batch, operations = run_counted(home, 1_000)
    assert batch["counts"]["done"] == len(fal.ledger) == 1_000
    assert [one["row"] for one in home.results(batch)] == list(range(1_000))
    assert operations <= 7, home.database.calls


@pytest.mark.long
@pytest.mark.timeout(60)
def test_with_a_budget_a_row_costs_at_most_nine_database_operations(fal: Emulator, tmp_path: Path):
    with house(fal, tmp_path, daily_budget_usd_micro=100_000_000) as home:
        batch, operations = run_counted(home, 200)
        assert batch["counts"]["done"] == 200
        assert operations <= 9, home.database.calls
        assert set(home.database.calls) >= {"take", "settle"}


def test_the_head_and_a_chunk_stay_small(home: House):
    """Of the largest batch: 1,000 marks on the head, 100 with a reason on a chunk."""
    now = home.now()
    head = Head("b" * 26, "k", "", now, now, window=1, default_model="m/m", total=100_000)
    marks = {f"c{number}": "100,0,0,0" for number in range(1_000)}
    assert len(json.dumps([head.to_document(), marks])) < 40_000
    reasons = {str(row): "failed:fetch_image_failed:" + "x" * 200 for row in range(100)}
    assert len(json.dumps(reasons)) < 40_000


def test_a_database_that_fails_after_a_row_was_submitted_never_asks_for_the_batch_again(
    fal: Emulator, tmp_path: Path
):
    database = breakable_database()
    with house(fal, tmp_path, database.around(MemoryDatabase())) as home:
        for calls in range(20):
            before = len(fal.ledger)
            database.break_after(calls)
            try:
                home.start(2, public=False)
            except DatabaseUnavailable:
                assert len(fal.ledger) == before, calls
            finally:
                database.mend()
    assert fal.ledger


def test_results_are_written_without_the_rows_own_names_when_their_file_is_gone(
    fal: Emulator, home: House, tmp_path: Path
):
    batch_id = home.start(3, window=3, public=False)["batchId"]
    for path in (tmp_path / "pictures").rglob("*.jsonl"):
        path.unlink()
    batch = home.until(batch_id, sweeps=True)
    assert [(one["rowId"], one["state"]) for one in home.results(batch)] == [(None, "done")] * 3

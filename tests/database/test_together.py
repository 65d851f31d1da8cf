"""Writers that share a commit: each gets what is its own, whatever happens to the others."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from fal_image.database import _together
from fal_image.database._together import Together, Write
from fal_image.database.base import DatabaseError
from fal_image.database.sqlite import SqliteDatabase
from support.counting import CountingSqlite

WRITERS = 6


class Desk:
    """Carries writes out and remembers in which groups they came. The first group waits until
    `crowd` others have come."""

    def __init__(self, crowd: int) -> None:
        self.together = Together()
        self.groups: list[int] = []
        self._crowd = crowd

    def __call__(self, writes: Sequence[Write[Any]]) -> None:
        if not self.groups:
            wait_for(lambda: len(self.together._queue) >= self._crowd)
        self.groups.append(len(writes))
        for write in writes:
            try:
                write.succeeded(write.work(None))
            except ValueError as error:
                write.failed(error)

    def do(self, work: Callable[[Any], Any]) -> Any:
        return self.together.do(work, self)


def wait_for(is_so: Callable[[], bool]) -> None:
    gives_up_at = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < gives_up_at
        threading.Event().wait(0.001)


def value_of(number: int) -> Callable[[Any], int]:
    return lambda connection: number


def broken(connection: object) -> None:
    raise ValueError("this one alone")


def test_who_comes_while_another_writes_is_written_with_all_who_wait():
    desk = Desk(WRITERS - 1)
    with ThreadPoolExecutor(WRITERS) as pool:
        found = list(pool.map(lambda number: desk.do(value_of(number)), range(WRITERS)))
    assert found == list(range(WRITERS))
    assert desk.groups == [1, WRITERS - 1]
    assert desk.do(value_of(7)) == 7  # and the next one finds nobody at it
    assert desk.groups == [1, WRITERS - 1, 1]


def test_each_is_raised_its_own_error():
    desk = Desk(WRITERS - 1)
    with ThreadPoolExecutor(WRITERS) as pool:
        works = [broken if number == 3 else value_of(number) for number in range(WRITERS)]
        writing: list[Future[Any]] = [pool.submit(desk.do, work) for work in works]
    failed = [one.exception() is not None for one in writing]
    assert failed == [number == 3 for number in range(WRITERS)]


def test_a_writer_that_is_cut_off_leaves_nobody_waiting():
    together, cut = Together(), threading.Event()

    def commit(writes: Sequence[Write[Any]]) -> None:
        if not cut.is_set():
            wait_for(lambda: bool(together._queue))
            cut.set()
            raise KeyboardInterrupt
        for write in writes:
            write.succeeded(write.work(None))

    def first() -> None:
        with suppress(KeyboardInterrupt):
            together.do(value_of(1), commit)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(first)
        wait_for(lambda: together._leader is not None)
        assert pool.submit(together.do, value_of(2), commit).result(10) == 2


def begun(call: Callable[[], Any]) -> Future[Any]:
    """On a thread that nobody has to wait for, should it hang."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def is_cut_off(step: int, call: Callable[[], Any]) -> bool:
    """Whether Ctrl-C came before the call was through: in the queue's own code, at this step."""
    steps = iter(range(step))

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != _together.__file__:
            return None
        if next(steps, None) is None:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    def run() -> None:
        sys.settrace(trace)
        call()

    try:
        begun(run).result(5)
    except KeyboardInterrupt:
        return True
    return False


def carry_out(writes: Sequence[Write[Any]]) -> None:
    for write in writes:
        write.succeeded(write.work(None))


def cut_off_as_first(step: int) -> bool:
    """Ctrl-C at the one that commits, while another waits to be next."""
    together, next_ones = Together(), list[Future[Any]]()

    def commit(writes: Sequence[Write[Any]]) -> None:
        next_ones.append(begun(lambda: together.do(value_of(2), carry_out)))
        wait_for(lambda: len(together._queue) == 1)
        carry_out(writes)

    is_so = is_cut_off(step, lambda: together.do(value_of(1), commit))
    assert [one.result(5) for one in next_ones] == [2] * len(next_ones)
    assert_is_free(together)
    return is_so


def cut_off_as_next(step: int) -> bool:
    """Ctrl-C at one that waits and then commits, for itself and one that came after it."""
    together, is_gone, writing = Together(), threading.Event(), threading.Event()
    last_ones: list[Future[Any]] = []

    def commit(writes: Sequence[Write[Any]]) -> None:
        writing.set()
        wait_for(lambda: bool(together._queue) or is_gone.is_set())
        last_ones.append(begun(lambda: together.do(value_of(3), carry_out)))
        wait_for(lambda: any(write.work(None) == 3 for write in together._queue))
        carry_out(writes)

    first = begun(lambda: together.do(value_of(1), commit))
    assert writing.wait(5)
    try:
        is_so = is_cut_off(step, lambda: together.do(value_of(2), carry_out))
    finally:
        is_gone.set()
    assert first.result(5) == 1
    error = last_ones[0].exception(5)
    assert error is None or str(error) == "the write was cut off"
    assert_is_free(together)
    return is_so


def cut_off_while_failing(step: int) -> bool:
    """Ctrl-C at one whose commit has just been cut off, while another waits to be next."""
    together, next_ones = Together(), list[Future[Any]]()

    def commit(writes: Sequence[Write[Any]]) -> None:
        next_ones.append(begun(lambda: together.do(value_of(2), carry_out)))
        wait_for(lambda: len(together._queue) == 1)
        raise SystemExit

    is_so = False
    with suppress(SystemExit):
        is_so = is_cut_off(step, lambda: together.do(value_of(1), commit))
    assert [one.result(5) for one in next_ones] == [2] * len(next_ones)
    assert_is_free(together)
    return is_so


def assert_is_free(together: Together) -> None:
    assert begun(lambda: together.do(value_of(7), carry_out)).result(5) == 7


@pytest.mark.parametrize("scene", [cut_off_as_first, cut_off_as_next, cut_off_while_failing])
def test_ctrl_c_at_any_step_leaves_nobody_waiting(scene: Callable[[int], bool]):
    step = 0
    while scene(step):
        step += 1
    assert step > 30


@pytest.fixture
def database(tmp_path: Path) -> CountingSqlite:
    return CountingSqlite(tmp_path / "jobs.db")


def all_at_once(database: SqliteDatabase, file: Path, *calls: Callable[[], Any]) -> list[Any]:
    """What the calls give or raise, which had to wait for another program together."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(len(calls)) as pool:
        writing = [pool.submit(call) for call in calls]
        wait_for(lambda: len(database._together._queue) == len(calls) - 1)
        other.execute("ROLLBACK")
        other.close()
    return [one.exception() or one.result() for one in writing]


def test_threads_that_wait_at_the_same_time_share_a_commit(
    database: CountingSqlite, tmp_path: Path
):
    database.create("job:0", {})
    database.statements.clear()
    calls = [lambda id=f"job:{number}": database.create(id, {}) for number in range(WRITERS)]

    made = all_at_once(database, tmp_path / "jobs.db", *calls)
    assert made == [False, True, True, True, True, True]
    assert database.statements["COMMIT"] == 2
    assert len(database.get_many([f"job:{number}" for number in range(WRITERS)])) == WRITERS


def test_a_write_that_fails_takes_no_other_along(database: CountingSqlite, tmp_path: Path):
    file = tmp_path / "jobs.db"
    database.create("job:0", {})
    fault = sqlite3.connect(file)
    fault.execute(
        "CREATE TRIGGER fault BEFORE INSERT ON documents WHEN new.id = 'job:3' "
        "BEGIN SELECT RAISE(ABORT, 'f'); END"
    )
    fault.commit()
    fault.close()
    calls = [lambda id=f"job:{number}": database.create(id, {}) for number in range(1, WRITERS)]

    made = all_at_once(database, file, *calls)
    assert isinstance(made.pop(2), DatabaseError)
    assert made == [True, True, True, True]
    assert database.get("job:3") is None

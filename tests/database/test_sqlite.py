"""What is SQLite's own: the file, several processes, and what a kill or a fault leaves behind."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fal_image.database.base import Database, DatabaseError
from fal_image.database.sqlite import SqliteDatabase

TOMORROW = datetime(2026, 11, 22, tzinfo=timezone.utc)

# Increments a document and a counter until its time is over, then tells how often.
HAMMER = """
import sys, time
from datetime import datetime, timezone
from pathlib import Path
from fal_image.database.sqlite import SqliteDatabase

database, name = SqliteDatabase(Path(sys.argv[1])), sys.argv[2]
tomorrow = datetime(2026, 11, 22, tzinfo=timezone.utc)
database.create("job", {"count": 0})
done, ends_at = 0, time.monotonic() + float(sys.argv[3])
while time.monotonic() < ends_at:
    document = database.get("job")
    if database.replace_if("job", document.version, {"count": document.body["count"] + 1}):
        done += 1
        assert database.take("counter", f"{name}-{done}", 7, 10**9, expires_at=tomorrow)
        database.settle("counter", f"{name}-{done}", reserved=7, actual=1)
        database.mark("job", {name: str(done)})
        print(done, flush=True)
"""


def hammer(file: Path, name: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(file), name, str(seconds)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "jobs.db"


def in_a_file(file: Path, *statements: str) -> None:
    """Run statements past the code under test."""
    file.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(file)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def count(database: Database) -> int:
    document = database.get("job")
    assert document is not None
    number = document.body["count"]
    assert isinstance(number, int)
    return number


def test_the_file_is_made_with_the_first_call(file: Path):
    database = SqliteDatabase(file)
    assert not file.parent.exists()

    assert database.get("job") is None
    assert file.exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_nobody_else_may_read_the_files(file: Path):
    database = SqliteDatabase(file)
    database.create("job", {})

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_an_empty_file_becomes_a_database(file: Path):
    file.parent.mkdir()
    file.touch()

    assert SqliteDatabase(file).create("job", {})


def test_a_database_that_nobody_holds_is_one_closed_file(file: Path):
    def use(database: Database) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: database.create(f"job:{number}", {}), range(8)))
            list(pool.map(lambda number: database.get(f"job:{number}"), range(8)))

    use(SqliteDatabase(file))

    assert [path.name for path in file.parent.iterdir()] == ["jobs.db"]


def test_two_processes_lose_nothing_to_each_other(file: Path):
    processes = [hammer(file, name, 1.0) for name in ("a", "b")]
    told = [process.communicate() for process in processes]
    assert [error for _, error in told] == ["", ""]
    done = [len(output.splitlines()) for output, _ in told]
    assert min(done) > 0

    database = SqliteDatabase(file)
    document = database.get("job")
    assert document is not None
    assert document.body == {"count": sum(done)}
    assert document.version == sum(done) + 1
    assert document.marks == {"a": str(done[0]), "b": str(done[1])}
    assert database.total("counter") == sum(done)


def test_another_process_that_closes_the_file_takes_nothing_along(file: Path):
    """SQLite's last process removes the log; it must know of a process that still uses it."""
    database = SqliteDatabase(file)
    database.create("job:1", {})
    assert database.get("job:1")  # a second connection, opened while the first has its locks

    def elsewhere(id: str) -> str:
        program = "import sys, pathlib; from fal_image.database.sqlite import SqliteDatabase; "
        program += "print(SqliteDatabase(pathlib.Path(sys.argv[1])).get(sys.argv[2]) is not None)"
        command = [sys.executable, "-c", program, str(file), id]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.check_output(command, env=environ, text=True, encoding="utf-8").strip()

    assert elsewhere("job:1") == "True"
    database.create("job:2", {})
    assert elsewhere("job:2") == "True"


def test_a_killed_process_loses_nothing_it_was_told_of(file: Path):
    process = hammer(file, "a", 15.0)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            break
    process.kill()
    rest, _ = process.communicate()
    told = max([20, *(int(line) for line in rest.splitlines() if line.strip())])

    database = SqliteDatabase(file)
    assert count(database) in {told, told + 1}
    assert database.create("another", {}), "nothing is left locked"


def test_many_handles_may_make_a_file_at_once(tmp_path: Path):
    start = threading.Barrier(6, timeout=5)

    def first_calls(number: int) -> bool:
        created = True
        for file in (tmp_path / f"{round}.db" for round in range(30)):
            database = SqliteDatabase(file)
            start.wait()
            created &= database.create(f"job:{number}", {})
        return created

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(first_calls, range(6)))
    ids = [f"job:{number}" for number in range(6)]
    for file in tmp_path.glob("*.db"):
        assert len(SqliteDatabase(file).get_many(ids)) == 6


def test_readers_do_not_wait_for_a_writer(file: Path):
    database = SqliteDatabase(file)
    database.create("job", {"count": 1})
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE documents SET body = '{}'")

    assert count(database) == 1
    assert database.due(TOMORROW, 1) == []
    assert database.total("counter") == 0
    writer.close()


def test_a_writer_that_waited_in_vain_may_try_again(file: Path):
    database = SqliteDatabase(file, busy_s=0.05)
    database.create("job", {"count": 1})
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")

    for call in (
        lambda: database.create("another", {}),
        lambda: database.mark("job", {"0": "done"}),
        lambda: database.take("counter", "k1", 1, 1, expires_at=TOMORROW),
    ):
        with pytest.raises(DatabaseError, match="locked"):
            call()
    writer.execute("ROLLBACK")
    writer.close()

    assert database.create("another", {})
    assert database.take("counter", "k1", 1, 1, expires_at=TOMORROW)


def test_a_write_that_fails_halfway_changes_nothing(file: Path):
    database = SqliteDatabase(file)
    database.create("job", {})
    in_a_file(
        file,
        "CREATE TRIGGER fault_1 BEFORE INSERT ON open_amounts BEGIN SELECT RAISE(ABORT, 'f'); END",
        "CREATE TRIGGER fault_2 BEFORE INSERT ON marks WHEN new.name = '9' "
        "BEGIN SELECT RAISE(ABORT, 'f'); END",
    )
    with pytest.raises(DatabaseError):
        database.take("counter", "k1", 1, 1, expires_at=TOMORROW)
    with pytest.raises(DatabaseError):
        database.mark("job", {"0": "done", "9": "done"})

    assert database.total("counter") == 0
    marked = database.mark("job", {"1": "done"})
    assert marked is not None
    assert marked.marks == {"1": "done"}


def test_nothing_is_left_of_what_was_purged(file: Path):
    database = SqliteDatabase(file)
    database.create("job", {}, due_at=TOMORROW, expires_at=TOMORROW)
    database.mark("job", {"0": "done"})
    database.take("counter", "k1", 1, 1, expires_at=TOMORROW)
    assert database.purge(TOMORROW, 10) == 2

    connection = sqlite3.connect(file)
    for table in ("documents", "marks", "counters", "open_amounts"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    connection.close()


def test_a_file_of_a_newer_format_is_refused_and_left_alone(file: Path):
    SqliteDatabase(file).create("job", {})
    in_a_file(file, "PRAGMA user_version = 2")
    content = file.read_bytes()
    database = SqliteDatabase(file)

    for _ in range(2):
        with pytest.raises(DatabaseError, match="format 2, .* knows format 1"):
            database.create("another", {})
    assert file.read_bytes() == content


@pytest.mark.parametrize("statement", ["CREATE TABLE songs (name)", "PRAGMA user_version = 1"])
def test_another_programs_file_is_refused_and_left_alone(file: Path, statement: str):
    in_a_file(file, statement)
    content = file.read_bytes()

    with pytest.raises(DatabaseError, match="another program's"):
        SqliteDatabase(file).create("job", {})
    assert file.read_bytes() == content


def test_a_file_that_cannot_be_a_database_is_an_error_of_the_database(tmp_path: Path):
    text = tmp_path / "text"
    text.write_bytes(b"no database, but long enough to be looked at " * 30)
    for path in (text, tmp_path, text / "jobs.db"):
        with pytest.raises(DatabaseError):
            SqliteDatabase(path).get("job")
        with pytest.raises(DatabaseError):
            SqliteDatabase(path).create("job", {})


def test_a_damaged_file_is_an_error_of_the_database(file: Path):
    database = SqliteDatabase(file)
    for number in range(50):
        database.create(f"job:{number}", {"text": "x" * 1000})
    del database
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))

    with pytest.raises(DatabaseError):
        SqliteDatabase(file).get("job:7")


def test_a_leftover_log_of_a_deleted_file_is_not_replayed(file: Path):
    database = SqliteDatabase(file)
    database.create("job", {})
    log = file.with_name("jobs.db-wal")
    content = log.read_bytes()
    del database
    file.unlink()
    log.write_bytes(content)

    assert SqliteDatabase(file).get("job") is None

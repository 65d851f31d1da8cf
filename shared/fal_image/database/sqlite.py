"""Documents in one SQLite file of this machine, for many threads and several processes.

Every acknowledged write is on the disk: neither a killed process nor a power cut loses it, as far
as the disk tells the truth. Threads that write at the same time share a commit, and each returns
after it. The file must not lie on a network file system: SQLite's write-ahead
log needs memory that all its processes share (SQLite docs, "Write-Ahead Logging"). Refuses to know
what the time is.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

from ._together import Together, Write
from .base import DatabaseError, Document, check_body, check_id, check_marks

BUSY_S = 10.0  # how long a write waits for those of other processes
CACHE_KB = 256  # of each connection, and every thread has one: SQLite would take 2 MB
LOOK_AGAIN_S = 0.001  # a write takes about as long

_APPLICATION_ID = 0x66616C69  # "fali", so that no other program's file is taken for ours
_VERSION = 1
_SCHEMA = (
    """CREATE TABLE documents (
        id TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        due_at INTEGER,
        expires_at INTEGER
    )""",
    "CREATE INDEX documents_due ON documents (due_at, id) WHERE due_at IS NOT NULL",
    "CREATE INDEX documents_expiry ON documents (expires_at) WHERE expires_at IS NOT NULL",
    """CREATE TABLE marks (
        id TEXT NOT NULL REFERENCES documents ON DELETE CASCADE,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (id, name)
    ) WITHOUT ROWID""",
    """CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        total INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX counters_expiry ON counters (expires_at)",
    """CREATE TABLE open_amounts (
        counter TEXT NOT NULL REFERENCES counters ON DELETE CASCADE,
        key TEXT NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (counter, key)
    ) WITHOUT ROWID""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)

_CREATE = """
    INSERT INTO documents (id, version, body, due_at, expires_at) VALUES (?, 1, ?, ?, ?)
    ON CONFLICT (id) DO NOTHING"""
_REPLACE = """
    UPDATE documents SET version = version + 1, body = ?, due_at = ?, expires_at = ?
    WHERE id = ? AND version = ?"""
_DOCUMENT = """
    SELECT id, body, version, due_at, expires_at,
        (SELECT json_group_object(name, value) FROM marks WHERE marks.id = documents.id)
    FROM documents"""
_GET = f"{_DOCUMENT} WHERE id = ?"
_GET_MANY = f"{_DOCUMENT} WHERE id IN (SELECT value FROM json_each(?))"
_MARK = """
    INSERT INTO marks (id, name, value) SELECT id, ?, ? FROM documents WHERE id = ?
    ON CONFLICT (id, name) DO UPDATE SET value = excluded.value"""
_DUE = "SELECT id FROM documents WHERE due_at <= ? ORDER BY due_at, id LIMIT ?"

_IS_OPEN = "SELECT 1 FROM open_amounts WHERE counter = ? AND key = ?"
_TOTAL = "SELECT total FROM counters WHERE name = ?"
_ADD = """
    INSERT INTO counters (name, total, expires_at) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET total = total + excluded.total"""
_OPEN = "INSERT INTO open_amounts (counter, key, amount) VALUES (?, ?, ?)"
_CLOSE = "DELETE FROM open_amounts WHERE counter = ? AND key = ?"
_CORRECT = "UPDATE counters SET total = total + ? WHERE name = ?"

_PURGE_DOCUMENTS = """
    DELETE FROM documents WHERE id IN
        (SELECT id FROM documents WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"""
_PURGE_COUNTERS = """
    DELETE FROM counters WHERE name IN
        (SELECT name FROM counters WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"""

_making = threading.Lock()  # until a new file is closed again, no thread lets SQLite open it

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)


class _OneFailed(Exception):
    """One of several writes failed; none of them is written."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class SqliteDatabase:
    """See Database. The file and its directory are made with the first call, for this user only."""

    def __init__(self, path: Path, *, busy_s: float = BUSY_S) -> None:
        """Threads of this process write over one connection, in one transaction if they wait at
        the same time; each read has a connection to itself. They are closed when nobody holds the
        database any more."""
        self._path = path
        self._busy_s = busy_s
        self._together = Together()
        self._writer: sqlite3.Connection | None = None
        self._idle: list[sqlite3.Connection] = []
        self._connections: list[sqlite3.Connection] = []
        closing = weakref.finalize(self, _close, self._connections)
        closing.atexit = False  # a thread that still works would find its connection gone

    def create(
        self,
        id: str,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        row = (check_id(id), _text(body), _milliseconds(due_at), _milliseconds(expires_at))
        return self._written(lambda connection: connection.execute(_CREATE, row).rowcount == 1)

    def get(self, id: str) -> Document | None:
        with self._reading() as connection:
            row = connection.execute(_GET, (id,)).fetchone()
        return None if row is None else _document(row)

    def get_many(self, ids: Sequence[str]) -> list[Document]:
        with self._reading() as connection:
            rows = connection.execute(_GET_MANY, (json.dumps(list(ids)),)).fetchall()
        found = {row[0]: row for row in rows}
        return [_document(found[id]) for id in ids if id in found]

    def replace_if(
        self,
        id: str,
        version: int,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        row = (_text(body), _milliseconds(due_at), _milliseconds(expires_at), id, version)
        return self._written(lambda connection: connection.execute(_REPLACE, row).rowcount == 1)

    def mark(self, id: str, marks: Mapping[str, str]) -> Document | None:
        rows = [(name, text, id) for name, text in check_marks(marks).items()]

        def work(connection: sqlite3.Connection) -> Any:
            connection.executemany(_MARK, rows)
            return connection.execute(_GET, (id,)).fetchone()

        row = self._written(work)
        return None if row is None else _document(row)

    def take(
        self, counter: str, key: str, amount: int, limit: int, *, expires_at: datetime
    ) -> bool:
        row = (check_id(counter), amount, _milliseconds(expires_at))

        def work(connection: sqlite3.Connection) -> bool:
            if connection.execute(_IS_OPEN, (counter, key)).fetchone():
                return True
            if _total(connection, counter) + amount > limit:
                return False
            connection.execute(_ADD, row)
            connection.execute(_OPEN, (counter, key, amount))
            return True

        return self._written(work)

    def settle(self, counter: str, key: str, *, reserved: int, actual: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(_CLOSE, (counter, key)).rowcount == 1:
                connection.execute(_CORRECT, (actual - reserved, counter))

        self._written(work)

    def total(self, counter: str) -> int:
        with self._reading() as connection:
            return _total(connection, counter)

    def due(self, now: datetime, limit: int) -> list[str]:
        with self._reading() as connection:
            return [id for (id,) in connection.execute(_DUE, (_milliseconds(now), limit))]

    def purge(self, now: datetime, limit: int) -> int:
        before = _milliseconds(now)

        def work(connection: sqlite3.Connection) -> int:
            documents = connection.execute(_PURGE_DOCUMENTS, (before, limit)).rowcount
            counters = connection.execute(_PURGE_COUNTERS, (before, limit - documents)).rowcount
            return documents + counters

        return self._written(work)

    def _written(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` gives, on the disk; nothing of it is written if it raises. It may be done
        anew, after what it wrote at first was taken back."""
        with _errors():
            return self._together.do(work, self._commit)

    def _commit(self, writes: Sequence[Write[Any]]) -> None:
        """In one transaction; if one of them fails, each in its own, so that it fails alone."""
        try:
            self._commit_at_once(writes)
        except _OneFailed as failure:
            if len(writes) == 1:
                writes[0].failed(failure.error)
                return
            for write in writes:
                self._commit([write])
        except Exception as error:  # nobody knows what of it is written
            for write in writes:
                write.failed(copy(error))  # each is raised in a thread of its own

    def _commit_at_once(self, writes: Sequence[Write[Any]]) -> None:
        if self._writer is None:
            self._writer = self._connect()
            self._writer.execute("PRAGMA busy_timeout = 0")  # see _when_free
        self._writer.rollback()  # what a Ctrl-C left open; nothing otherwise
        _when_free(self._writer, "BEGIN IMMEDIATE", self._busy_s)
        values = []
        with self._writer:
            for write in writes:
                try:
                    values.append(write.work(self._writer))
                except Exception as error:
                    raise _OneFailed(error) from error
        for write, value in zip(writes, values, strict=True):
            write.succeeded(value)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection nobody else uses until the block ends. Readers never wait for a writer."""
        with _errors():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            finally:
                self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_file(self._path)
        connection = sqlite3.connect(
            self._path, timeout=self._busy_s, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, self._busy_s)
        except BaseException:
            connection.close()
            raise
        self._connections.append(connection)
        return connection


def _make_file(path: Path) -> None:
    """Make the file for this user only, where SQLite would let others read it.

    A file that is there is never opened but by SQLite: closing it would take this process's locks
    away, and another process would remove the log that this one goes on writing to (SQLite docs,
    "How To Corrupt An SQLite Database File", section 2.2).
    """
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _prepare(connection: sqlite3.Connection, busy_s: float) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    if not _is_empty(connection):
        return
    (mode,) = _when_free(connection, "PRAGMA journal_mode = WAL", busy_s).fetchone()
    if mode != "wal":
        raise DatabaseError(f"SQLite keeps no write-ahead log here, but {mode}")
    _when_free(connection, "BEGIN IMMEDIATE", busy_s)
    with connection:
        if _is_empty(connection):  # or another process was faster
            for statement in _SCHEMA:
                connection.execute(statement)


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever kept in this file. Raises DatabaseError for what is not ours."""
    application_id, version, tables = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), "
        "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if (application_id, version, tables) == (0, 0, 0):
        return True
    if application_id != _APPLICATION_ID:
        raise DatabaseError("the SQLite file is another program's; name one that is not there yet")
    if version != _VERSION:
        raise DatabaseError(
            f"the SQLite file has format {version}, which another version of fal-image wrote; "
            f"this one knows format {_VERSION}"
        )
    return False


def _when_free(connection: sqlite3.Connection, statement: str, busy_s: float) -> sqlite3.Cursor:
    """Run this as soon as nobody else writes. SQLite's own waiting looks ten times a second: behind
    a busy process its turn would not come. And two that switch to the log at once it refuses
    without waiting (SQLite docs, "Register a callback to handle SQLITE_BUSY errors")."""
    gives_up_at = time.monotonic() + busy_s
    while True:
        try:
            return connection.execute(statement)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > gives_up_at:
                raise
        time.sleep(LOOK_AGAIN_S)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise DatabaseError(f"SQLite: {error}") from error


def _close(connections: list[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()


def _total(connection: sqlite3.Connection, counter: str) -> int:
    row = connection.execute(_TOTAL, (counter,)).fetchone()
    return int(row[0]) if row else 0


def _document(row: tuple[Any, ...]) -> Document:
    id, body, version, due_at, expires_at, marks = row
    return Document(
        id, json.loads(body), version, _time(due_at), _time(expires_at), json.loads(marks)
    )


def _text(body: Mapping[str, object]) -> str:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    check_body(text.encode())
    return text


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else (at - _EPOCH) // _MILLISECOND


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + milliseconds * _MILLISECOND

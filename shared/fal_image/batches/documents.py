"""A batch as its documents: one head, and one chunk for every 100 rows.

A row that is over is a mark on its chunk, a chunk that is over is a mark on the head: marks are set
and never counted up, so what the batch has done is a sum that nobody can spoil by doing it twice.
`docs/documents.md` tells field by field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import fields, replace

from ..database.base import Document
from ..errors import AppError, recalled
from ..jobs import Fault, Notice, derived_id

HEAD = "batch:"
CHUNK = "chunk:"
CHUNK_ROWS = 100
MAX_REASON_CHARS = 200

State = Literal["running", "stopping", "stopped", "done"]

_OVER = ("done", "failed", "unknown", "cancelled")  # what a mark may begin with


class Counts(Struct, frozen=True):
    """How many rows ended how."""

    done: int = 0
    failed: int = 0
    unknown: int = 0
    cancelled: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.done + other.done,
            self.failed + other.failed,
            self.unknown + other.unknown,
            self.cancelled + other.cancelled,
        )

    @property
    def over(self) -> int:
        return self.done + self.failed + self.unknown + self.cancelled

    def to_mark(self) -> str:
        return f"{self.done},{self.failed},{self.unknown},{self.cancelled}"

    @classmethod
    def from_mark(cls, mark: str) -> Counts:
        return cls(*(int(number) for number in mark.split(",")))


class Head(Struct, frozen=True):
    """`total` and `planned_to` say how many rows were found up to which byte of the file; rows are
    started when `is_planned`. An `attended` batch is carried out by the program that began it, and
    by nobody else. `results` counts the files of results that were begun, `results_key` is the last
    whole one. `version` and `marks` are the document's.
    """

    batch_id: str
    file_key: str
    input_sha256: str
    created_at: datetime
    updated_at: datetime
    window: int
    default_model: str
    caller: str | None = None
    state: State = "running"
    defaults: dict[str, object] = field(default_factory=dict)
    public_url: str | None = None
    notice: Notice | None = None
    attended: bool = False
    total: int = 0
    planned_to: int = 0
    is_planned: bool = False
    stop_asked_at: datetime | None = None
    finished_at: datetime | None = None
    results: int = 0
    results_key: str | None = None
    fault: Fault | None = None
    version: int = 0
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-self.total // CHUNK_ROWS)

    @property
    def open_chunks(self) -> list[int]:
        """The numbers of the chunks that are not over."""
        return [number for number in range(self.chunks) if chunk_mark(number) not in self.marks]

    @property
    def is_all_over(self) -> bool:
        return self.is_planned and not self.open_chunks

    @property
    def has_results(self) -> bool:
        """Whether the results that were begun last are whole."""
        number = f"-results-{self.results}."
        return self.fault is not None or number in (self.results_key or "")

    def counts(self) -> Counts:
        """How many rows of the chunks that are over ended how."""
        done = (self.marks.get(chunk_mark(number)) for number in range(self.chunks))
        return sum((Counts.from_mark(mark) for mark in done if mark), Counts())

    def rows_of(self, number: int) -> int:
        """How many rows a chunk has: all but the last are full."""
        return min(CHUNK_ROWS, self.total - number * CHUNK_ROWS)

    def to_document(self) -> dict[str, object]:
        known: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in known.items() if name in _HEAD_FIELDS}


_HEAD_FIELDS = {one.name for one in fields(Head)} - {"batch_id", "version", "marks"}


def head_of(document: Document) -> Head:
    """The head that a document keeps."""
    known = {**document.body, "batch_id": document.id.removeprefix(HEAD)}
    head = msgspec.convert(known, Head)
    return replace(head, version=document.version, marks=document.marks)


class Chunk(Struct, frozen=True):
    """Where up to CHUNK_ROWS rows stand in the file, and which of them are over."""

    batch_id: str
    number: int
    start: int
    bytes: int
    rows: int
    version: int = 1
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return chunk_id(self.batch_id, self.number)

    @property
    def first_row(self) -> int:
        return self.number * CHUNK_ROWS

    @property
    def is_over(self) -> bool:
        return len(self.marks) == self.rows

    def mark_of(self, row: int) -> str | None:
        """How a row of the batch ended, None if it did not yet."""
        return self.marks.get(str(row - self.first_row))

    def counts(self) -> Counts:
        return count(self.marks.values())

    def to_document(self) -> dict[str, object]:
        return {"start": self.start, "bytes": self.bytes, "rows": self.rows}


# Learnt before threads read them: see the same in jobs/documents.py.
msgspec.json.Decoder(Head)
msgspec.json.Decoder(Chunk)


def chunk_of(document: Document) -> Chunk:
    """The chunk that a document keeps."""
    batch_id, _, number = document.id.removeprefix(CHUNK).rpartition(":")
    known = {**document.body, "batch_id": batch_id, "number": int(number)}
    chunk = msgspec.convert(known, Chunk)
    return replace(chunk, version=document.version, marks=document.marks)


def chunk_id(batch_id: str, number: int) -> str:
    return f"{CHUNK}{batch_id}:{number}"


def chunk_mark(number: int) -> str:
    """What a chunk that is over is called on the head."""
    return f"c{number}"


def job_id_of(batch_id: str, row: int) -> str:
    """The id of a row's one job. It hangs on nothing but the batch and the row, so that no change
    of a secret makes a second job of a row."""
    return derived_id(batch_id, "row", str(row))


def refusal_mark(error: AppError) -> str:
    """The mark of a row that failed before it had a job."""
    return f"failed:{error.code}:{error.detail[:MAX_REASON_CHARS]}"


def refusal_of(mark: str) -> AppError | None:
    """Why a row failed before it had a job, None if it has one."""
    _, is_refusal, reason = mark.partition(":")
    if not is_refusal:
        return None
    code, _, detail = reason.partition(":")
    return recalled(code, detail, hint=None, retryable=False, extensions={})


def state_of(mark: str) -> str:
    return mark.partition(":")[0]


def count(marks: Iterable[str]) -> Counts:
    states = [state_of(mark) for mark in marks]
    return Counts(*(states.count(state) for state in _OVER))

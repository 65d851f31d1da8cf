"""A program that reads something of ours for the first time, and at one moment of that in a second
thread too: `python -m support.first_reads job`.

A moment is a call of a Python function: another thread may come in there. Each has a process of its
own that never read the like. Ends with 1 and says which was the first that did not end well.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from itertools import count
from types import FrameType

from fal_image.batches.documents import Head, head_of
from fal_image.database.base import Document
from fal_image.fal import catalog
from fal_image.jobs import Job
from fal_image.jobs.documents import from_document, to_document

from .job_shapes import FAULT, T0

READ_TWICE, READ_ONCE = 0, 10  # how a process ends: the read had such a moment, or had not
JOB = to_document(Job("j", "m/m", T0, T0, fault=FAULT))
HEAD = Head("b", "file", "sha", T0, T0, window=1, default_model="m/m", fault=FAULT)

READS: dict[str, Callable[[], object]] = {
    "catalog": lambda: dict(catalog.models()),
    "job": lambda: from_document("j", 1, JOB),
    "batch": lambda: head_of(Document("batch:b", HEAD.to_document(), 1)),
}


def read_again_at(moment: int, read: Callable[[], object]) -> int:
    """Read, and in the midst of it have another thread read from beginning to end."""
    calls, seconds = count(1), list[object]()

    def heard(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and next(calls) == moment:
            thread = threading.Thread(target=lambda: seconds.append(read()))
            thread.start()
            thread.join()

    sys.setprofile(heard)
    first = read()
    sys.setprofile(None)
    if next(calls) <= moment:
        return READ_ONCE
    assert seconds == [first]
    return READ_TWICE


def main(name: str) -> None:
    for moment in count(1):
        child = os.fork()
        if not child:
            os._exit(read_again_at(moment, READS[name]))
        _, status = os.waitpid(child, 0)
        ended = os.waitstatus_to_exitcode(status)
        if ended == READ_ONCE:
            return
        if ended != READ_TWICE:
            sys.exit(f"read again at moment {moment}, the process ended with {ended}")


if __name__ == "__main__":
    main(sys.argv[1])

"""Threads for what a request does side by side: begun once, kept for the next request.

Beginning a thread makes the beginner wait for it, twice in each picture's way. Whoever works here
must not wait for others who do: with all threads taken, nobody would come. Refuses to know what is
done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

MAX_THREADS = 512  # of a process; what comes in excess waits its turn
AT_ONCE = 8  # of what one request does

_pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="worker")


def start(work: Callable[..., T], *arguments: object) -> Future[T]:
    """Begin to do it. A Future that nobody waits for any more may be cancelled."""
    return _pool.submit(work, *arguments)


def start_all(work: Callable[..., T], each: Iterable[Sequence[object]]) -> list[Future[T]]:
    """Begin to do it with each of these arguments, AT_ONCE of them at a time. A long list has
    threads of its own, which end with it: it keeps nobody else waiting."""
    arguments = list(each)
    if len(arguments) <= AT_ONCE:
        return [start(work, *these) for these in arguments]
    own = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="worker-of-many")
    begun = [own.submit(work, *these) for these in arguments]
    own.shutdown(wait=False)
    return begun

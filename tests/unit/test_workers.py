"""Threads for what a request does side by side."""

import threading
from concurrent.futures import wait

from fal_image import workers

MANY = 100


def test_a_long_list_is_done_a_few_at_a_time_and_keeps_nobody_waiting():
    lock, running, most = threading.Lock(), [0], [0]
    a_few, go_on = threading.Semaphore(0), threading.Event()

    def work(number: int, name: str) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        a_few.release()
        assert go_on.wait(10)
        with lock:
            running[0] -= 1
        return f"{name} {number}"

    begun = workers.start_all(work, ((number, "cat") for number in range(MANY)))
    for _ in range(workers.AT_ONCE):
        assert a_few.acquire(timeout=10)
    assert workers.start(lambda: "somebody else's").result(10) == "somebody else's"
    go_on.set()
    wait(begun, 10)
    assert [one.result() for one in begun] == [f"cat {number}" for number in range(MANY)]
    assert most[0] == workers.AT_ONCE


def test_what_nobody_waits_for_any_more_is_not_begun():
    go_on, begun = threading.Event(), []

    def work(number: int) -> None:
        begun.append(number)
        assert go_on.wait(10)

    futures = workers.start_all(work, ((number,) for number in range(MANY)))
    for future in futures:
        future.cancel()
    go_on.set()
    wait(futures, 10)
    assert len(begun) <= workers.AT_ONCE


def test_threads_are_kept_for_the_next():
    first = workers.start(threading.get_ident).result(10)
    known = {workers.start(threading.get_ident).result(10) for _ in range(20)}
    assert first in known or len(known) < 20

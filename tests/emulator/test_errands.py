"""The threads of the emulator's own calls: as many as have something to do at once."""

from __future__ import annotations

import threading

from fal_image.dev.emulator.errands import Errands

LAPS = 300


def test_short_errands_after_each_other_begin_few_threads():
    errands, are_done = Errands(), threading.Event()
    laps = iter(range(LAPS))

    def errand() -> None:  # the next one comes while this thread is still busy, and others wait
        if next(laps, None) is None:
            are_done.set()
        else:
            errands.send(errand)

    before = set(threading.enumerate())
    errands.send(errand)
    assert are_done.wait(10)
    begun = set(threading.enumerate()) - before
    errands.stop()
    assert len(begun) <= 10
    assert not any(thread.is_alive() for thread in begun)


def test_errands_that_come_at_once_are_at_work_at_once():
    errands, all_at_work = Errands(), threading.Barrier(6)
    for _ in range(5):
        errands.send(all_at_work.wait)
    all_at_work.wait(10)
    for _ in range(5):  # some of whose threads are idle by now
        errands.send(all_at_work.wait)
    all_at_work.wait(10)
    errands.stop()

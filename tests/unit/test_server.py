"""The end of a server that runs in a thread."""

from types import SimpleNamespace
from typing import Any, cast

from fal_image import server


def test_closing_is_no_error_when_the_thread_was_woken_for_it_by_somebody_else():
    """Between queueing the work and writing the byte that wakes the thread, another byte did."""
    closed = []

    def pull_trigger(work: Any) -> None:
        work()
        raise OSError(9, "Bad file descriptor")

    half_gone = SimpleNamespace(
        trigger=SimpleNamespace(pull_trigger=pull_trigger), close=lambda: closed.append(True)
    )
    server._close_from_within(cast(Any, half_gone))
    assert closed == [True]

"""A function's runtime at its barest: an event a line on stdin, its answer a line on stdout."""

import json
import sys
import time
from importlib import import_module


class Context:
    """What the handler asks of Lambda's: the request's id and the time that is left."""

    aws_request_id = "bench"

    def __init__(self) -> None:
        self._ends_at = time.monotonic() + 300

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at - time.monotonic()) * 1000)


*preloads, handler = sys.argv[1:]
for preload in preloads:
    import_module(preload)
main = import_module(handler).main
for line in sys.stdin:
    sys.stdout.write(json.dumps(main(json.loads(line), Context())) + "\n")
    sys.stdout.flush()

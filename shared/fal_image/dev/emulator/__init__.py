"""An imitation of fal on this machine: the same protocol, no key, no money, faults on demand.

    with Emulator(run_s=0.5) as fal:
        fal.fault("429", times=2)
        ...  # let a client call f"{fal.url}/queue.fal.run/fal-ai/flux/schnell"
        assert len(fal.ledger) == 1

The unmodified fal-client and @fal-ai/client work against it. `GET /_emulator/` says what it
imitates, what it does not, and lists every fault.
"""

from .emulator import DEFAULT_PORT, Emulator, serve
from .faults import TABLE, describe
from .imitation import Entry

__all__ = ["DEFAULT_PORT", "TABLE", "Emulator", "Entry", "describe", "serve"]

"""From an order to a finished job: `service` takes orders, `steps` is the one idempotent step that
every driver takes, `records` keeps the documents."""

from .estimates import Estimate, Estimates
from .limits import Limits
from .orders import (
    Orders,
    actual_usd_micro,
    estimate_usd_micro,
    is_all_allowed,
    is_allowed,
    is_some_allowed,
)
from .records import Records
from .service import Generator, Wish, failure_of
from .steps import Steps
from .turns import Listener, Overheard, Turn, ignore, turn_of

__all__ = [
    "Estimate",
    "Estimates",
    "Generator",
    "Limits",
    "Listener",
    "Orders",
    "Overheard",
    "Records",
    "Steps",
    "Turn",
    "Wish",
    "actual_usd_micro",
    "estimate_usd_micro",
    "failure_of",
    "ignore",
    "is_all_allowed",
    "is_allowed",
    "is_some_allowed",
    "turn_of",
]

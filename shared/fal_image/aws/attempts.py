"""What went wrong with a call, and whether it is made again."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

ATTEMPTS = 3
PAUSE_S = 0.5  # before the second attempt at random up to this, before the third up to twice it

# AWS SDKs reference guide, "Retry behavior", standard mode: what may work a moment later.
_PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
_PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",  # of S3: another put of this key is still on its way
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


class AwsError(Exception):
    """The call was refused, or no whole answer came. The message is for the owner's log.

    `code` is AWS's own word, "" when it said none; `status` is 0 when no answer came. `said` is
    what else a refusal says, by its names. `may_pass`: the same call could work a moment later.
    `asked_again`: an earlier attempt may have been carried out.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: str = "",
        status: int = 0,
        said: Mapping[str, Any] | None = None,
        may_pass: bool = False,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.status = status
        self.said = said or {}
        self.may_pass = may_pass or status in _PASSING_STATUS or code in _PASSING_CODES
        self.asked_again = False


def persist(once: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """What `once` gives, asked up to ATTEMPTS times while its AwsError may pass: it must be a call
    that may be carried out twice."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return once()
        except AwsError as error:
            error.asked_again = attempt > 1
            if attempt == ATTEMPTS or not error.may_pass:
                raise
            sleep(random.uniform(0, PAUSE_S * attempt))
    raise AssertionError("unreachable: the last attempt raises")

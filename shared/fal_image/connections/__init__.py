"""The sockets under the wire: where they may lead, how old they get, how long an answer's head may
take, and whether a byte has left.

`sockets` opens them by these rules, `plain` writes requests and reads the answers that most are,
`pools` keeps both for the next request. Refuses to know what is sent over the connections and to
whom.
"""

from .bodies import FileBody
from .plain import Incoming
from .pools import (
    MAX_IDLE_S,
    POOL_SIZE,
    Pools,
    cause,
    drain,
    limit_reads,
    pool_classes,
    proxy_for,
)
from .sockets import PublicTls, Tls, sending

__all__ = [
    "MAX_IDLE_S",
    "POOL_SIZE",
    "FileBody",
    "Incoming",
    "Pools",
    "PublicTls",
    "Tls",
    "cause",
    "drain",
    "limit_reads",
    "pool_classes",
    "proxy_for",
    "sending",
]

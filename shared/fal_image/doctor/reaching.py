"""Why an address was not reached, told apart: no name, refused, silent, TLS, a proxy.

Refuses to know which address it was.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import requests.exceptions
import urllib3.exceptions

OPEN_THE_WAY = (
    "CloudBase: switch on public network access in the console under Network, or attach a NAT "
    "gateway; AWS: take the function out of its VPC, or give its subnets a NAT gateway"
)

# The first that fits: a proxy's failure holds that of the connection to it.
_KINDS: tuple[tuple[str, tuple[type[BaseException], ...], str], ...] = (
    (
        "the proxy was not reached",
        (urllib3.exceptions.ProxyError, requests.exceptions.ProxyError),
        "Correct HTTPS_PROXY, or name the host in NO_PROXY",
    ),
    (
        "its name was not resolved (EAI_AGAIN and the like)",
        (urllib3.exceptions.NameResolutionError,),
        f"There is no way out to the public network, or no DNS. {OPEN_THE_WAY}",
    ),
    (
        "the connection was refused",
        (ConnectionRefusedError,),
        "A firewall refuses it, or nothing listens there. Allow outgoing HTTPS (port 443)",
    ),
    (
        "TLS failed",
        (ssl.SSLError, urllib3.exceptions.SSLError),
        "Something on the way answers in its place, or this machine's certificates or clock are "
        "old: update ca-certificates, or name your proxy's CA in REQUESTS_CA_BUNDLE",
    ),
    (
        "nothing answered in time",
        (TimeoutError, urllib3.exceptions.TimeoutError, requests.exceptions.Timeout),
        "A security group, route or firewall drops what is sent. Allow outgoing HTTPS (port 443). "
        f"{OPEN_THE_WAY}",
    ),
)


def why(error: BaseException) -> tuple[str, str]:
    """What happened, in words without any address, and what to do about it."""
    causes = list(_causes(error))
    for said, kinds, fix in _KINDS:
        if any(isinstance(cause, kinds) for cause in causes):
            return said, fix
    reason = getattr(error, "reason", None)
    said = reason if isinstance(reason, str) else type(error).__name__
    return said, "Look at the network between here and there; a proxy or firewall may be at work"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it was made from, wherever the libraries keep that."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]

"""requests over the wire's own pools: for programs that a person starts at a terminal.

A function does without requests, for loading it is a part of every cold start. The rules that live
at the socket are those of `connections`. Refuses to know what is sent and to whom.
"""

from __future__ import annotations

import http.cookiejar
import os
from collections.abc import Callable, Iterable
from typing import Any

import requests
import requests.adapters

from . import connections
from .connections import MAX_IDLE_S, POOL_SIZE, Tls, pool_classes


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, tls: type[Tls], clock: Callable[[], float]) -> None:
        self._pools = pool_classes(tls, clock, MAX_IDLE_S)
        self._proxied_pools = pool_classes(Tls, clock, MAX_IDLE_S)
        super().__init__(pool_maxsize=POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._proxied_pools
        return manager


class _Session(requests.Session):
    """Looks at no redirect: requests would read its body, however long, and its Location, which
    may be no address at all, also where it is told not to follow."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def new_session(
    tls: type[Tls], servers: Iterable[str], clock: Callable[[], float]
) -> requests.Session:
    """`tls` carries https; `servers` are addresses that may be reached in the clear. Whoever
    REQUESTS_CA_BUNDLE names vouches for servers, else the authorities of certifi."""
    session = _Session()
    session.trust_env = False  # a ~/.netrc would replace our Authorization header
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.mount("https://", _Adapter(tls, clock))
    for server in servers:
        session.mount(f"{server}/", _Adapter(Tls, clock))
    return session


def cause(error: BaseException) -> str:
    """The innermost cause in words, without the URL (which may carry a signature)."""
    if isinstance(error, requests.exceptions.InvalidHeader):  # its words repeat the value
        return "InvalidHeader: a header's value cannot be sent"
    while isinstance(error, requests.RequestException) and error.args:
        inner = error.args[0]
        if not isinstance(inner, BaseException):
            break
        error = inner
    return connections.cause(error)

"""Asking an address that the owner's settings or a storage named, as a stranger would: without
credentials, without following redirects, over http too.

The rules of the wire are for calls that cost money or carry keys; here an answer is looked at and
thrown away. Refuses to know what it means.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
import requests.utils
import urllib3.exceptions

from ..connections import Tls, limit_reads
from ..sessions import new_session
from ..web import Headers
from ..wire import CONNECT_TIMEOUT_S, USER_AGENT, Answer
from .case import Case

MAX_BYTES = 256 * 1024  # what comes after is not read


class NotReached(Exception):
    """No answer came; its cause is the reason."""


def visit(
    case: Case,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One request and its answer, whatever its status. Raises NotReached."""
    address = urlsplit(url)
    detour = case.seams.detours.get(address.hostname or "")
    actual = f"{detour}/{url.removeprefix('https://')}" if detour else url
    origin = urlsplit(actual)
    session = new_session(Tls, [f"{origin.scheme}://{origin.netloc}"], case.seams.clock)
    try:
        with (
            session,
            session.request(
                method,
                actual,
                headers={
                    "user-agent": USER_AGENT,
                    "accept-encoding": "identity",
                    **(headers or {}),
                },
                data=body,
                timeout=(min(CONNECT_TIMEOUT_S, case.patience_s), case.patience_s),
                stream=True,
                allow_redirects=False,
                proxies={
                    scheme: str(proxy)
                    for scheme, proxy in requests.utils.get_environ_proxies(actual).items()
                },
            ) as answer,
        ):
            limit_reads(answer.raw, case.patience_s)
            content = answer.raw.read(MAX_BYTES, decode_content=True)
            return Answer(answer.status_code, Headers(answer.raw.headers.items()), content)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise NotReached(type(error).__name__) from error

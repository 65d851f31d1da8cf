"""Which host of fal a call is meant for, and what it asks there.

Three ways name the host: the header `x-fal-target-url` (the JavaScript client's proxyUrl), a Host
header, or the first segment of the path. Refuses to know what the hosts do.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from urllib.parse import parse_qsl, unquote, urlsplit

from .exchange import Body, Call
from .faults import Fault

QUEUE, RUN = "queue.fal.run", "fal.run"
REST, PLATFORM = "rest.fal.ai", "api.fal.ai"
CDN = "v3.fal.media"
OLD_REST = "rest.alpha.fal.ai"
HOSTS = {QUEUE, RUN, REST, PLATFORM, CDN}


@dataclass(frozen=True)
class FalCall:
    """One call to a host of fal; `host` is "" for the emulator's own pages.

    `origin` is where the caller can reach the emulator again. `query` has one value for each name,
    `query_text` is all of it. `fault` is what this call suffers.
    """

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: Message
    body: Body
    origin: str
    query_text: str = ""
    fault: Fault | None = None

    @property
    def segments(self) -> list[str]:
        """The path without its slashes at both ends."""
        return [unquote(part) for part in self.path.strip("/").split("/")]


def locate(call: Call, own_url: str) -> FalCall:
    """Find the host that a call is meant for."""
    named = call.headers.get("host", "")
    host, target = _fal_host(named), call.target
    origin = f"http://{named}" if named and not host else own_url
    if wanted := call.headers.get("x-fal-target-url"):
        parts = urlsplit(wanted)
        host, target = _fal_host(parts.netloc), f"{parts.path}?{parts.query}"
    path, _, query = target.partition("?")
    first, _, rest = path.lstrip("/").partition("/")
    if not host and _fal_host(first):
        host, path = _fal_host(first), f"/{rest}"
    return FalCall(
        call.method,
        host,
        path,
        dict(parse_qsl(query, keep_blank_values=True)),
        call.headers,
        call.body,
        origin,
        query,
    )


def cdn_path(url: str) -> str | None:
    """The path of a file on fal's CDN, None for an address anywhere else. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or _fal_host(parts.netloc) != CDN:
        return None
    return unquote(parts.path.strip("/"))


def _fal_host(name: str) -> str:
    """The canonical name of a host of fal, "" for any other."""
    bare = name.lower().partition(":")[0]
    if bare == OLD_REST:
        return REST
    if bare == "fal.media" or bare.endswith(".fal.media"):
        return CDN
    return bare if bare in HOSTS else ""

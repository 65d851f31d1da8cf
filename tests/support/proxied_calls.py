"""Everything that may be asked through the proxy, as one request of each kind, in both forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from fal_image.web import Request

from .doors import CAT, PROXY
from .entrypoints import request as a_request

MODEL = "fal-ai/flux/schnell"
REQUEST = "https://queue.fal.run/fal-ai/flux/requests/r-1"
INITIATE = "https://rest.fal.ai/storage/upload/initiate"
TOKENS = "https://rest.fal.ai/tokens/"

# Method, address at fal as a client spells it, body.
CALLS: Mapping[str, tuple[str, str, object]] = {
    "submit": ("POST", f"https://queue.fal.run/{MODEL}", CAT),
    "status": ("GET", f"{REQUEST}/status?logs=1", None),
    "follow": ("GET", f"{REQUEST}/status/stream?logs=1", None),
    "result": ("GET", REQUEST, None),
    "cancel": ("PUT", f"{REQUEST}/cancel", None),
    "run": ("POST", f"https://fal.run/{MODEL}", CAT),
    "run by GET": ("GET", f"https://fal.run/{MODEL}?prompt=a+calico+cat&seed=7", None),
    "stream": ("POST", f"https://fal.run/{MODEL}/stream", CAT),
    "upload": ("POST", f"{INITIATE}?storage_type=fal-cdn-v3", {"content_type": "image/png"}),
    "token": ("POST", TOKENS, {"allowed_apps": [MODEL], "token_expiration": 60}),
}

# Where fal is asked for it in the end; a run is a submit, and then a result.
PLACES: Mapping[str, tuple[str, str]] = {
    "submit": ("POST", f"https://queue.fal.run/{MODEL}"),
    "status": ("GET", f"{REQUEST}/status"),
    "follow": ("GET", f"{REQUEST}/status/stream"),
    "result": ("GET", REQUEST),
    "cancel": ("PUT", f"{REQUEST}/cancel"),
    "stream": ("POST", f"https://fal.run/{MODEL}/stream"),
    "upload": ("POST", INITIATE),
    "token": ("POST", TOKENS),
}


def by_header(name: str, *, base: str = "", **headers: str) -> Request:
    """One of CALLS, below `base`; `accept_language=` is the header accept-language."""
    method, url, body = CALLS[name]
    named = {"x-fal-target-url": url} | _named(headers)
    return a_request(method, f"{base}{PROXY}", body, headers=named)


def by_path(name: str, *, base: str = "", **headers: str) -> Request:
    method, url, body = CALLS[name]
    place, _, query = url.removeprefix("https://").partition("?")
    path = f"{base}{PROXY}/{place}"
    return a_request(method, path, body, query=tuple(parse_qsl(query)), headers=_named(headers))


FORMS: Mapping[str, Callable[..., Request]] = {"header": by_header, "path": by_path}


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}

"""Where a proxied call may lead: a URL or a path of fal's in, one of a few known targets out.

Nothing of what a caller spelled is sent on: a target is read into its parts, and the address that
is called is built from them again. Whatever is not exactly one of these targets is refused. Refuses
to know who asks and which models are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import parse_qsl

from msgspec import Struct, field

from ..errors import MethodNotAllowed, TargetRefused
from ..fal.client import NAMESPACES
from ..inputs import field_error

HEADER = "x-fal-target-url"
QUEUE, RUN, REST = "queue.fal.run", "fal.run", "rest.fal.ai"

MAX_URL_CHARS = 2048

Kind = Literal["submit", "status", "follow", "result", "cancel", "run", "stream", "upload", "token"]

# No "%", no "\\", no ":" or "@": what is not here has no spelling that anybody could argue about.
# And no ",", not even in the query: gateways join a header that came twice with one.
_URL = re.compile(r"https://([a-z.]+)/([A-Za-z0-9_./-]*)(?:\?([A-Za-z0-9_.~!$&'()*+;=:@/?%-]+))?")
_PATH = re.compile(r"[A-Za-z0-9_./-]*")
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_MODEL_CHARS = 200

_METHODS: Mapping[Kind, tuple[str, ...]] = {
    "submit": ("POST",),
    "status": ("GET",),
    "follow": ("GET",),
    "result": ("GET",),
    "cancel": ("PUT",),
    "run": ("POST", "GET"),
    "stream": ("POST",),
    "upload": ("POST",),
    "token": ("POST",),
}

# The query each kind of target may have; a run by GET has its input there.
_QUERIES: Mapping[Kind, frozenset[str]] = {
    "submit": frozenset({"fal_webhook"}),
    "status": frozenset({"logs"}),
    "follow": frozenset({"logs"}),
    "upload": frozenset({"storage_type"}),
}

# What may be asked of rest.fal.ai (source of @fal-ai/client 1.10.1 and @fal-ai/server-proxy 1.2.1).
_REST: Mapping[str, Kind] = {
    "storage/upload/initiate": "upload",
    "storage/upload/initiate-multipart": "upload",
    "storage/upload/complete-multipart": "upload",
    "tokens": "token",
    "tokens/realtime": "token",
}

_ENDINGS: Mapping[tuple[str, ...], Kind] = {
    (): "result",
    ("response",): "result",
    ("status",): "status",
    ("status", "stream"): "follow",
    ("cancel",): "cancel",
}


class Target(Struct, frozen=True):
    """`model` is what a submit, run or stream is of; the requests of a queue know only their `app`,
    the first parts of the model's id. `path` is what rest.fal.ai is asked for."""

    kind: Kind
    model: str = ""
    app: str = ""
    request_id: str = ""
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address at fal, without what our caller asks in its query."""
        if self.kind == "token":
            return f"https://{REST}/{self.path}" + ("/" if self.path == "tokens" else "")
        if self.kind == "upload":
            return f"https://{REST}/{self.path}?storage_type=fal-cdn-v3"
        if self.kind == "stream":
            return f"https://{RUN}/{self.model}/stream"
        if self.request_id:
            ending = next(ending for ending, kind in _ENDINGS.items() if kind == self.kind)
            start = f"https://{QUEUE}/{self.app}/requests/{self.request_id}"
            return "/".join((start, *ending)) + self._logs
        return f"https://{QUEUE}/{self.model}"

    @property
    def _logs(self) -> str:
        return "?logs=1" if self.query.get("logs") in ("1", "true") else ""


def of_header(method: str, value: str | None) -> Target:
    """The target that `x-fal-target-url` names, as @fal-ai/client sets it.

    Raises InvalidInput without one, TargetRefused, MethodNotAllowed.
    """
    if not value:
        raise field_error(HEADER, "is missing: it names the address at fal")
    found = _URL.fullmatch(value) if len(value) <= MAX_URL_CHARS else None
    if found is None:
        raise TargetRefused(f"{HEADER} is not a plain https:// address of fal")
    host, path, query = found.groups()
    return _target(method, host, path, parse_qsl(query or "", keep_blank_values=True))


def of_path(method: str, host: str, path: str, query: Iterable[tuple[str, str]]) -> Target:
    """The target that a path of ours names, `host` its first part, all percent-decoded.

    Raises TargetRefused, MethodNotAllowed.
    """
    if not _PATH.fullmatch(path) or len(path) > MAX_URL_CHARS:
        raise TargetRefused("the path is not one of fal's")
    return _target(method, host, path, query)


def app_of(model: str) -> str:
    """What the queue knows of a model's id: owner and name, with the namespace there may be."""
    parts = model.split("/")
    return "/".join(parts[: 3 if parts[0] in NAMESPACES else 2])


def is_name(text: str) -> bool:
    """Whether a text can name an app or a model: parts that a path at fal may have."""
    return all(_SEGMENT.fullmatch(part) for part in text.split("/"))


def request_url(app: str, request_id: str, base: str = f"https://{QUEUE}") -> str:
    """Where a request is asked for, at fal or below an address of ours that stands for it."""
    return f"{base}/{app}/requests/{request_id}"


def _target(method: str, host: str, path: str, query: Iterable[tuple[str, str]]) -> Target:
    path, asked = path.removesuffix("/"), tuple(query)
    if host not in _FINDERS:
        raise TargetRefused(f"the host is none of {', '.join(_FINDERS)}")
    if not is_name(path):
        raise TargetRefused("the path has an empty part, or one that starts with a dot")
    found = _FINDERS[host](path.split("/"), dict(asked))
    if found is None:
        raise TargetRefused("that is not an address of fal that this proxy leads to")
    methods = _METHODS[found.kind]
    if method not in methods:
        allowed = ", ".join(methods)
        raise MethodNotAllowed(f"fal takes {allowed} there", headers=(("allow", allowed),))
    _check_query(found, method, asked)
    return found


def _check_query(target: Target, method: str, asked: tuple[tuple[str, str], ...]) -> None:
    names = [name for name, _ in asked]
    if len(names) != len(set(names)):
        raise TargetRefused("a name stands twice in the query")
    is_input = target.kind == "run" and method == "GET"
    strange = set(names) - _QUERIES.get(target.kind, frozenset())
    if is_input:
        strange = {name for name in strange if name.startswith("fal_")}  # fal's own are no input
    if strange:
        raise TargetRefused(f"{min(strange)[:100]!r} is not passed on in a query to fal")
    if target.kind == "upload" and target.query.get("storage_type", "fal-cdn-v3") != "fal-cdn-v3":
        raise TargetRefused("uploads go to storage_type=fal-cdn-v3")


def _in_queue(segments: list[str], query: Mapping[str, str]) -> Target | None:
    if "requests" not in segments:
        return Target("submit", model=_model(segments), query=query) if _is_id(segments) else None
    place = segments.index("requests")
    owner, rest = segments[:place], segments[place + 1 :]
    kind = _ENDINGS.get(tuple(rest[1:])) if rest else None
    if kind is None or not _is_id(owner) or not _REQUEST_ID.fullmatch(rest[0]):
        return None
    return Target(kind, app=app_of(_model(owner)), request_id=rest[0], query=query)


def _to_run(segments: list[str], query: Mapping[str, str]) -> Target | None:
    if segments[-1] == "realtime":  # a socket's handshake, which nothing here could answer
        return None
    kind: Kind = "stream" if segments[-1] == "stream" else "run"
    of = segments[:-1] if kind == "stream" else segments
    return Target(kind, model=_model(of), query=query) if _is_id(of) else None


def _at_rest(segments: list[str], query: Mapping[str, str]) -> Target | None:
    path = "/".join(segments)
    kind = _REST.get(path)
    return Target(kind, path=path, query=query) if kind else None


def _is_id(segments: list[str]) -> bool:
    """Whether they are a model's id; below `requests` are the queue's requests, never a model."""
    least = 3 if segments and segments[0] in NAMESPACES else 2
    is_model = len(segments) >= least and "requests" not in segments
    return is_model and len(_model(segments)) <= _MAX_MODEL_CHARS


def _model(segments: list[str]) -> str:
    return "/".join(segments)


_FINDERS = {QUEUE: _in_queue, RUN: _to_run, REST: _at_rest}

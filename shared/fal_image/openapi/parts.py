"""What operations share: credentials, parameters, headers, and errors as answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ..errors import (
    AppError,
    FalAuthFailed,
    FalFailed,
    FalRejected,
    RateLimited,
    RunTimeout,
    Unauthorized,
)
from .schemas import Schema, ref

Dialect = Literal["problem", "fal", "openai"]

ID = "^[0-9a-hjkmnp-tv-z]{26}$"

SECURITY_SCHEMES: Mapping[str, Schema] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key of this endpoint, or a ticket.",
    },
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Key ` and an API key or a ticket, as fal's clients send it.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "An API key of this endpoint, or a ticket.",
    },
}

TAGS: Mapping[str, str] = {
    "jobs": "Making pictures, and asking after them.",
    "batches": "Many pictures at once. Takes an API key, not a ticket.",
    "files": "Links to stored pictures, and uploads of input pictures.",
    "models": "What there is, and what it costs.",
    "tickets": "Credentials for browsers. Takes an API key, not a ticket.",
    "fal": "fal's addresses, for fal's own clients, and the address that fal itself calls.",
    "openai": "OpenAI's images API, for OpenAI's own clients.",
    "service": "The endpoint itself.",
}


def _header(description: str, *, required: bool = False, **schema: Any) -> Schema:
    header = {"description": description, "schema": schema or {"type": "string"}}
    return header | ({"required": True} if required else {})


def _parameter(name: str, place: str, description: str, **schema: Any) -> Schema:
    return {
        "name": name,
        "in": place,
        "description": description,
        "schema": schema or {"type": "string"},
    } | ({"required": True} if place == "path" else {})


HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": _header("Names this request in the owner's log.", required=True),
    "Location": _header("Where to ask after it.", required=True),
    "Retry-After": _header(
        "Seconds to wait before asking again.", type="string", pattern="^[0-9]+$"
    ),
    "Server-Timing": _header("Milliseconds of each stage: queue, inference, fetch, store, total."),
    "Preference-Applied": _header("What of Prefer was followed (RFC 7240)."),
    "RateLimit": _header("What is left of the rate limit, where the owner set one."),
    "RateLimit-Policy": _header("The rate limit, where the owner set one."),
    "WWW-Authenticate": _header("How to show a credential."),
    "X-Fal-Request-Timeout-Type": _header("`user`: fal's clients do not repeat it by themselves."),
}

PARAMETERS: Mapping[str, Schema] = {
    "JobId": _parameter("id", "path", "A job's id.", type="string", pattern=ID),
    "BatchId": _parameter("id", "path", "A batch's id.", type="string", pattern=ID),
    "FileKey": _parameter(
        "key", "path", "The file's key in the storage; its slashes may stand as they are."
    ),
    "Exp": _parameter("exp", "query", "When the link dies, in Unix seconds."),
    "Sig": _parameter("sig", "query", "The link's signature."),
    "IdempotencyKey": _parameter(
        "Idempotency-Key",
        "header",
        "A name for one intent: sent again, it is not paid again. Needs a database.",
        type="string",
        minLength=1,
        maxLength=255,
    ),
    "Prefer": _parameter(
        "Prefer",
        "header",
        "`respond-async` for an answer at once, `wait=N` for one after N seconds at the latest "
        "(RFC 7240).",
    ),
    "TargetUrl": _parameter(
        "x-fal-target-url", "header", "The address at fal that is meant, as @fal-ai/client sets it."
    ),
    "FalHost": _parameter(
        "host", "path", "The host at fal.", enum=["queue.fal.run", "fal.run", "rest.fal.ai"]
    ),
    "FalPath": _parameter(
        "path", "path", "The path at fal: a model, a request of it, or an upload."
    ),
    "WebhookJob": _parameter("job", "path", "The job that the webhook is of."),
    "WebhookToken": _parameter("token", "path", "What only fal was told."),
}

for _name in ("Request-Id", "User-Id", "Timestamp", "Signature"):
    PARAMETERS |= {  # type: ignore[operator]
        f"FalWebhook{_name.replace('-', '')}": _parameter(
            f"X-Fal-Webhook-{_name}", "header", "fal's signature covers it, or is it."
        )
    }


def header_refs(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def parameter_refs(names: Iterable[str]) -> list[Schema]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


class Refusals:
    """The error answers of all operations, each made once: which codes a status may have."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._names: dict[tuple[str, ...], str] = {}

    def responses(self, kinds: Iterable[type[AppError]], dialect: Dialect) -> Schema:
        """The answers that these errors become, by their statuses."""
        by_status: dict[int, list[type[AppError]]] = {}
        for kind in dict.fromkeys(kinds):
            for status in _statuses(kind, dialect):
                by_status.setdefault(status, []).append(kind)
        return {
            str(status): {"$ref": f"#/components/responses/{self._named(status, them, dialect)}"}
            for status, them in sorted(by_status.items())
        }

    def _named(self, status: int, kinds: list[type[AppError]], dialect: Dialect) -> str:
        codes = sorted(kind.code for kind in kinds)
        told = f"{status}" if dialect == "problem" else f"{status}.{dialect}"
        known = (told, *codes)
        name = self._names.get(known)
        if name is None:
            others = sum(one[0] == told for one in self._names)
            name = self._names[known] = f"{told}.{others + 1}" if others else told
            titles = sorted({kind.title for kind in kinds})
            headers = ["X-Request-Id", *(head for kind in kinds for head in _HEADERS.get(kind, ()))]
            self.components[name] = {
                "description": ". ".join(titles) + ".",
                "headers": header_refs(headers),
                "content": _content(status, codes, dialect),
            }
        return name


_HEADERS: Mapping[type[AppError], tuple[str, ...]] = {
    Unauthorized: ("WWW-Authenticate",),
    RateLimited: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    RunTimeout: ("X-Fal-Request-Timeout-Type",),
}


FAL_WAS_ASKED = 424  # of the answers to OpenAI's clients
_OF_FAL = (FalFailed, FalRejected)


def _statuses(kind: type[AppError], dialect: Dialect) -> tuple[int, ...]:
    """What clients of others would repeat by themselves, and must not, has another status there."""
    if dialect == "fal" and kind is FalAuthFailed:
        return (500,)
    is_repeated = kind.status in (408, 409, 429) or kind.status >= 500
    if dialect == "openai" and is_repeated:
        return (kind.status, FAL_WAS_ASKED)
    return (kind.status,)


def _content(status: int, codes: list[str], dialect: Dialect) -> Schema:
    if dialect == "openai":
        code = {"properties": {"code": {"enum": codes}}}
        schema = {"allOf": [ref("OpenAIError")], "properties": {"error": code}}
        return {"application/json": {"schema": schema}}
    if dialect == "fal":
        # What fal itself refused keeps its status, in fal's words or in ours.
        codes = sorted({*codes, *(kind.code for kind in _OF_FAL)})
        ours = {"allOf": [ref("ProxyProblem")], "properties": {"error": {"enum": codes}}}
        schema = {"if": {"required": ["requestId"]}, "then": ours}
        return {"application/json": {"schema": schema}, "*/*": {}}
    members = {"error": {"enum": codes}, "status": {"const": status}}
    schema = {"allOf": [ref("Problem")], "properties": members}
    return {"application/problem+json": {"schema": schema}}

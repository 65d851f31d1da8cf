"""The table of routes and what each does. Refuses to know clouds, event formats and sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import msgspec

from . import __version__
from .assets import Assets, storage_answers
from .errors import AppError, DatabaseRequired, NotFound, UnsupportedMediaType
from .fal import catalog
from .generate import Generator, is_allowed
from .inputs import field_error, parse_links, parse_object, parse_order, parse_upload
from .jobs import rfc3339
from .settings import Settings
from .storage.base import Link
from .storage.local import NOT_VALID, UPLOAD_HINT, LocalStorage
from .uploads import EXTENSIONS, Uploads
from .web import Platform, Request, Response, json_response
from .wire import Clock

CHUNK_BYTES = 256 * 1024
KEPT_BACK_S = 2.0  # for copying the answer out, before the platform or its gateway hangs up

Who = Literal["open", "ticket", "signed"]


@dataclass(frozen=True)
class Call:
    """One request at its route: who asks, what the path says, when the request came in."""

    request: Request
    caller: str | None
    params: Mapping[str, str]
    started_at: float
    note: Callable[..., None]  # adds facts to the request's log line

    def json(self) -> dict[str, object]:
        """The body as a JSON object. Raises InvalidJson, UnsupportedMediaType."""
        content_type = self.request.headers.get("content-type")
        media_type = (content_type or "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise UnsupportedMediaType(f"the body is declared as {media_type[:100]}, not JSON")
        return parse_object(self.request.body)


@dataclass(frozen=True)
class Route:
    method: str
    pattern: str
    who: Who
    handle: Callable[[Call], Response]

    def match(self, path: str) -> dict[str, str] | None:
        """The path's parameters, None if it is another route's. `{name*}` takes the rest."""
        wanted, given = self.pattern.split("/"), path.split("/")
        params: dict[str, str] = {}
        for place, part in enumerate(wanted):
            if part.endswith("*}"):
                params[part[1:-2]] = "/".join(given[place:])
                return params if params[part[1:-2]] else None
            if place >= len(given):
                return None
            if part.startswith("{"):
                params[part[1:-1]] = given[place]
            elif part != given[place]:
                return None
        return params if len(wanted) == len(given) else None


@dataclass
class Variables:
    """The process's environment, and over it what the invocation that is being answered brings.

    One plain place is enough, and its copy threads need no hand-over: an instance of an event
    function answers one invocation at a time, and a server with many threads has no variables but
    the process's own. A thread that outlives its invocation reads the next one's credentials,
    which are as good and live longer.
    """

    process: Mapping[str, str] = field(repr=False)
    invocation: Mapping[str, str] = field(default_factory=dict, repr=False)

    def current(self) -> Mapping[str, str]:
        return {**self.process, **self.invocation}


@dataclass(frozen=True)
class Routes:
    settings: Settings
    generator: Generator
    assets: Assets
    uploads: Uploads
    variables: Variables
    clock: Clock = time.monotonic
    now_s: Callable[[], float] = time.time
    aliases: Mapping[str, str] = field(default_factory=dict)

    def table(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/", "ticket", self.generate),
            Route("POST", "/generate", "ticket", self.generate),
            Route("POST", "/links", "ticket", self.links),
            Route("POST", "/uploads", "ticket", self.upload),
            Route("GET", "/files/{key*}", "signed", self.file),
            Route("PUT", "/files/{key*}", "signed", self.receive),
            Route("GET", "/models", "ticket", self.models),
            Route("GET", "/health", "open", self.health),
        )

    def generate(self, call: Call) -> Response:
        if "idempotency-key" in call.request.headers:
            raise DatabaseRequired("Idempotency-Key needs a database")
        order = parse_order(
            call.json(), default_model=self.settings.default_model, aliases=self.aliases
        )
        call.note(model=order.model, promptChars=len(order.prompt or ""))
        ends_at = answer_by(call.request.platform, call.started_at, self.settings.max_wait_s)
        job = self.generator.generate(order, ends_at=ends_at, caller=call.caller)
        call.note(jobId=job.job_id, falRequestId=job.fal_request_id, ms=job.timings_ms)
        timing = ", ".join(f"{stage};dur={ms}" for stage, ms in job.timings_ms.items())
        return json_response(
            200,
            job.to_json(call.request.platform.request_id),
            ("server-timing", timing),
            ("cache-control", "no-store"),
        )

    def links(self, call: Call) -> Response:
        wanted = parse_links(call.json())
        found = self.assets.links(
            wanted.file_ids,
            wanted.max_age_s,
            is_upload=lambda key: self.uploads.is_of(key, call.caller),
        )
        files = [_file(file_id, link) for file_id, link in zip(wanted.file_ids, found, strict=True)]
        if not wanted.is_single:
            return json_response(200, {"fileList": files}, ("cache-control", "no-store"))
        if isinstance(found[0], AppError):
            raise found[0]
        return json_response(200, files[0] | {"fileList": files}, ("cache-control", "no-store"))

    def upload(self, call: Call) -> Response:
        order = parse_upload(
            call.json(), content_types=EXTENSIONS, max_bytes=self.settings.max_image_bytes
        )
        offered = self.uploads.offer(order, call.caller or "")
        call.note(uploadBytes=order.bytes)
        return json_response(
            200,
            {
                "fileID": offered.file_id,
                "imageUrl": offered.image_url,
                "upload": {
                    "method": "PUT",
                    "url": offered.put.url,
                    "headers": offered.put.headers,
                },
                "expiresAt": rfc3339(offered.put.expires_at),
            },
            ("cache-control", "no-store"),
        )

    def receive(self, call: Call) -> Response:
        """The PUT that an upload link of local storage allows; answers as S3 does."""
        storage, key, expires, signature = self._signed(call)
        body, length = call.request.open_body()
        storage.verify_upload(
            key,
            expires,
            signature,
            self.now_s(),
            content_type=call.request.headers.get("content-type") or "",
            bytes=length,
        )
        with storage_answers():
            if not storage.receive(key, _whole(body, length)):
                raise NotFound(NOT_VALID, hint=UPLOAD_HINT)
        return Response(200)

    def _signed(self, call: Call) -> tuple[LocalStorage, str, str, str]:
        """What a signed address of ours names: the storage, the key, its `exp` and its `sig`."""
        storage = self.assets.door.get()
        if not isinstance(storage, LocalStorage):
            raise NotFound("this storage signs links of its own")
        expires, signature = call.request.query_value("exp"), call.request.query_value("sig")
        return storage, call.params["key"], expires or "", signature or ""

    def file(self, call: Call) -> Response:
        storage, key, expires, signature = self._signed(call)
        storage.verify_link(key, expires, signature, self.now_s())
        found = storage.head(key)
        return Response(
            200,
            _chunks(storage, key),
            (
                ("content-type", found.content_type),
                ("content-length", str(found.bytes)),
                ("cache-control", "private, max-age=31536000, immutable"),
            ),
        )

    def models(self, call: Call) -> Response:
        allowed = [
            model
            for model in catalog.models().values()
            if is_allowed(model.id, self.settings.models)
        ]
        answer = {
            "globs": list(self.settings.models),
            "defaultModel": self.settings.default_model,
            "aliases": dict(self.aliases),
            "models": [msgspec.to_builtins(model) for model in allowed],
        }
        return json_response(200, answer)

    def health(self, call: Call) -> Response:
        status = "misconfigured" if self.settings.problems else "ok"
        return json_response(
            200, {"status": status, "version": __version__}, ("cache-control", "no-store")
        )


def answer_by(platform: Platform, started_at: float, max_wait_s: float) -> float:
    """When the answer must be ready, on the monotonic clock: before anybody in front hangs up."""
    limits = [started_at + max_wait_s]
    if platform.ends_at is not None:
        limits.append(platform.ends_at - KEPT_BACK_S)
    if platform.gateway_s is not None:
        limits.append(started_at + platform.gateway_s - KEPT_BACK_S)
    return min(limits)


def _whole(body: BinaryIO, length: int) -> Iterator[bytes]:
    """`length` bytes of a body in pieces. Raises InvalidInput when it ends before."""
    left = length
    while left and (chunk := body.read(min(left, CHUNK_BYTES))):
        left -= len(chunk)
        yield chunk
    if left:
        raise field_error("body", "is shorter than its Content-Length")


def _chunks(storage: LocalStorage, key: str) -> Iterator[bytes]:
    with storage.open(key) as chunks:
        yield from chunks


def _file(file_id: str, link: Link | AppError) -> dict[str, object]:
    if isinstance(link, AppError):
        return {"fileID": file_id, "tempFileURL": None, "expiresAt": None, "error": link.code}
    return {
        "fileID": file_id,
        "tempFileURL": link.url,
        "expiresAt": rfc3339(link.expires_at),
        "error": None,
    }

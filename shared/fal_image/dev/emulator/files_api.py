"""rest.fal.ai and the CDN: tokens, uploads in all the shapes of both clients, downloads, keys.

Knows paths and bodies (fal-client 1.0.3 and @fal-ai/client 1.10.1, source). In its JSON a file's
URL stays https://v3.fal.media/…; only what clients write to at once names the emulator itself:
`upload_url`, the token's `base_url` and the `access_url` of a multipart upload.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from .addresses import CDN, FalCall
from .broken_files import reply_to
from .exchange import Answer, Flow, Reply, json_answer
from .faults import Fault
from .gate import Gate
from .media import Media, Place, StoreFull, Upload, url_of
from .pictures import Picture, Studio
from .queue_api import Route

MAX_JSON_BYTES = 1024 * 1024
LIVES_S = 120.0  # of a token whose caller names no lifetime (both clients ask for this)
# As the CDN answers downloads (observed by third parties).
FILE_HEADERS = {"cache-control": "max-age=5184000, immutable"}
STOCK_PICTURE = Picture("fal-ai/emulator", "", 0, 64, 64, "png")


class RestApi:
    """rest.fal.ai."""

    def __init__(self, *, gate: Gate, media: Media, jwks: Callable[[], object]) -> None:
        self._gate = gate
        self._media = media
        self._jwks = jwks

    def route(self, call: FalCall) -> Route | Answer:
        path = call.path.rstrip("/")
        if path == "/.well-known/jwks.json" and call.method == "GET":
            return "jwks", lambda call: json_answer(200, self._jwks())
        verbs = {
            "/tokens": ("token", self._app_token),
            "/tokens/realtime": ("token", self._realtime_token),
            "/storage/auth/token": ("token", self._cdn_token),
            "/storage/upload/initiate": ("upload", self._initiate),
            "/storage/upload/initiate-multipart": ("upload", self._initiate),
        }
        if path not in verbs:
            return json_answer(404, {"detail": "Not Found"})
        if call.method != "POST":
            return json_answer(405, {"detail": "Method Not Allowed"})
        name, handler = verbs[path]
        return name, lambda call: self._gate.refusal(call.headers) or handler(call)

    def _app_token(self, call: FalCall) -> Answer:
        """A bare JSON string, as both clients read it."""
        return json_answer(200, self._token_for(call, "token_expiration"))

    def _realtime_token(self, call: FalCall) -> Answer:
        return json_answer(200, {"token": self._token_for(call, "duration")})

    def _token_for(self, call: FalCall, lifetime_field: str) -> str:
        body = _json_object(call)
        apps, lifetime_s = body.get("allowed_apps"), body.get(lifetime_field)
        names = [name for name in apps if isinstance(name, str)] if isinstance(apps, list) else []
        known_s = float(lifetime_s) if isinstance(lifetime_s, (int, float)) else LIVES_S
        return self._gate.app_token(names, known_s)

    def _cdn_token(self, call: FalCall) -> Answer:
        return json_answer(200, self._gate.cdn_token() | {"base_url": f"{call.origin}/{CDN}"})

    def _initiate(self, call: FalCall) -> Answer:
        # @fal-ai/serverless-client 0.15.0 and many a script name no type (public sources).
        if call.query.get("storage_type", "fal-cdn-v3") != "fal-cdn-v3":
            return json_answer(400, {"detail": "Invalid storage type"})
        body = _json_object(call)
        place = self._media.reserve(
            str(body.get("file_name") or "upload.bin"),
            str(body.get("content_type") or "application/octet-stream"),
        )
        here = f"{call.origin}/{CDN}/{place.path}"
        if call.path.rstrip("/").endswith("multipart"):
            here += f"/multipart/{place.upload_id}"
        return json_answer(
            200,
            {
                "upload_url": f"{here}?signature={place.signature}",
                "file_url": url_of(place.path),
            },
        )


class CdnApi:
    """v3.fal.media."""

    def __init__(self, *, gate: Gate, media: Media, studio: Studio) -> None:
        self._gate = gate
        self._media = media
        self._studio = studio

    def route(self, call: FalCall) -> Route | Answer:
        path = "/".join(call.segments)
        if call.method in {"GET", "HEAD"}:
            return "file", lambda call: self._download(call, path)
        if call.method == "POST" and path in {"files/upload", "files/upload/multipart"}:
            return "upload", self._direct
        file_path, separator, tail = path.partition("/multipart/")
        place = self._media.place(file_path)
        if call.method not in {"PUT", "POST"} or place is None:
            return json_answer(404, {"detail": "File not found"})
        if not separator and call.method == "PUT":
            return "upload", lambda call: self._signed_put(call, place)
        upload_id, _, step = tail.partition("/")
        if upload_id != place.upload_id:
            return json_answer(404, {"detail": "Upload not found"})
        return "upload", lambda call: self._multipart(call, place, step)

    def _download(self, call: FalCall, path: str) -> Reply:
        content = self._media.find(path)
        if content is None:
            return json_answer(404, {"detail": "File not found"})
        headers = FILE_HEADERS | {"content-type": content.content_type}
        if call.fault:
            return self._broken(call.fault, content, headers)
        if isinstance(content, Upload):
            return Flow(200, content.blocks(), headers, content.file.stat().st_size)
        return Answer(200, self._studio.file_of(content), headers)

    def _broken(self, fault: Fault, content: Picture | Upload, headers: dict[str, str]) -> Reply:
        if isinstance(content, Upload):
            png = self._studio.file_of(STOCK_PICTURE)
            return reply_to(fault, content.file.read_bytes(), png, headers)
        png = self._studio.file_of(replace(content, format="png"))
        return reply_to(fault, self._studio.file_of(content), png, headers)

    def _direct(self, call: FalCall) -> Reply:
        """fal-client's upload: the whole file, or the beginning of a multipart one."""
        if refusal := self._gate.cdn_refusal(call.headers):
            return refusal
        place = self._media.reserve(
            call.headers.get("x-fal-file-name", "upload.bin"),
            call.headers.get("content-type", "application/octet-stream"),
        )
        if call.path.rstrip("/").endswith("multipart"):
            here = f"{call.origin}/{CDN}/{place.path}"
            return json_answer(200, {"access_url": here, "uploadId": place.upload_id})
        return self._store(call, place) or json_answer(200, {"access_url": url_of(place.path)})

    def _signed_put(self, call: FalCall, place: Place) -> Reply:
        """@fal-ai/client's upload: plain bytes to the URL it was given, without credentials."""
        if call.query.get("signature") != place.signature:
            return json_answer(403, {"detail": "Invalid signature"})
        return self._store(call, place) or Answer(200)

    def _multipart(self, call: FalCall, place: Place, step: str) -> Reply:
        refusal = self._gate.cdn_refusal(call.headers)
        if refusal and call.query.get("signature") != place.signature:
            return refusal
        if step == "complete" and call.method == "POST":
            return self._complete(call, place)
        if not step.isdecimal() or call.method != "PUT":
            return json_answer(404, {"detail": "Part not found"})
        try:
            etag = self._media.store_part(place, int(step), call.body.blocks())
        except StoreFull as error:
            return json_answer(413, {"detail": str(error)})
        return json_answer(200, {"partNumber": int(step), "etag": etag}, {"etag": etag})

    def _complete(self, call: FalCall, place: Place) -> Reply:
        parts = _json_object(call).get("parts")
        try:
            numbers = [int(p["partNumber"]) for p in parts] if isinstance(parts, list) else []
            self._media.complete(place, numbers)
        except (KeyError, TypeError, ValueError):
            return json_answer(400, {"detail": "Invalid parts"})
        except StoreFull as error:
            return json_answer(413, {"detail": str(error)})
        return json_answer(200, {"access_url": url_of(place.path)})

    def _store(self, call: FalCall, place: Place) -> Answer | None:
        """The refusal if the body does not fit."""
        try:
            self._media.store(place, call.body.blocks())
        except StoreFull as error:
            return json_answer(413, {"detail": str(error)})
        return None


def _json_object(call: FalCall) -> dict[str, object]:
    """The body, or nothing if it is not a JSON object."""
    try:
        body = json.loads(call.body.read(MAX_JSON_BYTES))
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}

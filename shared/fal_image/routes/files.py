"""Links to stored pictures, links to send input pictures, and the files of local storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from msgspec import Struct

from ..assets import Assets, storage_answers
from ..errors import AppError, NotFound
from ..inputs import field_error, parse_links, parse_upload
from ..jobs import rfc3339
from ..storage.base import Link
from ..storage.local import NOT_VALID, UPLOAD_HINT, LocalStorage
from ..uploads import Uploads, largest_by_type
from ..web import Response, json_response
from .table import Call, Route

CHUNK_BYTES = 256 * 1024


class FileRoutes(Struct, frozen=True):
    assets: Assets
    uploads: Uploads
    now_s: Callable[[], float]
    max_image_bytes: int

    def table(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/links", "ticket", self.links),
            Route("POST", "/uploads", "ticket", self.upload),
            Route("GET", "/files/{key*}", "signed", self.file),
            Route("PUT", "/files/{key*}", "signed", self.receive),
        )

    def links(self, call: Call) -> Response:
        wanted = parse_links(call.json())
        found = self.assets.links(
            wanted.file_ids,
            wanted.max_age_s,
            caller=call.caller,
            is_upload=lambda key: self.uploads.is_of(key, call.caller),
        )
        files = [_file(file_id, link) for file_id, link in zip(wanted.file_ids, found, strict=True)]
        if not wanted.is_single:
            return json_response(200, {"fileList": files}, ("cache-control", "no-store"))
        if isinstance(found[0], AppError):
            raise found[0]
        return json_response(200, files[0] | {"fileList": files}, ("cache-control", "no-store"))

    def upload(self, call: Call) -> Response:
        order = parse_upload(call.json(), max_bytes=largest_by_type(self.max_image_bytes))
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

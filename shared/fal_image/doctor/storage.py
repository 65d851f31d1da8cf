"""Whether pictures can be put, read and linked, by one small picture of the doctor's own.

It stands under one key below `uploads/`, which no caller's upload can have, and is deleted at the
end. A function never deletes and needs no right to, so an examination with the function's own
rights may be refused that: then the picture stays, is written again by the next examination and
ends with the lifecycle of uploads. Refuses to know jobs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from ..errors import NotFound
from ..jobs import rfc3339
from ..storage.base import Link, NotAllowed, ObjectStorage, StorageError
from .case import Case, Part
from .findings import Finding, failed, ok, skipped, warning
from .reaching import why
from .visits import NotReached, visit

KEY = "uploads/doctor.png"

# One white pixel; and one black one, which a create-only put must not bring in its place.
PICTURE, OTHER = (
    base64.b64decode(text)
    for text in (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==",
    )
)

OPEN, PUT, READ, CREATE_ONLY, DELETE = (
    "storage.open",
    "storage.put",
    "storage.read",
    "storage.create_only",
    "storage.delete",
)
LINK, PRIVATE, LIFE = "storage.link", "storage.private", "storage.link_life"

_FIX = {
    "s3": "See that the bucket exists in AWS_REGION and that the function may s3:PutObject and "
    "s3:GetObject on its prefix; without s3:ListBucket a missing object reads as 403.",
    "cos": "See that the bucket exists in that region, and that the function's role or keys may "
    "PutObject, GetObject and HeadObject on its prefix.",
    "cloudbase": "See that the environment's id is right and that CLOUDBASE_APIKEY, or the "
    "function's role, may use its cloud storage.",
    "file": "See that the directory can be made and written by this user, and that the disk has "
    "room.",
}

# In the address of a link that was signed with a role's keys (AWS S3 guide, "Query parameters";
# Tencent COS docs, "Request signature").
_TEMPORARY = re.compile(r"[?&](X-Amz-Security-Token|x-cos-security-token)=", re.IGNORECASE)


def _examine(case: Case) -> Iterator[Finding]:
    assets = case.services.assets
    scheme = urlsplit(case.settings.storage_url or "").scheme
    try:
        storage = assets.door.get()
    except Exception as error:  # whatever a vendor's library finds wrong with its configuration
        yield failed(OPEN, f"the storage cannot be opened: {error}", _FIX[scheme])
        return
    key = f"{assets.prefix}/{KEY}"
    try:
        _put(storage, key, PICTURE, create_only=False)
        file_id = storage.file_id(key)
    except (StorageError, ValueError) as error:
        yield failed(PUT, f"a picture cannot be stored: {error}", _FIX[scheme])
        yield skipped(LINK, "there is nothing to read, link to or delete")
        return
    yield ok(PUT, f"a picture of {len(PICTURE)} bytes was stored: {file_id}")
    yield _reads(storage, key, _FIX[scheme])
    yield _creates_only(storage, key, _FIX[scheme])
    yield from _links(case, storage, key, _FIX[scheme])
    yield _deletes(storage, key)


def _put(storage: ObjectStorage, key: str, content: bytes, *, create_only: bool) -> bool:
    """Whether the bytes now stand there because of this put."""
    digest = hashlib.sha256(content).hexdigest()
    stored = storage.put(
        key,
        io.BytesIO(content),
        content_type="image/png",
        sha256=digest,
        create_only=create_only,
    )
    return stored.created


def _reads(storage: ObjectStorage, key: str, fix: str) -> Finding:
    try:
        head = storage.head(key)
        with storage.open(key) as chunks:
            content = b"".join(chunks)
    except (StorageError, NotFound) as error:
        return failed(READ, f"the picture cannot be read: {error}", fix)
    if content != PICTURE or head.sha256 != hashlib.sha256(PICTURE).hexdigest():
        said = "what is read is not what was stored"
        return failed(READ, said, "Something rewrites objects of the bucket: let it leave them.")
    return ok(READ, "it is read as it was stored")


def _creates_only(storage: ObjectStorage, key: str, fix: str) -> Finding:
    try:
        is_replaced = _put(storage, key, OTHER, create_only=True)
    except StorageError as error:
        return failed(CREATE_ONLY, f"a create-only put fails: {error}", fix)
    if is_replaced:
        return failed(
            CREATE_ONLY,
            "a create-only put replaced what stood there",
            "The storage must know conditional writes (If-None-Match: *): use another endpoint, "
            "or on COS a bucket that never had versioning.",
        )
    return ok(CREATE_ONLY, "a second put leaves it as it is")


def _deletes(storage: ObjectStorage, key: str) -> Finding:
    try:
        storage.delete(key)
    except NotAllowed:
        return ok(
            DELETE,
            f"these rights do not allow a delete and need not, for the function never deletes: it "
            f"stays under {key} and ends with the lifecycle of uploads",
        )
    except (StorageError, NotFound) as error:
        return failed(
            DELETE,
            f"the picture cannot be deleted: {error}",
            f"Ask again. If this stays, delete {key} by hand, and see what stops a delete on its "
            "way: a proxy, a gateway, a file system that became read-only.",
        )
    return ok(DELETE, "it is deleted")


def _links(case: Case, storage: ObjectStorage, key: str, fix: str) -> Iterator[Finding]:
    try:
        link = case.services.assets.link_to(storage, key)
    except StorageError as error:
        yield failed(LINK, f"no link can be signed: {error}", fix)
        return
    if link.url.startswith("file:"):
        yield skipped(
            LINK,
            "links are addresses of files on this machine; FAL_IMAGE_PUBLIC_URL and "
            "FAL_IMAGE_SECRET make them links over HTTP",
        )
        return
    yield _opens(case, link, fix)
    yield _is_private(case, link)
    yield _life(case, link)


def _opens(case: Case, link: Link, fix: str) -> Finding:
    host = urlsplit(link.url).netloc
    try:
        answer = visit(case, "GET", link.url)
    except NotReached as error:
        said, way = why(error)
        return failed(LINK, f"a link leads to {host}, which was not reached: {said}", way)
    if answer.status != 200:
        said = f"a link to {host} does not open: HTTP {answer.status}"
        return failed(LINK, said, f"Links are signed with the function's own rights. {fix}")
    if answer.body != PICTURE:
        said = f"a link to {host} opens something else than was stored"
        return failed(LINK, said, "See what answers there: a gateway, a login page, a wrong CDN.")
    return ok(LINK, f"a link to {host} opens it")


def _is_private(case: Case, link: Link) -> Finding:
    """Whether the signature is needed; tried with the address without it."""
    bare, question, _ = link.url.partition("?")
    if case.settings.link_base_url:
        return skipped(PRIVATE, "FAL_IMAGE_LINK_BASE_URL says that everybody may read the pictures")
    if not question:
        return _public("links carry no signature")
    try:
        answer = visit(case, "GET", bare)
    except NotReached as error:
        return skipped(PRIVATE, f"not known, for the address was not reached: {why(error)[0]}")
    if answer.status == 200 and answer.body == PICTURE:
        return _public("the picture opens without the link's signature")
    return ok(PRIVATE, f"without its signature the link does not open (HTTP {answer.status})")


def _public(said: str) -> Finding:
    fix = "Make the bucket private, or set FAL_IMAGE_LINK_BASE_URL if everybody may read it."
    return warning(PRIVATE, f"{said}: who knows a picture's key keeps it for ever", fix)


def _life(case: Case, link: Link) -> Finding:
    if link.expires_at is None:
        return ok(LIFE, "the link does not end, or its vendor does not say when")
    life_s = round((link.expires_at - case.seams.now()).total_seconds())
    if not _TEMPORARY.search(link.url):
        return ok(LIFE, f"links live for {life_s} s")
    ends = _credentials_end(case.environ)
    until = f"at {rfc3339(ends)}" if ends else "at a time that is not known here"
    if ends and ends >= link.expires_at:
        return ok(LIFE, f"links live for {life_s} s; the keys that sign them end {until}")
    return warning(
        LIFE,
        f"links say {life_s} s and are signed with temporary keys, with which they end: {until}",
        "Ask POST /links again when a link is shown, as a role's keys always end; a function is "
        "given fresh ones in time, a shell is not.",
    )


def _credentials_end(environ: Mapping[str, str]) -> datetime | None:
    """When AWS says that the keys in the environment end (AWS CLI, `configure export-credentials
    --format env`)."""
    text = environ.get("AWS_CREDENTIAL_EXPIRATION", "")
    try:
        ends = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return ends if ends.tzinfo else None


PART = Part("storage", _examine)

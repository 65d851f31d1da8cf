"""Documents in a collection of a Tencent CloudBase environment, through its NoSQL HTTP API.

    create    POST  documents           the same _id twice: 409
    replace   PATCH documents           {query: {_id, version}}: updated 1, or 0 for a lost race
    take      PATCH documents           {query: {_id, open.K: absent, total <= limit - amount}}
    delete    POST  documents/remove    {query: {_id in ..., expires_at <= now}}

One PATCH that names an `_id` changes one document or none, all of it or nothing, as MongoDB's
updates do. That a taken `_id` is answered like any unique index in conflict is not documented:
so MongoDB's own words for it (E11000) are understood too. Nor is it documented that reads see the
last write. The collection is not made by itself, nor are its indexes on `due_at` and `expires_at`,
without which finding reads all of it.

A body is kept as JSON text in one field: as a part of the document, its keys could be taken for
operators or paths, its numbers would be typed anew, and every read would have to undo that.

Refuses to know who calls the gateway and where it is.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from ..tencent import NO_QUERY, Gateway, GatewayError
from . import _ejson
from .base import DatabaseError, Document, check_body, check_id, check_marks

TIMEOUT_S = 5.0
ATTEMPTS = 2
PAUSE_S = 0.2  # before the second attempt
READ_MANY = 20  # documents in one answer; the largest together stay below the gateway's cap
FIND_MANY = 1000  # ids in one answer
REMOVE_MANY = 100
TAKE_ROUNDS = 8

_DATABASE = "/v1/database/instances/(default)/databases/(default)"  # the parentheses belong to it
_DOCUMENT, _COUNTER = "d:", "c:"
_PLAIN_IN_FIELD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")


class _Failed(DatabaseError):
    """A call that had no success. `code` is CloudBase's word, `may_pass` that the same call could
    work a moment later, `unsure` that this or an earlier attempt may have been applied."""

    def __init__(self, said: str, *, code: str, may_pass: bool, unsure: bool) -> None:
        super().__init__(said)
        self.code = code
        self.may_pass = may_pass
        self.unsure = unsure


class CloudbaseDatabase:
    """See Database. Safe to share between threads.

    A write whose answer was lost is sent again: every one is written so that its second arrival
    changes nothing. Where that does not tell whose write it was, a nonce in the document does.
    """

    def __init__(
        self,
        gateway: Gateway,
        collection: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gateway = gateway
        self._collection = collection
        self._documents = f"{_DATABASE}/collections/{collection}/documents"
        self._sleep = sleep

    def create(
        self,
        id: str,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        """See Database. Another unique index in conflict would look like a taken id."""
        times = {"due_at": due_at, "expires_at": expires_at}
        return self._insert(
            {
                "_id": _document_id(check_id(id)),
                "body": _text(body),
                "version": _ejson.long(1),
                "marks": {},
                **{name: _time(at) for name, at in times.items() if at is not None},
            }
        )

    def get(self, id: str) -> Document | None:
        found = self._find({"_id": _document_id(id)}, limit=1)
        return _document(found[0]) if found else None

    def get_many(self, ids: Sequence[str]) -> list[Document]:
        """See Database. One call for READ_MANY documents."""
        keys = [_document_id(id) for id in ids]
        found: dict[str, Document] = {}
        for start in range(0, len(keys), READ_MANY):
            part = {"_id": {"$in": keys[start : start + READ_MANY]}}
            found |= {one["_id"]: _document(one) for one in self._find(part, limit=READ_MANY)}
        return [found[key] for key in keys if key in found]

    def replace_if(
        self,
        id: str,
        version: int,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        """See Database. Also raises DatabaseError if an answer was lost and others have replaced
        the body since: then nobody can tell whether this one stood there in between."""
        key, nonce = _document_id(id), _new_nonce()
        times = {"due_at": due_at, "expires_at": expires_at}
        kept = {name: _time(at) for name, at in times.items() if at is not None}
        dropped = {name: "" for name, at in times.items() if at is None}
        data: dict[str, object] = {
            "$set": {
                "body": _text(body),
                "version": _ejson.long(version + 1),
                "written": nonce,
                **kept,
            }
        }
        if dropped:
            data["$unset"] = dropped
        try:
            updated, unsure = self._update({"_id": key, "version": _ejson.long(version)}, data)
        except _Failed as failed:
            if not failed.unsure:
                raise
            updated, unsure = False, True
        return updated or (unsure and self._was_written(key, version, nonce))

    def mark(self, id: str, marks: Mapping[str, str]) -> Document | None:
        check_marks(marks)
        if not marks:
            return self.get(id)
        path = f"{self._documents}/{quote(_document_id(id), safe=':@=~')}"
        fields = {f"marks.{name}": text for name, text in marks.items()}
        try:
            said, _ = self._asked("PATCH", path, {"data": {"$set": fields}, "returnDoc": True})
        except _Failed as failed:
            if failed.code == "DOCUMENT_NOT_FOUND":
                return None
            found = self.get(id) if failed.unsure else None
            if found is not None and found.marks.items() >= marks.items():
                return found
            raise
        return _document(said["doc"]) if "doc" in said else self.get(id)

    def take(
        self, counter: str, key: str, amount: int, limit: int, *, expires_at: datetime
    ) -> bool:
        """See Database. One call as long as there is room."""
        id, field, room = _counter_id(check_id(counter)), _open_field(key), limit - amount
        reserve = {
            "$inc": {"total": _ejson.long(amount)},
            "$set": {field: _ejson.long(amount)},
        }
        fits = {"_id": id, field: {"$exists": False}, "total": {"$lte": _ejson.long(room)}}
        for _ in range(TAKE_ROUNDS):
            if room >= 0 and self._changed(fits, reserve, lambda: self._is_open(id, field)):
                return True
            found = self._find({"_id": id}, limit=1)
            if not found:
                made = {"total": _ejson.long(amount), "open": {_field(key): _ejson.long(amount)}}
                if room < 0:
                    return False
                if self._insert({"_id": id, **made, "expires_at": _time(expires_at)}):
                    return True
            elif _field(key) in found[0].get("open", {}):
                return True
            elif found[0]["total"] > room:
                return False
        raise DatabaseError(f"the counter {counter} changed faster than it could be read")

    def settle(self, counter: str, key: str, *, reserved: int, actual: int) -> None:
        id, field = _counter_id(counter), _open_field(key)
        self._changed(
            {"_id": id, field: {"$exists": True}},
            {"$inc": {"total": _ejson.long(actual - reserved)}, "$unset": {field: ""}},
            lambda: not self._is_open(id, field),
        )

    def total(self, counter: str) -> int:
        found = self._find({"_id": _counter_id(counter)}, ["total"], limit=1)
        return int(found[0]["total"]) if found else 0

    def due(self, now: datetime, limit: int) -> list[str]:
        """See Database. At most FIND_MANY at once."""
        found = self._find_until("due_at", now, limit)
        return [_id_of(one["_id"]) for one in found]

    def purge(self, now: datetime, limit: int) -> int:
        """See Database. What was given a later end after it was found stays. Deletions whose answer
        was lost are not counted."""
        keys = [one["_id"] for one in self._find_until("expires_at", now, limit)]
        deleted = 0
        for start in range(0, len(keys), REMOVE_MANY):
            part = keys[start : start + REMOVE_MANY]
            query = {"_id": {"$in": part}, "expires_at": {"$lte": _time(now)}}
            body = {"query": query, "multi": True}
            said, _ = self._asked("POST", f"{self._documents}/remove", body)
            deleted += _count(said, "deleted")
        return deleted

    def _insert(self, document: Mapping[str, object]) -> bool:
        """Whether it was new: made by this call, even if the answer was lost."""
        nonce = _new_nonce()
        body = {"data": [{**document, "made": nonce}]}
        try:
            self._asked("POST", self._documents, body)
        except _Failed as failed:
            taken = failed.code == "DATABASE_DUPLICATE_WRITE"
            if not failed.unsure:
                if taken:
                    return False
                raise
            found = self._find({"_id": document["_id"]}, ["made"], limit=1)
            if not found:
                raise
            return bool(found[0]["made"] == nonce)
        return True

    def _update(self, query: Mapping[str, object], data: Mapping[str, object]) -> tuple[bool, bool]:
        """Whether the one document was changed, and whether an earlier attempt may have done so."""
        body = {"query": query, "data": data, "multi": False, "upsert": False}
        said, unsure = self._asked("PATCH", self._documents, body)
        return _count(said, "updated") > 0, unsure

    def _changed(
        self,
        query: Mapping[str, object],
        data: Mapping[str, object],
        is_done: Callable[[], bool],
    ) -> bool:
        """Whether this call made the change, or `is_done` says so after all answers were lost."""
        try:
            return self._update(query, data)[0]
        except _Failed as failed:
            if failed.unsure and is_done():
                return True
            raise

    def _was_written(self, key: str, version: int, nonce: str) -> bool:
        """Whether it was this write that followed `version`. Raises DatabaseError if that cannot
        be told: it may still be on its way, or another has followed it."""
        found = self._find({"_id": key}, ["version", "written"], limit=1)
        if not found:
            return False
        if found[0].get("written") == nonce:
            return True
        if found[0]["version"] == version + 1:
            return False
        raise DatabaseError(f"CloudBase did not answer whether {_id_of(key)} was replaced")

    def _is_open(self, id: str, field: str) -> bool:
        found = self._find({"_id": id, field: {"$exists": True}}, ["_id"], limit=1)
        return bool(found)

    def _find_until(self, field: str, now: datetime, limit: int) -> list[dict[str, Any]]:
        """The ids of what has this time behind it, the earliest first."""
        if limit < 1:
            return []
        query = {field: {"$lte": _time(now)}}
        return self._find(query, ["_id"], order=field, limit=min(limit, FIND_MANY))

    def _find(
        self,
        query: Mapping[str, object],
        fields: Sequence[str] = (),
        *,
        order: str = "",
        limit: int,
    ) -> list[dict[str, Any]]:
        asked: dict[str, object] = {"query": query, "limit": limit}
        if fields:
            asked["projection"] = dict.fromkeys(fields, 1)
        if order:
            asked["order"] = [{"field": order, "direction": "asc"}]
        texts = {name: json.dumps(value, separators=(",", ":")) for name, value in asked.items()}
        said, _ = self._asked("GET", self._documents, query=texts)
        found = said.get("list")
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise DatabaseError("CloudBase's answer lacks the list of documents")
        return found

    def _asked(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] = NO_QUERY,
    ) -> tuple[dict[str, Any], bool]:
        """The answer, and whether an earlier attempt may have been applied. Raises _Failed."""
        unsure = False
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._once(method, path, body, query), unsure
            except _Failed as failed:
                unsure = failed.unsure = unsure or failed.unsure
                if not left or not failed.may_pass:
                    raise
            self._sleep(PAUSE_S)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(
        self, method: str, path: str, body: object, query: Mapping[str, str]
    ) -> dict[str, Any]:
        try:
            said = self._gateway.call(method, path, body, query=query, timeout_s=TIMEOUT_S)
        except GatewayError as error:
            raise self._failed(error) from error
        try:
            answer = _ejson.plain(said)
        except ValueError as error:
            raise _Failed(f"{method}: {error}", code="", may_pass=False, unsure=True) from error
        if not isinstance(answer, dict):
            raise _Failed(
                f"{method}: the answer is no object", code="", may_pass=False, unsure=True
            )
        return answer

    def _failed(self, error: GatewayError) -> _Failed:
        said, code = str(error), error.code
        if code == "DATABASE_COLLECTION_NOT_EXIST":
            said = (
                f"create the collection {self._collection} in the environment "
                f"(collections are not made by themselves): {said}"
            )
        if "E11000" in said:  # what MongoDB says of a taken _id, inside CloudBase's general error
            return _Failed(said, code="DATABASE_DUPLICATE_WRITE", may_pass=False, unsure=False)
        answered_so = error.status >= 500 or 200 <= error.status < 300
        unsure = answered_so or (error.status == 0 and error.may_pass)
        return _Failed(said, code=code, may_pass=error.may_pass, unsure=unsure)


def _new_nonce() -> str:
    return secrets.token_hex(8)


def _document_id(id: str) -> str:
    """Counters share the collection, an id of 24 hexadecimal digits would be taken for MongoDB's
    own kind in a path, and a slash would end it."""
    return _DOCUMENT + id.replace("/", "~")


def _counter_id(counter: str) -> str:
    return _COUNTER + counter.replace("/", "~")


def _id_of(key: str) -> str:
    return key.removeprefix(_DOCUMENT).replace("~", "/")


def _open_field(key: str) -> str:
    return f"open.{_field(key)}"


def _field(key: str) -> str:
    """A key as a field's name, in which dots, dollars and NUL would mean something."""
    return "".join(
        chr(byte) if byte in _PLAIN_IN_FIELD else f"_{byte:02x}" for byte in key.encode()
    )


def _time(at: datetime) -> dict[str, str]:
    return _ejson.long(_ejson.to_ms(at))


def _text(body: Mapping[str, object]) -> str:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    check_body(text.encode())
    return text


def _document(found: Mapping[str, Any]) -> Document:
    """Raises DatabaseError for a document that is none of ours."""
    try:
        due_ms, expires_ms = found.get("due_at"), found.get("expires_at")
        return Document(
            _id_of(found["_id"]),
            json.loads(found["body"]),
            found["version"],
            None if due_ms is None else _ejson.from_ms(due_ms),
            None if expires_ms is None else _ejson.from_ms(expires_ms),
            dict(found.get("marks", {})),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatabaseError("a document of the collection is not of our making") from error


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if not isinstance(value, int):
        raise _Failed(f"CloudBase's answer lacks {name}", code="", may_pass=False, unsure=True)
    return value

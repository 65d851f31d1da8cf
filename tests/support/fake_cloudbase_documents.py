"""The document database of a CloudBase environment on this machine, behind its gateway.

It answers the NoSQL HTTP API as CloudBase's documents describe it (docs, "NoSQL RESTful API"):
insert, find, update by a query and by id, remove by a query. It checks the bearer as the gateway
does, the literal parentheses of the path, the content type, the names of parameters, that the
collection exists, that `_id` is unique; requests are relaxed or canonical Extended JSON, documents
in answers canonical. Every request is done whole, under one lock, and `done` names it.

It does not imitate: permissions of anybody but the owner, other instances and databases,
transactions, indexes, upserts, replacing, operators but those in OPERATORS, arrays inside paths,
the types of Extended JSON but numbers, and limits of rate and size. Its own guesses, which no
document settles: 409 for a taken `_id`, at most 1000 documents a page, 400 for what the database
would not understand, and that a path with 24 hexadecimal digits means an ObjectId, which nothing
here has.
"""

from __future__ import annotations

import copy
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from .fake_cloudbase import Asked, FakeCloudbase, Reply

API = "/v1/database/instances/(default)/databases/(default)"
MAX_PAGE = 1000
OPERATORS = {"$exists", "$in", "$lte", "$inc", "$set", "$unset"}
STATUS = {
    "INVALID_PARAM": 400,
    "DATABASE_COLLECTION_NOT_EXIST": 404,
    "DOCUMENT_NOT_FOUND": 404,
    "DATABASE_DUPLICATE_WRITE": 409,
    "EXCEED_CONCURRENT_REQUEST_LIMIT": 422,
    "DATABASE_REQUEST_FAILED": 500,
    "DATABASE_TRANSACTION_CONFLICT": 503,
    "DATABASE_TIMEOUT": 504,
}

_PATH = re.compile(re.escape(API) + r"/collections/([A-Za-z0-9_-]+)/documents(?:/([^/]+))?")
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)

Fields = dict[str, Any]
Mishap = Reply | Callable[[Reply], Reply]


class Long(int):
    """A 64-bit integer, which stays one."""


class Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class FakeCloudbaseDocuments(FakeCloudbase):
    """`mishaps` happen to the next requests of that name, one each: an answer is given instead of
    doing anything, a function is handed the answer after it was done and says what is sent."""

    collections: dict[str, dict[str, Fields]] = field(default_factory=lambda: {"jobs": {}})
    mishaps: dict[str, list[Mishap]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def _gateway(self, asked: Asked) -> Reply:
        if not asked.path.startswith("/v1/database/"):
            return super()._gateway(asked)
        if refusal := self._bearer_refusal(asked):
            return refusal
        found = _PATH.fullmatch(asked.path)
        name = _operation(asked.method, found[2]) if found else None
        if found is None or name is None:
            return _answer({"code": "INVALID_PATH", "message": "no such API"}, 404)
        with self._lock:
            mishap = self.mishaps[name].pop(0) if self.mishaps.get(name) else None
            if isinstance(mishap, Reply):
                return mishap
            self.done.append(name)
            try:
                reply = self._do(name, found[1], unquote(found[2] or ""), asked)
            except Refused as refused:
                reply = failure(refused.code, str(refused))
        return mishap(reply) if mishap else reply

    def _do(self, name: str, collection: str, doc_id: str, asked: Asked) -> Reply:
        if collection not in self.collections:
            raise Refused("DATABASE_COLLECTION_NOT_EXIST", "Db or Table not exist")
        documents = self.collections[collection]
        if name == "find":
            return _answer(_find(documents, dict(parse_qsl(asked.query, keep_blank_values=True))))
        body = _body(asked)
        if name == "insert":
            return _answer(_insert(documents, body), 201)
        if name == "update":
            return _answer(_update(documents, body))
        if name == "update one":
            return _answer(_update_one(documents, doc_id, body))
        return _answer(_remove(documents, body))


def lost(reply: Reply) -> Reply:
    """The answer's head, and a connection that ends in it."""
    return Reply(reply.status, reply.headers, b"", missing_bytes=len(reply.body))


def failure(code: str, message: str = "as the test says") -> Reply:
    body = {"code": code, "message": message, "request_id": "r-1"}
    return _answer(body, STATUS[code])


def _operation(method: str, last: str | None) -> str | None:
    if last is None:
        return {"GET": "find", "POST": "insert", "PATCH": "update"}.get(method)
    if method == "POST":
        return "remove" if last == "remove" else None
    return "update one" if method == "PATCH" else None


def _answer(value: object, status: int = 200) -> Reply:
    return Reply(status, {"content-type": "application/json"}, json.dumps(value).encode())


def _body(asked: Asked) -> Fields:
    if asked.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Refused("INVALID_PARAM", "the body must be application/json")
    try:
        body = read(asked.json())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused("INVALID_PARAM", "the body must be an object")
    return body


def _insert(documents: dict[str, Fields], body: Fields) -> object:
    _only(body, "data")
    new = body.get("data")
    if not isinstance(new, list) or not new or not all(isinstance(one, dict) for one in new):
        raise Refused("INVALID_PARAM", "param.data must be a list of documents")
    ids = []
    for one in new:
        _check_names(one)
        key = one.setdefault("_id", secrets.token_hex(12))
        if key in documents:
            raise Refused("DATABASE_DUPLICATE_WRITE", f"duplicate key: {key}")
        documents[key] = one
        ids.append(key)
    return {"insertedIds": ids}


def _find(documents: dict[str, Fields], asked: Mapping[str, str]) -> object:
    _only(asked, "query", "offset", "limit", "order", "projection", "count")
    query = _parameter(asked, "query", dict, {})
    offset, limit = (_parameter(asked, "offset", int, 0), _parameter(asked, "limit", int, 20))
    if offset < 0 or not 0 < limit <= MAX_PAGE:
        raise Refused("INVALID_PARAM", "param.offset or param.limit")
    found = [one for one in documents.values() if matches(one, query)]
    if _parameter(asked, "count", bool, False):
        return {"total": len(found)}
    for rule in reversed(_parameter(asked, "order", list, [])):
        if set(rule) != {"field", "direction"} or rule["direction"] not in {"asc", "desc"}:
            raise Refused("INVALID_PARAM", "param.order")
        found.sort(
            key=lambda one, name=rule["field"]: (name in one, one.get(name, 0)),  # type: ignore[misc]
            reverse=rule["direction"] == "desc",
        )
    wanted = _parameter(asked, "projection", dict, {})
    if any(value != 1 or "." in name for name, value in wanted.items()):
        raise Refused("INVALID_PARAM", "param.projection")
    if wanted:
        found = [{n: v for n, v in one.items() if n in wanted or n == "_id"} for one in found]
    return {"offset": offset, "limit": limit, "list": write(found[offset : offset + limit])}


def _update(documents: dict[str, Fields], body: Fields) -> object:
    _only(body, "query", "data", "multi", "upsert", "replaceMode")
    if body.get("upsert") or body.get("replaceMode"):
        raise Refused("INVALID_PARAM", "this fake neither upserts nor replaces")
    found = _selected(documents, body)
    if not body.get("multi"):
        found = found[:1]
    updated = sum(_apply(documents, one["_id"], body.get("data")) for one in found)
    return {"updated": updated, "matched": len(found), "upsert_id": ""}


def _update_one(documents: dict[str, Fields], doc_id: str, body: Fields) -> object:
    _only(body, "data", "returnDoc")
    if doc_id not in documents or _OBJECT_ID.fullmatch(doc_id):
        raise Refused("DOCUMENT_NOT_FOUND", "document not found")
    updated = _apply(documents, doc_id, body.get("data"))
    answer: Fields = {"updated": int(updated), "matched": 1, "upsert_id": ""}
    return answer | ({"doc": write(documents[doc_id])} if body.get("returnDoc") else {})


def _remove(documents: dict[str, Fields], body: Fields) -> object:
    _only(body, "query", "multi")
    found = _selected(documents, body)[: None if body.get("multi") else 1]
    for one in found:
        del documents[one["_id"]]
    return {"deleted": len(found)}


def _selected(documents: dict[str, Fields], body: Fields) -> list[Fields]:
    query = body.get("query")
    if not isinstance(query, dict) or not query:
        raise Refused("INVALID_PARAM", "param.query can't be empty")
    return [one for one in documents.values() if matches(one, query)]


def _apply(documents: dict[str, Fields], key: str, data: object) -> bool:
    """Whether the document is another one now."""
    old, new = documents[key], copy.deepcopy(documents[key])
    if not isinstance(data, dict) or not data:
        raise Refused("INVALID_PARAM", "param.data can't be empty")
    operators = data if any(name.startswith("$") for name in data) else {"$set": data}
    paths = [path for fields in operators.values() if isinstance(fields, dict) for path in fields]
    if any(f"{a}.".startswith(f"{b}.") for i, a in enumerate(paths) for b in paths[:i]):
        raise Refused("INVALID_PARAM", "two changes of one path")
    for operator, fields in operators.items():
        if operator not in {"$inc", "$set", "$unset"} or not isinstance(fields, dict) or not fields:
            raise Refused("INVALID_PARAM", f"{operator} with its fields")
        for path, value in fields.items():
            _change(new, operator, path, value)
    documents[key] = new
    return new != old


def _change(document: Fields, operator: str, path: str, value: Any) -> None:
    *steps, last = path.split(".")
    if path.split(".")[0] in {"_id", "_openid"}:
        raise Refused("INVALID_PARAM", "_id and _openid cannot be changed")
    for step in (*steps, last):
        if not step or step.startswith("$"):
            raise Refused("INVALID_PARAM", f"no path: {path}")
    for step in steps:
        document = document.setdefault(step, {})
        if not isinstance(document, dict):
            raise Refused("INVALID_PARAM", f"no document inside {path}")
    if operator == "$unset":
        document.pop(last, None)
    elif operator == "$set":
        document[last] = value
    else:
        before = document.get(last, 0)
        if type(before) not in {int, Long, float} or type(value) not in {int, Long, float}:
            raise Refused("INVALID_PARAM", f"$inc of no number: {path}")
        is_long = Long in {type(before), type(value)} or before + value not in _INT32
        document[last] = Long(before + value) if is_long else before + value


def matches(document: Fields, query: Mapping[str, Any]) -> bool:
    """Raises Refused for an operator this fake has not."""
    return all(_meets(document, path, wanted) for path, wanted in query.items())


def _meets(document: Any, path: str, wanted: Any) -> bool:
    if path.startswith("$"):
        raise Refused("INVALID_PARAM", f"this fake has no {path}")
    is_there = True
    for step in path.split("."):
        is_there = isinstance(document, dict) and step in document
        document = document[step] if is_there else None
    if not isinstance(wanted, dict):
        return is_there and bool(document == wanted)
    return all(_compares(is_there, document, name, operand) for name, operand in wanted.items())


def _compares(is_there: bool, value: Any, operator: str, operand: Any) -> bool:
    if operator == "$exists" and isinstance(operand, bool):
        return is_there == operand
    if operator == "$in" and isinstance(operand, list):
        return is_there and value in operand
    if operator == "$lte" and isinstance(operand, int):
        return is_there and isinstance(value, int) and value <= operand
    raise Refused("INVALID_PARAM", f"this fake has no {operator} of {operand!r}")


def _check_names(value: Any) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not name or name.startswith("$") or "." in name or "\0" in name:
                raise Refused("INVALID_PARAM", f"not a field's name: {name!r}")
            _check_names(inner)


def _only(given: Mapping[str, Any], *names: str) -> None:
    if others := set(given) - set(names):
        raise Refused("INVALID_PARAM", f"unknown parameters: {sorted(others)}")


def _parameter(asked: Mapping[str, str], name: str, kind: type, default: Any) -> Any:
    if name not in asked:
        return default
    try:
        value = read(json.loads(asked[name]))
    except ValueError:
        value = None
    if type(value) is not kind:
        raise Refused("INVALID_PARAM", f"param.{name}")
    return value


def read(value: Any) -> Any:
    """Extended JSON as it is stored. Raises ValueError for a wrapper with something else in it."""
    if isinstance(value, list):
        return [read(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {"$numberLong"}:
            return Long(_whole(value["$numberLong"], _INT64))
        if set(value) == {"$numberInt"}:
            return _whole(value["$numberInt"], _INT32)
        if set(value) == {"$numberDouble"}:
            return float(value["$numberDouble"])
        return {name: read(item) for name, item in value.items()}
    if type(value) is int and value not in _INT32:
        return Long(_whole(str(value), _INT64))
    return value


def _whole(text: object, allowed: range) -> int:
    if not isinstance(text, str) or not re.fullmatch(r"-?[0-9]+", text) or int(text) not in allowed:
        raise ValueError(f"not an integer of its size: {text!r}")
    return int(text)


def write(value: Any) -> Any:
    """Canonical Extended JSON, which CloudBase calls Strict."""
    if isinstance(value, list):
        return [write(item) for item in value]
    if isinstance(value, dict):
        return {name: write(item) for name, item in value.items()}
    if isinstance(value, Long):
        return {"$numberLong": str(int(value))}
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    kind = "$numberInt" if isinstance(value, int) else "$numberDouble"
    return {kind: str(value)}

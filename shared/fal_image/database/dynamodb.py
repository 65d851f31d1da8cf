"""Documents and counters in one DynamoDB table, each an item, each call one request.

    document  id, version, body (JSON text), due_shard + due_at (only while due), expires_at +
              expires_ms, m.<name> for every mark, made and w.0 to w.3 (nonces: who wrote what)
    counter   id = "counter#<name>", total, o.<key> for every open amount, expires_at

Marks and open amounts are attributes of the item itself, not of a map in it: one UpdateItem sets
them without having read, and without a map having to be there. Times are numbers: milliseconds
since 1970, but seconds in `expires_at`, which DynamoDB's time to live reads. Refuses to make a
table, and to know whose credentials its calls carry.
"""

from __future__ import annotations

import json
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from msgspec import Struct

from ..aws import AwsError, AwsService, Protocol
from .base import DatabaseError, Document, check_body, check_id, check_marks

PROTOCOL = Protocol("dynamodb", "DynamoDB_20120810", "1.0")
READ_TIMEOUT_S = 5.0  # an answer takes milliseconds; three attempts
BATCH_ROUNDS = 7  # readings in a row that may bring nothing before `get_many` gives up
BATCH_PAUSE_S = 0.05  # between two readings, doubled with each of those: six seconds in all

DUE_INDEX = "due"
DUE_SHARDS = 4  # one key of an index takes 1,000 writes a second (AWS guide, partition keys)
TTL_ATTRIBUTE = "expires_at"  # what UpdateTimeToLive must name

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MS = timedelta(milliseconds=1)
_TIMES = ("due_shard", "due_at", TTL_ATTRIBUTE, "expires_ms")
_NONCES = 4  # how many of the last writers of a body are remembered

_Item = Mapping[str, Any]


def table_definition(table: str) -> dict[str, Any]:
    """The arguments of CreateTable for a table that DynamodbDatabase works on. Its time to live is
    another call's, UpdateTimeToLive, with TTL_ATTRIBUTE. Nothing is made here."""
    return {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "due_shard", "AttributeType": "S"},
            {"AttributeName": "due_at", "AttributeType": "N"},
        ],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": DUE_INDEX,
                "KeySchema": [
                    {"AttributeName": "due_shard", "KeyType": "HASH"},
                    {"AttributeName": "due_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    }


class DynamodbDatabase:
    """See Database. Safe to share between threads.

    A call is sent again when its answer does not come, so a conditional write may be refused by the
    very item that its own first attempt wrote. It is then told from a lost race by what the
    refusing item says, which comes with the refusal: see `create`, `replace_if`, `take`.
    `settle` and `mark` change nothing the second time. One gap stays: an attempt that DynamoDB
    carries out only after a later one was answered and its key was settled reserves that amount
    again, until the counter expires; it never reserves too little.
    """

    def __init__(
        self,
        table: str,
        *,
        region: str,
        endpoint_url: str | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """The table must be there, as `table_definition` has it; no call is made yet."""
        self._table = table
        self._sleep = sleep
        self._service = AwsService(
            PROTOCOL,
            region=region,
            endpoint_url=endpoint_url,
            read_timeout_s=READ_TIMEOUT_S,
            sleep=sleep,
        )

    def create(
        self,
        id: str,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        """See Database. Who made a document stays in it for good (`made`): an attempt refused by
        our own document is True, whatever others have since put in it."""
        nonce = {"S": secrets.token_urlsafe(9)}
        said = _Expressions()
        written = self._write(
            "PutItem",
            Item={
                "id": {"S": check_id(id)},
                "version": _number(1),
                "body": {"S": _text(body)},
                "made": nonce,
                **_times(id, due_at, expires_at),
            },
            ConditionExpression=f"attribute_not_exists({said.name('id')})",
            **said.arguments,
        )
        return written.done or written.item.get("made") == nonce

    def get(self, id: str) -> Document | None:
        answer = self._ask("GetItem", TableName=self._table, Key=_key(id), ConsistentRead=True)
        return _document(answer.get("Item", {}))

    def get_many(self, ids: Sequence[str]) -> list[Document]:
        """See Database. One BatchGetItem, and more while DynamoDB leaves keys over: it answers at
        most 16 MB, and less when it is busy. Gives up after BATCH_ROUNDS that bring nothing."""
        found: dict[str, Document] = {}
        keys = [_key(id) for id in dict.fromkeys(ids)]  # it refuses a key that is there twice
        fruitless = 0
        while keys:
            answer = self._ask(
                "BatchGetItem",
                RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}},
            )
            brought = answer["Responses"].get(self._table, [])
            found |= {one.id: one for one in map(_document, brought) if one}
            keys = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            fruitless = 0 if brought else fruitless + 1
            if keys and fruitless == BATCH_ROUNDS:
                raise DatabaseError(
                    f"BatchGetItem of dynamodb://{self._table}: {len(keys)} keys left over "
                    f"{fruitless} times"
                )
            if keys:
                self._sleep(BATCH_PAUSE_S * 2**fruitless)
        return [found[id] for id in ids if id in found]

    def replace_if(
        self,
        id: str,
        version: int,
        body: Mapping[str, object],
        *,
        due_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> bool:
        """See Database. Each body's writer signs in one of four attributes, by its version: an
        attempt refused by our own body is True, also when up to three others came after it.

        Raises DatabaseError if after a lost answer even more came: whether ours was among them is
        then not known.
        """
        nonce, signed = {"S": secrets.token_urlsafe(9)}, f"w.{(version + 1) % _NONCES}"
        times = _times(id, due_at, expires_at)
        said = _Expressions()
        changes = {"version": _number(version + 1), "body": {"S": _text(body)}, signed: nonce}
        sets = ", ".join(
            f"{said.name(name)} = {said.value(value)}" for name, value in (changes | times).items()
        )
        gone = ", ".join(said.name(name) for name in _TIMES if name not in times)
        written = self._write(
            "UpdateItem",
            Key=_key(id),
            UpdateExpression=f"SET {sets}" + (f" REMOVE {gone}" if gone else ""),
            # Of a document that is missing this is false: none is made by an update.
            ConditionExpression=f"{said.name('version')} = {said.value(_number(version))}",
            **said.arguments,
        )
        if written.done or written.item.get(signed) == nonce:
            return True
        stands = int(written.item.get("version", _number(0))["N"])
        if written.asked_again and stands > version + _NONCES:
            raise DatabaseError(
                f"UpdateItem of dynamodb://{self._table}: an answer was lost, and whether version "
                f"{version + 1} was this one cannot be seen in version {stands}"
            )
        return False

    def mark(self, id: str, marks: Mapping[str, str]) -> Document | None:
        if not check_marks(marks):
            return self.get(id)
        said = _Expressions()
        sets = ", ".join(
            f"{said.name(f'm.{name}')} = {said.value({'S': text})}" for name, text in marks.items()
        )
        written = self._write(
            "UpdateItem",
            Key=_key(id),
            UpdateExpression=f"SET {sets}",
            ConditionExpression=f"attribute_exists({said.name('body')})",
            ReturnValues="ALL_NEW",
            **said.arguments,
        )
        return _document(written.item)

    def take(
        self, counter: str, key: str, amount: int, limit: int, *, expires_at: datetime
    ) -> bool:
        """See Database. An attempt refused because `key` is open is True, whoever opened it.

        Every open key makes its counter's item some 40 bytes larger, and DynamoDB bills each write
        of it by the kilobyte: hundreds may be open at once, not tens of thousands.
        """
        said = _Expressions()
        total, opened, expires = map(said.name, ("total", f"o.{key}", TTL_ATTRIBUTE))
        room, more = limit - amount, said.value(_number(amount))
        fits = f"{total} <= {said.value(_number(room))}"
        if room >= 0:
            fits = f"(attribute_not_exists({total}) OR {fits})"
        ends = said.value(_number(_seconds(expires_at)))
        written = self._write(
            "UpdateItem",
            Key=_counter_key(check_id(counter)),
            UpdateExpression=(
                f"SET {opened} = {more}, {expires} = if_not_exists({expires}, {ends}) "
                f"ADD {total} {more}"
            ),
            ConditionExpression=f"attribute_not_exists({opened}) AND {fits}",
            **said.arguments,
        )
        return written.done or f"o.{key}" in written.item

    def settle(self, counter: str, key: str, *, reserved: int, actual: int) -> None:
        said = _Expressions()
        opened, change = said.name(f"o.{key}"), said.value(_number(actual - reserved))
        self._write(
            "UpdateItem",
            Key=_counter_key(counter),
            UpdateExpression=f"ADD {said.name('total')} {change} REMOVE {opened}",
            ConditionExpression=f"attribute_exists({opened})",
            **said.arguments,
        )

    def total(self, counter: str) -> int:
        answer = self._ask(
            "GetItem", TableName=self._table, Key=_counter_key(counter), ConsistentRead=True
        )
        return int(answer.get("Item", {}).get("total", _number(0))["N"])

    def due(self, now: datetime, limit: int) -> list[str]:
        """See Database. One Query for each shard of the index, in turn. An answer is cut at 1 MB
        (AWS guide, quotas): some thousand ids a shard, whatever `limit` says."""
        found = [(at, id) for n in range(DUE_SHARDS) for at, id in self._due_in(n, now, limit)]
        return [id for _, id in sorted(found)[:limit]]

    def purge(self, now: datetime, limit: int) -> int:
        """0, and nothing is deleted here: DynamoDB does that by itself, by TTL_ATTRIBUTE, within
        days of the time (AWS guide, time to live). Until then an expired item is read as ever."""
        return 0

    def _due_in(self, shard: int, now: datetime, limit: int) -> Iterator[tuple[int, str]]:
        said = _Expressions()
        in_shard = f"{said.name('due_shard')} = {said.value({'S': str(shard)})}"
        by_now = f"{said.name('due_at')} <= {said.value(_number(_milliseconds(now)))}"
        answer = self._ask(
            "Query",
            TableName=self._table,
            IndexName=DUE_INDEX,
            KeyConditionExpression=f"{in_shard} AND {by_now}",
            Limit=limit,
            **said.arguments,
        )
        for item in answer["Items"]:
            yield int(item["due_at"]["N"]), item["id"]["S"]

    def _write(self, operation: str, **arguments: Any) -> _Written:
        """One conditional write; a condition that does not hold is no error."""
        try:
            answer = self._service.call(
                operation,
                {
                    "TableName": self._table,
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    **arguments,
                },
            )
        except AwsError as error:
            if error.code != "ConditionalCheckFailedException":
                raise self._failed(operation, error) from error
            return _Written(False, error.said.get("Item", {}), error.asked_again)
        return _Written(True, answer.get("Attributes", {}))

    def _ask(self, operation: str, **arguments: Any) -> Any:
        try:
            return self._service.call(operation, arguments)
        except AwsError as error:
            raise self._failed(operation, error) from error

    def _failed(self, operation: str, error: AwsError) -> DatabaseError:
        return DatabaseError(f"{operation} of dynamodb://{self._table}: {error}")


class _Written(Struct, frozen=True):
    """What became of a conditional write. `item` is the one that refused it ({} if there is none),
    or as it is after a write that asked for it; `asked_again`: an earlier attempt of the same
    write had no answer, or one that says to try again, and may have been carried out."""

    done: bool
    item: _Item
    asked_again: bool = False


class _Expressions:
    """Names and values of one request behind placeholders: DynamoDB's expressions refuse hundreds
    of reserved words and everything with a dot (AWS guide, expression attribute names)."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def name(self, attribute: str) -> str:
        return self._names.setdefault(attribute, f"#n{len(self._names)}")

    def value(self, value: _Item) -> str:
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = value
        return placeholder

    @property
    def arguments(self) -> dict[str, Any]:
        names = {placeholder: attribute for attribute, placeholder in self._names.items()}
        values = {"ExpressionAttributeValues": self._values} if self._values else {}
        return {"ExpressionAttributeNames": names, **values}


def _document(item: _Item) -> Document | None:
    """The document in an item; None for a missing item, and for a counter."""
    if "body" not in item:
        return None
    return Document(
        item["id"]["S"],
        json.loads(item["body"]["S"]),
        int(item["version"]["N"]),
        _time(item.get("due_at")),
        _time(item.get("expires_ms")),
        {name[2:]: value["S"] for name, value in item.items() if name.startswith("m.")},
    )


def _times(id: str, due_at: datetime | None, expires_at: datetime | None) -> dict[str, Any]:
    """The attributes, of _TIMES, of a document with these times."""
    times: dict[str, Any] = {}
    if due_at is not None:
        times["due_shard"] = {"S": str(zlib.crc32(id.encode()) % DUE_SHARDS)}
        times["due_at"] = _number(_milliseconds(due_at))
    if expires_at is not None:
        times[TTL_ATTRIBUTE] = _number(_seconds(expires_at))
        times["expires_ms"] = _number(_milliseconds(expires_at))
    return times


def _key(id: str) -> _Item:
    return {"id": {"S": id}}


def _counter_key(counter: str) -> _Item:
    """No document can have it: there is no '#' in an id."""
    return _key(f"counter#{counter}")


def _number(value: int) -> _Item:
    return {"N": str(value)}


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MS


def _seconds(at: datetime) -> int:
    """Rounded up: nothing is deleted before its time."""
    return -(-_milliseconds(at) // 1000)


def _time(value: _Item | None) -> datetime | None:
    return None if value is None else _EPOCH + int(value["N"]) * _MS


def _text(body: Mapping[str, object]) -> str:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    check_body(text.encode())
    return text

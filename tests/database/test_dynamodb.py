"""What the contract does not see: lost answers, keys left over, the index, refusals, calls."""

from __future__ import annotations

import http.client
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import pytest

from fal_image.database.base import MAX_BODY_BYTES, Database, DatabaseError
from fal_image.database.dynamodb import (
    BATCH_ROUNDS,
    DUE_INDEX,
    TTL_ATTRIBUTE,
    DynamodbDatabase,
    table_definition,
)
from support.databases import DynamodbRig
from support.listening import listening
from support.storages import AWS_ENVIRON

NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=timezone.utc)
MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Turn:
    """What becomes of one request: whether DynamoDB gets it, what others do before the answer, how
    much of the answer comes back, with or without its checksum; `says` is a status and a body in
    place of DynamoDB's own."""

    arrives: bool = True
    meanwhile: Callable[[], object] = lambda: None
    comes_back: str = "all"  # half, none
    checksum: bool = True
    says: tuple[int, Mapping[str, object]] | None = None


LOST, CUT = Turn(comes_back="none"), Turn(comes_back="half")
FAILED = Turn(says=(500, {"__type": "x#InternalServerError", "message": "was it done?"}))


@dataclass
class Relay:
    """Stands before a DynamoDB, hands on what is asked and what is answered, and at a request's
    turn does what the turn says. Notes every request: its operation and its body."""

    upstream: str
    url: str = ""
    turns: list[Turn] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.asked]

    @contextmanager
    def serving(self) -> Iterator[Relay]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                operation = self.headers["x-amz-target"].partition(".")[2]
                relay.asked.append((operation, json.loads(body)))
                turn = relay.turns.pop(0) if relay.turns else Turn()
                status, content = relay.answer(turn, body, dict(self.headers))
                turn.meanwhile()
                if turn.comes_back == "none":
                    return
                self.send_response(status)
                self.send_header("content-type", "application/x-amz-json-1.0")
                self.send_header("content-length", str(len(content)))
                if turn.checksum:
                    self.send_header("x-amz-crc32", str(zlib.crc32(content)))
                self.end_headers()
                self.wfile.write(content if turn.comes_back == "all" else content[:-1])

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests look at `asked`."""

        with listening(Handler) as self.url:
            yield self

    def answer(self, turn: Turn, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        status, content = 200, b"{}"
        if turn.arrives:
            connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc)
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
            connection.close()
        if turn.says:
            return turn.says[0], json.dumps(turn.says[1]).encode()
        return status, content


@pytest.fixture
def rig(moto: str) -> DynamodbRig:
    return DynamodbRig(moto)


@pytest.fixture
def relay(rig: DynamodbRig) -> Iterator[Relay]:
    with Relay(rig.endpoint_url).serving() as relay:
        yield relay


@pytest.fixture
def others(rig: DynamodbRig) -> Database:
    """What other instances do, past the relay."""
    return rig.open()


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
def database(rig: DynamodbRig, relay: Relay, naps: list[float]) -> DynamodbDatabase:
    return a_database(rig.table, relay.url, naps.append)


def a_database(
    table: str, endpoint_url: str, sleep: Callable[[float], None] = lambda pause_s: None
) -> DynamodbDatabase:
    return DynamodbDatabase(table, region="us-east-1", endpoint_url=endpoint_url, sleep=sleep)


def items(rig: DynamodbRig, index: str | None = None) -> dict[str, dict[str, Any]]:
    """All items of the table, or of an index of it, by id."""
    where = {"IndexName": index} if index else {}
    found = rig.call("Scan", {"TableName": rig.table, **where})["Items"]
    return {item["id"]["S"]: item for item in found}


def replaced(database: Database, id: str, versions: Sequence[int]) -> None:
    for version in versions:
        assert database.replace_if(id, version, {"by": "others", "after": version})


@pytest.mark.parametrize("turn", [LOST, CUT, FAILED], ids=["lost", "cut", "failed"])
def test_a_create_whose_answer_is_lost_is_ours(
    database: DynamodbDatabase, relay: Relay, turn: Turn
):
    relay.turns = [turn]

    assert database.create("job-1", {"by": "us"})
    assert relay.operations == ["PutItem", "PutItem"]
    found = database.get("job-1")
    assert found is not None
    assert (found.version, found.body) == (1, {"by": "us"})


def test_a_create_whose_answer_is_lost_is_ours_whatever_others_did_since(
    database: DynamodbDatabase, relay: Relay, others: Database
):
    relay.turns = [
        Turn(comes_back="none", meanwhile=lambda: replaced(others, "job-1", range(1, 9)))
    ]

    assert database.create("job-1", {"by": "us"})


def test_a_create_that_never_arrived_is_lost_to_who_came_first(
    database: DynamodbDatabase, relay: Relay, others: Database
):
    first = Turn(
        arrives=False, comes_back="none", meanwhile=lambda: others.create("job-1", {"by": "others"})
    )
    relay.turns = [first]

    assert not database.create("job-1", {"by": "us"})
    found = database.get("job-1")
    assert found is not None
    assert found.body == {"by": "others"}


@pytest.mark.parametrize("turn", [LOST, CUT, FAILED], ids=["lost", "cut", "failed"])
def test_a_replacement_whose_answer_is_lost_is_ours(
    database: DynamodbDatabase, relay: Relay, turn: Turn
):
    database.create("job-1", {})
    relay.turns = [turn]

    assert database.replace_if("job-1", 1, {"by": "us"})
    found = database.get("job-1")
    assert found is not None
    assert (found.version, found.body) == (2, {"by": "us"})


@pytest.mark.parametrize("came_after", [1, 2, 3])
def test_a_replacement_whose_answer_is_lost_is_ours_when_others_came_after_it(
    database: DynamodbDatabase, relay: Relay, others: Database, came_after: int
):
    database.create("job-1", {})
    later = range(2, 2 + came_after)
    relay.turns = [Turn(comes_back="none", meanwhile=lambda: replaced(others, "job-1", later))]

    assert database.replace_if("job-1", 1, {"by": "us"})


@pytest.mark.parametrize("came_instead", [1, 2, 3, 4])
def test_a_replacement_that_never_arrived_is_lost_to_who_came_first(
    database: DynamodbDatabase, relay: Relay, others: Database, came_instead: int
):
    database.create("job-1", {})
    theirs = range(1, 1 + came_instead)
    first = Turn(
        arrives=False, comes_back="none", meanwhile=lambda: replaced(others, "job-1", theirs)
    )
    relay.turns = [first]

    assert not database.replace_if("job-1", 1, {"by": "us"})


@pytest.mark.parametrize("arrives", [True, False])
def test_whether_a_replacement_happened_is_said_to_be_unknown_when_it_cannot_be_seen(
    database: DynamodbDatabase, relay: Relay, others: Database, arrives: bool
):
    database.create("job-1", {})
    theirs = range(2 if arrives else 1, 6)
    lost = Turn(
        arrives=arrives, comes_back="none", meanwhile=lambda: replaced(others, "job-1", theirs)
    )
    relay.turns = [lost]

    with pytest.raises(DatabaseError, match="whether version 2 was this one"):
        database.replace_if("job-1", 1, {"by": "us"})


def test_a_replacement_that_was_answered_is_lost_however_far_others_are(
    database: DynamodbDatabase, others: Database
):
    database.create("job-1", {})
    replaced(others, "job-1", range(1, 9))

    assert not database.replace_if("job-1", 1, {"by": "us"})


def test_a_replacement_of_what_is_gone_is_lost_also_after_a_lost_answer(
    database: DynamodbDatabase, relay: Relay, rig: DynamodbRig
):
    relay.turns = [LOST]

    assert not database.replace_if("job-1", 1, {})
    assert items(rig) == {}


@pytest.mark.parametrize("limit", [10, 99], ids=["no room for another", "room for another"])
@pytest.mark.parametrize("turn", [LOST, CUT, FAILED], ids=["lost", "cut", "failed"])
def test_a_take_whose_answer_is_lost_is_counted_once(
    database: DynamodbDatabase, relay: Relay, turn: Turn, limit: int
):
    relay.turns = [turn]

    assert database.take("usd", "job-1", 7, limit, expires_at=NOON)
    assert relay.operations == ["UpdateItem", "UpdateItem"]
    assert database.total("usd") == 7


def test_a_take_that_never_arrived_is_refused_when_others_took_the_room(
    database: DynamodbDatabase, relay: Relay, others: Database
):
    first = Turn(
        arrives=False,
        comes_back="none",
        meanwhile=lambda: others.take("usd", "job-2", 7, 10, expires_at=NOON),
    )
    relay.turns = [first]

    assert not database.take("usd", "job-1", 7, 10, expires_at=NOON)
    assert database.total("usd") == 7


@pytest.mark.parametrize("turn", [LOST, CUT, FAILED], ids=["lost", "cut", "failed"])
def test_a_settlement_whose_answer_is_lost_is_counted_once(
    database: DynamodbDatabase, relay: Relay, turn: Turn
):
    database.take("usd", "job-1", 7, 10, expires_at=NOON)
    relay.turns = [turn]

    database.settle("usd", "job-1", reserved=7, actual=5)

    assert relay.operations == ["UpdateItem"] * 3
    assert database.total("usd") == 5


def test_a_mark_whose_answer_is_lost_gives_the_document_with_it(
    database: DynamodbDatabase, relay: Relay
):
    database.create("chunk-1", {})
    relay.turns = [LOST]

    found = database.mark("chunk-1", {"0": "done"})

    assert found is not None
    assert (found.version, found.marks) == (1, {"0": "done"})


def test_after_three_attempts_nothing_is_known(database: DynamodbDatabase, relay: Relay):
    relay.turns = [FAILED] * 9

    with pytest.raises(DatabaseError, match="HTTP 500 InternalServerError: was it done?"):
        database.create("job-1", {})
    assert len(relay.asked) == 3


@pytest.mark.parametrize("cut", [[CUT] * 3, [Turn(comes_back="half", checksum=False)] * 3])
def test_an_answer_that_is_cut_is_not_read_as_nothing_there(
    database: DynamodbDatabase, relay: Relay, cut: list[Turn]
):
    database.create("job-1", {})
    database.take("usd", "job-1", 7, 10, expires_at=NOON)

    for call in (
        lambda: database.get("job-1"),
        lambda: database.get_many(["job-1"]),
        lambda: database.mark("job-1", {"0": "done"}),
        lambda: database.total("usd"),
        lambda: database.due(NOON, 5),
    ):
        relay.turns = list(cut)
        with pytest.raises(DatabaseError, match="IncompleteRead|checksum"):
            call()


def test_a_server_that_is_not_there_is_a_database_error(rig: DynamodbRig):
    with Relay(rig.endpoint_url).serving() as relay:
        gone = relay.url

    for call in calls(a_database(rig.table, gone)).values():
        with pytest.raises(DatabaseError, match=f"dynamodb://{rig.table}: NewConnectionError"):
            call()


@pytest.mark.parametrize(
    "code",
    ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"],
)
def test_a_throttled_call_is_sent_again_after_a_pause_and_then_is_a_database_error(
    database: DynamodbDatabase, relay: Relay, naps: list[float], code: str
):
    throttled = Turn(arrives=False, says=(400, {"__type": f"x#{code}", "message": "slow down"}))
    relay.turns = [throttled]
    assert database.create("job-1", {})
    assert len(naps) == 1

    relay.turns = [throttled] * 3
    with pytest.raises(DatabaseError, match=f"HTTP 400 {code}: slow down"):
        database.get("job-1")
    assert len(naps) == 3


def test_a_refused_signature_does_not_tell_the_session_token(
    database: DynamodbDatabase, relay: Relay
):
    token = AWS_ENVIRON["AWS_SESSION_TOKEN"]
    message = f"The signature does not match.\n\nThe Canonical String\n'POST\n{token}'"
    refused = {"__type": "x#InvalidSignatureException", "message": message}
    relay.turns = [Turn(arrives=False, says=(400, refused))]

    with pytest.raises(DatabaseError) as caught:
        database.get("job-1")

    assert str(caught.value).endswith("InvalidSignatureException: The signature does not match.")


def test_a_missing_table_is_a_database_error(moto: str):
    with pytest.raises(DatabaseError, match="dynamodb://nobody-made-it: HTTP 400 ResourceNotFound"):
        a_database("nobody-made-it", moto).create("job-1", {})


def test_without_credentials_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, rig: DynamodbRig, relay: Relay
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)

    with pytest.raises(DatabaseError, match="there are no AWS credentials"):
        a_database(rig.table, relay.url).get("job-1")
    assert relay.asked == []


def test_keys_that_are_left_over_are_asked_for_again(
    database: DynamodbDatabase, relay: Relay, rig: DynamodbRig, naps: list[float]
):
    for id in ("a", "b", "c"):
        database.create(id, {"is": id})
    one = {"Responses": {rig.table: [items(rig)["b"]]}, **left_over(rig, "c", "a")}
    none = {"Responses": {rig.table: []}, **left_over(rig, "c", "a")}
    relay.asked, relay.turns = [], [Turn(says=(200, one)), Turn(says=(200, none))]

    found = database.get_many(["a", "b", "missing", "c"])

    assert [one.body for one in found] == [{"is": "a"}, {"is": "b"}, {"is": "c"}]
    keys = [asked["RequestItems"][rig.table]["Keys"] for _, asked in relay.asked]
    assert [[key["id"]["S"] for key in one] for one in keys] == [
        ["a", "b", "missing", "c"],
        ["c", "a"],
        ["c", "a"],
    ]
    assert naps == [0.05, 0.1]


def test_keys_that_stay_left_over_are_a_database_error(
    database: DynamodbDatabase, relay: Relay, rig: DynamodbRig, naps: list[float]
):
    none = {"Responses": {rig.table: []}, **left_over(rig, "a", "b")}
    relay.turns = [Turn(says=(200, none))] * 99

    with pytest.raises(DatabaseError, match="2 keys left over"):
        database.get_many(["a", "b"])

    assert len(relay.asked) == BATCH_ROUNDS
    assert 6 < sum(naps) < 7


def left_over(rig: DynamodbRig, *ids: str) -> dict[str, object]:
    keys = [{"id": {"S": id}} for id in ids]
    return {"UnprocessedKeys": {rig.table: {"Keys": keys, "ConsistentRead": True}}}


def test_a_document_is_in_the_index_only_while_it_is_due(
    database: DynamodbDatabase, rig: DynamodbRig
):
    database.create("job-1", {}, due_at=NOON)
    indexed = items(rig, DUE_INDEX)["job-1"]
    assert set(indexed) == {"id", "due_shard", "due_at"}

    assert database.replace_if("job-1", 1, {})
    assert items(rig, DUE_INDEX) == {}
    assert not {"due_shard", "due_at"} & set(items(rig)["job-1"])

    assert database.replace_if("job-1", 2, {}, due_at=NOON + MS)
    assert items(rig, DUE_INDEX)["job-1"]["due_at"] == {"N": str(int(indexed["due_at"]["N"]) + 1)}


def test_due_merges_its_shards_by_the_millisecond(
    database: DynamodbDatabase, relay: Relay, rig: DynamodbRig
):
    ids = [f"job-{n}" for n in range(24)]
    for n, id in enumerate(ids):
        database.create(id, {}, due_at=NOON + n * MS)
    assert {item["due_shard"]["S"] for item in items(rig).values()} == set("0123")
    relay.asked = []

    assert database.due(NOON + 19 * MS, 99) == ids[:20]
    assert database.due(NOON + DAY, 7) == ids[:7]
    assert relay.operations == ["Query"] * 8
    assert {asked["Limit"] for _, asked in relay.asked} == {99, 7}


def test_the_time_to_live_is_in_seconds_and_never_early(
    database: DynamodbDatabase, rig: DynamodbRig
):
    database.create("job-1", {}, expires_at=NOON)  # a quarter of a second past
    database.create("job-2", {}, expires_at=NOON.replace(microsecond=0))
    database.take("usd", "job-1", 1, 9, expires_at=NOON)
    stored = items(rig)

    noon = int(NOON.timestamp())
    assert stored["job-1"][TTL_ATTRIBUTE] == {"N": str(noon + 1)}
    assert stored["job-2"][TTL_ATTRIBUTE] == {"N": str(noon)}
    assert stored["counter#usd"][TTL_ATTRIBUTE] == {"N": str(noon + 1)}
    described = rig.call("DescribeTimeToLive", {"TableName": rig.table})
    assert described["TimeToLiveDescription"]["AttributeName"] == TTL_ATTRIBUTE


def test_a_document_that_expires_no_more_is_not_deleted(
    database: DynamodbDatabase, rig: DynamodbRig
):
    database.create("job-1", {}, expires_at=NOON)
    database.replace_if("job-1", 1, {})

    assert TTL_ATTRIBUTE not in items(rig)["job-1"]


def test_a_later_take_does_not_move_the_end_of_its_counter(
    database: DynamodbDatabase, rig: DynamodbRig
):
    database.take("usd", "job-1", 1, 9, expires_at=NOON)
    end = items(rig)["counter#usd"][TTL_ATTRIBUTE]
    database.take("usd", "job-2", 1, 9, expires_at=NOON + DAY)

    assert items(rig)["counter#usd"][TTL_ATTRIBUTE] == end


def test_what_expired_is_left_to_dynamodb(database: DynamodbDatabase, relay: Relay):
    database.create("job-1", {}, expires_at=NOON)
    relay.asked = []

    assert database.purge(NOON + DAY, 9) == 0
    assert relay.asked == []
    assert database.get("job-1") is not None


def test_updates_never_make_an_item(database: DynamodbDatabase, rig: DynamodbRig):
    assert not database.replace_if("job-1", 1, {})
    assert database.mark("job-1", {"0": "done"}) is None
    database.settle("usd", "job-1", reserved=1, actual=1)
    assert not database.take("usd", "job-1", 2, 1, expires_at=NOON)

    assert items(rig) == {}


def test_a_counter_is_never_taken_for_a_document(database: DynamodbDatabase, rig: DynamodbRig):
    database.take("usd", "job-1", 1, 9, expires_at=NOON)
    stored = items(rig)

    assert database.get("counter#usd") is None
    assert database.get_many(["counter#usd"]) == []
    assert database.mark("counter#usd", {"0": "done"}) is None
    assert not database.replace_if("counter#usd", 1, {})
    assert items(rig) == stored


def test_a_replacement_names_no_mark(database: DynamodbDatabase, relay: Relay):
    """It can then not undo one that is set while it is on its way."""
    database.create("chunk-1", {})
    database.replace_if("chunk-1", 1, {}, due_at=NOON, expires_at=NOON)
    database.mark("chunk-1", {"0": "done"})
    (_, replacement), (_, mark) = relay.asked[1:]

    touched = set(replacement["ExpressionAttributeNames"].values())
    assert touched == {
        "version",
        "body",
        "w.2",
        "due_shard",
        "due_at",
        "expires_at",
        "expires_ms",
    }
    assert set(mark["ExpressionAttributeNames"].values()) == {"m.0", "body"}  # is it there?


def calls(database: DynamodbDatabase) -> dict[str, Callable[[], object]]:
    return {
        "PutItem": lambda: database.create("job-1", {"n": 1}, due_at=NOON, expires_at=NOON),
        "GetItem": lambda: database.get("job-1"),
        "BatchGetItem": lambda: database.get_many([f"job-{n % 100}" for n in range(120)]),
        "UpdateItem of a body": lambda: database.replace_if("job-1", 1, {}),
        "UpdateItem of marks": lambda: database.mark("job-1", {str(n): "x" for n in range(100)}),
        "UpdateItem that takes": lambda: database.take("usd", "a", 1, 9, expires_at=NOON),
        "UpdateItem that settles": lambda: database.settle("usd", "a", reserved=1, actual=1),
        "GetItem of a counter": lambda: database.total("usd"),
        "Query": lambda: database.due(NOON, 5),
    }


def test_each_call_of_the_port_is_one_request(database: DynamodbDatabase, relay: Relay):
    asked = {}
    for name, call in calls(database).items():
        relay.asked = []
        call()
        asked[name] = relay.operations

    assert asked.pop("Query") == ["Query"] * 4  # one a shard
    assert asked == {name: [name.split()[0]] for name in asked}


def test_reads_see_the_last_write(database: DynamodbDatabase, relay: Relay, rig: DynamodbRig):
    database.get("job-1")
    database.get_many(["job-1"])
    database.total("usd")
    (_, get), (_, get_many), (_, total) = relay.asked

    assert get["ConsistentRead"]
    assert get_many["RequestItems"][rig.table]["ConsistentRead"]
    assert total["ConsistentRead"]


def test_what_cannot_be_stored_is_refused_before_it_is_sent(
    database: DynamodbDatabase, relay: Relay
):
    too_large = {"text": "x" * MAX_BODY_BYTES}
    for call in (
        lambda: database.create("job-1", too_large),
        lambda: database.replace_if("job-1", 1, too_large),
        lambda: database.create("counter#usd", {}),
        lambda: database.mark("job-1", {"a.b": "x"}),
        lambda: database.take("a#b", "job-1", 1, 1, expires_at=NOON),
    ):
        with pytest.raises(ValueError, match=r"document|mark"):
            call()
    assert relay.asked == []


def test_the_table_is_paid_by_the_call_and_its_index_holds_keys_only():
    table = table_definition("jobs")
    (index,) = table["GlobalSecondaryIndexes"]

    assert (table["TableName"], table["BillingMode"]) == ("jobs", "PAY_PER_REQUEST")
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["id"]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    defined = {one["AttributeName"] for one in table["AttributeDefinitions"]}
    assert defined == {"id"} | {key["AttributeName"] for key in index["KeySchema"]}

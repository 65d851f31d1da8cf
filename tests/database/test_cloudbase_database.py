"""What the contract does not see: the calls, lost answers, refusals, credentials, what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fal_image.database import _ejson
from fal_image.database.base import DatabaseError, Document
from fal_image.database.cloudbase import (
    FIND_MANY,
    PAUSE_S,
    READ_MANY,
    REMOVE_MANY,
    TAKE_ROUNDS,
    CloudbaseDatabase,
)
from fal_image.tencent import Gateway
from fal_image.wire import Wire
from support.fake_cloudbase import Reply
from support.fake_cloudbase_documents import (
    API,
    STATUS,
    FakeCloudbaseDocuments,
    Fields,
    Long,
    Mishap,
    failure,
    lost,
)

NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=timezone.utc)
NOON_MS = "1795262400250"
HOUR = timedelta(hours=1)
ID, COUNTER, KEY = "job:1", "budget:2026-11-21", "4t7x"
DOCUMENTS = f"{API}/collections/jobs/documents"
FAILED = failure("DATABASE_REQUEST_FAILED")
E11000 = failure(
    "DATABASE_REQUEST_FAILED", "E11000 duplicate key error collection: jobs index: _id_"
)


@dataclass
class World:
    """A database in an invocation whose variables a test changes."""

    fake: FakeCloudbaseDocuments
    collection: str = "jobs"
    variables: dict[str, str] = field(default_factory=dict)
    slept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.variables.setdefault("CLOUDBASE_APIKEY", self.fake.api_key)
        self.fake.now = NOON.timestamp
        self.database = self.open()

    def open(self) -> CloudbaseDatabase:
        gateway = Gateway(
            "env-1",
            region=None,
            wire=Wire(detours=self.fake.detours),
            credentials=lambda: self.variables,
            now=lambda: NOON,
        )
        return CloudbaseDatabase(gateway, self.collection, sleep=self.slept.append)

    @property
    def stored(self) -> dict[str, Fields]:
        return self.fake.collections["jobs"]

    def create(self, id: str = ID, **body: object) -> bool:
        return self.database.create(id, body, due_at=NOON, expires_at=NOON + HOUR)

    def replace(self, version: int = 1, **body: object) -> bool:
        return self.database.replace_if(ID, version, body)

    def take(self, key: str = KEY, amount: int = 60, limit: int = 100) -> bool:
        return self.database.take(COUNTER, key, amount, limit, expires_at=NOON + HOUR)

    def settle(self, key: str = KEY, actual: int = 7) -> None:
        self.database.settle(COUNTER, key, reserved=60, actual=actual)

    def mark(self, **marks: str) -> Document | None:
        return self.database.mark(ID, marks)

    def failed(self, do: Callable[[], object]) -> str:
        with pytest.raises(DatabaseError) as caught:
            do()
        return str(caught.value)


@pytest.fixture
def world() -> Iterator[World]:
    fake = FakeCloudbaseDocuments()
    with fake.serving():
        yield World(fake)


# The calls


def test_a_document_is_kept_as_text_beside_its_version_and_times(world: World):
    body = {"prompt": "a \N{SNOWMAN}", "$oid": "x", "a.b": {"n": 1}}
    world.database.create(ID, body, due_at=NOON, expires_at=NOON + HOUR)

    (asked,) = world.fake.asked
    assert (asked.method, asked.path, asked.query) == ("POST", DOCUMENTS, "")
    assert asked.headers["content-type"] == "application/json"
    ((sent,),) = asked.json().values()
    assert json.loads(sent.pop("body")) == body
    assert len(sent.pop("made")) == 16
    assert sent == {
        "_id": "d:job:1",
        "version": {"$numberLong": "1"},
        "marks": {},
        "due_at": {"$numberLong": NOON_MS},
        "expires_at": {"$numberLong": str(int(NOON_MS) + 3_600_000)},
    }


def test_a_replacement_names_the_version_and_drops_the_times_that_are_over(world: World):
    world.create()
    world.database.replace_if(ID, 1, {"n": 1}, due_at=NOON + HOUR)

    asked = world.fake.asked[-1]
    assert (asked.method, asked.path) == ("PATCH", DOCUMENTS)
    sent = asked.json()
    assert len(sent["data"]["$set"].pop("written")) == 16
    assert sent == {
        "query": {"_id": "d:job:1", "version": {"$numberLong": "1"}},
        "data": {
            "$set": {
                "body": '{"n":1}',
                "version": {"$numberLong": "2"},
                "due_at": {"$numberLong": str(int(NOON_MS) + 3_600_000)},
            },
            "$unset": {"expires_at": ""},
        },
        "multi": False,
        "upsert": False,
    }


def test_a_reservation_is_one_update_of_a_counter_with_room(world: World):
    world.take()
    world.take("k2", 30)

    sent = world.fake.asked[-1].json()
    assert sent["query"] == {
        "_id": "c:budget:2026-11-21",
        "open.k2": {"$exists": False},
        "total": {"$lte": {"$numberLong": "70"}},
    }
    assert sent["data"] == {
        "$inc": {"total": {"$numberLong": "30"}},
        "$set": {"open.k2": {"$numberLong": "30"}},
    }
    assert isinstance(world.stored["c:budget:2026-11-21"]["total"], Long)


def test_a_mark_is_an_update_by_id_that_gives_the_document(world: World):
    world.database.create("a/b@c=:.", {})
    world.database.mark("a/b@c=:.", {"0": "done"})

    asked = world.fake.asked[-1]
    assert (asked.method, asked.path) == ("PATCH", f"{DOCUMENTS}/d:a~b@c=:.")
    assert asked.json() == {"data": {"$set": {"marks.0": "done"}}, "returnDoc": True}


def test_an_id_of_24_hexadecimal_digits_is_no_object_id(world: World):
    id = "0123456789abcdef01234567"
    world.database.create(id, {})

    found = world.database.mark(id, {"0": "done"})
    assert found is not None
    assert (found.id, found.marks) == (id, {"0": "done"})


def test_finding_asks_for_the_ids_of_the_longest_due(world: World):
    world.create()
    assert world.database.due(NOON, 5000) == [ID]

    asked = world.fake.asked[-1]
    assert (asked.method, asked.path, asked.body) == ("GET", DOCUMENTS, b"")
    assert "content-type" not in asked.headers
    assert asked.query == (
        "query=%7B%22due_at%22%3A%7B%22%24lte%22%3A%7B%22%24numberLong%22%3A%221795262400250%22"
        f"%7D%7D%7D&limit={FIND_MANY}&projection=%7B%22_id%22%3A1%7D"
        "&order=%5B%7B%22field%22%3A%22due_at%22%2C%22direction%22%3A%22asc%22%7D%5D"
    )


COSTS: dict[str, tuple[Callable[[World], object], list[str]]] = {
    "create": (lambda world: world.create("job:2"), ["insert"]),
    "create again": (lambda world: world.create(), ["insert"]),
    "replace": (lambda world: world.replace(), ["update"]),
    "replace in vain": (lambda world: world.replace(7), ["update"]),
    "mark": (lambda world: world.mark(a="b"), ["update one"]),
    "mark nothing": (lambda world: world.mark(), ["find"]),
    "take": (lambda world: world.take("k2", 10), ["update"]),
    "take too much": (lambda world: world.take("k2", 90), ["update", "find"]),
    "take more than the limit": (lambda world: world.take("k2", 101), ["find"]),
    "take again": (lambda world: world.take(), ["update", "find"]),
    "settle": (lambda world: world.settle(), ["update"]),
    "total": (lambda world: world.database.total(COUNTER), ["find"]),
    "get": (lambda world: world.database.get(ID), ["find"]),
    "get a few": (lambda world: world.database.get_many([ID] * READ_MANY), ["find"]),
    "get many": (lambda world: world.database.get_many([f"{n}" for n in range(100)]), ["find"] * 5),
    "none that are due": (lambda world: world.database.due(NOON, 0), []),
    "purge nothing": (lambda world: world.database.purge(NOON, 10), ["find"]),
    "purge": (lambda world: world.database.purge(NOON + HOUR, 10), ["find", "remove"]),
}


@pytest.mark.parametrize("name", COSTS)
def test_no_operation_makes_more_calls_than_it_needs(world: World, name: str):
    do, done = COSTS[name]
    world.create()
    world.take()
    world.fake.done.clear()
    do(world)

    assert world.fake.done == done


def test_a_counter_is_made_with_its_first_reservation(world: World):
    world.fake.done.clear()
    world.take()

    assert world.fake.done == ["update", "find", "insert"]
    assert world.stored["c:budget:2026-11-21"]["expires_at"] == int(NOON_MS) + 3_600_000


def test_much_is_removed_in_parts(world: World):
    for number in range(REMOVE_MANY + 1):
        world.stored[f"d:{number}"] = {"_id": f"d:{number}", "expires_at": 5}

    assert world.database.purge(NOON, 1000) == REMOVE_MANY + 1
    assert world.fake.done == ["find", "remove", "remove"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("4t7x-0", "4t7x-0"),
        ("a.b", "a_2eb"),
        ("a_2eb", "a_5f2eb"),
        ("$inc", "_24inc"),
        ("req:1/2@x=", "req_3a1_2f2_40x_3d"),
        ("\0\N{SNOWMAN}", "_00_e2_98_83"),
    ],
)
def test_a_key_is_open_under_a_name_that_no_path_is_read_from(world: World, key: str, name: str):
    assert world.take(key)
    assert world.stored["c:budget:2026-11-21"]["open"] == {name: 60}

    world.settle(key)
    assert world.stored["c:budget:2026-11-21"]["open"] == {}


# Answers that did not come


def replaced(world: World, reply: Reply) -> Reply:
    """Somebody else's replacement, before the answer is lost."""
    stored = world.stored["d:job:1"]
    stored |= {"version": stored["version"] + 1, "written": "somebody else's"}
    return lost(reply)


BEFORE: list[list[Mishap]] = [[failure(code)] for code, status in STATUS.items() if status >= 422]


@pytest.mark.parametrize("mishaps", [*BEFORE, [lost], [lost, lost], [lost, FAILED]])
def test_a_write_is_made_once_whatever_became_of_its_answer(world: World, mishaps: list[Mishap]):
    names = ("insert", "update", "update one")

    def again(*chosen: str) -> None:
        world.fake.mishaps |= {name: list(mishaps) for name in chosen}

    again(*names)
    assert world.create(n=1)
    assert world.replace(1, n=2)
    marked = world.mark(a="b")
    again("insert")  # its counter's; its update finds none to change
    assert world.take()
    again("update")
    assert world.take("k2", 30)
    again("update")
    world.settle()

    assert marked == Document(ID, {"n": 2}, 2, marks={"a": "b"})
    assert world.database.total(COUNTER) == 37
    assert list(world.stored["c:budget:2026-11-21"]["open"]) == ["k2"]
    assert world.slept == [PAUSE_S] * len(world.slept)
    assert len(world.slept) == 6


def test_a_lost_race_stays_lost_when_its_answer_is_lost_too(world: World):
    world.create(by="first")
    world.fake.mishaps["insert"] = [lost]
    assert not world.create(by="second")

    assert world.replace(1, by="third")
    world.fake.mishaps["update"] = [lost]
    assert not world.replace(1, by="fourth")
    assert json.loads(world.stored["d:job:1"]["body"]) == {"by": "third"}


def test_a_document_that_is_gone_was_not_replaced(world: World):
    world.fake.mishaps["update"] = [lost]

    assert not world.replace()


def test_what_was_created_is_known_after_others_replaced_it(world: World):
    world.fake.mishaps["insert"] = [lambda reply: replaced(world, reply)]

    assert world.create()


def test_a_replacement_that_another_has_followed_is_unknown(world: World):
    world.create()
    world.fake.mishaps["update"] = [lambda reply: replaced(world, reply)]

    assert "job:1" in world.failed(world.replace)


FAILING: dict[str, tuple[str, Callable[[World], object]]] = {
    "create": ("insert", lambda world: world.create("job:2")),
    "replace": ("update", lambda world: world.replace()),
    "mark": ("update one", lambda world: world.mark(a="b")),
    "take": ("update", lambda world: world.take("k2", 10)),
    "settle": ("update", lambda world: world.settle()),
    "get": ("find", lambda world: world.database.get(ID)),
    "purge": ("remove", lambda world: world.database.purge(NOON + HOUR, 10)),
}


@pytest.mark.parametrize("operation", FAILING)
def test_a_failure_that_stays_is_told_and_changes_nothing(world: World, operation: str):
    name, do = FAILING[operation]
    world.create()
    world.take()
    before = json.dumps(world.stored)
    world.fake.mishaps[name] = [FAILED, FAILED]

    world.failed(lambda: do(world))
    assert json.dumps(world.stored) == before

    do(world)
    assert json.dumps(world.stored) != before or operation == "get"


def test_a_deletion_whose_answer_was_lost_is_not_counted(world: World):
    world.create()
    world.fake.mishaps["remove"] = [lost]

    assert world.database.purge(NOON + HOUR, 10) == 0
    assert world.stored == {}


def test_an_answer_that_cannot_be_read_is_a_lost_one(world: World):
    world.fake.mishaps["insert"] = [lambda reply: Reply(201, {}, b"<html>")]

    assert world.create()


@pytest.mark.parametrize("mishaps", [[E11000], [lost, E11000]])
def test_mongodbs_own_words_for_a_taken_id_are_understood(world: World, mishaps: list[Mishap]):
    world.stored["d:job:1"] = {"_id": "d:job:1", "made": "somebody else's"}
    world.fake.mishaps["insert"] = list(mishaps)

    assert not world.create()
    assert len(world.slept) == len(mishaps) - 1


# What others do meanwhile


def test_a_counter_that_another_makes_first_is_used(world: World):
    def made(reply: Reply) -> Reply:
        assert world.take("other", 30)
        return reply

    world.fake.mishaps["find"] = [made]
    assert world.take()
    assert world.database.total(COUNTER) == 90


def test_a_counter_that_never_holds_still_is_given_up(world: World):
    def total(value: int) -> Callable[[Reply], Reply]:
        def changed(reply: Reply) -> Reply:
            world.stored["c:budget:2026-11-21"]["total"] = Long(value)
            return reply

        return changed

    world.take("other", 60)
    world.fake.mishaps["update"] = [total(0) for _ in range(TAKE_ROUNDS)]
    world.fake.mishaps["find"] = [total(60) for _ in range(TAKE_ROUNDS)]

    assert "faster" in world.failed(world.take)
    assert world.database.total(COUNTER) == 60


def test_what_is_given_more_time_while_it_is_purged_stays(world: World):
    def prolonged(reply: Reply) -> Reply:
        world.stored["d:job:1"]["expires_at"] = Long(int(NOON_MS) + 7_200_000)
        return reply

    world.create()
    world.fake.mishaps["find"] = [prolonged]

    assert world.database.purge(NOON + HOUR, 10) == 0
    assert list(world.stored) == ["d:job:1"]


# Refusals


@pytest.mark.parametrize("operation", FAILING)
def test_a_missing_collection_is_named_with_what_to_do(world: World, operation: str):
    _, do = FAILING[operation]
    world.collection = "pictures"
    world.database = world.open()

    said = world.failed(lambda: do(world))
    assert said.startswith("create the collection pictures in the environment")
    assert "HTTP 404 DATABASE_COLLECTION_NOT_EXIST" in said
    assert world.slept == []


def test_a_wrong_key_is_an_error_that_does_not_repeat_it(world: World):
    world.variables["CLOUDBASE_APIKEY"] = "canary-of-a-wrong-key"

    said = world.failed(world.create)
    assert "HTTP 401" in said
    assert "canary" not in said
    assert (world.slept, world.fake.done) == ([], [])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("find", []),
        ("find", {}),
        ("find", {"list": "text"}),
        ("find", {"list": ["text"]}),
        ("find", {"list": [{"_id": "d:job:1"}]}),
        ("find", {"list": [{"_id": "d:job:1", "version": {"$numberInt": "x"}}]}),
        ("find", {"list": [{"_id": "d:job:1", "body": "{", "version": 1}]}),
        ("find", {"list": [{"_id": "d:job:1", "body": "{}", "version": 1, "marks": 1}]}),
        ("update", {"matched": 1}),
        ("update", []),
        ("update one", {"doc": {"_id": "d:job:1"}}),
    ],
)
def test_an_answer_of_another_shape_is_an_error(world: World, name: str, said: object):
    reply = Reply(200, {}, json.dumps(said).encode())
    calls: Mapping[str, Callable[[], object]] = {
        "find": lambda: world.database.get(ID),
        "update": world.replace,
        "update one": lambda: world.mark(a="b"),
    }
    world.create()
    world.fake.mishaps[name] = [reply, reply]

    world.failed(calls[name])


def test_an_updated_document_that_was_not_sent_back_is_read(world: World):
    world.create()
    said = b'{"updated": 1, "matched": 1, "upsert_id": ""}'
    world.fake.mishaps["update one"] = [lambda reply: Reply(200, {}, said)]

    found = world.mark(a="b")
    assert found is not None
    assert found.marks == {"a": "b"}


def test_counts_may_come_as_strict_extended_json(world: World):
    world.create()
    said = b'{"updated": {"$numberInt": "1"}, "matched": {"$numberInt": "1"}}'
    world.fake.mishaps["update"] = [lambda reply: Reply(200, {}, said)]

    assert world.replace()


# Credentials


def test_every_call_shows_the_key_of_its_invocation(world: World):
    world.create()
    world.fake.api_key = world.variables["CLOUDBASE_APIKEY"] = "the-key-of-another-day"

    assert world.replace()
    assert world.fake.asked[-1].headers["authorization"] == "Bearer the-key-of-another-day"


def test_temporary_keys_that_rotate_are_exchanged_again(world: World):
    world.variables = dict(
        zip(
            ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN"),
            world.fake.keys,
            strict=True,
        )
    )
    world.create()
    world.replace()
    assert world.fake.paths().count("POST clientCredential") == 1

    world.fake.keys = (*world.fake.keys[:2], "the-next-token")
    world.variables["TENCENTCLOUD_SESSIONTOKEN"] = "the-next-token"
    world.fake.tokens.clear()
    assert world.mark(a="b") is not None
    assert world.fake.paths().count("POST clientCredential") == 2


# Extended JSON


@pytest.mark.parametrize(
    ("wrapped", "value"),
    [
        ({"$numberInt": "3"}, 3),
        ({"$numberInt": "-3"}, -3),
        ({"$numberLong": "9223372036854775807"}, 2**63 - 1),
        ({"$numberDouble": "0.5"}, 0.5),
        ({"$numberDouble": "-Infinity"}, float("-inf")),
        ({"$date": {"$numberLong": NOON_MS}}, NOON),
        (
            {"$date": {"$numberLong": "-1"}},
            datetime(1969, 12, 31, 23, 59, 59, 999_000, timezone.utc),
        ),
        ({"$date": "2026-11-21T12:00:00.250Z"}, NOON),
        ({"a": [{"b": {"$numberInt": "1"}}]}, {"a": [{"b": 1}]}),
        ({"$numberInt": "1", "b": 2}, {"$numberInt": "1", "b": 2}),
        ({"$oid": "507f1f77bcf86cd799439011"}, {"$oid": "507f1f77bcf86cd799439011"}),
        ("text", "text"),
        (True, True),
        (None, None),
        (7, 7),
    ],
)
def test_extended_json_is_unwrapped(wrapped: object, value: object):
    found = _ejson.plain(wrapped)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "wrapped",
    [
        {"$numberInt": 3},
        {"$numberInt": "3.5"},
        {"$numberLong": ""},
        {"$numberLong": None},
        {"$numberDouble": "much"},
        {"$date": "yesterday"},
        {"$date": "2026-11-21T12:00:00"},
        {"$date": {"$numberDouble": "1"}},
        {"$date": {"$numberLong": "9" * 18}},
        {"$date": []},
        [{"a": {"$numberInt": {}}}],
    ],
)
def test_extended_json_with_something_else_in_it_is_refused(wrapped: Any):
    with pytest.raises(ValueError, match="around what is none"):
        _ejson.plain(wrapped)

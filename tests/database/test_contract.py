"""What every database must do. This suite is the definition of the port."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TypeVar

import pytest

from fal_image.database.base import MAX_BODY_BYTES, MAX_MANY, Database, Document
from support.databases import Rig

T = TypeVar("T")

THREADS = 16
NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)
TOMORROW = NOON + timedelta(days=1)
JOB = "job:0123456789abcdefghijklmnop"
NEW: Mapping[str, object] = {"state": "new"}
COUNTER = "budget:2026-11-21:alice@example.com"

HOSTILE_IDS = [
    "",
    " ",
    "job 1",
    "job\n",
    "job\0",
    "job#1",
    "j'; DROP TABLE documents --",
    '{"$gt": ""}',
    "\N{CJK UNIFIED IDEOGRAPH-56FE}",
    "x" * 201,
]
HOSTILE_MARKS = ["", "a b", "a.b", "$set", "a\n", "a\0", "#n", "\N{CJK UNIFIED IDEOGRAPH-56FE}"]


def together(task: Callable[[int], T]) -> list[T]:
    """What `task` gives in each of the threads, in their order."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(task, range(THREADS)))


def found(database: Database, id: str = JOB) -> Document:
    document = database.get(id)
    assert document is not None
    return document


def create(
    database: Database,
    id: str = JOB,
    *,
    body: Mapping[str, object] = NEW,
    due_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> bool:
    return database.create(id, body, due_at=due_at, expires_at=expires_at)


def take(
    database: Database,
    key: str = "k1",
    amount: int = 10,
    limit: int = 100,
    *,
    counter: str = COUNTER,
    expires_at: datetime = TOMORROW,
) -> bool:
    return database.take(counter, key, amount, limit, expires_at=expires_at)


# Documents


def test_a_created_document_is_read_back(database: Database):
    assert create(database, body={"state": "new"}, due_at=NOON, expires_at=TOMORROW)

    assert database.get(JOB) == Document(JOB, {"state": "new"}, 1, NOON, TOMORROW, {})


def test_another_instance_reads_what_was_written(rig: Rig):
    rig.open().create(JOB, {"state": "new"})
    rig.open().mark(JOB, {"0": "done"})
    rig.open().take(COUNTER, "k1", 10, 100, expires_at=TOMORROW)

    assert found(rig.open()) == Document(JOB, {"state": "new"}, 1, marks={"0": "done"})
    assert rig.open().total(COUNTER) == 10


def test_a_second_create_changes_nothing(database: Database):
    create(database, body={"by": "first"}, due_at=NOON)
    database.mark(JOB, {"0": "done"})

    assert not create(database, body={"by": "second"}, expires_at=TOMORROW)
    assert found(database) == Document(JOB, {"by": "first"}, 1, NOON, None, {"0": "done"})
    assert database.due(NOON, 10) == [JOB]


def test_what_was_never_created_is_not_there(database: Database):
    create(database)

    assert database.get(JOB[:-1]) is None
    assert database.get(JOB.upper()) is None


def test_a_document_is_given_to_its_reader_alone(database: Database):
    body: dict[str, object] = {"images": ["a"]}
    create(database, body=body)
    body["images"] = "changed"
    found(database).body["images"] = "changed"

    assert found(database).body == {"images": ["a"]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"": "", " ": " "},
        {"prompt": "\N{CJK UNIFIED IDEOGRAPH-56FE} \N{ARTIST PALETTE} \0 \x1f \u2028 '\"\\"},
        {"\N{CJK UNIFIED IDEOGRAPH-56FE}.\N{ARTIST PALETTE}": 1, "$set": {"$a.b": 1}, "_id": 2},
        {"none": None, "yes": True, "no": False, "list": [], "object": {}, "text": ""},
        {"nested": {"list": [[1, [2, {"deep": [None, True]}]], {}]}},
        {"zero": 0, "minus": -1, "money": 2**53 - 1, "seed": 2**53 + 1, "more": 2**63 + 1},
        {"half": 0.5, "tenth": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308, "minus": -0.5},
        {"$date": 1, "$numberLong": "7", "$oid": "0123456789abcdef01234567"},
        {"S": "text", "N": "1", "M": {}, "NULL": True},
        {"time": "2026-11-21T12:00:00.000Z", "number": "7", "true": "true"},
    ],
)
def test_a_body_comes_back_as_it_was(database: Database, body: dict[str, object]):
    create(database, body=body)
    created = found(database)
    database.replace_if(JOB, 1, {"body": body})

    assert created.body == body
    assert json.dumps(created.body, sort_keys=True) == json.dumps(body, sort_keys=True), "types"
    assert found(database).body == {"body": body}


def test_numbers_keep_their_type(database: Database):
    create(database, body={"whole": 1, "float": 1.0, "true": True})

    assert repr(found(database).body) == "{'whole': 1, 'float': 1.0, 'true': True}"


@pytest.mark.parametrize("id", HOSTILE_IDS)
def test_an_id_that_some_database_would_refuse_is_refused(database: Database, id: str):
    with pytest.raises(ValueError, match="not a document's id"):
        create(database, id)
    with pytest.raises(ValueError, match="not a document's id"):
        take(database, counter=id)


def test_every_character_of_an_id_is_kept(database: Database):
    ids = ["A-b_c.d:e@f/g=h", "a-b_c.d:e@f/g=h", "x" * 200, "x" * 199, "."]

    assert [create(database, id, body={"id": id}) for id in ids] == [True] * len(ids)
    assert [(one.id, one.body) for one in database.get_many(ids)] == [
        (id, {"id": id}) for id in ids
    ]


def body_of(bytes: int) -> dict[str, object]:
    """A body whose JSON has this length; its characters are of three bytes each, but for a rest."""
    room = bytes - len('{"text":""}')
    return {"text": "\N{CJK UNIFIED IDEOGRAPH-56FE}" * (room // 3) + "x" * (room % 3)}


def test_the_largest_body_is_kept_with_its_marks(database: Database):
    body = body_of(MAX_BODY_BYTES)
    marks = {f"{row}": "f" * 200 for row in range(100)}
    create(database, "job:1", body=body)
    create(database, "job:2")

    assert database.replace_if("job:2", 1, body)
    assert database.mark("job:1", marks) == Document("job:1", body, 1, marks=marks)
    assert database.mark("job:2", marks) == Document("job:2", body, 2, marks=marks)


def test_a_larger_body_is_refused(database: Database):
    body = body_of(MAX_BODY_BYTES + 1)
    with pytest.raises(ValueError, match="300000"):
        create(database, body=body)
    create(database)
    with pytest.raises(ValueError, match="300000"):
        database.replace_if(JOB, 1, body)

    assert found(database) == Document(JOB, {"state": "new"})


def test_a_body_that_is_no_text_is_refused(database: Database):
    with pytest.raises(ValueError, match="surrogate"):
        create(database, body={"prompt": "half of a character: \ud83c"})

    assert database.get(JOB) is None


def test_documents_are_given_in_the_order_asked(database: Database):
    ids = [f"job:{number}" for number in (3, 1, 2)]
    for id in sorted(ids):
        create(database, id, body={"id": id})
    database.mark("job:1", {"0": "done"})

    assert database.get_many(["job:9", *ids, "job:0"]) == [
        Document(id, {"id": id}, marks={"0": "done"} if id == "job:1" else {}) for id in ids
    ]
    assert database.get_many(["job:9"]) == []
    assert database.get_many([]) == []


def test_a_document_asked_for_twice_is_given_twice(database: Database):
    create(database)

    assert [one.id for one in database.get_many([JOB, JOB])] == [JOB, JOB]


def test_a_hundred_large_documents_are_read_at_once(database: Database):
    ids = [f"job:{number}" for number in range(MAX_MANY)]
    body = body_of(200_000)  # 20 MB together, which no vendor gives in one answer
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda id: create(database, id, body=body), ids))

    assert [one.id for one in database.get_many(ids[::-1])] == ids[::-1]


# Compare and set


def test_a_replacement_is_the_next_version(database: Database):
    create(database)

    assert database.replace_if(JOB, 1, {"state": "submitting"}, due_at=NOON, expires_at=TOMORROW)
    assert database.get(JOB) == Document(JOB, {"state": "submitting"}, 2, NOON, TOMORROW)
    assert database.replace_if(JOB, 2, {"state": "submitted"})
    assert database.get(JOB) == Document(JOB, {"state": "submitted"}, 3)


def test_a_replacement_of_another_version_changes_nothing(database: Database):
    create(database, due_at=NOON)
    database.replace_if(JOB, 1, {"state": "submitting"}, due_at=NOON)
    before = found(database)

    for version in (0, 1, 3):
        assert not database.replace_if(JOB, version, {"state": "lost"}, expires_at=TOMORROW)
    assert found(database) == before


def test_a_replacement_of_nothing_creates_nothing(database: Database):
    for version in (0, 1):
        assert not database.replace_if(JOB, version, {"state": "lost"}, due_at=NOON)

    assert database.get(JOB) is None
    assert database.due(NOON, 10) == []


def test_a_replacement_puts_both_times(database: Database):
    create(database, due_at=NOON, expires_at=TOMORROW)
    database.replace_if(JOB, 1, {}, due_at=NOON + MINUTE)

    assert found(database).due_at == NOON + MINUTE
    assert found(database).expires_at is None


def test_times_come_back_to_the_millisecond_in_utc(database: Database):
    at = datetime(2026, 11, 21, 23, 59, 59, 999_000, tzinfo=timezone.utc)
    create(database, due_at=at, expires_at=at + MILLISECOND)
    document = found(database)

    assert (document.due_at, document.expires_at) == (at, at + MILLISECOND)
    assert document.due_at is not None
    assert document.due_at.utcoffset() == timedelta(0)


def test_of_many_creators_one_is_first(rig: Rig):
    database = rig.open()

    won = together(lambda number: create(database, body={"by": number}))

    assert won.count(True) == 1
    assert found(rig.open()).body == {"by": won.index(True)}


def test_no_increment_of_many_threads_is_lost(rig: Rig):
    databases = [rig.open(), rig.open()]
    databases[0].create(JOB, {"count": 0})

    def increment(number: int) -> None:
        database = databases[number % 2]
        while True:
            document = found(database)
            count = document.body["count"]
            assert isinstance(count, int)
            if database.replace_if(JOB, document.version, {"count": count + 1}):
                return

    together(increment)

    assert found(rig.open()) == Document(JOB, {"count": THREADS}, THREADS + 1)


def test_of_many_replacements_of_one_version_one_wins(database: Database):
    create(database)

    won = together(lambda number: database.replace_if(JOB, 1, {"by": number}))

    assert won.count(True) == 1
    assert found(database) == Document(JOB, {"by": won.index(True)}, 2)


# Marks


def test_a_mark_gives_the_document_with_all_its_marks(database: Database):
    create(database, due_at=NOON, expires_at=TOMORROW)
    document = Document(JOB, {"state": "new"}, 1, NOON, TOMORROW)

    assert database.mark(JOB, {}) == document
    first = database.mark(JOB, {"7": "done", "8": "failed"})
    assert first == Document(JOB, document.body, 1, NOON, TOMORROW, {"7": "done", "8": "failed"})
    second = database.mark(JOB, {"8": "done", "a_B-9": ""})
    assert second is not None
    assert second.marks == {"7": "done", "8": "done", "a_B-9": ""}
    assert found(database) == second
    assert database.get_many([JOB]) == [second]


def test_a_mark_set_again_changes_nothing(database: Database):
    create(database)

    assert database.mark(JOB, {"0": "done"}) == database.mark(JOB, {"0": "done"})


def test_a_mark_on_nothing_creates_nothing(database: Database):
    assert database.mark(JOB, {"0": "done"}) is None
    assert database.mark(JOB, {}) is None
    assert database.get(JOB) is None
    assert create(database)
    assert found(database).marks == {}


def test_marks_stay_when_the_body_is_replaced(database: Database):
    create(database)
    database.mark(JOB, {"0": "done"})

    assert database.replace_if(JOB, 1, {"state": "running"}), "a mark must not count as a version"
    assert found(database) == Document(JOB, {"state": "running"}, 2, marks={"0": "done"})


def test_a_mark_leaves_the_times_alone(database: Database):
    create(database, due_at=NOON, expires_at=TOMORROW)
    database.mark(JOB, {"0": "done"})

    assert database.due(NOON, 10) == [JOB]
    assert found(database).expires_at == TOMORROW


def test_the_text_of_a_mark_comes_back_as_it_was(database: Database):
    create(database)
    text = '\N{CJK UNIFIED IDEOGRAPH-56FE} \N{ARTIST PALETTE} \'"\\ {"$set": 1} \n\0.'
    database.mark(JOB, {"0": text, "1": "null", "2": "7"})

    assert found(database).marks == {"0": text, "1": "null", "2": "7"}


@pytest.mark.parametrize("name", [*HOSTILE_MARKS, "x" * 65])
def test_a_marks_name_that_some_database_would_refuse_is_refused(database: Database, name: str):
    create(database)
    with pytest.raises(ValueError, match="not a mark's name"):
        database.mark(JOB, {"0": "done", name: "done"})

    assert found(database).marks == {}


def test_the_longest_name_of_a_mark_is_kept(database: Database):
    create(database)
    name = "x" * 64

    assert database.mark(JOB, {name: "done"}) == Document(
        JOB, {"state": "new"}, marks={name: "done"}
    )


def test_no_mark_of_many_threads_is_lost(rig: Rig):
    databases = [rig.open(), rig.open()]
    create(databases[0])

    seen = together(lambda number: databases[number % 2].mark(JOB, {f"{number}": "done"}))

    counts = sorted(len(document.marks) for document in seen if document is not None)
    assert counts == list(range(1, THREADS + 1)), "each must see all marks before its own"
    assert found(rig.open()).marks == {f"{number}": "done" for number in range(THREADS)}


def test_marks_and_replacements_do_not_disturb_each_other(database: Database):
    create(database, body={"version": 1})

    def change(number: int) -> None:
        if number % 4:
            database.mark(JOB, {f"{number}": "done"})
            return
        while not database.replace_if(JOB, (version := found(database).version), {"was": version}):
            pass

    together(change)

    assert found(database) == Document(
        JOB,
        {"was": THREADS // 4},
        THREADS // 4 + 1,
        marks={f"{number}": "done" for number in range(THREADS) if number % 4},
    )


# What is due


def test_documents_are_due_from_their_time_on(database: Database):
    create(database, due_at=NOON)

    assert database.due(NOON - MILLISECOND, 10) == []
    assert database.due(NOON, 10) == [JOB]
    assert database.due(TOMORROW, 10) == [JOB]


def test_the_longest_due_come_first(database: Database):
    for number in (5, 3, 8, 1, 9, 2):
        create(database, f"job:{number}", due_at=NOON + number * MILLISECOND)
    create(database, "job:never")

    now = NOON + 8 * MILLISECOND
    assert database.due(now, 10) == ["job:1", "job:2", "job:3", "job:5", "job:8"]
    assert database.due(now, 2) == ["job:1", "job:2"]
    assert database.due(now, 1) == ["job:1"]


def test_of_many_due_no_more_are_given_than_asked(database: Database):
    ids = [f"job:{number:03}" for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda id: create(database, id, due_at=NOON + int(id[4:]) * MINUTE), ids))

    assert database.due(TOMORROW, 25) == ids[:25]
    assert database.due(TOMORROW, 100) == ids


def test_a_document_without_a_time_is_not_due(database: Database):
    create(database, "job:1", due_at=NOON)
    create(database, "job:2")
    create(database, "job:3", expires_at=NOON)
    database.replace_if("job:1", 1, {})
    database.replace_if("job:2", 1, {}, due_at=NOON)

    assert database.due(TOMORROW, 10) == ["job:2"]


def test_a_document_put_off_is_due_later(database: Database):
    create(database, "job:1", due_at=NOON)
    create(database, "job:2", due_at=NOON + MINUTE)
    database.replace_if("job:1", 1, {}, due_at=NOON + 2 * MINUTE)

    assert database.due(NOON + MINUTE, 10) == ["job:2"]
    assert database.due(NOON + 2 * MINUTE, 10) == ["job:2", "job:1"]


def test_a_counter_is_never_due(database: Database):
    take(database, expires_at=NOON)

    assert database.due(TOMORROW, 10) == []


# Counters


def test_a_counter_that_was_never_made_holds_nothing(database: Database):
    assert database.total(COUNTER) == 0


def test_a_counter_takes_what_there_is_room_for(database: Database):
    assert take(database, "k1", 60, 100)
    assert not take(database, "k2", 41, 100)
    assert database.total(COUNTER) == 60
    assert take(database, "k2", 40, 100), "exactly what is left"
    assert database.total(COUNTER) == 100
    assert not take(database, "k3", 1, 100)
    assert database.total(COUNTER) == 100


def test_a_first_amount_above_the_limit_is_refused(database: Database):
    assert not take(database, "k1", 101, 100)
    assert database.total(COUNTER) == 0
    assert take(database, "k1", 100, 100)


def test_what_costs_nothing_is_taken_up_to_the_limit(database: Database):
    assert take(database, "free", 0, 0)
    assert take(database, "k1", 100, 100)
    assert take(database, "k2", 0, 100)
    assert not take(database, "k3", 0, 99), "the limit was lowered"
    assert database.total(COUNTER) == 100


def test_a_limit_holds_for_the_call_that_names_it(database: Database):
    take(database, "k1", 100, 100)

    assert not take(database, "k2", 10, 100)
    assert take(database, "k2", 10, 110)


def test_money_is_counted_to_its_last_millionth(database: Database):
    budget = 1_000_000 * 1_000_000  # a million dollars

    assert take(database, "k1", budget - 1, budget)
    assert not take(database, "k2", 2, budget)
    assert take(database, "k2", 1, budget)
    assert database.total(COUNTER) == budget


def test_a_key_is_counted_once_while_it_is_open(database: Database):
    take(database, "k1", 60, 100)

    assert take(database, "k1", 60, 100)
    assert take(database, "k1", 99, 100), "whatever is asked"
    assert take(database, "k1", 60, 10), "whatever the limit is now"
    assert database.total(COUNTER) == 60
    database.settle(COUNTER, "k1", reserved=60, actual=60)
    assert database.total(COUNTER) == 60


def test_counters_and_keys_do_not_know_each_other(database: Database):
    for counter in ("a", "a:b", "A", "a/b@c.d=e_f-g"):
        for key in ("a", "A", "a.b", "a:b", "a/b@c.d=e_f-g"):
            assert take(database, key, 10, 50, counter=counter)
        assert not take(database, "one more", 10, 50, counter=counter)
        database.settle(counter, "a.b", reserved=10, actual=3)

        assert database.total(counter) == 43


def test_counters_and_documents_do_not_know_each_other(database: Database):
    create(database, "same")
    assert take(database, counter="same")

    assert found(database, "same") == Document("same", {"state": "new"})
    assert database.get("same") is not None
    assert database.total("same") == 10
    create(database, "document")
    take(database, counter="counter")
    assert database.total("document") == 0
    assert database.get("counter") is None
    assert create(database, "counter")


@pytest.mark.parametrize("actual", [0, 1, 59, 60, 61, 250])
def test_what_was_really_spent_is_put_in_place_of_what_was_reserved(
    database: Database, actual: int
):
    take(database, "k1", 60, 100)
    take(database, "k2", 10, 100)
    database.settle(COUNTER, "k1", reserved=60, actual=actual)

    assert database.total(COUNTER) == 10 + actual
    assert take(database, "k3", 30, 100) is (actual <= 60)


def test_a_key_is_settled_once(database: Database):
    take(database, "k1", 60, 100)
    for _ in range(3):
        database.settle(COUNTER, "k1", reserved=60, actual=20)

    assert database.total(COUNTER) == 20


def test_settling_what_is_not_open_does_nothing(database: Database):
    database.settle(COUNTER, "k1", reserved=60, actual=20)
    assert database.total(COUNTER) == 0
    take(database, "k1", 60, 100)
    database.settle(COUNTER, "k2", reserved=60, actual=20)
    database.settle(COUNTER, "k", reserved=60, actual=20)
    database.settle("another", "k1", reserved=60, actual=20)

    assert database.total(COUNTER) == 60
    assert database.total("another") == 0
    assert take(database, "k1", 60, 100), "still open"
    assert database.total(COUNTER) == 60


def test_a_settled_key_may_be_taken_again_and_counts_anew(database: Database):
    take(database, "k1", 60, 100)
    database.settle(COUNTER, "k1", reserved=60, actual=20)

    assert not take(database, "k1", 81, 100)
    assert take(database, "k1", 80, 100)
    assert database.total(COUNTER) == 100
    database.settle(COUNTER, "k1", reserved=80, actual=0)
    assert database.total(COUNTER) == 20


def test_a_refused_key_is_not_open(database: Database):
    take(database, "k1", 60, 100)
    take(database, "k2", 60, 100)
    database.settle(COUNTER, "k2", reserved=60, actual=0)

    assert database.total(COUNTER) == 60
    assert not take(database, "k2", 60, 100)


def test_many_threads_never_pass_the_limit(rig: Rig):
    databases = [rig.open(), rig.open()]
    limit, amount = 100, 9

    won = together(lambda number: take(databases[number % 2], f"k{number}", amount, limit))

    assert won.count(True) == limit // amount
    assert rig.open().total(COUNTER) == amount * (limit // amount)


def test_a_key_that_many_threads_take_and_settle_is_counted_once(rig: Rig):
    databases = [rig.open(), rig.open()]

    assert together(lambda number: take(databases[number % 2], "k1", 60, 100)) == [True] * THREADS
    assert rig.open().total(COUNTER) == 60

    together(lambda number: databases[number % 2].settle(COUNTER, "k1", reserved=60, actual=7))
    assert rig.open().total(COUNTER) == 7


def test_takes_and_settlements_of_many_threads_add_up(database: Database):
    def spend(number: int) -> None:
        assert take(database, f"k{number}", 10, 1000)
        database.settle(COUNTER, f"k{number}", reserved=10, actual=number)

    together(spend)

    assert database.total(COUNTER) == sum(range(THREADS))


def test_a_counter_has_room_for_many_open_keys(database: Database):
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda number: take(database, f"k{number}", 1, 100), range(101)))

    assert taken.count(True) == 100
    assert database.total(COUNTER) == 100


# Cleaning up


def test_what_is_past_its_time_is_purged(database: Database):
    create(database, "job:old", expires_at=NOON - MINUTE, due_at=NOON)
    create(database, "job:new", expires_at=NOON + MINUTE)
    create(database, "job:kept", due_at=NOON)
    database.mark("job:old", {"0": "done"})
    take(database, counter="old", expires_at=NOON - MINUTE)
    take(database, counter="new", expires_at=NOON + MINUTE)

    assert database.purge(NOON, 10) == 2
    assert database.purge(NOON, 10) == 0
    kept = database.get_many(["job:old", "job:new", "job:kept"])
    assert [one.id for one in kept] == ["job:new", "job:kept"]
    assert (database.total("old"), database.total("new")) == (0, 10)
    assert database.due(NOON, 10) == ["job:kept"]


def test_a_purged_name_starts_anew(database: Database):
    create(database, expires_at=NOON - MINUTE)
    database.mark(JOB, {"0": "done"})
    take(database, "k1", 60, 100, expires_at=NOON - MINUTE)
    database.purge(NOON, 10)

    assert not database.replace_if(JOB, 1, {})
    assert database.mark(JOB, {"1": "done"}) is None
    assert create(database, body={"again": True})
    assert found(database) == Document(JOB, {"again": True})
    assert take(database, "k1", 100, 100)
    assert database.total(COUNTER) == 100


def test_no_more_is_purged_than_asked(database: Database):
    for number in range(5):
        create(database, f"job:{number}", expires_at=NOON - MINUTE)
        take(database, counter=f"counter:{number}", expires_at=NOON - MINUTE)

    counts = [database.purge(NOON, 4) for _ in range(4)]

    assert counts == [4, 4, 2, 0]


def test_a_document_that_lost_its_time_is_kept(database: Database):
    create(database, expires_at=NOON - MINUTE)
    database.replace_if(JOB, 1, {"kept": True})

    assert database.purge(TOMORROW, 10) == 0
    assert found(database).body == {"kept": True}

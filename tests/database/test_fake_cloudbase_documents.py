"""The fake refuses what CloudBase's gateway and its document database refuse."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from support.fake_cloudbase_documents import (
    API,
    FakeCloudbaseDocuments,
    Long,
    Mishap,
    failure,
    lost,
)

DOCUMENTS = f"{API}/collections/jobs/documents"
THREADS = 16


@dataclass(frozen=True)
class Answer:
    status: int
    said: Any

    @property
    def code(self) -> str:
        return str(self.said["code"])


@pytest.fixture
def fake() -> Iterator[FakeCloudbaseDocuments]:
    fake = FakeCloudbaseDocuments()
    with fake.serving():
        yield fake


def ask(
    fake: FakeCloudbaseDocuments,
    method: str,
    path: str = DOCUMENTS,
    body: object = None,
    *,
    authorization: str | None = None,
    content_type: str = "application/json",
) -> Answer:
    headers = {"authorization": authorization or f"Bearer {fake.api_key}"}
    content = None if body is None else json.dumps(body).encode()
    if content is not None:
        headers["content-type"] = content_type
    url = fake.where(f"https://{fake.gateway_host}{path}")
    request = urllib.request.Request(url, content, headers, method=method)
    client = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with client.open(request) as answer:
            return Answer(answer.status, json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, json.load(error))


def insert(fake: FakeCloudbaseDocuments, *documents: object) -> Answer:
    return ask(fake, "POST", body={"data": documents})


def update(fake: FakeCloudbaseDocuments, query: object, data: object, **more: object) -> Answer:
    return ask(fake, "PATCH", body={"query": query, "data": data, **more})


def find(fake: FakeCloudbaseDocuments, **asked: object) -> Answer:
    return ask(
        fake, "GET", f"{DOCUMENTS}?{urlencode({n: json.dumps(v) for n, v in asked.items()})}"
    )


def ids(answer: Answer) -> list[str]:
    return [one["_id"] for one in answer.said["list"]]


def test_what_is_inserted_is_found(fake: FakeCloudbaseDocuments):
    inserted = insert(fake, {"_id": "a", "name": "John", "age": 30}, {"_id": "b"})

    assert (inserted.status, inserted.said) == (201, {"insertedIds": ["a", "b"]})
    assert find(fake, query={"_id": "a"}).said == {
        "offset": 0,
        "limit": 20,
        "list": [{"_id": "a", "name": "John", "age": {"$numberInt": "30"}}],
    }


def test_a_key_with_one_flipped_byte_is_refused(fake: FakeCloudbaseDocuments):
    for at in range(len(fake.api_key)):
        wrong = fake.api_key[:at] + chr(ord(fake.api_key[at]) ^ 1) + fake.api_key[at + 1 :]
        assert ask(fake, "GET", authorization=f"Bearer {wrong}").status == 401
    assert ask(fake, "GET", authorization=fake.api_key).status == 401
    assert fake.done == []


@pytest.mark.parametrize(
    "path",
    [
        DOCUMENTS.replace("(", "%28").replace(")", "%29"),
        DOCUMENTS.replace("(default)", "default"),
        DOCUMENTS.replace("/v1/", "/v2/"),
        f"{DOCUMENTS}/a/b",
        f"{API}/commands",
    ],
)
def test_another_path_is_refused(fake: FakeCloudbaseDocuments, path: str):
    assert ask(fake, "GET", path).status == 404


def test_a_collection_is_not_made_by_itself(fake: FakeCloudbaseDocuments):
    answer = ask(fake, "POST", f"{API}/collections/other/documents", {"data": [{"_id": "a"}]})

    assert (answer.status, answer.code) == (404, "DATABASE_COLLECTION_NOT_EXIST")
    assert list(fake.collections) == ["jobs"]


def test_a_taken_id_is_a_duplicate(fake: FakeCloudbaseDocuments):
    insert(fake, {"_id": "a", "by": "first"})
    second = insert(fake, {"_id": "a", "by": "second"})

    assert (second.status, second.code) == (409, "DATABASE_DUPLICATE_WRITE")
    assert fake.collections["jobs"]["a"]["by"] == "first"


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"data": []},
        {"data": {"_id": "a"}},
        {"data": ["a"]},
        {"data": [{"_id": "a", "$set": 1}]},
        {"data": [{"_id": "a", "b": {"c.d": 1}}]},
        {"data": [{"_id": "a", "n": {"$numberLong": 5}}]},
        {"data": [{"_id": "a", "n": {"$numberInt": str(2**31)}}]},
        {"data": [{"_id": "a", "n": 2**63}]},
        {"data": [{"_id": "a"}], "upsert": True},
    ],
)
def test_an_insert_it_cannot_read_is_refused(fake: FakeCloudbaseDocuments, body: object):
    answer = ask(fake, "POST", body=body)

    assert (answer.status, answer.code) == (400, "INVALID_PARAM")
    assert fake.collections["jobs"] == {}


def test_a_body_of_another_type_is_refused(fake: FakeCloudbaseDocuments):
    body = {"data": [{"_id": "a"}]}

    assert ask(fake, "POST", body=body, content_type="text/plain").code == "INVALID_PARAM"


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (5, {"$numberInt": "5"}),
        (2**31, {"$numberLong": "2147483648"}),
        ({"$numberInt": "5"}, {"$numberInt": "5"}),
        ({"$numberLong": "5"}, {"$numberLong": "5"}),
        (0.5, {"$numberDouble": "0.5"}),
        ({"$numberDouble": "2"}, {"$numberDouble": "2.0"}),
        (True, True),
        (None, None),
        ("\N{SNOWMAN}\0", "\N{SNOWMAN}\0"),
        ([1, {"a": "b"}], [{"$numberInt": "1"}, {"a": "b"}]),
    ],
)
def test_answers_are_strict_extended_json(
    fake: FakeCloudbaseDocuments, sent: object, found: object
):
    insert(fake, {"_id": "a", "value": sent})

    assert find(fake).said["list"] == [{"_id": "a", "value": found}]


def test_an_update_changes_what_its_query_finds(fake: FakeCloudbaseDocuments):
    insert(fake, {"_id": "a", "rev": 3, "open": {"x": 1, "y": 2}, "old": 1})
    query = {"_id": "a", "rev": 3, "open.x": {"$exists": True}, "open.z": {"$exists": False}}
    data = {
        "$set": {"state": "done", "marks.k": "v"},
        "$inc": {"rev": 1, "n": {"$numberLong": "5"}},
        "$unset": {"open.x": "", "old": "", "gone.too": ""},
    }

    assert update(fake, query, data).said == {"updated": 1, "matched": 1, "upsert_id": ""}
    assert update(fake, query, data).said == {"updated": 0, "matched": 0, "upsert_id": ""}
    stored = fake.collections["jobs"]["a"]
    assert stored == {
        "_id": "a",
        "rev": 4,
        "open": {"y": 2},
        "state": "done",
        "marks": {"k": "v"},
        "n": 5,
        "gone": {},
    }
    assert isinstance(stored["n"], Long)


def test_an_update_without_operators_sets_its_fields(fake: FakeCloudbaseDocuments):
    insert(fake, {"_id": "a", "kept": 1})
    update(fake, {"_id": "a"}, {"state": "done"})

    assert fake.collections["jobs"]["a"] == {"_id": "a", "kept": 1, "state": "done"}


def test_an_update_to_the_same_updates_nothing(fake: FakeCloudbaseDocuments):
    insert(fake, {"_id": "a", "state": "done"})

    assert update(fake, {"_id": "a"}, {"$set": {"state": "done"}}).said["updated"] == 0
    assert update(fake, {"_id": "a"}, {"$set": {"state": "done"}}).said["matched"] == 1


def test_an_update_changes_one_document_unless_it_says_many(fake: FakeCloudbaseDocuments):
    insert(fake, {"_id": "a", "n": 1}, {"_id": "b", "n": 1})

    assert update(fake, {"n": 1}, {"m": 1}, multi=False).said["updated"] == 1
    assert update(fake, {"n": 1}, {"m": 2}, multi=True).said["updated"] == 2


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ({}, {"$set": {"n": 1}}),
        (None, {"$set": {"n": 1}}),
        ({"_id": "a"}, {}),
        ({"_id": "a"}, None),
        ({"_id": "a"}, {"$set": {}}),
        ({"_id": "a"}, {"$set": {"n": 1}, "m": 1}),
        ({"_id": "a"}, {"$set": {"_id": "b"}}),
        ({"_id": "a"}, {"$set": {"_openid": "b"}}),
        ({"_id": "a"}, {"$set": {"marks.": 1}}),
        ({"_id": "a"}, {"$set": {"marks.$x": 1}}),
        ({"_id": "a"}, {"$set": {"n": 1}, "$inc": {"n": 1}}),
        ({"_id": "a"}, {"$set": {"m": {}}, "$unset": {"m.n": ""}}),
        ({"_id": "a"}, {"$inc": {"text": 1}}),
        ({"_id": "a"}, {"$inc": {"n": "1"}}),
        ({"_id": "a"}, {"$set": {"text.n": 1}}),
        ({"_id": "a"}, {"$push": {"n": 1}}),
        ({"_id": "a", "n": {"$gte": 1}}, {"$set": {"n": 1}}),
        ({"_id": "a", "n": {"$lte": "1"}}, {"$set": {"n": 1}}),
        ({"_id": "a", "$or": []}, {"$set": {"n": 1}}),
    ],
)
def test_an_update_it_cannot_do_is_refused(
    fake: FakeCloudbaseDocuments, query: object, data: object
):
    insert(fake, {"_id": "a", "n": 1, "text": "t"})
    answer = update(fake, query, data)

    assert (answer.status, answer.code) == (400, "INVALID_PARAM")
    assert fake.collections["jobs"] == {"a": {"_id": "a", "n": 1, "text": "t"}}


@pytest.mark.parametrize("more", ["upsert", "replaceMode", "transactionId"])
def test_what_is_not_imitated_is_refused(fake: FakeCloudbaseDocuments, more: str):
    assert update(fake, {"_id": "a"}, {"$set": {"n": 1}}, **{more: True}).status == 400


def test_of_many_updates_of_one_version_one_wins(fake: FakeCloudbaseDocuments):
    insert(fake, {"_id": "a", "version": 1})

    def race(number: int) -> int:
        data = {"$set": {"by": number}, "$inc": {"version": 1}}
        return int(update(fake, {"_id": "a", "version": 1}, data).said["updated"])

    with ThreadPoolExecutor(THREADS) as pool:
        won = list(pool.map(race, range(THREADS)))

    assert sorted(won) == [0] * (THREADS - 1) + [1]
    assert fake.collections["jobs"]["a"] == {"_id": "a", "version": 2, "by": won.index(1)}


def test_one_document_is_updated_by_its_id_and_given_back(fake: FakeCloudbaseDocuments):
    insert(fake, {"_id": "d:job@1=x", "n": 1})
    path = f"{DOCUMENTS}/d:job@1=x"

    answer = ask(fake, "PATCH", path, {"data": {"$inc": {"n": 1}}, "returnDoc": True})
    assert answer.said["doc"] == {"_id": "d:job@1=x", "n": {"$numberInt": "2"}}
    assert "doc" not in ask(fake, "PATCH", path, {"data": {"$inc": {"n": 1}}}).said
    assert ask(fake, "PATCH", f"{DOCUMENTS}/none", {"data": {"n": 1}}).code == "DOCUMENT_NOT_FOUND"


def test_a_path_of_24_hexadecimal_digits_is_an_object_id(fake: FakeCloudbaseDocuments):
    insert(fake, {"_id": "0123456789abcdef01234567"})

    assert (
        ask(fake, "PATCH", f"{DOCUMENTS}/0123456789abcdef01234567", {"data": {"n": 1}}).status
        == 404
    )


def test_finding_orders_cuts_and_chooses_fields(fake: FakeCloudbaseDocuments):
    insert(fake, *({"_id": f"{n}", "at": -n, "other": 1} for n in range(25)))
    ascending = [{"field": "at", "direction": "asc"}]

    assert len(ids(find(fake))) == 20
    assert ids(find(fake, order=ascending, limit=2)) == ["24", "23"]
    assert ids(find(fake, order=ascending, limit=2, offset=1)) == ["23", "22"]
    assert find(fake, query={"at": {"$lte": -24}}, projection={"at": 1}).said["list"] == [
        {"_id": "24", "at": {"$numberInt": "-24"}}
    ]
    assert ids(find(fake, query={"_id": {"$in": ["3", "99", "5"]}})) == ["3", "5"]
    assert find(fake, query={"at": {"$lte": -20}}, count=True).said == {"total": 5}


@pytest.mark.parametrize(
    "asked",
    [
        {"query": "text"},
        {"query": {"$where": "1"}},
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"order": [{"at": 1}]},
        {"projection": {"at": 0}},
        {"sort": {"at": 1}},
    ],
)
def test_a_question_it_cannot_answer_is_refused(
    fake: FakeCloudbaseDocuments, asked: dict[str, object]
):
    insert(fake, {"_id": "a"})

    assert find(fake, **asked).code == "INVALID_PARAM"


def test_removing_takes_a_query_and_says_how_many(fake: FakeCloudbaseDocuments):
    insert(fake, *({"_id": f"{n}", "n": n} for n in range(5)))
    path, few = f"{DOCUMENTS}/remove", {"n": {"$lte": 3}}

    assert ask(fake, "POST", path, {"query": few}).said == {"deleted": 1}
    assert ask(fake, "POST", path, {"query": few, "multi": True}).said == {"deleted": 3}
    assert ask(fake, "POST", path, {"query": {}, "multi": True}).code == "INVALID_PARAM"
    assert list(fake.collections["jobs"]) == ["4"]


def test_a_lost_answer_is_one_to_something_done(fake: FakeCloudbaseDocuments):
    fake.mishaps["insert"] = [lost]

    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        insert(fake, {"_id": "a"})
    assert list(fake.collections["jobs"]) == ["a"]


@pytest.mark.parametrize(
    ("mishap", "status"),
    [
        (failure("DATABASE_REQUEST_FAILED"), 500),
        (failure("DATABASE_TRANSACTION_CONFLICT"), 503),
        (failure("EXCEED_CONCURRENT_REQUEST_LIMIT"), 422),
    ],
)
def test_an_answer_instead_is_one_to_something_not_done(
    fake: FakeCloudbaseDocuments, mishap: Mishap, status: int
):
    fake.mishaps["insert"] = [mishap]

    assert insert(fake, {"_id": "a"}).status == status
    assert fake.collections["jobs"] == {}
    assert insert(fake, {"_id": "a"}).status == 201

"""Where fal's id of a request leads, and how often the database is asked for it."""

from datetime import datetime, timedelta, timezone

from fal_image.database.memory import MemoryDatabase
from fal_image.proxy.ties import MAX_KNOWN, Tie, Ties

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
BODY = {"jobId": "j", "caller": "ana", "model": "fal-ai/flux/schnell"}
TIE = Tie("j", "ana", "fal-ai/flux/schnell")


class Counting(MemoryDatabase):
    gets = 0

    def get(self, id):
        self.gets += 1
        return super().get(id)


def ties(database: Counting, *, now=lambda: NOON) -> Ties:
    return Ties(lambda: database, now, lambda seconds: None, timedelta(days=1))


def test_the_database_is_asked_for_a_request_once():
    database = Counting()
    database.create("fal:r", BODY, expires_at=NOON + timedelta(days=1))
    found = ties(database)
    assert [found.find("r") for _ in range(3)] == [TIE] * 3
    assert database.gets == 1


def test_a_request_that_is_not_there_yet_is_looked_for_again():
    database = Counting()
    found = ties(database)
    assert found.find("r") is None
    database.create("fal:r", BODY, expires_at=NOON + timedelta(days=1))
    assert found.find("r") == TIE


def test_a_request_is_forgotten_when_its_time_is_over():
    database, clock = Counting(), [NOON]
    database.create("fal:r", BODY, expires_at=NOON + timedelta(days=1))
    found = ties(database, now=lambda: clock[0])
    assert found.find("r") == TIE
    clock[0] += timedelta(days=1)
    assert found.find("r") is None


def test_of_many_requests_the_last_are_known():
    database = Counting()
    for number in range(MAX_KNOWN + 1):
        database.create(f"fal:{number}", BODY, expires_at=NOON + timedelta(days=1))
    found = ties(database)
    for number in range(MAX_KNOWN + 1):
        found.find(str(number))
    before = database.gets
    found.find(str(MAX_KNOWN))
    assert database.gets == before
    found.find("0")
    assert database.gets == before + 1

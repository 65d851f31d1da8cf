"""How many requests a window takes, and what the headers say of it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest

from fal_image.access import Caller
from fal_image.database.base import Database
from fal_image.database.memory import MemoryDatabase
from fal_image.errors import DatabaseUnavailable, RateLimited
from fal_image.rates import KEPT, Rates
from fal_image.tickets import Ticket
from support.breakable import breakable_database

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
WEB = Caller("web")


@dataclass
class House:
    limit: int = 60
    window_s: int = 60
    is_shared: bool = True
    at: datetime = NOON
    database: Any = field(default_factory=MemoryDatabase)
    ids: Any = field(default_factory=lambda: map(str, count()))

    def admit(self, caller: Caller = WEB, request_id: str | None = None) -> dict[str, str]:
        rates = Rates(self._opened, self.limit, self.window_s, self.is_shared, lambda: self.at)
        return dict(rates.admit(caller, request_id or next(self.ids)))

    def _opened(self) -> Database:
        database: Database = self.database
        return database

    def refusal(self, caller: Caller = WEB) -> dict[str, str]:
        with pytest.raises(RateLimited) as refused:
            self.admit(caller)
        return dict(refused.value.headers)


def holder(id: str, user: str | None = None) -> Caller:
    ticket = Ticket(id, "web", 2**40, user=user)
    return Caller(ticket.holder, ticket)


def test_sixty_pass_and_the_next_is_told_to_wait():
    house = House(at=NOON + timedelta(seconds=12.3))
    told = [house.admit() for _ in range(60)]
    assert {one["ratelimit-policy"] for one in told} == {'"caller";q=60;w=60'}
    assert [one["ratelimit"] for one in told] == [
        f'"caller";r={left};t=48' for left in range(59, -1, -1)
    ]
    assert house.refusal() == {
        "ratelimit-policy": '"caller";q=60;w=60',
        "ratelimit": '"caller";r=0;t=48',
        "retry-after": "48",
    }


def test_who_waits_as_long_as_it_was_told_gets_in():
    for seconds in (0.0, 0.4, 12.3, 59.0, 59.9):
        house = House(limit=1, at=NOON + timedelta(seconds=seconds))
        house.admit()
        house.at += timedelta(seconds=int(house.refusal()["retry-after"]))
        house.admit()


@pytest.mark.parametrize("window_s", [1, 60, 3600])
def test_a_window_ends_on_the_clock(window_s: int):
    house = House(limit=1, window_s=window_s, at=NOON - timedelta(seconds=0.5))
    house.admit()
    house.refusal()
    house.at = NOON
    house.admit()
    house.refusal()


def test_a_request_that_is_counted_again_counts_once():
    house = House(limit=2)
    for _ in range(3):
        house.admit(request_id="r-1")
    house.admit(request_id="r-2")
    house.refusal()


def test_callers_and_tickets_are_counted_apart():
    house = House(limit=1)
    for caller in (WEB, Caller("other"), holder("t-1"), holder("t-2"), holder("t-3", "ann")):
        house.admit(caller)
        house.refusal(caller)


def test_a_count_of_one_instance_says_so_and_does_not_grow_for_ever():
    house = House(limit=2, is_shared=False)
    assert house.admit()["ratelimit-policy"] == '"caller-and-instance";q=2;w=60'
    for _ in range(300):
        house.at += timedelta(minutes=1)
        house.admit()
    kept = house.database.purge(house.at + timedelta(days=1), 1000)
    assert kept <= KEPT / timedelta(minutes=1) + 2


def test_a_count_of_all_instances_is_left_to_the_sweep():
    house = House()
    house.admit()
    house.at += timedelta(days=1)
    house.admit()
    assert house.database.purge(house.at, 99) == 1


def test_without_its_database_nobody_is_let_in():
    database = breakable_database()
    database.around(MemoryDatabase())
    database.is_broken = True
    with pytest.raises(DatabaseUnavailable):
        House(database=database).admit()

"""Putting aside before it is spent: several caps at once, and what becomes of it afterwards."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fal_image.database.memory import MemoryDatabase
from fal_image.errors import BudgetExceeded, DatabaseUnavailable
from fal_image.jobs import Reservation
from fal_image.ledger import COUNTER_LIFE, Budgets, Ledger, Worst
from fal_image.tickets import Ticket
from support.breakable import breakable_database
from support.effects import CountedDatabase, Crash, Effects
from support.values import replace

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
MIDNIGHT = "2026-11-22T00:00:00.000Z"
SPENT, TOTAL = "spent:web:2026-11-21", "total:2026-11-21"
USD, IMAGES, USES = "ticket:t-1:usd_micro", "ticket:t-1:images", "ticket:t-1:uses"
ALL = (SPENT, TOTAL, USD, IMAGES, USES)
CAT = Worst(3000, 2)


def a_ticket(**limits: Any) -> Ticket:
    ends_at = int((NOON + timedelta(hours=1)).timestamp())
    return Ticket("t-1", "web", ends_at, **limits)


@dataclass
class House:
    """A ledger on a database in memory. `at` is when it is."""

    daily: int | None = None
    total_daily: int | None = None
    unknown_price: int | None = None
    at: datetime = NOON
    database: MemoryDatabase = field(default_factory=MemoryDatabase)

    def ledger(self, database: Any = None) -> Ledger:
        budgets = Budgets(self.daily, self.total_daily, self.unknown_price)
        return Ledger(lambda: database or self.database, budgets, lambda: self.at)

    def reserve(
        self, job_id: str = "j-1", worst: Worst = CAT, ticket: Ticket | None = None
    ) -> tuple[Reservation, ...]:
        return self.ledger().reserve("web", job_id, worst, ticket)

    def refusal(
        self, job_id: str = "j-2", worst: Worst = CAT, ticket: Ticket | None = None
    ) -> BudgetExceeded:
        with pytest.raises(BudgetExceeded) as refused:
            self.reserve(job_id, worst, ticket)
        return refused.value

    def totals(self) -> dict[str, int]:
        found = {counter: self.database.total(counter) for counter in ALL}
        return {counter: total for counter, total in found.items() if total}


def everywhere() -> tuple[House, Ticket]:
    """All five caps, each with room for two of CAT."""
    return House(6000, 6000), a_ticket(usd_micro=6000, images=4, uses=2)


def test_without_a_limit_nothing_is_counted():
    house = House()
    assert house.reserve(ticket=a_ticket()) == ()
    assert house.totals() == {}


def test_the_worst_case_is_put_aside_in_every_cap():
    house, ticket = everywhere()
    assert house.reserve(ticket=ticket) == (
        Reservation(SPENT, 3000, key="j-1"),
        Reservation(TOTAL, 3000, key="j-1"),
        Reservation(USD, 3000, key="j-1"),
        Reservation(IMAGES, 2, "images", "j-1"),
        Reservation(USES, 1, "uses", "j-1"),
    )
    assert house.totals() == {SPENT: 3000, TOTAL: 3000, USD: 3000, IMAGES: 2, USES: 1}


def test_putting_aside_again_for_the_same_job_adds_nothing():
    house, ticket = everywhere()
    first = house.reserve(ticket=ticket)
    before = house.totals()
    assert house.reserve(ticket=ticket) == first
    assert house.totals() == before


# What is full, and what the refusal says: what is left, and when there is more.
FULL: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "the caller's day": ({"daily": 4000}, {}, {"remainingUsd": 0.001, "resetsAt": MIDNIGHT}),
    "the day of all": ({"total_daily": 4000}, {}, {"remainingUsd": 0.001, "resetsAt": MIDNIGHT}),
    "the ticket's money": ({}, {"usd_micro": 4000}, {"remainingUsd": 0.001, "resetsAt": None}),
    "its pictures": ({}, {"images": 3}, {"remaining": {"images": 1}, "resetsAt": None}),
    "its uses": ({}, {"uses": 1}, {"remaining": {"uses": 0}, "resetsAt": None}),
}


@pytest.mark.parametrize("name", FULL)
def test_a_refusal_by_one_cap_gives_back_what_the_others_took(name: str):
    house, ticket = everywhere()
    budgets, limits, said = FULL[name]
    house = replace(house, **budgets)
    ticket = replace(ticket, **limits)
    house.reserve(ticket=ticket)
    before = house.totals()
    assert house.refusal(ticket=ticket).extensions == said
    assert house.totals() == before


def test_callers_and_tickets_have_caps_of_their_own():
    house = House(daily=3000)
    house.reserve()
    house.ledger().reserve("other", "j-2", CAT)
    house.reserve("j-3", Worst(0, 1), a_ticket(uses=1))
    house.reserve("j-4", Worst(0, 1), replace(a_ticket(uses=1), id="t-2"))
    house.refusal()


def test_a_new_utc_day_has_new_budgets_and_a_ticket_has_not():
    house, ticket = everywhere()
    house.reserve("j-1", ticket=ticket)
    house.reserve("j-2", ticket=ticket)
    house.at = datetime(2026, 11, 22, 1, tzinfo=timezone(timedelta(hours=2)))
    assert "remainingUsd" in house.refusal("j-3").extensions  # it is still the 21st, UTC
    house.at = NOON + timedelta(hours=12)
    house.reserve("j-3")
    assert house.refusal("j-4", ticket=ticket).extensions["resetsAt"] is None


@pytest.mark.parametrize(
    ("actual", "images", "expected"),
    [
        (1000, 2, {SPENT: 1000, TOTAL: 1000, USD: 1000, IMAGES: 2, USES: 1}),
        (5000, 3, {SPENT: 5000, TOTAL: 5000, USD: 5000, IMAGES: 3, USES: 1}),
        (None, 0, {SPENT: 3000, TOTAL: 3000, USD: 3000, IMAGES: 2, USES: 1}),
        (0, 2, {IMAGES: 2, USES: 1}),  # a picture that costs nothing is one all the same
    ],
)
def test_what_was_spent_takes_the_place_of_what_was_put_aside(
    actual: int | None, images: int, expected: dict[str, int]
):
    house, ticket = everywhere()
    reserved = house.reserve(ticket=ticket)
    for _ in range(2):  # the second time changes nothing
        house.ledger().settle("j-1", reserved, actual, images)
        assert house.totals() == expected
    house.ledger().give_back("j-1", reserved)
    assert house.totals() == expected


def test_what_fal_did_not_do_leaves_nothing_behind():
    house, ticket = everywhere()
    reserved = house.reserve(ticket=ticket)
    for _ in range(2):
        house.ledger().give_back("j-1", reserved)
        assert house.totals() == {}
    house.ledger().settle("j-1", reserved, 3000)
    assert house.totals() == {}


def test_more_than_was_put_aside_leaves_less_than_nothing_and_the_refusal_says_zero():
    house = House(daily=3000)
    house.ledger().settle("j-1", house.reserve(), 9000)
    assert house.refusal(worst=Worst(1, 1)).extensions["remainingUsd"] == 0


UNKNOWN = Worst(None, 1)


def test_a_price_that_nobody_knows_is_refused_by_every_cap_of_money():
    for house, ticket in (
        (House(daily=9000), None),
        (House(total_daily=9000), None),
        (House(), a_ticket(usd_micro=9000)),
    ):
        refused = house.refusal(worst=UNKNOWN, ticket=ticket)
        assert refused.extensions["remainingUsd"] == 0.009
        assert "GET /models" in str(refused.hint)
        assert house.totals() == {}


def test_a_price_that_nobody_knows_is_no_matter_where_money_is_not_counted():
    house = House()
    house.reserve(worst=UNKNOWN, ticket=a_ticket(images=1, uses=1))
    assert house.totals() == {IMAGES: 1, USES: 1}


def test_an_unknown_price_that_the_owner_names_is_put_aside_and_stays_spent():
    house = House(daily=9000, unknown_price=5000)
    reserved = house.reserve(worst=UNKNOWN)
    assert house.totals() == {SPENT: 5000}
    assert house.refusal(worst=UNKNOWN).extensions["remainingUsd"] == 0.004
    house.ledger().settle("j-1", reserved, None)
    assert house.totals() == {SPENT: 5000}


def test_an_unknown_price_that_the_owner_allows_costs_nothing_even_where_all_is_spent():
    house = House(daily=3000, unknown_price=0)
    house.reserve()
    house.reserve("j-2", UNKNOWN)
    assert house.totals() == {SPENT: 3000}


def crashing(house: House, ticket: Ticket | None, last: int, job_id: str = "j-1") -> None:
    """Put aside, and end after effect number `last`."""
    effects = Effects(last)
    with pytest.raises(Crash):
        house.ledger(CountedDatabase(house.database, effects)).reserve("web", job_id, CAT, ticket)


@pytest.mark.parametrize("last", range(1, 6))
def test_who_dies_between_two_caps_and_comes_again_takes_each_once(last: int):
    house, ticket = everywhere()
    crashing(house, ticket, last)
    assert len(house.totals()) == last
    reserved = house.reserve(ticket=ticket)
    assert house.totals() == {SPENT: 3000, TOTAL: 3000, USD: 3000, IMAGES: 2, USES: 1}
    house.ledger().give_back("j-1", reserved)
    assert house.totals() == {}


@pytest.mark.parametrize("last", range(1, 10))
def test_who_dies_over_a_refusal_and_comes_again_leaves_nothing(last: int):
    """Four caps are taken, the fifth refuses, four are given back."""
    house, ticket = everywhere()
    ticket = replace(ticket, uses=1)
    house.reserve("j-0", ticket=ticket)
    before = house.totals()
    crashing(house, ticket, last)
    house.refusal("j-1", ticket=ticket)
    assert house.totals() == before


@pytest.mark.parametrize("calls", range(5))
def test_a_database_that_fails_midway_is_told_and_a_repetition_takes_each_once(calls: int):
    house, ticket = everywhere()
    database = breakable_database("take")
    database.around(house.database)
    database.break_after(calls)
    with pytest.raises(DatabaseUnavailable):
        house.ledger(database).reserve("web", "j-1", CAT, ticket)
    database.mend()
    house.ledger(database).reserve("web", "j-1", CAT, ticket)
    assert house.totals() == {SPENT: 3000, TOTAL: 3000, USD: 3000, IMAGES: 2, USES: 1}


def test_counters_outlive_all_that_is_settled_in_them_and_go_then():
    house, ticket = everywhere()
    house.reserve(ticket=ticket)
    midnight = NOON.replace(hour=0)
    soon, ends_at = timedelta(seconds=1), NOON + timedelta(hours=1)
    assert house.database.purge(midnight + COUNTER_LIFE - soon, 99) == 0
    assert house.database.purge(midnight + COUNTER_LIFE, 99) == 2
    assert house.database.purge(ends_at + COUNTER_LIFE - soon, 99) == 0
    assert house.database.purge(ends_at + COUNTER_LIFE, 99) == 3

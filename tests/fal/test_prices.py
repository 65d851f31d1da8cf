"""fal's price list: asked once an hour, and never waited for long."""

import json
from typing import Any

import pytest

from fal_image.fal.prices import KEPT_S, MAX_KEPT, QUIET_S, Listed, NoPrice, Prices
from fal_image.web import Headers
from fal_image.wire import Answer, Wire, WireError
from support.clocks import Time

MODEL = "fal-ai/flux-unheard-of"


class ListingWire(Wire):
    """Answers every call alike; `asked` are the addresses, `waits` how long each may take."""

    def __init__(self, answer: Answer | WireError) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[str] = []
        self.waits: list[float] = []

    def call(self, method: str, url: str, *, key: str, timeout_s: float, **options: Any) -> Answer:
        assert (method, key, options) == ("GET", "id:secret", {})
        self.asked.append(url)
        self.waits.append(timeout_s)
        if isinstance(self.answer, WireError):
            raise self.answer
        return self.answer


def listing(status: int = 200, **bent: object) -> Answer:
    row = {"endpoint_id": MODEL, "unit_price": 0.02, "unit": "images", "currency": "USD"} | bent
    return Answer(status, Headers(), json.dumps({"prices": [row], "has_more": False}).encode())


def prices(wire: Wire, *, key: str | None = "id:secret", clock: Time | None = None) -> Prices:
    return Prices(wire, key, clock or Time())


def test_a_price_is_asked_for_by_the_models_id_and_kept_for_an_hour():
    wire, clock = ListingWire(listing()), Time()
    here = prices(wire, clock=clock)
    for _ in range(3):
        found = here.find(MODEL, ends_at=clock() + 60)
        assert (str(found.usd), found.unit) == ("0.02", "images")
    assert wire.asked == [
        "https://api.fal.ai/v1/models/pricing?endpoint_id=fal-ai%2Fflux-unheard-of"
    ]
    clock.now_s += KEPT_S + 1
    wire.answer = listing(unit_price=0.03)
    assert str(here.find(MODEL, ends_at=clock() + 60).usd) == "0.03"


@pytest.mark.parametrize(("left_s", "waited_s"), [(60.0, 3.0), (1.5, 1.5)])
def test_nobody_waits_longer_than_three_seconds_or_than_there_is_time(
    left_s: float, waited_s: float
):
    wire, clock = ListingWire(listing()), Time()
    prices(wire, clock=clock).find(MODEL, ends_at=clock() + left_s)
    assert wire.waits == [waited_s]


NO_ANSWERS: dict[str, Answer | WireError] = {
    "silence": WireError("timed out", sent=True),
    "too many": Answer(429, Headers(), b"{}"),
    "forbidden": Answer(403, Headers(), b'{"error": {"type": "authorization_error"}}'),
    "no JSON": Answer(200, Headers(), b"<html>"),
    "no list": Answer(200, Headers(), b'{"prices": {}}'),
    "no number": listing(unit_price="cheap"),
    "no unit": listing(unit=None),
    "a truth for a number": listing(unit_price=True),
    "a unit of two lines": listing(unit="images\nX-Evil: 1"),
}


@pytest.mark.parametrize("trouble", sorted(NO_ANSWERS))
def test_a_list_that_does_not_answer_is_left_alone_for_a_minute(trouble: str):
    wire, clock = ListingWire(NO_ANSWERS[trouble]), Time()
    here = prices(wire, clock=clock)
    for model in (MODEL, MODEL, "fal-ai/another"):
        with pytest.raises(NoPrice, match="does not answer"):
            here.find(model, ends_at=clock() + 60)
    assert len(wire.asked) == 1
    clock.now_s += QUIET_S + 1
    wire.answer = listing()
    assert here.find(MODEL, ends_at=clock() + 60).unit == "images"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, Headers(), b'{"error": {"type": "not_found"}}'),
        Answer(200, Headers(), b'{"prices": []}'),
        listing(endpoint_id="fal-ai/another"),
        listing(currency="EUR"),
    ],
    ids=["unknown", "none", "another's", "in euros"],
)
def test_a_model_without_a_price_has_none_for_an_hour(answer: Answer):
    wire, clock = ListingWire(answer), Time()
    here = prices(wire, clock=clock)
    for _ in range(2):
        with pytest.raises(NoPrice, match="lists no price"):
            here.find(MODEL, ends_at=clock() + 60)
    assert len(wire.asked) == 1


def test_without_a_key_fal_is_not_asked():
    wire = ListingWire(listing())
    with pytest.raises(NoPrice, match="FAL_KEY"):
        prices(wire, key=None).find(MODEL, ends_at=9e9)
    assert wire.asked == []


def test_many_ids_do_not_fill_the_memory():
    clock = Time()
    here = prices(ListingWire(Answer(404, Headers(), b"")), clock=clock)
    for number in range(MAX_KEPT + 5):
        with pytest.raises(NoPrice):
            here.find(f"fal-ai/flux-{number}", ends_at=clock() + 60)
    assert len(here._kept) == MAX_KEPT


def test_the_key_stands_in_no_repr():
    assert "secret" not in repr(prices(ListingWire(listing())))
    assert isinstance(prices(ListingWire(listing())).find(MODEL, ends_at=9e9), Listed)

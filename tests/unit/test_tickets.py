"""What a ticket is sealed with, and what does not open."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fal_image.tickets import MAX_TICKET_CHARS, Ticket, is_ticket, opened, sealed

SECRET = "a-secret-of-at-least-32-characters"
OLDER = "another-one-that-is-as-long-as-that"
TICKET = Ticket("t-1", "web", 1_800_000_000, images=4)

counts = st.none() | st.integers(0, 10**12)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
tickets = st.builds(
    Ticket,
    names,
    names,
    st.integers(0, 2**40),
    user=st.none() | names,
    models=st.none() | st.lists(names, max_size=3).map(tuple),
    images=counts,
    usd_micro=counts,
    uses=counts,
    tokens=st.booleans(),
)


def text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(payload: object, *, version: str = "t1", secret: str = SECRET) -> str:
    """What a holder of the secret could seal, right or wrong."""
    head = f"{version}.{text(json.dumps(payload).encode())}"
    mac = hmac.new(secret.encode(), f"ticket\n{head}".encode(), hashlib.sha256).digest()
    return f"{head}.{text(mac)}"


@given(tickets)
def test_a_ticket_opens_as_it_was_sealed(ticket: Ticket):
    assert opened(sealed(ticket, SECRET), (SECRET,)) == ticket


def test_a_limit_of_nothing_is_still_a_limit():
    none_left = Ticket("t-1", "web", 1, images=0, usd_micro=0, uses=0)
    assert opened(sealed(none_left, SECRET), (SECRET,)) == none_left


def test_a_ticket_says_what_it_is_and_goes_into_a_header():
    shown = sealed(TICKET, SECRET)
    assert is_ticket(shown)
    assert shown.count(".") == 2
    assert shown.isascii()
    assert "=" not in shown


@given(st.data())
def test_no_other_character_anywhere_opens(data: st.DataObject):
    shown = sealed(TICKET, SECRET)
    place = data.draw(st.integers(0, len(shown) - 1))
    other = data.draw(st.characters())
    bent = shown[:place] + other + shown[place + 1 :]
    assert (opened(bent, (SECRET,)) is None) == (bent != shown)


def test_a_rotation_opens_what_the_older_secret_sealed_and_its_end_does_not():
    older = sealed(TICKET, OLDER)
    assert opened(older, (SECRET, OLDER)) == TICKET
    assert opened(older, (SECRET,)) is None


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "t1",
        "t1.",
        "t1..",
        "t1.e30.",
        signed({"id": "t", "caller": "web", "exp": 1}, version="t2"),
        signed({"id": "t", "caller": "web", "exp": 1}, secret=OLDER),
        signed({}),
        signed([]),
        signed({"id": "t", "caller": "web", "exp": "soon"}),
        signed({"id": "t", "caller": "web", "exp": 1, "images": "9"}),
        signed({"id": "t", "caller": "web", "exp": 1, "user": "x" * MAX_TICKET_CHARS}),
        sealed(TICKET, SECRET) + "=",
        "t1.\udcff." + "A" * 43,
    ],
)
def test_anything_else_does_not_open(shown: str):
    assert opened(shown, (SECRET,)) is None


def test_a_ticket_that_names_less_has_no_limits():
    found: Any = opened(signed({"id": "t", "caller": "web", "exp": 1}), (SECRET,))
    assert (found.models, found.images, found.usd_micro, found.uses) == (None, None, None, None)
    assert found.tokens is False


def test_whoever_has_a_name_of_their_own_is_told_apart():
    assert TICKET.holder == "web"
    assert Ticket("t-1", "web", 1, user="ann").holder == "web:ann"

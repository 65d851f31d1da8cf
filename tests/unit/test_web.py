import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fal_image.errors import InvalidInput
from fal_image.web import (
    Event,
    Headers,
    Response,
    decode_events,
    encode_comment,
    encode_event,
    json_response,
    problem_response,
)


def test_headers_match_in_any_case_and_join_repeats_in_order():
    headers = Headers([("X-A", "1"), ("x-a", "2"), ("B", "3")])
    assert headers.get("x-A") == "1, 2"
    assert headers.get_all("b") == ["3"]
    assert headers.get("missing") is None
    assert "X-a" in headers


def test_header_values_are_not_in_the_repr():
    assert "canary" not in repr(Headers([("authorization", "Bearer canary")]))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_events_are_read_with_any_line_ending(ending: str):
    text = ending.join(["event: a", "id: 7", "data: one", "data:two", ": comment", "", ""])
    assert list(decode_events([text.encode()])) == [Event("one\ntwo", "a", "7")]


def test_an_event_comes_out_before_the_stream_ends():
    def endless():
        yield b"data: first\n\n"
        raise AssertionError("read on although an event was complete")

    assert next(decode_events(endless())) == Event("first")


def test_an_event_cut_by_the_end_of_the_stream_is_dropped():
    assert list(decode_events([b"data: whole\n\ndata: cut"])) == [Event("whole")]


def test_comments_and_empty_events_are_not_events():
    assert list(decode_events([encode_comment("alive"), b"\n\n", b"event: x\n\n"])) == []


events = st.builds(
    Event,
    data=st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])),
    name=st.sampled_from(["message", "queued", "done"]),
    id=st.none() | st.from_regex(r"[0-9]{1,5}", fullmatch=True),
)


@given(st.lists(events), st.data())
def test_what_is_encoded_is_decoded_however_it_is_cut(sent: list[Event], data: st.DataObject):
    raw = b"".join(encode_event(event) for event in sent)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=5).map(sorted))
    edges = [0, *cuts, len(raw)]
    chunks = [raw[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    read = []
    last_id = None
    for event in sent:
        last_id = event.id or last_id
        read.append(Event(event.data, event.name, last_id))
    assert list(decode_events(chunks)) == read


def test_a_problem_has_the_recipes_members_and_the_errors_own():
    error = InvalidInput("seed is not a number", fields=[{"field": "seed", "message": "no"}])
    response = problem_response(error, "r-1")
    body = json.loads(response.read())
    assert response.status == body["status"] == 400
    assert ("content-type", "application/problem+json") in response.headers
    assert body["error"] == "invalid_input"
    assert body["message"] == body["detail"] == "seed is not a number"
    assert body["requestId"] == "r-1"
    assert body["retryable"] is True
    assert body["hint"]
    assert body["fields"] == [{"field": "seed", "message": "no"}]
    assert body["type"] == "docs/errors.md#invalid_input"


def test_a_body_in_chunks_is_read_whole():
    assert Response(200, iter([b"a", b"b"])).read() == b"ab"


def test_json_keeps_other_scripts_readable():
    assert json_response(200, {"a": "猫"}).read() == '{"a":"猫"}'.encode()

"""Lines, rows and the body that begins a batch."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fal_image.batches.rows import (
    MAX_ROW_BYTES,
    MAX_ROWS,
    Line,
    lines,
    parse_batch,
    parse_row,
    row_id_of,
)
from fal_image.errors import AppError, InvalidInput, InvalidJson


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def contents(content: bytes, size: int = 7) -> list[bytes | None]:
    return [line.content for line in lines(pieces(content, size))]


@pytest.mark.parametrize(
    ("file", "found"),
    [
        (b"", []),
        (b"\n\n \r\n\t\n", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"\n\na\n\nb\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfa\nb", [b"a", b"b"]),
        (b"\xef\xbb\xbf\na", [b"a"]),
        (b"a\n\xef\xbb\xbfb", [b"a", b"\xef\xbb\xbfb"]),
        (b"  a b  \n", [b"a b"]),
    ],
)
def test_lines_of_every_sort_of_file(file: bytes, found: list[bytes]):
    assert contents(file) == found


def test_a_line_that_is_too_long_is_a_line_all_the_same():
    longest = b"x" * MAX_ROW_BYTES
    assert contents(longest + b"\n" + longest + b"y\nz", size=999) == [longest, None, b"z"]


@given(
    st.lists(st.sampled_from([b"", b" ", b"a", b"bc\r", b"\xef\xbb\xbf{}", b"x" * 40])),
    st.integers(1, 50),
    st.booleans(),
)
def test_a_line_is_the_same_wherever_the_file_is_cut_and_reading_begins(
    written: list[bytes], size: int, ends_with_newline: bool
):
    file = b"\n".join(written) + b"\n" * ends_with_newline
    whole = list(lines([file]))
    assert list(lines(pieces(file, size))) == whole
    for place, line in enumerate(whole):
        assert list(lines([file[line.start :]], line.start)) == whole[place:]
        assert line.content is not None
        assert line.content in file[line.start : line.start + line.size_bytes]


def test_a_row_takes_the_defaults_it_does_not_speak_of():
    row = parse_row(b'{"rowId": "a", "seed": 2}', {"seed": 1, "prompt": "cat"})
    assert (row.row_id, row.body) == ("a", {"prompt": "cat", "seed": 2})


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        (None, InvalidInput, "longer than"),
        (b"{", InvalidJson, "not JSON"),
        (b"\xff", InvalidJson, "not JSON"),
        (b"[1]", InvalidJson, "not a JSON object"),
        (b"null", InvalidJson, "not a JSON object"),
        (b"[" * 60_000, InvalidJson, "not JSON"),
        (b'{"rowId": 1.5}', InvalidInput, "rowId"),
        (b'{"rowId": true}', InvalidInput, "rowId"),
        (b'{"webhookUrl": "https://a.example"}', InvalidInput, "belongs to the batch"),
        (b'{"image_url": "data:image/png;base64,AA"}', InvalidInput, "data URI"),
        (b'{"image_urls": ["data:,"]}', InvalidInput, "data URI"),
    ],
)
def test_a_bad_line_says_why(line: bytes | None, error: type[AppError], words: str):
    with pytest.raises(error, match=words):
        parse_row(line, {})


def test_the_id_of_a_row_is_found_in_a_bad_row_too():
    assert row_id_of(b'{"rowId": "a", "webhookUrl": 1}') == "a"
    assert row_id_of(b'{"rowId": {}}') is None
    assert row_id_of(b"oops") is None
    assert row_id_of(None) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "rows"),
        ({"rows": [{}], "file": "file:///x"}, "only one"),
        ({"rows": []}, "rows"),
        ({"rows": {}}, "rows"),
        ({"rows": [{}] * (MAX_ROWS + 1)}, "rows"),
        ({"file": 1}, "file"),
        ({"rows": [{}], "prompt": "cat"}, "defaults"),
        ({"rows": [{}], "defaults": []}, "defaults"),
        ({"rows": [{}], "defaults": {"rowId": 1}}, "defaults.rowId"),
        ({"rows": [{}], "defaults": {"webhookUrl": ""}}, "defaults.webhookUrl"),
        ({"rows": [{}], "defaults": {"prompt": "x" * MAX_ROW_BYTES}}, "defaults"),
        ({"rows": [{}], "window": 0}, "window"),
        ({"rows": [{}], "window": 201}, "window"),
        ({"rows": [{}], "window": True}, "window"),
        ({"rows": [{}], "window": "20"}, "window"),
    ],
)
def test_a_body_that_is_no_batch_is_refused(body: dict[str, Any], words: str):
    with pytest.raises(InvalidInput, match=words):
        parse_batch(body)


def test_rows_sent_along_become_lines():
    rows = [{"prompt": "a\ncat", "rowId": "ä"}, 1, None, ""]
    order = parse_batch({"rows": rows})
    assert order.lines is not None
    assert [json.loads(line) for line in order.lines.splitlines()] == rows


def test_equal_batches_have_one_fingerprint_and_others_another():
    one = parse_batch({"rows": [{"prompt": "cat"}], "defaults": {"a": 1, "b": 2}})
    same = parse_batch({"window": 20, "defaults": {"b": 2, "a": 1}, "rows": [{"prompt": "cat"}]})
    others = [
        parse_batch({"rows": [{"prompt": "cats"}], "defaults": {"a": 1, "b": 2}}),
        parse_batch({"rows": [{"prompt": "cat"}], "defaults": {"a": 1}}),
        parse_batch({"rows": [{"prompt": "cat"}], "defaults": {"a": 1, "b": 2}, "window": 2}),
        parse_batch({"file": "file:///x"}),
    ]
    assert same.sha256() == one.sha256()
    assert len({one.sha256(), *(other.sha256() for other in others)}) == 5


def test_a_line_knows_where_it_stands():
    assert list(lines([b"a\n\nbc\r\nd"])) == [Line(0, 2, b"a"), Line(3, 4, b"bc"), Line(7, 1, b"d")]

"""Every row of the threat table is proved by tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
HEAD = ["who", "wants", "what stops them", "proved by"]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


LINES = [cells(line) for line in PAGE.splitlines() if line.startswith("|")]
ROWS = LINES[2:]


def test_the_page_has_one_table_with_these_columns():
    assert LINES[0] == HEAD
    assert len(ROWS) > 20
    assert len({tuple(row[:2]) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]} wants {row[1]}"[:80] for row in ROWS])
def test_a_row_says_everything_and_names_tests_that_exist(row: list[str]):
    assert len(row) == len(HEAD)
    assert all(row)
    found = NAMED.findall(row[-1])
    assert found
    assert NAMED.sub("", row[-1]).strip() == ""
    for path, name in found:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{path} has no {name}"

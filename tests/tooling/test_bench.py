"""scripts/bench: its goals, the page that it writes, and the peers that it never ships."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from scripts.benchmarks import goals, page
from scripts.benchmarks.__main__ import MEASURES
from scripts.benchmarks.contenders import PEERS
from scripts.benchmarks.goals import Goal
from scripts.benchmarks.report import Figure, figure
from scripts.packaging.targets import CLOUDS

from support.tiny_project import ROOT


def bench(*arguments: str) -> str:
    """What the program prints."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks", *arguments],
        env={**os.environ, "PYTHONPATH": "tests"},
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(text: str) -> list[list[str]]:
    """The cells of the table between the marks, its head first."""
    between = text.partition(page.BEGIN)[2].partition(page.END)[0]
    lines = [line for line in between.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("<= 15 ms", Goal("<=", 15)),
        ("<= 0.8 x Node", Goal("<=", 0.8, "Node")),
        (">= 1.0 x Express", Goal(">=", 1.0, "Express")),
        ("<= 1.3 x one", Goal("<=", 1.3, "one")),
        (">= 300 submits/s", Goal(">=", 300)),
        ("<= 3.9 s", Goal("<=", 3.9)),
        ("< 40 MB", Goal("<", 40)),
        ("<= 100,000", Goal("<=", 100_000)),
        ("<= 9", Goal("<=", 9)),
        ("for comparison", None),
        ("none raises", None),
        ("", None),
    ],
)
def test_a_goal_is_read_from_its_text(text: str, goal: Goal | None):
    assert goals.parse(text) == goal


@pytest.mark.parametrize("text", ["<=15 ms", "< = 5", "<= ms", ">= x Node", "= 3"])
def test_a_goal_that_cannot_be_read_is_no_comparison(text: str):
    with pytest.raises(ValueError, match="no goal"):
        goals.parse(text)


@pytest.mark.parametrize(
    ("goal", "is_met"),
    [
        ("<= 20 ms", True),
        ("<= 19.9 ms", False),
        (">= 20 /s", True),
        ("< 20 ms", False),
        ("<= 0.5 x Node", True),
        (">= 0.6 x Node", False),
        ("for comparison", None),
    ],
)
def test_the_median_or_its_ratio_to_the_peers_median_decides(goal: str, is_met: bool | None):
    found = figure("a", "ms", [10, 20, 90], goal=goal, beside=("Node", [1, 40, 41]))
    assert (found.low, found.middle, found.high, found.runs) == (10, 20, 90, 3)
    assert found.ratio == 0.5
    assert found.is_met is is_met


@pytest.mark.parametrize(
    ("took_ms", "goal", "shown"),
    [
        (754.0, "<= 0.75 x Node", ("754.0", "0.754 x Node")),
        (750.4, "<= 0.75 x Node", ("750.4", "0.7504 x Node")),
        (749.6, "<= 0.75 x Node", ("749.6", "0.75 x Node")),
        (15.04, "<= 15 ms", ("15.04", "0.02 x Node")),
        (14.96, "<= 15 ms", ("15.0", "0.01 x Node")),
        (15.0, "< 15 ms", ("15.0", "0.01 x Node")),
    ],
)
def test_rounding_never_hides_why_a_goal_is_not_met(
    took_ms: float, goal: str, shown: tuple[str, str]
):
    found = figure("a", "ms", [took_ms], goal=goal, beside=("Node", [1000]))
    assert (found.decided(), found.beside()) == shown


def test_the_page_says_so_where_there_is_no_node(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert ", no Node; @aws-sdk/client-s3 " in page.machine()


def test_a_ratio_to_somebody_who_was_not_measured_is_no_verdict():
    with pytest.raises(ValueError, match="measured beside ''"):
        assert figure("a", "ms", [1], goal="<= 1.0 x Node").is_met


def test_the_page_keeps_its_words_around_a_new_table(tmp_path: Path):
    file = tmp_path / "performance.md"
    file.write_text(f"before\n\n{page.BEGIN}\nold\n{page.END}\n\nafter\n", encoding="utf-8")
    figures = {"warm": [figure("a", "ms", [1500.0], goal="<= 15 ms"), figure("b", "", [1.0])]}
    page.write(figures, date(2026, 11, 21), file)
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"before\n\n{page.BEGIN}\nMeasured on 2026-11-21: ")
    assert text.endswith(f"|\n{page.END}\n\nafter\n")
    assert rows(text)[2:] == [
        ["warm", "a", "1,500.0 ms", "1,500.0 to 1,500.0", "1", "", "<= 15 ms", "**no**"],
        ["warm", "b", "1.0", "1.0 to 1.0", "1", "", "for comparison", ""],
    ]


def test_the_page_has_rows_for_every_measure_and_goals_that_can_be_read():
    head, _, *body = rows(page.PAGE.read_text(encoding="utf-8"))
    assert head == list(page.HEAD)
    assert {len(row) for row in body} == {len(head)}
    assert list(dict.fromkeys(row[0] for row in body)) == list(MEASURES)
    for row in body:
        assert (goals.parse(row[6]) is None) == (row[7] == "")
        assert row[7] in {"", "yes", "**no**"}


def test_every_measure_can_be_asked_for_alone():
    (choices,) = set(re.findall(r"--only \{([\w,]+)\}", bench("--help")))
    assert choices.split(",") == list(MEASURES)


def test_the_peers_are_pinned_and_their_lock_names_no_registry():
    wanted = json.loads((PEERS / "package.json").read_text(encoding="utf-8"))["dependencies"]
    text = (PEERS / "package-lock.json").read_text(encoding="utf-8")
    locked = json.loads(text)["packages"]
    assert locked.pop("")["dependencies"] == wanted
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(entry["integrity"].startswith("sha512-") for entry in locked.values())
    assert '"resolved"' not in text
    assert "registry" not in text


def test_the_peers_are_in_no_package_and_in_no_image():
    sources = [source for cloud in CLOUDS.values() for source in cloud.files.values()]
    image = ROOT.joinpath("Dockerfile").read_text(encoding="utf-8")
    copied = " ".join(re.findall(r"^(?:COPY|ADD) (.*)", image, re.MULTILINE)).split()
    assert {"shared", "pyproject.toml"} <= {*copied}
    assert [name for name in [*sources, *copied] if re.match(r"\.$|(\./)?scripts", name)] == []


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.needs("bench peers")
def test_one_run_beside_the_peers():
    told = json.loads(bench("--only", "warm", "--runs", "1", "--json"))
    assert set(told) == {"machine", "figures"}
    figures = told["figures"]["warm"]
    assert [each["name"].rpartition(": ")[2] for each in figures] == [
        *("fal-image", "Node", "Python"),
        *("fal-image", "Node", "Python"),
    ]
    assert [each["runs"] for each in figures] == [20] * 3 + [1] * 3
    ours, node = (Figure(**{k: v for k, v in each.items() if k != "met"}) for each in figures[:2])
    assert ours.ratio == pytest.approx(ours.middle / node.middle)
    assert figures[0]["met"] is ours.is_met

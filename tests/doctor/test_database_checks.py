"""The database: conditions, counters, the index of what is due, and the last sweep."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fal_image.database.base import DatabaseError
from fal_image.drivers import SWEEP
from fal_image.jobs import rfc3339
from fal_image.seams import Seams
from support import databases
from support.breakable import Breakable
from support.examined import Found, Odd, environment, found

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
CHECKS = ["database.conditions", "database.counter", "database.due"]


@pytest.fixture(params=["sqlite", "dynamodb", "cloudbase"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[databases.Rig]:
    def moto() -> str:
        return str(request.getfixturevalue("moto"))

    with databases.RIGS[request.param](tmp_path, moto) as rig:
        yield rig


def kept(rig: databases.Rig, seams: Seams | None = None) -> Found:
    environ = environment(
        FAL_IMAGE_STORAGE_URL="file:///pictures", FAL_IMAGE_DATABASE_URL=rig.url, **rig.environ
    )
    environ.pop("FAKE_CLOUDBASE", None)
    detours = rig.fake.detours if isinstance(rig, databases.CloudbaseRig) else {}
    return found(environ, only="database", seams=seams or Seams(detours=detours))


def test_every_database_is_well_and_nothing_is_left_to_do(rig: databases.Rig):
    seen = kept(rig)
    assert seen.of("ok") == CHECKS
    assert seen.of("warning") == ["database.last_sweep"]
    in_a_year = datetime.now(timezone.utc) + timedelta(days=365)
    assert rig.open().due(in_a_year, 100) == []


def test_what_is_written_expires(tmp_path: Path):
    rig = databases.SqliteRig(tmp_path / "jobs.db")
    kept(rig, Seams(now=lambda: NOW))
    assert rig.open().purge(NOW + timedelta(minutes=2), 100) == 3
    assert rig.open().purge(NOW + timedelta(days=9), 100) == 0


def odd(directory: Path, **ways: Any) -> Found:
    rig = databases.SqliteRig(directory / "jobs.db")
    seams = Seams(
        database=lambda opened: Odd(opened, **ways),
        sleep=lambda seconds: None,
    )
    return kept(rig, seams)


@pytest.mark.parametrize(
    ("check", "ways", "words"),
    [
        ("conditions", {"create": lambda id, body, **more: True}, "created twice"),
        ("conditions", {"create": lambda id, body, **more: False}, "not taken"),
        ("conditions", {"replace_if": lambda id, version, body, **more: True}, "stale version"),
        ("conditions", {"replace_if": lambda id, version, body, **more: False}, "right version"),
        ("conditions", {"get": lambda id: None}, "last write"),
        ("counter", {"take": lambda counter, key, amount, limit, **more: True}, "limit"),
        ("counter", {"settle": lambda counter, key, **more: None}, "give back"),
    ],
)
def test_a_promise_that_is_not_kept_is_a_failure(
    tmp_path: Path, check: str, ways: dict[str, Callable[..., Any]], words: str
):
    seen = odd(tmp_path, **ways)
    assert seen.of("failed") == [f"database.{check}"]
    assert words in seen[f"database.{check}"].said


def test_an_index_that_finds_nothing_is_a_warning(tmp_path: Path):
    seen = odd(tmp_path, due=lambda now, limit: [])
    assert seen["database.due"].verdict == "warning"


def test_an_index_that_is_behind_is_asked_again(tmp_path: Path):
    rig, asked = databases.SqliteRig(tmp_path / "jobs.db"), []

    def due(now: datetime, limit: int) -> list[str]:
        asked.append(now)
        return [] if len(asked) < 3 else rig.open().due(now, limit)

    assert odd(tmp_path, due=due)["database.due"].verdict == "ok"


def test_a_table_that_is_not_there_is_a_failure_with_a_fix(moto: str):
    rig = databases.DynamodbRig(moto)
    environ = environment(
        FAL_IMAGE_STORAGE_URL="file:///pictures",
        FAL_IMAGE_DATABASE_URL="dynamodb://nobody-made-this-table",
        **rig.environ,
    )
    seen = found(environ, only="database")
    assert seen.of("failed") == ["database"]
    assert "dynamodb:GetItem" in str(seen["database"].fix)


def test_a_database_that_breaks_on_the_way_keeps_what_was_found(tmp_path: Path):
    broken = Breakable(DatabaseError, "take")
    broken.is_broken = True
    rig = databases.SqliteRig(tmp_path / "jobs.db")
    seen = kept(rig, Seams(database=broken.around))
    assert [finding.check for finding in seen.all] == ["database.conditions", "database"]
    assert "take is broken" in seen["database"].said


def test_without_a_database_there_is_nothing_to_examine(tmp_path: Path):
    seen = found(environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri()), only="database")
    assert seen.of("skipped") == ["database"]


@pytest.mark.parametrize(("age_s", "verdict"), [(5, "ok"), (180, "ok"), (181, "failed")])
def test_a_sweep_is_missed_after_three_minutes(tmp_path: Path, age_s: int, verdict: str):
    rig = databases.SqliteRig(tmp_path / "jobs.db")
    rig.open().create(SWEEP, {"endedAt": rfc3339(NOW - timedelta(seconds=age_s))})
    seen = kept(rig, Seams(now=lambda: NOW))["database.last_sweep"]
    assert seen.verdict == verdict
    assert f"{age_s} s ago" in seen.said
    assert ("timer" in str(seen.fix)) == (verdict == "failed")

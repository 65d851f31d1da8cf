"""Whether the database keeps its promises, by a document and a counter of the doctor's own, which
expire in a minute; and what the last sweep wrote down of itself.

Refuses to know jobs and money.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

from ..database.base import Database, DatabaseError
from ..drivers import SWEEP
from ..jobs import base32
from .case import Case, Part
from .findings import Finding, failed, ok, skipped, warning

CONDITIONS, COUNTER, DUE, LAST_SWEEP = (
    "database.conditions",
    "database.counter",
    "database.due",
    "database.last_sweep",
)
LIFE = timedelta(minutes=1)
OLD_SWEEP_S = 180  # it comes every minute
THE_TIMER = (
    "Jobs that nobody waits for are finished by a timer every minute. AWS: the schedule of "
    "serverless.yml; CloudBase: the timer trigger of cloudbaserc.json; elsewhere `fal-image serve`"
    ". See that it exists, is switched on and that its calls do not fail."
)

_LONG_DUE = datetime(2000, 1, 1, tzinfo=timezone.utc)  # before every job, so that it comes first
_LOOKS, _PAUSE_S = 6, 0.5  # an index may be some seconds behind (DynamoDB's are)
_AT_ONCE = 100

_FIX = {
    "dynamodb": "See that the table exists in AWS_REGION with its index, and that the function may "
    "dynamodb:GetItem, BatchGetItem, PutItem and UpdateItem on the table and Query on the index.",
    "cloudbase": "See that the environment's id and the collection are right and that "
    "CLOUDBASE_APIKEY, or the function's role, may use its document database.",
    "sqlite": "See that the file's directory exists and can be written by this user, on a disk "
    "that is not shared over a network.",
}


def _examine(case: Case) -> Iterator[Finding]:
    if case.settings.database_url is None:
        said = "FAL_IMAGE_DATABASE_URL is not set: requests are synchronous only"
        yield skipped("database", said)
        return
    fix = _FIX[urlsplit(case.settings.database_url).scheme]
    mark = base32(case.seams.randomness(8))
    try:
        opened = case.services.drivers.database()
        for make in (_conditions, _counter):
            yield make(case, opened, f"doctor:{mark}", fix)
        yield _due(case, opened, f"doctor:{mark}:due", fix)
        yield _last_sweep(case, opened)
    except (DatabaseError, ImportError) as error:
        yield failed("database", f"the database failed: {error}", fix)


def _conditions(case: Case, database: Database, id: str, fix: str) -> Finding:
    ends = case.seams.now() + LIFE
    steps = (
        ("a new document is not taken", database.create(id, {"step": 1}, expires_at=ends)),
        (
            "a document is created twice",
            not database.create(id, {"step": 2}, expires_at=ends),
        ),
        (
            "the right version is refused",
            database.replace_if(id, 1, {"step": 3}, expires_at=ends),
        ),
        (
            "a stale version is taken",
            not database.replace_if(id, 1, {"step": 4}, expires_at=ends),
        ),
    )
    wrong = [said for said, holds in steps if not holds]
    found = database.get(id)
    if found is None or found.body != {"step": 3}:
        wrong.append("a read does not see the last write")
    if wrong:
        said = f"conditions do not hold: {', '.join(wrong)}"
        return failed(CONDITIONS, said, f"Jobs could be paid twice here. {fix}")
    return ok(CONDITIONS, "of two writers one wins, and a stale version is refused")


def _counter(case: Case, database: Database, id: str, fix: str) -> Finding:
    ends, counter = case.seams.now() + LIFE, f"{id}:counter"
    is_taken = database.take(counter, "one", 1, 1, expires_at=ends)
    is_over = database.take(counter, "two", 1, 1, expires_at=ends)
    database.settle(counter, "one", reserved=1, actual=0)
    if not is_taken or is_over or database.total(counter) != 0:
        said = "a counter lets through more than its limit, or does not give back"
        return failed(COUNTER, said, f"Budgets would not hold here. {fix}")
    return ok(COUNTER, "a counter keeps its limit")


def _due(case: Case, database: Database, id: str, fix: str) -> Finding:
    """Whether the index of what is due finds a document; it is taken out of it again."""
    ends = case.seams.now() + LIFE
    database.create(id, {}, due_at=_LONG_DUE, expires_at=ends)
    try:
        for look in range(_LOOKS):
            if look:
                case.seams.sleep(_PAUSE_S)
            if id in database.due(case.seams.now(), _AT_ONCE):
                return ok(DUE, "the index finds what is due")
    finally:
        database.replace_if(id, 1, {}, expires_at=ends)
    said = f"the index did not find what is due within {_LOOKS * _PAUSE_S:g} s"
    return warning(DUE, said, f"Sweeps would come late or do nothing. {fix}")


def _last_sweep(case: Case, database: Database) -> Finding:
    found = database.get(SWEEP)
    age_s = None if found is None else _age_s(str(found.body.get("endedAt")), case.seams.now())
    return judged_sweep(LAST_SWEEP, age_s)


def judged_sweep(check: str, age_s: float | None) -> Finding:
    """What the age of the last sweep means; None if there was none yet."""
    if age_s is None:
        return warning(check, "no sweep was made yet", THE_TIMER)
    if age_s > OLD_SWEEP_S:
        return failed(check, f"the last sweep was {round(age_s)} s ago", THE_TIMER)
    return ok(check, f"the last sweep was {round(age_s)} s ago")


def _age_s(text: str, now: datetime) -> float | None:
    try:
        return (now - datetime.fromisoformat(text.replace("Z", "+00:00"))).total_seconds()
    except ValueError:
        return None


PART = Part("database", _examine)

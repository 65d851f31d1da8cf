from datetime import datetime, timedelta
from itertools import product

import pytest

from fal_image.jobs import Cost, Fault, Job, JobWarning, Lease, Notice, Outcome, State, states
from fal_image.jobs import events as happen
from fal_image.jobs.states import (
    ASK_EVERY,
    BEGIN_WITHIN,
    DRIVE_WITHIN,
    SUBMITTED_FOR,
    TABLE,
    UNKNOWN_FOR,
    due_at,
    transition,
)
from support.job_shapes import FAULT, IMAGE, LATE, OUTCOMES, STATES, T0, URL, a_job
from support.values import replace

NOW = T0 + timedelta(minutes=5)
LATER = NOW + timedelta(minutes=1)
HELD = Lease("alice", NOW + timedelta(seconds=30))
OVER = Lease("alice", NOW)
NEW = Lease("bob", NOW + timedelta(seconds=60))
WARNING = JobWarning("flagged", "black")
TIMINGS = {"total": 900}

STORED = happen.Stored(NOW, "alice", (IMAGE,), (WARNING,), TIMINGS, 2500)
PAUSED = happen.CopyPaused(NOW, "alice", FAULT, LATER)
COPY_FAILED = happen.CopyFailed(NOW, "alice", FAULT, 2500)


def heard(kind: str | None = None, request_id: str = "r-1") -> happen.Heard:
    return happen.Heard(NOW, request_id, OUTCOMES[kind] if kind else None)


# One of each, as somebody may say it of any job.
EVENTS: tuple[happen.Event, ...] = (
    happen.Begun(NOW, NEW),
    happen.Answered(NOW, "r-1"),
    happen.Lost(NOW, FAULT),
    happen.NotTaken(NOW, FAULT),
    happen.LeaseExpired(NOW, FAULT),
    heard("ok"),
    happen.Asked(NOW),
    happen.Taken(NOW, NEW),
    STORED,
    PAUSED,
    COPY_FAILED,
    happen.Concluded(NOW, 0),
    happen.TimedOut(NOW, LATE),
    happen.CancelAsked(NOW),
    happen.Settled(NOW),
    happen.Told(NOW, True, None),
)

# Jobs of one state that differ in everything the table looks at, also where it cannot happen.
VARIANTS: tuple[dict[str, object], ...] = (
    {},
    {"lease": HELD},
    {"lease": OVER, "settled": True},
    {"fal_request_id": "r-1", "cancel_requested": True},
    *(
        {"fal_request_id": "r-1", "outcome": outcome, "lease": HELD}
        for outcome in OUTCOMES.values()
    ),
    {"fal_request_id": "r-1", "fault": LATE, "outcome": OUTCOMES["ok"]},
    {"fal_request_id": "r-1", "fault": LATE, "notice": Notice(URL, next_at=NOW)},
    {"begun_at": T0 - UNKNOWN_FOR, "notice": Notice(URL, tries=1, delivered_at=NOW)},
)

# The job, what happens to it, and every field that differs then.
ROWS: dict[str, tuple[Job, happen.Event, dict[str, object]]] = {
    "new, begun": (
        a_job("new"),
        happen.Begun(NOW, NEW),
        {"state": "submitting", "lease": NEW, "begun_at": NOW, "updated_at": NOW},
    ),
    "new, cancelled": (
        a_job("new", notice=Notice(URL)),
        happen.CancelAsked(NOW),
        {
            "state": "cancelled",
            "cancel_requested": True,
            "finished_at": NOW,
            "updated_at": NOW,
            "notice": Notice(URL, next_at=NOW),
        },
    ),
    "submitting, answered": (
        a_job("submitting", lease=HELD),
        happen.Answered(NOW, "r-1"),
        {"state": "submitted", "fal_request_id": "r-1", "lease": None, "updated_at": NOW},
    ),
    "submitting, answer lost": (
        a_job("submitting", lease=HELD),
        happen.Lost(NOW, FAULT),
        {"state": "unknown", "fault": FAULT, "lease": None, "updated_at": NOW},
    ),
    "submitting, not taken": (
        a_job("submitting", lease=HELD, notice=Notice(URL)),
        happen.NotTaken(NOW, FAULT),
        {
            "state": "failed",
            "fault": FAULT,
            "lease": None,
            "settled": True,
            "finished_at": NOW,
            "updated_at": NOW,
            "notice": Notice(URL, next_at=NOW),
        },
    ),
    "submitting, lease over": (
        a_job("submitting", lease=OVER),
        happen.LeaseExpired(NOW, FAULT),
        {"state": "unknown", "fault": FAULT, "lease": None, "updated_at": NOW},
    ),
    "submitting, the outcome first": (
        a_job("submitting", lease=HELD),
        heard("ok"),
        {
            "state": "submitted",
            "fal_request_id": "r-1",
            "outcome": OUTCOMES["ok"],
            "lease": None,
            "updated_at": NOW,
        },
    ),
    "submitting, only its request first": (
        a_job("submitting", lease=HELD),
        heard(),
        {"state": "submitted", "fal_request_id": "r-1", "lease": None, "updated_at": NOW},
    ),
    "submitting, cancelled": (
        a_job("submitting", lease=HELD),
        happen.CancelAsked(NOW),
        {"cancel_requested": True},
    ),
    "submitted, the outcome": (
        a_job("submitted", fal_request_id="r-1"),
        heard("error"),
        {"outcome": OUTCOMES["error"], "updated_at": NOW},
    ),
    "submitted, fal at work": (
        a_job("submitted", fal_request_id="r-1"),
        happen.Asked(NOW),
        {"asked_at": NOW},
    ),
    "submitted, taken": (
        a_job("submitted", fal_request_id="r-1", outcome=OUTCOMES["ok"]),
        happen.Taken(NOW, NEW),
        {"state": "storing", "lease": NEW, "updated_at": NOW},
    ),
    "submitted, fal failed": (
        a_job("submitted", fal_request_id="r-1", outcome=OUTCOMES["error"]),
        happen.Concluded(NOW, 0),
        {
            "state": "failed",
            "fault": OUTCOMES["error"].fault,
            "settled": True,
            "cost": Cost(3000, 0),
            "finished_at": NOW,
            "updated_at": NOW,
        },
    ),
    "submitted, fal cancelled": (
        a_job("submitted", fal_request_id="r-1", outcome=OUTCOMES["cancelled"]),
        happen.Concluded(NOW, 0),
        {
            "state": "cancelled",
            "settled": True,
            "cost": Cost(3000, 0),
            "finished_at": NOW,
            "updated_at": NOW,
        },
    ),
    "submitted, an hour over": (
        a_job("submitted", fal_request_id="r-1", begun_at=NOW - SUBMITTED_FOR),
        happen.TimedOut(NOW, LATE),
        {"state": "failed", "fault": LATE, "finished_at": NOW, "updated_at": NOW},
    ),
    "submitted, cancelled": (
        a_job("submitted", fal_request_id="r-1"),
        happen.CancelAsked(NOW),
        {"cancel_requested": True},
    ),
    "storing, taken from one whose lease is over": (
        a_job("storing", outcome=OUTCOMES["ok"], lease=OVER),
        happen.Taken(NOW, NEW),
        {"lease": NEW, "updated_at": NOW},
    ),
    "storing, taken again after a pause": (
        a_job("storing", outcome=OUTCOMES["ok"], retry_at=NOW, copy_tries=1, fault=FAULT),
        happen.Taken(NOW, NEW),
        {"lease": NEW, "updated_at": NOW},
    ),
    "storing, stored": (
        a_job("storing", outcome=OUTCOMES["ok"], lease=HELD, fault=FAULT, retry_at=NOW),
        STORED,
        {
            "state": "done",
            "images": (IMAGE,),
            "warnings": (WARNING,),
            "seed": 7,
            "timings_ms": TIMINGS,
            "cost": Cost(3000, 2500, 1.0),
            "settled": True,
            "fault": None,
            "lease": None,
            "retry_at": None,
            "finished_at": NOW,
            "updated_at": NOW,
        },
    ),
    "storing, paused": (
        a_job("storing", outcome=OUTCOMES["ok"], lease=HELD, copy_tries=1),
        PAUSED,
        {"lease": None, "copy_tries": 2, "retry_at": LATER, "fault": FAULT, "updated_at": NOW},
    ),
    "storing, never to be copied": (
        a_job("storing", outcome=OUTCOMES["ok"], lease=HELD),
        COPY_FAILED,
        {
            "state": "failed",
            "fault": FAULT,
            "lease": None,
            "settled": True,
            "cost": Cost(3000, 2500, 1.0),
            "finished_at": NOW,
            "updated_at": NOW,
        },
    ),
    "unknown, answered": (
        a_job("unknown", fault=FAULT),
        happen.Answered(NOW, "r-1"),
        {"state": "submitted", "fal_request_id": "r-1", "fault": None, "updated_at": NOW},
    ),
    "unknown, not taken": (
        a_job("unknown", fault=FAULT),
        happen.NotTaken(NOW, LATE),
        {"state": "failed", "fault": LATE, "settled": True, "finished_at": NOW, "updated_at": NOW},
    ),
    "unknown, the outcome": (
        a_job("unknown", fault=FAULT, settled=True, finished_at=T0),
        heard("cancelled"),
        {
            "state": "submitted",
            "fal_request_id": "r-1",
            "outcome": OUTCOMES["cancelled"],
            "fault": None,
            "finished_at": None,
            "updated_at": NOW,
        },
    ),
    "unknown, cancelled": (
        a_job("unknown", fault=FAULT),
        happen.CancelAsked(NOW),
        {"cancel_requested": True},
    ),
    "unknown, given up": (
        a_job("unknown", fault=FAULT, notice=Notice(URL)),
        happen.Settled(NOW),
        {"settled": True, "finished_at": NOW, "notice": Notice(URL, next_at=NOW)},
    ),
    "failed without a request, a picture after all": (
        a_job("failed", fault=FAULT, settled=True, finished_at=T0),
        heard("ok"),
        {
            "state": "submitted",
            "fal_request_id": "r-1",
            "outcome": OUTCOMES["ok"],
            "fault": None,
            "finished_at": None,
            "updated_at": NOW,
        },
    ),
    "failed by time, a picture after all": (
        a_job("failed", fal_request_id="r-1", fault=LATE, settled=True, finished_at=T0),
        heard("ok"),
        {"outcome": OUTCOMES["ok"], "updated_at": NOW},
    ),
    "failed by time, taken": (
        a_job("failed", fault=LATE, outcome=OUTCOMES["ok"], settled=True, finished_at=T0),
        happen.Taken(NOW, NEW),
        {"state": "storing", "lease": NEW, "finished_at": None, "updated_at": NOW},
    ),
    "failed, settled": (a_job("failed", fault=LATE), happen.Settled(NOW), {"settled": True}),
    "cancelled, settled": (a_job("cancelled"), happen.Settled(NOW), {"settled": True}),
    **{
        f"{state}, told": (
            a_job(state, settled=True, notice=Notice(URL, tries=2, next_at=NOW)),
            happen.Told(NOW, True, None),
            {"notice": Notice(URL, tries=3, delivered_at=NOW)},
        )
        for state in ("unknown", "failed", "cancelled", "done")
    },
}


@pytest.mark.parametrize("row", ROWS)
def test_the_row_changes_this_and_nothing_else(row: str):
    job, event, changes = ROWS[row]
    assert transition(job, event) == replace(job, **changes)


def test_every_row_of_the_table_is_among_these():
    assert {(job.state, type(event)) for job, event, _ in ROWS.values()} == set(TABLE)


def test_events_are_all_there():
    assert {type(event) for event in EVENTS} == set(happen.Event.__subclasses__())


def test_whatever_is_not_in_the_table_leaves_the_very_same_job():
    pairs = [pair for pair in product(STATES, EVENTS) if (pair[0], type(pair[1])) not in TABLE]
    assert len(pairs) == len(STATES) * len(EVENTS) - len(TABLE)
    for (state, event), fields in product(pairs, VARIANTS):
        job = a_job(state, **fields)
        assert transition(job, event) is job, (state, event, fields)


def known(state: State, **fields: object) -> Job:
    return a_job(state, fal_request_id="r-1", **fields)


OK = OUTCOMES["ok"]
IGNORED: dict[str, tuple[Job, happen.Event]] = {
    "a lease that is held does not expire": (
        a_job("submitting", lease=HELD),
        happen.LeaseExpired(NOW, FAULT),
    ),
    "what is being stored is not taken away": (
        known("storing", outcome=OK, lease=HELD),
        happen.Taken(NOW, NEW),
    ),
    "not even by its holder": (
        known("storing", outcome=OK, lease=HELD),
        happen.Taken(NOW, Lease("alice", LATER)),
    ),
    "without an outcome there is nothing to take": (known("submitted"), happen.Taken(NOW, NEW)),
    "an error is not taken": (
        known("submitted", outcome=OUTCOMES["error"]),
        happen.Taken(NOW, NEW),
    ),
    "what failed for good is not taken": (
        known("failed", outcome=OK, fault=FAULT),
        happen.Taken(NOW, NEW),
    ),
    "what timed out and has no picture is not taken": (
        known("failed", fault=LATE),
        happen.Taken(NOW, NEW),
    ),
    "another's pictures are not stored": (
        known("storing", outcome=OK, lease=HELD),
        replace(STORED, owner="bob"),
    ),
    "another does not pause": (
        known("storing", outcome=OK, lease=HELD),
        replace(PAUSED, owner="bob"),
    ),
    "another does not give the pictures up": (
        known("storing", outcome=OK, lease=HELD),
        replace(COPY_FAILED, owner="bob"),
    ),
    "after a pause nobody is the owner": (known("storing", outcome=OK), STORED),
    "an outcome of another request": (known("submitted"), heard("ok", "r-2")),
    "the first outcome stays: an error after a picture": (
        known("submitted", outcome=OK),
        heard("error"),
    ),
    "the first outcome stays: a picture after an error": (
        known("submitted", outcome=OUTCOMES["error"]),
        heard("ok"),
    ),
    "the same outcome twice": (known("submitted", outcome=OK), heard("ok")),
    "the request's id twice": (known("submitted"), heard()),
    "an error without a request is no news for what failed": (
        a_job("failed", fault=FAULT, settled=True),
        heard("error"),
    ),
    "an error is no news for what timed out": (known("failed", fault=LATE), heard("error")),
    "a picture of another request for what timed out": (
        known("failed", fault=LATE),
        heard("ok", "r-2"),
    ),
    "a second picture for what timed out": (
        known("failed", fault=LATE, outcome=OK),
        heard("ok"),
    ),
    "a picture for what fal refused with its id": (known("failed", fault=FAULT), heard("ok")),
    "a picture does not end a job by itself": (
        known("submitted", outcome=OK),
        happen.Concluded(NOW, 0),
    ),
    "nothing is concluded before fal's word": (known("submitted"), happen.Concluded(NOW, 0)),
    "an hour is not over": (
        known("submitted", begun_at=NOW - SUBMITTED_FOR + timedelta(milliseconds=1)),
        happen.TimedOut(NOW, LATE),
    ),
    "an hour is over and fal had finished": (
        known("submitted", begun_at=NOW - SUBMITTED_FOR, outcome=OK),
        happen.TimedOut(NOW, LATE),
    ),
    "cancelled twice while submitting": (
        a_job("submitting", cancel_requested=True),
        happen.CancelAsked(NOW),
    ),
    "cancelled twice": (known("submitted", cancel_requested=True), happen.CancelAsked(NOW)),
    "cancelled twice while unknown": (
        a_job("unknown", cancel_requested=True),
        happen.CancelAsked(NOW),
    ),
    "settled twice": (a_job("failed", settled=True), happen.Settled(NOW)),
    "settled twice while unknown": (
        a_job("unknown", settled=True, finished_at=T0, notice=Notice(URL, 1, None, T0)),
        happen.Settled(NOW),
    ),
    "told twice": (
        a_job("done", settled=True, notice=Notice(URL, 1, None, T0)),
        happen.Told(NOW, True, None),
    ),
    "told after it was given up": (
        a_job("done", settled=True, notice=Notice(URL, 9)),
        happen.Told(NOW, False, LATER),
    ),
    "told of an unknown job that is not given up": (
        a_job("unknown", notice=Notice(URL)),
        happen.Told(NOW, True, None),
    ),
    "told although nobody asked": (a_job("done", settled=True), happen.Told(NOW, True, None)),
}


@pytest.mark.parametrize("case", IGNORED)
def test_this_changes_nothing(case: str):
    job, event = IGNORED[case]
    assert (job.state, type(event)) in TABLE
    assert transition(job, event) is job


def after(job: Job, *events: happen.Event) -> Job:
    for event in events:
        job = transition(job, event)
    return job


def test_a_lease_is_over_in_the_moment_it_ends():
    job = a_job("submitting", lease=Lease("alice", NOW))
    assert not states.is_held(job, NOW)
    assert states.is_held(job, NOW - timedelta(milliseconds=1))
    assert not states.is_held(a_job("submitting"), NOW)


def test_an_owner_whose_lease_is_over_may_finish_what_nobody_else_took():
    assert after(known("storing", outcome=OK, lease=OVER), STORED).state == "done"


def test_an_answer_after_the_webhook_does_not_forget_the_outcome():
    first = after(a_job("submitting", lease=HELD), heard("ok"))
    assert transition(first, happen.Answered(LATER, "r-1")) is first
    assert transition(first, happen.Lost(LATER, FAULT)) is first
    assert transition(first, happen.NotTaken(LATER, FAULT)) is first


def test_a_slow_submitter_still_brings_the_request_id_of_an_unknown_job():
    job = after(
        a_job("submitting", lease=OVER),
        happen.LeaseExpired(NOW, FAULT),
        happen.Answered(LATER, "r-1"),
    )
    assert (job.state, job.fal_request_id, job.fault) == ("submitted", "r-1", None)


def test_a_picture_after_the_time_out_is_stored_and_told_as_a_new_end():
    timed_out = after(
        known("submitted", begun_at=NOW - SUBMITTED_FOR, notice=Notice(URL)),
        happen.TimedOut(NOW, LATE),
        happen.Settled(NOW),
        happen.Told(NOW, True, None),
    )
    assert (timed_out.state, due_at(timed_out)) == ("failed", None)
    done = after(
        timed_out,
        heard("ok"),
        happen.Taken(LATER, NEW),
        replace(STORED, at=LATER, owner="bob"),
    )
    assert (done.state, done.fault, done.settled) == ("done", None, True)
    assert done.notice == Notice(URL, next_at=LATER)


def test_a_late_picture_that_cannot_be_copied_is_not_tried_for_ever():
    job = after(
        known("failed", fault=LATE, outcome=OK, settled=True),
        happen.Taken(NOW, NEW),
        replace(COPY_FAILED, owner="bob"),
    )
    assert (job.state, job.fault, due_at(job)) == ("failed", FAULT, None)


def test_cancelling_is_remembered_until_the_request_id_is_known():
    job = after(
        a_job("submitting", lease=HELD),
        happen.CancelAsked(NOW),
        happen.Lost(NOW, FAULT),
        happen.Answered(NOW, "r-1"),
    )
    assert job.cancel_requested
    assert job.state == "submitted"


def test_cancelling_does_not_outrun_a_finished_picture():
    job = known("submitted", cancel_requested=True, outcome=OK)
    assert transition(job, happen.Taken(NOW, NEW)).state == "storing"


def test_what_was_not_delivered_is_told_again_and_then_given_up():
    job = a_job("done", settled=True, notice=Notice(URL, next_at=NOW))
    again = transition(job, happen.Told(NOW, False, LATER))
    assert again.notice == Notice(URL, tries=1, next_at=LATER)
    assert due_at(again) == LATER
    given_up = transition(again, happen.Told(LATER, False, None))
    assert given_up.notice == Notice(URL, tries=2)
    assert due_at(given_up) is None


def test_pictures_come_from_the_outcome_that_fal_gave():
    job = known("storing", outcome=Outcome("ok", sources=None, output={"text": "hi"}), lease=HELD)
    assert after(job, replace(STORED, images=())).output == {"text": "hi"}


DUE: dict[str, tuple[Job, datetime | None]] = {
    "new": (a_job("new"), T0 + BEGIN_WITHIN),
    "submitting": (a_job("submitting", lease=HELD), HELD.ends_at),
    "submitting without a lease": (a_job("submitting", updated_at=NOW), NOW),
    "submitted": (known("submitted", updated_at=NOW), NOW + ASK_EVERY),
    "submitted and asked": (known("submitted", asked_at=LATER), LATER + ASK_EVERY),
    "submitted with an outcome": (
        known("submitted", asked_at=LATER, outcome=OK, updated_at=NOW),
        NOW + DRIVE_WITHIN,
    ),
    "storing": (known("storing", outcome=OK, lease=HELD), HELD.ends_at),
    "storing, paused": (known("storing", outcome=OK, retry_at=LATER), LATER),
    "storing, left": (known("storing", outcome=OK, updated_at=NOW), NOW),
    "unknown": (a_job("unknown", begun_at=NOW), NOW + UNKNOWN_FOR),
    "unknown, begun nobody knows when": (a_job("unknown", begun_at=None), T0 + UNKNOWN_FOR),
    "unknown and given up": (a_job("unknown", settled=True, finished_at=NOW), None),
    "timed out": (known("failed", fault=LATE, updated_at=NOW), NOW + DRIVE_WITHIN),
    "timed out, with a picture": (
        known("failed", fault=LATE, outcome=OK, settled=True, updated_at=NOW),
        NOW + DRIVE_WITHIN,
    ),
    "timed out for good": (known("failed", fault=LATE, settled=True), None),
    "failed": (known("failed", fault=FAULT, outcome=OK, settled=True), None),
    "cancelled, not settled": (a_job("cancelled", updated_at=NOW), NOW + DRIVE_WITHIN),
    "done": (known("done", settled=True), None),
}


@pytest.mark.parametrize("case", DUE)
def test_a_job_is_due(case: str):
    job, expected = DUE[case]
    assert due_at(job) == expected


@pytest.mark.parametrize("state", STATES)
def test_a_job_leaves_the_due_index_only_when_it_is_over_settled_and_told(state: State):
    for settled, notice in product(
        (False, True),
        (None, Notice(URL, next_at=LATER), Notice(URL, 3), Notice(URL, 1, None, NOW)),
    ):
        job = a_job(state, settled=settled, notice=notice, outcome=OK, fal_request_id="r-1")
        is_told = notice is None or notice.next_at is None
        assert (due_at(job) is None) == (job.is_over and settled and is_told)


@pytest.mark.parametrize("state", STATES)
def test_a_job_is_over_when_waiting_is_of_no_use(state: State):
    assert a_job(state).is_over == (state in ("done", "failed", "cancelled", "unknown"))


@pytest.mark.parametrize("notice", [Notice(URL, 4, None, T0), Notice(URL, 4, LATER)])
def test_every_end_is_told_anew(notice: Notice):
    given_up = a_job("unknown", settled=True, finished_at=T0, notice=notice)
    failed = transition(given_up, happen.NotTaken(NOW, FAULT))
    assert failed.notice == Notice(URL, next_at=NOW)


def test_a_fault_of_another_kind_is_no_time_out():
    assert states.is_timed_out(a_job("failed", fault=LATE))
    assert not states.is_timed_out(a_job("failed", fault=Fault("fal_failed", "no luck")))
    assert not states.is_timed_out(a_job("done"))

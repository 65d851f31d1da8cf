"""The protocol of jobs in every state it can reach, and the real table against the model's."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from itertools import product

import pytest

from fal_image.jobs.states import due_at, transition
from support.job_model import Found, explore, left_alone
from support.job_rules import HOUR, LAST, TABLE, Doc, Event, Table, is_finished_with
from support.job_shapes import SINCE_BEGIN, T0, again, event_of, job_of, shape
from support.job_world import EVENTS, Model, Step, World, after, heard_of, passing, steps

pytestmark = pytest.mark.timeout(60)  # whichever test comes first explores for the others too

# What is explored in full, and in how many states each must be found to be right. Fewer would mean
# that something can no longer happen.
BOUNDS: dict[str, tuple[Model, int]] = {
    "no webhook": (Model(3, copies="flaky", tells=True), 123_898),
    "a webhook": (Model(3, webhook="full", copies="flaky"), 127_296),
    "a webhook, cancelled": (Model(2, webhook="full", cancels=True, is_misread=True), 99_824),
    "a webhook, told": (
        Model(2, "submitting", webhook="full", tells=True, is_misread=True),
        32_367,
    ),
    "a webhook, pictures that cannot be copied": (
        Model(2, "submitting", webhook="full", copies="broken", tells=True, pictures=2),
        28_260,
    ),
    "a webhook without an outcome": (
        Model(2, webhook="bare", cancels=True, copies="flaky", pictures=2, is_misread=True),
        120_127,
    ),
}


@cache
def found(name: str) -> Found:
    return explore(BOUNDS[name][0])


@pytest.mark.parametrize("name", BOUNDS)
def test_nothing_is_lost_or_paid_twice_whatever_happens_and_whoever_dies(name: str):
    seen, count = found(name), BOUNDS[name][1]
    assert seen.problem is None, "\n".join([seen.problem or "", *seen.way])
    assert seen.states == count


def test_every_row_of_the_table_is_needed_for_something():
    used = {
        (doc.state, event.name)
        for name in BOUNDS
        for doc, event in found(name).tried
        if after(Model(), doc, event) != doc
    }
    assert used == set(TABLE)


def without(*rows: tuple[str, str]) -> Table:
    return {row: change for row, change in TABLE.items() if row not in rows}


def started_over(doc: Doc, event: Event) -> Doc:
    return doc if doc.lease == "live" else Doc("new")


def reopened(doc: Doc, event: Event) -> Doc:
    return doc._replace(state="submitted", lease=None)


def sinner(*sins: str, **bounds: object) -> Model:
    return Model(sins=frozenset(sins), **bounds)  # type: ignore[arg-type]


# Mistakes in the table or in what drivers do, and what each of them leads to.
WRONG: dict[str, tuple[Model, str]] = {
    "a webhook does not move `unknown`": (
        Model(webhook="full", table=without(("unknown", "heard"))),
        "a picture lost: unknown",
    ),
    "a webhook does not come before the answer": (
        Model(webhook="full", table=without(("submitting", "heard"))),
        "a picture lost: unknown",
    ),
    "a picture after the time-out is not taken": (
        Model(webhook="full", table=without(("failed", "heard"))),
        "a picture lost: failed",
    ),
    "a webhook is recorded by whoever holds the lease": (
        sinner("the webhook waits for the lease", webhook="full"),
        "fal's outcome thrown away",
    ),
    "an answer is not heard once the lease is over": (
        Model(table=without(("unknown", "answered"))),
        "fal's answer thrown away",
    ),
    "a submit whose lease is over is made again": (
        Model(table={**TABLE, ("submitting", "expired"): started_over}),
        "submitted twice",
    ),
    "a submit whose answer is lost is made again": (
        Model(table={**TABLE, ("submitting", "lost"): started_over, ("new", "lost"): started_over}),
        "went from submitting to new",
    ),
    "a submitter does not look whether its write was made": (
        sinner("writes without comparing"),
        "went from submitted to submitting",
    ),
    "nobody finds that a submitter died": (
        Model(table=without(("submitting", "expired"))),
        "waits for ever as submitting",
    ),
    "nobody goes on with the pictures of one who died": (
        Model(table=without(("storing", "taken"))),
        "waits for ever as storing",
    ),
    "fal may take as long as it likes": (
        Model(table=without(("submitted", "timed_out"))),
        "waits for ever as submitting",
    ),
    "`unknown` keeps its reservation": (
        Model(table=without(("unknown", "settled"))),
        "waits for ever as submitting",
    ),
    "a cancelled job keeps its reservation": (
        Model(cancels=True, table=without(("cancelled", "settled"))),
        "waits for ever as cancelled",
    ),
    "keys are made up when pictures are copied": (
        sinner("keys of its own"),
        "a picture under two keys",
    ),
    "a late webhook opens a job that is done": (
        Model(webhook="full", table={**TABLE, ("done", "heard"): reopened}),
        "went from done to submitted",
    ),
    "the end is written before the money is settled": (
        sinner("settles after the end"),
        "called settled while the reservation is open",
    ),
    "a job is given up after an hour without asking fal": (
        sinner("gives up without asking"),
        "a picture lost: failed",
    ),
    "what was told of one end is noted for the next": (
        sinner("tells again", tells=True),
        "its owner was not told of failed",
    ),
    "without a budget a job is made as settled": (
        sinner("is born settled", tells=True),
        "its owner was not told of unknown",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_the_search_finds_the_mistake(mistake: str):
    model, problem = WRONG[mistake]
    assert explore(model).problem == problem


def test_keys_that_are_always_the_same_forgive_a_driver_that_ignores_the_lease():
    assert explore(sinner("takes in spite of the lease")).problem is None
    both = sinner("takes in spite of the lease", "keys of its own")
    assert explore(both).problem == "a picture under two keys"


def submitting(fal: str, **bounds: object) -> tuple[Model, World]:
    """A submitter that died after its submit and before it wrote down the answer."""
    model = Model(webhook="full", **bounds)  # type: ignore[arg-type]
    submits = 0 if fal == "nothing" else 1
    doc = Doc("submitting", lease="live")
    return model, model.start()._replace(doc=doc, fal=fal, submits=submits)


@pytest.mark.parametrize("fal", ["nothing", "working", "ok", "error"])
def test_a_job_killed_before_its_answer_was_written_reads_unknown(fal: str):
    ends, stuck = left_alone(*submitting(fal))
    assert stuck is None
    assert {(end.doc.state, end.counter, end.submits) for end in ends} == {
        ("unknown", "full", 0 if fal == "nothing" else 1)
    }


@pytest.mark.parametrize("clock", [0, HOUR, LAST])
def test_and_is_done_after_the_webhook(clock: int):
    model, world = submitting("ok")
    lost = after(model, world.doc._replace(lease="over"), Event("expired"))
    for doc in (world.doc, lost, lost._replace(settled=True)):
        heard = after(model, doc, heard_of(model, world))
        ends, stuck = left_alone(model, world._replace(doc=heard, clock=clock))
        assert stuck is None
        assert {(end.doc.state, end.stored, end.submits) for end in ends} == {("done", (1,), 1)}


def all_docs() -> set[Doc]:
    return {doc for name in BOUNDS for doc, _ in found(name).tried}


def all_events(doc: Doc) -> Iterator[Event]:
    """Everything that anybody might say of a document, also what nobody would."""
    for name, clock in product(sorted(EVENTS), (0, HOUR, LAST)):
        if name == "heard":
            for outcome in (None, "ok", "error", "cancelled"):
                yield Event(name, outcome, clock=clock)
        else:
            yield Event(name, clock=clock)
            if doc.lease is not None:
                yield Event(name, mine=True, clock=clock)


def test_the_real_table_and_the_model_agree_on_every_event_in_every_document():
    docs = all_docs()
    tried = 0
    for doc in docs:
        for event in all_events(doc):
            now = T0 + SINCE_BEGIN[event.clock]
            job = job_of(doc, now)
            assert shape(job, now) == doc
            expected = after(Model(), doc, event)
            result = transition(job, event_of(event, job, now))
            assert shape(result, now) == expected, (doc, event)
            assert (result is job) == (expected == doc), (doc, event)
            assert (due_at(result) is None) == is_finished_with(expected), (doc, event)
            tried += 1
    assert (len(docs), tried) == (91, 5_670)


@pytest.mark.long
def test_what_the_search_saw_is_among_these():
    for name in BOUNDS:
        for doc, event in found(name).tried:
            assert event in set(all_events(doc))


class Walk:
    """One way through the model with a real job beside the model's, and with real times."""

    def __init__(self, model: Model) -> None:
        self.world = model.start()
        self.now = T0
        self.owners = 0
        self.job = job_of(self.world.doc, T0)
        self.read_again()

    def go(self, step: Step) -> None:
        self.now = self.time_after(step)
        self.world = step.world
        if step.event is not None:
            self.owners += 1
            event = event_of(step.event, self.job, self.now, owner=f"driver-{self.owners}")
            self.job = transition(self.job, event)
            self.read_again()
        assert shape(self.job, self.now) == self.world.doc, step

    def read_again(self) -> None:
        kept = again(self.job)
        assert kept == self.job
        self.job = kept

    def time_after(self, step: Step) -> datetime:
        if step.what == "the lease ends" and self.job.lease is not None:
            return self.job.lease.ends_at
        if step.what == "hours pass" and self.job.begun_at is not None:
            return self.job.begun_at + SINCE_BEGIN[step.world.clock]
        return self.now + timedelta(milliseconds=1)


WALKED = [
    Model(3, webhook="full", cancels=True, copies="flaky", tells=True, is_misread=True),
    Model(3, webhook="bare", cancels=True, copies="broken", tells=True, is_misread=True),
    Model(3, "submitting", copies="flaky", tells=True, pictures=2),
]


@pytest.mark.long
@pytest.mark.parametrize("model", WALKED, ids=lambda model: f"{model.webhook}-{model.copies}")
def test_real_jobs_go_the_ways_of_the_model_and_come_to_its_ends(model: Model):
    ends = set()
    for seed in range(1_500):
        choose = random.Random(seed)
        walk = Walk(model)
        for _ in range(choose.randrange(120)):
            following = list(steps(model, walk.world))
            if following:
                walk.go(choose.choice(following))
        sweep_to_the_end(model, walk, choose)
        assert due_at(walk.job) is None
        assert walk.job.settled
        ends.add(walk.job.state)
    assert ends >= {"failed", "unknown"}
    assert ("done" in ends) == (model.copies != "broken")
    assert ("cancelled" in ends) == model.cancels


def sweep_to_the_end(model: Model, walk: Walk, choose: random.Random) -> None:
    """Everybody dies; one sweep goes on, and time when the sweep changes nothing."""
    driver = ("idle", False, False)
    walk.world = walk.world._replace(drivers=(driver,), recorder="idle", canceller="gone")
    rested = None
    while True:
        is_idle = walk.world.drivers == (driver,)
        changes_nothing = is_idle and walk.world == rested
        if is_idle:
            rested = walk.world
        following = [] if changes_nothing else list(steps(model, walk.world, alone=True))
        following = following or list(passing(walk.world))
        if not following:
            return
        walk.go(choose.choice(following))

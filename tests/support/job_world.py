"""One job, everybody who works on it, fal and time: everything that can happen next.

Drivers do one thing at a time and may die after any of it, or be so slow that their lease is over
while they go on. Every read, compare-and-set, call of fal, copy of a picture, settlement and call
of the owner is a step of its own, and between any two steps anything else may happen.

It does not imitate fal forgetting results (somebody keeps sweeping), a database that fails in the
middle of a write (that is dying after it or before it), or several jobs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from .job_rules import ENDS, HOUR, LAST, TABLE, Doc, Event, Table


class World(NamedTuple):
    """Everything at one moment.

    A driver is what it does next, whether the document is still as it read it, and whether it
    holds the lease. The drivers are alike: which of them is which is forgotten by sorting them.
    """

    doc: Doc
    drivers: tuple[tuple[str, bool, bool], ...]
    recorder: str = "idle"  # of fal's webhook, which may come any number of times
    canceller: str = "waits"
    fal: str = "nothing"  # "working", "ok", "error", "cancelled"
    cancelling: bool = False  # fal was asked to cancel
    late: bool = False  # an hour was over and fal, when asked, was still at work
    misread: bool = False  # fal took the job and its answer read like a refusal
    submits: int = 0
    counter: str = "open"  # then what was settled: "none", "actual", "full"
    stored: tuple[int, ...] = ()  # under how many keys each picture is
    clock: int = 0
    told: frozenset[str] = frozenset()  # the ends that the owner heard of


@dataclass(frozen=True)
class Model:
    """What is explored. `sins` are mistakes that drivers make; the checks must find each."""

    drivers: int = 2
    born: str = "new"  # or "submitting": by a driver that goes on to submit it
    webhook: str | None = None  # "full", "bare" (names the request and no outcome)
    cancels: bool = False
    copies: str = "good"  # "flaky": may be tried again; "broken": one can never be copied
    tells: bool = False
    pictures: int = 1
    is_misread: bool = False  # fal may take a job with an answer that reads like a refusal
    table: Table = field(default_factory=lambda: TABLE, repr=False)
    sins: frozenset[str] = frozenset()

    def start(self) -> World:
        notice = "waiting" if self.tells else None
        lease, first = (None, "idle") if self.born == "new" else ("live", "submit")
        doc = Doc(self.born, lease, notice=notice, settled="is born settled" in self.sins)
        drivers = [("idle", False, False)] * (self.drivers - 1) + [(first, False, False)]
        return World(
            doc,
            tuple(sorted(drivers)),
            canceller="waits" if self.cancels else "gone",
            counter="none" if doc.settled else "open",
            stored=(0,) * self.pictures,
        )


class Step(NamedTuple):
    """One step: who did what, the event that was tried on the document, and what came of it."""

    what: str
    event: Event | None
    world: World


# What a driver at work does next. The names of events stand for saving them.
AFTER_SAVING = {"begun": "submit", "timed_out": "settle full", "taken": "copy 0"}
SETTLE = {  # the amount, and what is written then: money first, the end of the job after it
    "settle refusal": ("none", "not_taken"),
    "settle error": ("none", "concluded"),
    "settle cancelled": ("none", "settled"),
    "settle pictures": ("actual", "stored"),
    "settle loss": ("actual", "copy_failed"),
    "settle full": ("full", "settled"),
    "pay late": ("actual", "idle"),  # a sin
}
DROPPED = frozenset(
    {"told"}
)  # not tried again on a document that has changed: it tells another end
EVENTS = frozenset(name for _, name in TABLE)


@cache
def _listed(doc: Doc, event: Event) -> Doc:
    change = TABLE.get((doc.state, event.name))
    return change(doc, event) if change else doc


def after(model: Model, doc: Doc, event: Event) -> Doc:
    """The document after the event, as the model's table has it."""
    if model.table is TABLE:
        return _listed(doc, event)
    change = model.table.get((doc.state, event.name))
    return change(doc, event) if change else doc


def steps(model: Model, world: World, *, alone: bool = False) -> Iterator[Step]:
    """Everything that can happen next. `alone`: to the first driver, without dying or bad luck."""
    for place in range(1 if alone else len(world.drivers)):
        if place and world.drivers[place] == world.drivers[place - 1]:
            continue
        yield from _driven(model, world, place, alone)
    if not alone:
        yield from _recorded(model, world)
        yield from _withdrawn(model, world)
        yield from _of_fal(world)
        yield from passing(world)


def passing(world: World) -> Iterator[Step]:
    """Time: a lease ends; since the begin an hour passes, then 2 h 15 min."""
    doc = world.doc
    if doc.lease == "live":
        yield Step("the lease ends", None, world._replace(doc=doc._replace(lease="over")))
    elif world.clock < LAST and doc.state != "new":
        yield Step("hours pass", None, world._replace(clock=world.clock + 1))


def _of_fal(world: World) -> Iterator[Step]:
    if world.fal == "working":
        yield Step("fal finishes", None, world._replace(fal="ok"))
        yield Step("fal fails", None, world._replace(fal="error"))
        if world.cancelling:
            yield Step("fal cancels", None, world._replace(fal="cancelled"))


def _recorded(model: Model, world: World) -> Iterator[Step]:
    """fal's webhook: read, compare-and-set, read again if somebody was faster."""
    if model.webhook is None or world.fal not in ("ok", "error", "cancelled"):
        return
    event = heard_of(model, world)
    doc = after(model, world.doc, event)
    if "the webhook waits for the lease" in model.sins and world.doc.lease == "live":
        doc = world.doc
    if doc == world.doc:
        yield Step("webhook changes nothing", event, world._replace(recorder="idle"))
    elif world.recorder == "fresh":
        yield Step("webhook writes", event, _written(world, doc, event)._replace(recorder="idle"))
    else:
        yield Step("webhook reads", None, world._replace(recorder="fresh"))
    if world.recorder != "idle":
        yield Step("webhook dies", None, world._replace(recorder="idle"))


def heard_of(model: Model, world: World) -> Event:
    """What fal's webhook says."""
    return Event("heard", world.fal if model.webhook == "full" else None)


def _withdrawn(model: Model, world: World) -> Iterator[Step]:
    """A caller who cancels, once."""
    at = world.canceller
    if at == "gone":
        return
    if at == "call":
        yield Step("canceller calls fal", None, _cancelled_at_fal(world)._replace(canceller="gone"))
    elif at == "fresh":
        event = Event("cancel")
        written = _written(world, after(model, world.doc, event), event)
        then = "call" if written.doc.known else "gone"
        yield Step("canceller writes", event, written._replace(canceller=then))
    else:
        is_refused = world.doc.state in ("storing", *ENDS) and world.doc.state != "unknown"
        is_refused = is_refused or world.doc.outcome is not None
        then = "gone" if is_refused else "fresh"
        yield Step("canceller reads", None, world._replace(canceller=then))
    if at != "waits":
        yield Step("canceller dies", None, world._replace(canceller="gone"))


def _cancelled_at_fal(world: World) -> World:
    return world._replace(cancelling=True) if world.fal == "working" else world


def _written(world: World, doc: Doc, event: Event, writer: int = -1) -> World:
    """The document is replaced: whoever has read it and not written yet has an old one."""
    lost = event.name in ("begun", "taken") or doc.lease is None
    drivers = [
        (at, False, (event.name == "taken") if place == writer else mine and not lost)
        for place, (at, _, mine) in enumerate(world.drivers)
    ]
    recorder = "stale" if world.recorder == "fresh" else world.recorder
    canceller = "stale" if world.canceller == "fresh" else world.canceller
    if writer < 0:
        drivers.sort()
    return world._replace(doc=doc, drivers=tuple(drivers), recorder=recorder, canceller=canceller)


def _moved(world: World, place: int, then: str, fresh: bool = False) -> World:
    """A driver goes on to what it does next; idle, it has forgotten everything."""
    drivers = list(world.drivers)
    drivers[place] = (then, fresh, then != "idle" and drivers[place][2])
    return world._replace(drivers=tuple(sorted(drivers)))


def _driven(model: Model, world: World, place: int, alone: bool) -> Iterator[Step]:
    at, fresh, mine = world.drivers[place]
    if at == "idle":
        then = _decided(model, world)
        if then != "idle":
            yield Step(f"reads, will do: {then}", None, _moved(world, place, then, fresh=True))
        return
    if at in EVENTS:
        yield from _saved(model, world, place)
    elif at == "submit":
        yield from _submitted_at_fal(model, world, place, alone)
    elif at in SETTLE:
        amount, then = SETTLE[at]
        if world.counter == "open":
            world = world._replace(counter=amount)
        yield Step(at, None, _moved(world, place, then))
    elif at.startswith("copy"):
        yield from _copied(model, world, place, alone)
    elif at.startswith("tell "):
        told = world._replace(told=world.told | {at.removeprefix("tell ")})
        yield Step("tells the owner", None, _moved(told, place, "told", fresh))
    else:
        yield _asked(model, world, place)
    if not alone:
        yield Step(f"dies before: {at}", None, _moved(world, place, "idle"))


def _decided(model: Model, world: World) -> str:
    """What a driver does that finds the document like this."""
    doc = world.doc
    if doc.state == "new":
        return "begun"
    if doc.state == "submitting":
        return "idle" if doc.lease == "live" else "expired"
    if doc.state == "submitted" and doc.outcome is None:
        if world.clock >= HOUR and "gives up without asking" in model.sins:
            return "give up"
        return "pass on" if doc.cancel else "ask"
    may_take = doc.lease != "live" or "takes in spite of the lease" in model.sins
    if doc.outcome == "ok" and (doc.state in ("submitted", "storing") or doc.timed_out):
        return "taken" if may_take else "idle"
    if doc.state == "submitted":
        return "settle error"
    if not doc.settled:
        is_early = doc.state == "unknown" and world.clock < LAST
        return (
            "idle" if is_early else f"settle {'cancelled' if doc.state == 'cancelled' else 'full'}"
        )
    return f"tell {doc.state}" if doc.notice == "due" else "idle"


def _saved(model: Model, world: World, place: int) -> Iterator[Step]:
    """Compare-and-set; who loses it reads again and applies the event to what is there now."""
    name, fresh, mine = world.drivers[place]
    event = Event(name, world.fal if name == "heard" else None, mine, world.clock)
    doc = after(model, world.doc, event)
    if name == "begun" and "writes without comparing" in model.sins:
        fresh, doc = True, after(model, model.start().doc, event)
    if name == "taken" and "takes in spite of the lease" in model.sins:
        doc = after(model, world.doc._replace(lease=None), event)
    if not fresh and name in DROPPED and "tells again" not in model.sins:
        yield Step(f"lets go: {name}", None, _moved(world, place, "idle"))
    elif doc == world.doc:
        yield Step(f"is too late: {name}", event, _moved(world, place, "idle"))
    elif not fresh:
        yield Step(f"reads again: {name}", None, _moved(world, place, name, fresh=True))
    else:
        then = AFTER_SAVING.get(name, "idle")
        if name == "stored" and "settles after the end" in model.sins:
            then = "pay late"
        written = _written(world, doc, event, place)
        yield Step(f"writes: {name}", event, _moved(written, place, then))


def _submitted_at_fal(model: Model, world: World, place: int, alone: bool) -> Iterator[Step]:
    """The call that costs money, and all that may become of it."""
    sent = world._replace(submits=min(2, world.submits + 1))
    taken = sent._replace(fal="working")
    yield Step("submits, answered", None, _moved(taken, place, "answered"))
    yield Step("submits, answer lost", None, _moved(taken, place, "lost"))
    yield Step("submits, lost on the way", None, _moved(sent, place, "lost"))
    yield Step("submits, refused", None, _moved(sent, place, "settle refusal"))
    if model.is_misread:
        misread = taken._replace(misread=True)
        yield Step("submits, misread", None, _moved(misread, place, "settle refusal"))


def _copied(model: Model, world: World, place: int, alone: bool) -> Iterator[Step]:
    """One picture under its key, unless it is there already."""
    number = int(world.drivers[place][0].removeprefix("copy "))
    is_last = number + 1 == model.pictures
    if model.copies == "flaky" and not alone:
        yield Step("cannot copy now", None, _moved(world, place, "paused"))
    if model.copies == "broken" and is_last:
        yield Step("can never copy", None, _moved(world, place, "settle loss"))
        return
    count = min(2, world.stored[number] + 1) if "keys of its own" in model.sins else 1
    stored = (*world.stored[:number], count, *world.stored[number + 1 :])
    then = f"copy {number + 1}"
    if is_last:
        then = "stored" if "settles after the end" in model.sins else "settle pictures"
    yield Step(f"copies {number}", None, _moved(world._replace(stored=stored), place, then))


def _asked(model: Model, world: World, place: int) -> Step:
    """fal is asked how far it is, or to cancel."""
    at = world.drivers[place][0]
    if at == "pass on":
        return Step("cancels at fal", None, _moved(_cancelled_at_fal(world), place, "ask"))
    if at == "give up":
        gone = _cancelled_at_fal(world)
        return Step("cancels at fal, for good", None, _moved(gone, place, "timed_out"))
    if world.fal != "working":
        return Step("asks fal: finished", None, _moved(world, place, "heard"))
    if world.clock < HOUR:
        return Step("asks fal: at work", None, _moved(world, place, "idle"))
    return Step("asks fal: late", None, _moved(world._replace(late=True), place, "give up"))

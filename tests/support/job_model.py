"""The protocol of jobs checked in every state that it can reach.

`explore` walks through everything that `job_world` can do, within the bounds of a Model, and stops
at the first thing that must not be: a job paid twice, a picture lost or stored twice, money settled
wrongly, a job that waits for ever. It gives the way there.

    cd tests && python -m support.job_model      more than the suite has time for
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from .job_rules import ENDS, LAST, Doc, Event, is_finished_with
from .job_world import Model, Step, World, after, heard_of, passing, steps

WAYS = frozenset(  # every arrow of the picture; `_wrong_move` says more of those out of `failed`
    {
        ("new", "submitting"),
        ("new", "cancelled"),
        ("submitting", "submitted"),
        ("submitting", "unknown"),
        ("submitting", "failed"),
        ("submitted", "storing"),
        ("submitted", "failed"),
        ("submitted", "cancelled"),
        ("storing", "done"),
        ("storing", "failed"),
        ("unknown", "submitted"),
        ("unknown", "failed"),
        ("failed", "submitted"),
        ("failed", "storing"),
    }
)


def wrong_now(world: World) -> str | None:
    """What must not be true at any moment."""
    doc = world.doc
    if world.submits > 1:
        return "submitted twice"
    if max(world.stored) > 1:
        return "a picture under two keys"
    if doc.settled and world.counter == "open":
        return "called settled while the reservation is open"
    if doc.state == "done" and min(world.stored) < 1:
        return "done without its picture"
    if world.counter == "full" and not (world.late or world.clock == LAST):
        return "all of the reservation spent too early"
    return None


def wrong_step(before: World, step: Step) -> str | None:
    """A change of state that is not in the picture, or a word of fal that nobody wrote down."""
    was, doc, event = before.doc, step.world.doc, step.event
    if was.state != doc.state:
        has_reason = doc.outcome == "ok" and (was.timed_out or not was.known)
        if (was.state, doc.state) in WAYS and (was.state != "failed" or has_reason):
            return None
        return f"went from {was.state} to {doc.state}"
    if event is not None and event.name == "answered" and not doc.known:
        return "fal's answer thrown away"
    if event is not None and event.outcome == "ok" and doc.outcome != "ok":
        return "fal's outcome thrown away"
    return None


def left_alone(model: Model, world: World) -> tuple[list[World], World | None]:
    """Where the job ends if everybody dies now, fal falls silent and one sweep goes on, and a
    moment from which it does not end at all, if there is one.

    Time may pass whenever the sweep rests. After the last hour only the sweep goes on, and it does
    so in one way: an end that can be reached then is reached.
    """
    start = world._replace(drivers=(("idle", False, False),), recorder="idle", canceller="gone")
    led_here: dict[World, list[World]] = {start: []}
    todo, ends = [start], []
    while todo:
        now = todo.pop()
        following = [step.world for step in steps(model, now, alone=True)]
        if now.drivers == start.drivers:
            following += [step.world for step in passing(now)]
        for one in following:
            if one not in led_here:
                led_here[one] = []
                todo.append(one)
            led_here[one].append(now)
        if not following:
            ends.append(now)
    todo, ending = list(ends), set(ends)
    while todo:
        new = [one for one in led_here[todo.pop()] if one not in ending]
        ending.update(new)
        todo += new
    return ends, next((one for one in led_here if one not in ending), None)


def wrong_at_last(model: Model, world: World, end: World, delivered: bool) -> str | None:
    """What must not be true when a job was left alone in `world` and came to its `end`.

    `delivered`: fal's webhook was recorded before. A webhook that names no outcome is enough for
    a job that nobody has given up.
    """
    doc, fal = end.doc, end.fal
    if doc.state not in ENDS or not doc.settled or (doc.timed_out and doc.outcome == "ok"):
        return f"waits for ever as {doc.state}"
    if not is_finished_with(doc) or (model.tells and doc.state not in end.told):
        return f"its owner was not told of {doc.state}"
    if end.counter not in _right_amounts(end):
        return f"{end.counter} was settled for {doc.state}"
    given_up = doc.timed_out and world.late
    if delivered and model.webhook == "full":
        given_up = False
    elif delivered:
        given_up = given_up or (world.misread and doc.state == "failed")
    elif not world.doc.known:
        is_open = world.submits and world.doc.state in ("submitting", "unknown")
        return f"{doc.state} without a word of fal" if is_open and doc.state != "unknown" else None
    if fal == "ok" and not given_up and doc.state not in _ends_of_pictures(model):
        return f"a picture lost: {doc.state}"
    if fal == "error" and doc.state != "failed":
        return f"fal's error lost: {doc.state}"
    if fal == "cancelled" and doc.state != "cancelled" and not (doc.timed_out or world.misread):
        return f"fal's cancellation lost: {doc.state}"
    return None


def _ends_of_pictures(model: Model) -> tuple[str, ...]:
    return ("failed",) if model.copies == "broken" else ("done",)


def _right_amounts(end: World) -> tuple[str, ...]:
    """Once the full reservation is spent it stays so, whatever comes later: money settles once."""
    doc = end.doc
    if doc.timed_out:
        return ("full",)
    if doc.outcome == "ok":
        return ("actual", "full", "none") if end.misread else ("actual", "full")
    return ("none", "full")  # for `unknown`, none: its submitter knew and died before it said so


@dataclass
class Found:
    """What `explore` saw. `tried` is every event on every document, also where it changes nothing;
    `way` leads to what is wrong."""

    states: int = 0
    ends: int = 0
    problem: str | None = None
    way: list[str] = field(default_factory=list)
    tried: set[tuple[Doc, Event]] = field(default_factory=set)


def explore(model: Model) -> Found:
    """Walk through everything that can happen, until something is wrong."""
    start = model.start()
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    found, layer = Found(), [start]
    lonely: dict[World, str | None] = {}
    while layer and found.problem is None:
        following = []
        for world in layer:
            found.problem = wrong_now(world) or _wrong_if_left(model, world, lonely)
            if found.problem is not None:
                found.way = _way(came_from, world)
                break
            for step in steps(model, world):
                if step.event is not None:
                    found.tried.add((world.doc, step.event))
                if step.world not in came_from:
                    came_from[step.world] = (world, step.what)
                    following.append(step.world)
                found.problem = wrong_step(world, step)
                if found.problem is not None:
                    found.way = [*_way(came_from, world), step.what]
                    break
            if found.problem is not None:
                break
        layer = following
    found.states, found.ends = len(came_from), len(lonely)
    return found


def _wrong_if_left(model: Model, world: World, known: dict[World, str | None]) -> str | None:
    key = world._replace(drivers=(), recorder="idle", canceller="gone")
    if key not in known:
        known[key] = _first_wrong(model, key)
    return known[key]


def _first_wrong(model: Model, world: World) -> str | None:
    """Left alone as it is, and after fal's webhook has been heard."""
    starts = [(world, False)]
    if model.webhook and world.fal in ("ok", "error", "cancelled"):
        heard = after(model, world.doc, heard_of(model, world))
        starts.append((world._replace(doc=heard), True))
    for start, delivered in starts:
        ends, stuck = left_alone(model, start)
        if stuck is not None:
            return f"waits for ever as {stuck.doc.state}"
        problems = [wrong_now(end) for end in ends]
        problems += [wrong_at_last(model, start, end, delivered) for end in ends]
        if any(problems):
            return next(filter(None, problems))
    return None


def _way(came_from: Mapping[World, tuple[World, str] | None], world: World) -> list[str]:
    way: list[str] = []
    at: World | None = world
    while at is not None and (before := came_from[at]) is not None:
        at, what = before
        way.append(what)
    return way[::-1]


LARGE = [
    Model(3, "new", "full", cancels=True, copies="flaky", tells=True, is_misread=True),
    Model(3, "new", "bare", cancels=True, copies="broken", tells=True, is_misread=True),
    Model(3, "new", None, cancels=True, copies="flaky", tells=True, pictures=2),
    Model(4, "new", "full", copies="flaky"),
]


def main() -> int:
    for model in LARGE:
        began = time.monotonic()
        found = explore(model)
        took_s = time.monotonic() - began
        sys.stdout.write(
            f"{found.states:,} states, {found.ends:,} ends in {took_s:.0f} s: {model}\n"
        )
        if found.problem is not None:
            sys.stdout.write("\n".join([found.problem, *found.way, ""]))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

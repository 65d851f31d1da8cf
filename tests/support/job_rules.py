"""A job's document and what may happen to it, written down a second time.

Without a look at `fal_image.jobs.states`, and on values that are just large enough: what the
search in `job_model` finds out about these rules holds for the real ones as far as both agree,
which tests/jobs/test_model.py sees to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

HOUR, LAST = 1, 2  # the clock: begun, an hour ago, 2 h 15 min ago


class Doc(NamedTuple):
    """What the document says. `known` is whether fal's request id is in it."""

    state: str
    lease: str | None = None  # "live", "over"
    known: bool = False
    outcome: str | None = None  # "ok", "error", "cancelled"
    cancel: bool = False
    settled: bool = False
    timed_out: bool = False  # said of `failed` only
    notice: str | None = None  # "waiting", "due", "told"; None: nobody wants to be told


class Event(NamedTuple):
    """`mine`: whoever says it holds the document's lease. `clock`: when it is said."""

    name: str
    outcome: str | None = None
    mine: bool = False
    clock: int = 0


Table = Mapping[tuple[str, str], Callable[[Doc, Event], Doc]]


def _submitted(doc: Doc, outcome: str | None) -> Doc:
    notice = doc.notice and "waiting"
    return Doc("submitted", None, True, outcome, doc.cancel, doc.settled, False, notice)


def _ended(doc: Doc, state: str, settled: bool = True, timed_out: bool = False) -> Doc:
    notice = doc.notice and "due"
    return Doc(
        state, None, doc.known, doc.outcome, doc.cancel, settled or doc.settled, timed_out, notice
    )


def _unless(stays: bool, doc: Doc, then: Callable[[], Doc]) -> Doc:
    return doc if stays else then()


def _taken(doc: Doc, event: Event) -> Doc:
    if doc.outcome != "ok" or doc.lease == "live":
        return doc
    notice = doc.notice and "waiting"
    return doc._replace(state="storing", lease="live", timed_out=False, notice=notice)


def _heard_after_failing(doc: Doc, event: Event) -> Doc:
    if event.outcome != "ok":
        return doc
    if not doc.known:
        return _submitted(doc, "ok")
    return doc._replace(outcome="ok") if doc.timed_out and not doc.outcome else doc


def _timed_out(doc: Doc, event: Event) -> Doc:
    if doc.outcome or event.clock < HOUR:
        return doc
    return _ended(doc, "failed", settled=False, timed_out=True)


def _concluded(doc: Doc, event: Event) -> Doc:
    if doc.outcome not in ("error", "cancelled"):
        return doc
    return _ended(doc, "failed" if doc.outcome == "error" else "cancelled")


def _given_up(doc: Doc, event: Event) -> Doc:
    return doc if doc.settled else doc._replace(settled=True, notice=doc.notice and "due")


def _cancelled(doc: Doc, event: Event) -> Doc:
    return doc._replace(cancel=True)


def _settled(doc: Doc, event: Event) -> Doc:
    return doc._replace(settled=True)


def _told(doc: Doc, event: Event) -> Doc:
    return doc._replace(notice="told") if doc.notice == "due" else doc


def _as_unknown(doc: Doc, event: Event) -> Doc:
    return doc._replace(state="unknown", lease=None)


TABLE: Table = {
    ("new", "begun"): lambda doc, event: doc._replace(state="submitting", lease="live"),
    ("new", "cancel"): lambda doc, event: _cancelled(_ended(doc, "cancelled", False), event),
    ("submitting", "answered"): lambda doc, event: _submitted(doc, None),
    ("submitting", "lost"): _as_unknown,
    ("submitting", "not_taken"): lambda doc, event: _ended(doc, "failed"),
    ("submitting", "expired"): lambda doc, event: (
        doc if doc.lease == "live" else _as_unknown(doc, event)
    ),
    ("submitting", "heard"): lambda doc, event: _submitted(doc, event.outcome),
    ("submitting", "cancel"): _cancelled,
    ("submitted", "heard"): lambda doc, event: (
        doc if doc.outcome else doc._replace(outcome=event.outcome)
    ),
    ("submitted", "taken"): _taken,
    ("submitted", "concluded"): _concluded,
    ("submitted", "timed_out"): _timed_out,
    ("submitted", "cancel"): _cancelled,
    ("storing", "taken"): _taken,
    ("storing", "stored"): lambda doc, event: _ended(doc, "done") if event.mine else doc,
    ("storing", "paused"): lambda doc, event: doc._replace(lease=None) if event.mine else doc,
    ("storing", "copy_failed"): lambda doc, event: _ended(doc, "failed") if event.mine else doc,
    ("unknown", "answered"): lambda doc, event: _submitted(doc, None),
    ("unknown", "not_taken"): lambda doc, event: _ended(doc, "failed"),
    ("unknown", "heard"): lambda doc, event: _submitted(doc, event.outcome),
    ("unknown", "cancel"): _cancelled,
    ("unknown", "settled"): _given_up,
    ("unknown", "told"): _told,
    ("failed", "heard"): _heard_after_failing,
    ("failed", "taken"): lambda doc, event: _taken(doc, event) if doc.timed_out else doc,
    ("failed", "settled"): _settled,
    ("failed", "told"): _told,
    ("cancelled", "settled"): _settled,
    ("cancelled", "told"): _told,
    ("done", "told"): _told,
}

ENDS = ("done", "failed", "cancelled", "unknown")


def is_finished_with(doc: Doc) -> bool:
    """Whether nobody needs to look at the job again: it is over, settled and told."""
    waits_for_copy = doc.timed_out and doc.outcome == "ok"
    is_told = doc.notice in (None, "told")
    return doc.state in ENDS and doc.settled and is_told and not waits_for_copy

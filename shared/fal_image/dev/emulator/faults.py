"""The faults that can be scripted, as a table, and the script that hands them out.

Knows names, places and options, and in which order armed faults strike. Refuses to know how a
fault is carried out: that is done where the failing thing lives.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

POINTS = (
    "submit",
    "status",
    "stream",
    "result",
    "cancel",
    "run",
    "run-stream",
    "realtime",
    "file",
    "upload",
    "token",
    "jwks",
    "prices",
)
WEBHOOK = ("webhook",)  # the one call that the emulator makes; nothing else can befall it

# Faults of different kinds wait in different lines, because they strike at different moments.
Strikes = Literal["call", "running", "completion"]


@dataclass(frozen=True)
class FaultKind:
    """One row of the table. `options` maps a name to (default, what it means)."""

    kind: str
    on: tuple[str, ...]
    does: str
    options: Mapping[str, tuple[object, str]] = field(default_factory=dict)
    strikes: Strikes = "call"


@dataclass(frozen=True)
class Fault:
    kind: str
    on: str
    strikes: Strikes
    options: Mapping[str, Any]
    armed_at: float  # seconds of the emulator's clock


TABLE = (
    FaultKind("408", POINTS, "JSON 408; fal takes nothing"),
    FaultKind("409", POINTS, "JSON 409; fal takes nothing"),
    FaultKind("429", POINTS, "JSON 429; fal takes nothing"),
    FaultKind("500", POINTS, "JSON 500; fal takes nothing"),
    FaultKind("503", POINTS, "JSON 503; fal takes nothing"),
    FaultKind("502-nginx", POINTS, "HTML page of nginx with 502, without x-fal-request-id"),
    FaultKind("504-nginx", POINTS, "HTML page of nginx with 504, without x-fal-request-id"),
    FaultKind("reset", POINTS, "the connection is reset (RST) before anything is done"),
    FaultKind("lost", POINTS, "the call is carried out, the connection closes without an answer"),
    FaultKind(
        "cut",
        POINTS,
        "the call is carried out, the answer ends in the middle of its body, and a socket as soon "
        "as it is open",
    ),
    FaultKind(
        "slow",
        POINTS,
        "the call is carried out at once, the answer comes late",
        {"seconds": (1.0, "how late")},
    ),
    FaultKind(
        "cancel-race",
        ("cancel",),
        "a running job is asked to stop, 202, and finishes all the same; it is billed",
        strikes="running",
    ),
    FaultKind("no-request-id", ("submit",), "the job is taken, its answer names no request_id"),
    FaultKind(
        "back-to-queue",
        ("status", "stream"),
        "a running job is seen to go back to the queue; strikes once a job runs (needs run_s)",
        {"seconds": (0.02, "how long the job waits again")},
        strikes="running",
    ),
    FaultKind(
        "unknown-state",
        ("status", "stream"),
        "one answer or event says a state that nobody knows",
        {"state": ("PAUSED", "the word")},
    ),
    FaultKind(
        "stream-ends-early", ("stream",), "the stream ends in order before it says COMPLETED"
    ),
    FaultKind(
        "stream-silent",
        ("stream",),
        "the stream opens and says nothing, not even a comment",
        {"seconds": (60.0, "until it is closed")},
    ),
    FaultKind(
        "expired",
        ("result",),
        "the result of a finished job is gone for good, 404, as if it had been kept long enough",
    ),
    FaultKind(
        "error",
        ("result",),
        "the next job to finish is COMPLETED with an error and its result is >= 400",
        {
            "status": (503, "HTTP status of the result"),
            "error_type": ("runner_disconnected", "fal's type; empty for an error of the model"),
            "detail": ("Runner disconnected", "fal's text"),
        },
        strikes="completion",
    ),
    FaultKind(
        "null-payload",
        ("result",),
        "the next job to finish answers null; its webhook says OK without a payload",
        strikes="completion",
    ),
    FaultKind(
        "no-images",
        ("result",),
        "the next job to finish has an empty list of images",
        strikes="completion",
    ),
    FaultKind(
        "black",
        ("result",),
        "the next job to finish has black pictures and has_nsfw_concepts true",
        strikes="completion",
    ),
    FaultKind(
        "truncated",
        ("file",),
        "the picture ends early",
        {
            "declare": (
                "whole",
                "whole: Content-Length of the whole picture, more than is sent; "
                "sent: of what is sent, only the picture's trailer is missing",
            )
        },
    ),
    FaultKind(
        "mistyped",
        ("file",),
        "the body is not what the content type says",
        {"body": ("html", "html: a page declared image/png; png: a PNG declared image/jpeg")},
    ),
    FaultKind(
        "oversize",
        ("file",),
        "a body that starts like a PNG and is too long, streamed in constant memory",
        {"bytes": (0, "its length; 0: undeclared and without end")},
    ),
    FaultKind(
        "padded",
        ("file",),
        "a valid PNG of the picture, padded to about this length in constant memory",
        {"bytes": (50_000_000, "its length")},
    ),
    FaultKind("vanished", ("file",), "404"),
    FaultKind("redirect", ("file",), "302", {"url": ("http://127.0.0.1:1/", "to where")}),
    FaultKind(
        "duplicate",
        WEBHOOK,
        "the next webhook is delivered more than once, whatever is answered",
        {"copies": (2, "how often")},
    ),
    FaultKind(
        "late", WEBHOOK, "the next webhook comes late", {"seconds": (1.0, "after the job's end")}
    ),
    FaultKind(
        "forged",
        WEBHOOK,
        "the first attempt of the next webhook is not what fal signed; the repetition, which comes "
        "if it is refused, is genuine",
        {
            "what": (
                "signature",
                "signature: one bit of it is wrong; body: another payload under fal's signature; "
                "user: signed by fal, for another account; key: signed with a key not published",
            )
        },
    ),
    FaultKind(
        "skewed",
        WEBHOOK,
        "the first attempt of the next webhook is signed for another time; its repetition is not",
        {"seconds": (-600.0, "ahead of the clock, or behind it if negative")},
    ),
)
CHOICES = {
    "declare": ("whole", "sent"),
    "body": ("html", "png"),
    "what": ("signature", "body", "user", "key"),
}


def describe() -> str:
    """The table as plain text, one fault a paragraph."""
    lines = []
    for row in TABLE:
        where = "any call" if row.on == POINTS else " or ".join(row.on)
        lines.append(f"{row.kind} (on {where}): {row.does}")
        for name, (default, meaning) in row.options.items():
            lines.append(f"    {name}={default!r}: {meaning}")
    return "\n".join(lines)


class Script:
    """Armed faults, first armed first struck, one line for each place and moment."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._armed: list[Fault] = []

    def arm(self, kind: str, *, on: str, times: int, options: Mapping[str, object]) -> None:
        """The next `times` events at `on` fail. Raises ValueError that lists what exists."""
        row = _row(kind, on)
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise ValueError(f"times must be a whole number from 1, not {times!r}")
        fault = Fault(kind, on, row.strikes, _checked(row, options), self._clock())
        with self._lock:
            self._armed.extend([fault] * times)

    def take(
        self, on: str, strikes: Strikes = "call", *, armed_by: float = math.inf
    ) -> Fault | None:
        """The first fault armed for this place and moment, used up; none armed after `armed_by`."""
        with self._lock:
            for index, fault in enumerate(self._armed):
                if (fault.on, fault.strikes) == (on, strikes) and fault.armed_at <= armed_by:
                    return self._armed.pop(index)
        return None

    def armed(self) -> list[Fault]:
        with self._lock:
            return list(self._armed)


def _row(kind: str, on: str) -> FaultKind:
    for row in TABLE:
        if row.kind == kind and on in row.on:
            return row
        if row.kind == kind:
            raise ValueError(f"fault {kind!r} can be armed on {', '.join(row.on)}, not on {on!r}")
    raise ValueError(f"unknown fault {kind!r}; there are:\n{describe()}")


def _checked(row: FaultKind, options: Mapping[str, object]) -> dict[str, object]:
    values = {name: default for name, (default, _) in row.options.items()}
    for name, value in options.items():
        if name not in values:
            known = ", ".join(values) or "no options"
            raise ValueError(f"fault {row.kind!r} has {known}, not {name!r}")
        wanted = (int, float) if isinstance(values[name], float) else type(values[name])
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(f"{name} must be like {values[name]!r}, not {value!r}")
        if isinstance(value, (int, float)) and isinstance(values[name], float):
            _check_time(name, value)
        if name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"{name} must be {' or '.join(CHOICES[name])}, not {value!r}")
        values[name] = value
    return values


def _check_time(name: str, seconds: float) -> None:
    if not abs(seconds) <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a time that can be waited for, not {seconds!r}")

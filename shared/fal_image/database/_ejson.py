"""MongoDB's Extended JSON: the wrappers that CloudBase's answers put around numbers and dates.

Answers are in its canonical form, which CloudBase calls Strict; requests may be in either. Refuses
to know what a document means. Source: MongoDB Extended JSON (v2) specification.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)


def long(number: int) -> dict[str, str]:
    """A 64-bit integer, so that no database guesses from a number's size how it is kept."""
    return {"$numberLong": str(number)}


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970 of an aware time; what is finer is cut off."""
    return (at - _EPOCH) // _MILLISECOND


def from_ms(ms: int) -> datetime:
    return _EPOCH + ms * _MILLISECOND


def plain(value: Any) -> Any:
    """A value without its wrappers: numbers as numbers, dates as aware UTC.

    A wrapper of anything else is given as it is. Raises ValueError for a number or a date that is
    none.
    """
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, content),) = value.items()
        if name in _WRAPPERS:
            return _unwrapped(name, content)
    return {name: plain(item) for name, item in value.items()}


def _unwrapped(name: str, content: Any) -> Any:
    try:
        return _WRAPPERS[name](content)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} around what is none") from error


def _whole(content: Any) -> int:
    return int(_text(content))


def _float(content: Any) -> float:
    return float(_text(content))


def _date(content: Any) -> datetime:
    """The canonical form counts milliseconds, the relaxed one is ISO 8601 in UTC."""
    if isinstance(content, str) and content.endswith("Z"):
        return datetime.fromisoformat(f"{content[:-1]}+00:00")
    ms = plain(content)
    if type(ms) is not int:
        raise TypeError("a date is a number of milliseconds")
    return from_ms(ms)


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise TypeError("a wrapper holds text")
    return content


_WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "$date": _date,
    "$numberDouble": _float,
    "$numberInt": _whole,
    "$numberLong": _whole,
}

"""Hostile events: published payloads bent out of shape, and JSON that never was an event.

Deterministic: the same seed gives the same events. Used by the tests and by the benchmark.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parents[1] / "data" / "events"

_TEXTS = (
    "",
    "/",
    "//",
    "/generate",
    "/%2e%2e/%00%ff",
    "/jobs/%E5%9B%BE",
    "POST",
    "get",
    "$default",
    "true",
    "=",
    "bm90IGpzb24=",
    "%",
    "a=1&a=2&&=&b",
    '{"prompt":"x"',
    '{"prompt":"x"}',
    "[]",
    "null",
    "\x00",
    "\r\nset-cookie: a=b",
    "图",
    "\ud800",
    "😀" * 50,
    "x" * 5000,
    "-1",
    "1e999",
)
_NUMBERS = (0, -1, 1, 200, 2**31, 2**63, -(10**30), 0.5, -0.0, 1e308)
_KEYS = (
    "route",
    "headers",
    "query",
    "body",
    "prompt",
    "httpMethod",
    "path",
    "rawPath",
    "rawQueryString",
    "requestContext",
    "isBase64Encoded",
    "http",
    "method",
    "cookies",
    "Records",
    "Type",
    "TriggerName",
    "stage",
    "domainName",
    "multiValueHeaders",
    "multiValueQueryStringParameters",
    "elb",
    "identity",
    "x-forwarded-for",
    "messageId",
    "eventSource",
    "detail-type",
    "job",
    "userInfo",
)
_ROUTES = ("POST /generate", "GET /health", "get /models", "POST", "/generate", "DELETE /x y", "")


def events(seed: int, count: int) -> Iterator[object]:
    """`count` events; some are whole published payloads, most are not."""
    dice = random.Random(seed)
    published = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(_DATA.glob("*.json"))
    ]
    for _ in range(count):
        yield dice.choice(_KINDS)(dice, copy.deepcopy(dice.choice(published)))


def _anything(dice: random.Random, depth: int = 3) -> Any:
    kind = dice.randrange(9 if depth else 6)
    if kind == 0:
        return dice.choice((None, True, False))
    if kind in (1, 2):
        return dice.choice(_NUMBERS)
    if kind in (3, 4, 5):
        return dice.choice(_TEXTS)
    if kind == 6:
        return [_anything(dice, depth - 1) for _ in range(dice.randrange(4))]
    names = (*_KEYS, *_TEXTS)
    return {dice.choice(names): _anything(dice, depth - 1) for _ in range(dice.randrange(6))}


def _random_json(dice: random.Random, _payload: Any) -> object:
    return _anything(dice)


def _deep(dice: random.Random, payload: Any) -> object:
    nested: object = payload
    for _ in range(dice.randrange(1, 400)):
        nested = [nested] if dice.random() < 0.5 else {"body": nested}
    return nested


def _whole(_dice: random.Random, payload: Any) -> object:
    return payload


def _bent(dice: random.Random, payload: Any) -> object:
    """Some members of another type, null, or gone."""
    for _ in range(dice.randrange(1, 6)):
        _bend_one(dice, payload)
    return payload


def _bend_one(dice: random.Random, payload: Any) -> None:
    spot = payload
    while True:
        if not isinstance(spot, (dict, list)) or not spot:
            return
        key = dice.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
        if isinstance(spot[key], (dict, list)) and spot[key] and dice.random() < 0.6:
            spot = spot[key]
            continue
        if dice.random() < 0.3:
            del spot[key]
        else:
            spot[key] = _anything(dice)
        return


def _truncated(dice: random.Random, payload: Any) -> object:
    """As if the text had been cut: a shorter string, or the members before the cut."""
    text = json.dumps(payload)
    cut = text[: dice.randrange(len(text))]
    if dice.random() < 0.3:
        return cut
    names = list(payload)
    return {name: payload[name] for name in names[: dice.randrange(len(names) + 1)]}


def _half_base64(dice: random.Random, payload: Any) -> object:
    payload["isBase64Encoded"] = dice.choice((True, "true", "TRUE", 1, None))
    payload["body"] = dice.choice(("eyJwcm9tcHQiOiAieCJ9", "eyJ", "====", "图", "e\nyJ9", {}, 7))
    return payload


def _direct(dice: random.Random, _payload: Any) -> object:
    event = {name: _anything(dice) for name in ("headers", "query", "body") if dice.random() < 0.7}
    route = dice.choice(_ROUTES) if dice.random() < 0.8 else _anything(dice)
    return {"route": route, **event}


def _merged(dice: random.Random, payload: Any) -> object:
    other = _anything(dice)
    return payload | other if isinstance(other, dict) else payload | {"body": other}


_KINDS = (_random_json, _deep, _whole, _bent, _bent, _truncated, _half_base64, _direct, _merged)

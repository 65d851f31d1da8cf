"""What a request, or the rows of a batch, would cost: for a person or a program. Nothing is sent.

Refuses to know how the command line is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..batches.rows import lines, parse_row
from ..errors import AppError
from ..generate import estimate_usd_micro
from .here import Here
from .output import Output, usage
from .places import Place

BLOCK_BYTES = 256 * 1024
REFUSALS_SHOWN = 20


def show(out: Output, estimate: Mapping[str, Any]) -> None:
    """Print a price."""
    out.show(estimate, [_price(estimate)])
    for warning in estimate["warnings"]:
        out.warn(warning["message"])


def dry_run(out: Output, place: Place, body: Mapping[str, object]) -> None:
    """Print what a request would cost and what would leave this machine. Pays nothing."""
    estimate, request = place.estimate(body), place.request(body)
    sent = json.dumps(request["body"], ensure_ascii=False, indent=2)
    out.show(
        {"dryRun": True, "estimate": estimate, "request": request},
        [_price(estimate), f"{request['method']} {request['url']}", sent],
    )
    for warning in estimate["warnings"]:
        out.warn(warning["message"])


def dry_run_batch(out: Output, here: Here, rows: Path, defaults: dict[str, object]) -> None:
    """Print what the rows of a file would cost by the catalog, and which would be refused.

    Raises Stopped for a file without rows, OSError.
    """
    total = unknown = usd_micro = 0
    refused: list[dict[str, object]] = []
    with rows.open("rb") as file:
        for line in lines(iter(partial(file.read, BLOCK_BYTES), b"")):
            total += 1
            try:
                order = here.order(parse_row(line.content, defaults).body)
                price = estimate_usd_micro(here.services.generator.orders.completed(order))
            except AppError as error:
                refused.append({"row": total - 1, "error": error.code, "message": error.detail})
                continue
            unknown += price is None
            usd_micro += price or 0
    if not total:
        raise usage(f"{rows}: has no rows")
    facts = {
        "dryRun": True,
        "total": total,
        "estimateUsd": usd_micro / 1_000_000,
        "currency": "USD",
        "unpriced": unknown,
        "refused": len(refused),
        "refusals": refused[:REFUSALS_SHOWN],
    }
    out.show(facts, _of_batch(facts, refused))


def _of_batch(facts: Mapping[str, Any], refused: list[dict[str, object]]) -> Iterator[str]:
    yield f"{facts['total']} rows: {_usd(facts['estimateUsd'])} USD by the catalog"
    if facts["unpriced"]:
        yield f"{facts['unpriced']} of them have no price in the catalog and are not in the sum"
    if refused:
        yield f"{len(refused)} of them would be refused:"
    for one in refused[:REFUSALS_SHOWN]:
        yield f"  row {one['row']}: {one['message']}"


def _price(estimate: Mapping[str, Any]) -> str:
    if estimate["estimateUsd"] is None:
        return f"{estimate['model']}: unknown, {estimate['reason']}"
    source = "the catalog" if estimate["basis"] == "catalog" else "fal's price list"
    usd = _usd(estimate["estimateUsd"])
    return f"{estimate['model']}: {usd} USD by {source} ({_units(estimate)})"


def _units(estimate: Mapping[str, Any]) -> str:
    units = estimate["units"]
    text = f"{units} {estimate['unit']}{'' if units == 1 else 's'}"
    text += f" at {_usd(estimate['unitUsd'])} USD"
    further = estimate["furtherUnitUsd"]
    return text if further is None else f"{text}, after the first at {_usd(further)} USD"


def _usd(amount: float) -> str:
    return f"{amount:.6f}".rstrip("0").rstrip(".")

"""api.fal.ai, of which only the price list is imitated (fal docs, platform APIs).

Knows the shapes of its answers. Refuses to know what is billed: that is the models' business.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qs

from ...fal import catalog
from .addresses import FalCall
from .exchange import Answer, json_answer
from .gate import Gate
from .queue_api import Route

MOST_IDS = 50
# A model that fal prices and the catalog does not know; it cannot be run here.
ELSEWHERE: Mapping[str, tuple[float, str]] = MappingProxyType(
    {"fal-ai/flux-unheard-of": (0.02, "megapixels")}
)


class PlatformApi:
    """api.fal.ai."""

    def __init__(self, *, gate: Gate) -> None:
        self._gate = gate

    def route(self, call: FalCall) -> Route | Answer:
        if (call.method, call.path.rstrip("/")) != ("GET", "/v1/models/pricing"):
            return _error(
                404, "not_found", "The emulator does not imitate this, only the price list"
            )
        return "prices", self._prices

    def _prices(self, call: FalCall) -> Answer:
        refusal = self._gate.refusal(call.headers)
        if refusal is not None:
            return _error(refusal.status, "authorization_error", json.loads(refusal.body)["detail"])
        ids = parse_qs(call.query_text).get("endpoint_id", [])
        if not 1 <= len(ids) <= MOST_IDS:
            text = f"endpoint_id: 1 to {MOST_IDS} ids are expected, not {len(ids)}"
            return _error(400, "validation_error", text)
        prices = {model_id: _price(model_id) for model_id in ids}
        unknown = [model_id for model_id, price in prices.items() if price is None]
        if unknown:
            return _error(404, "not_found", f"Endpoint not found: {', '.join(unknown)}")
        return json_answer(
            200, {"prices": list(prices.values()), "next_cursor": None, "has_more": False}
        )


def _price(model_id: str) -> dict[str, object] | None:
    model = catalog.find(model_id)
    usd, unit = ELSEWHERE.get(model_id, (None, ""))
    if model is not None and model.price is not None:
        usd = float(model.price.usd)
        unit = "images" if model.price.per == "image" else "megapixels"
    if usd is None:
        return None
    return {"endpoint_id": model_id, "unit_price": usd, "unit": unit, "currency": "USD"}


def _error(status: int, kind: str, message: str) -> Answer:
    error = {
        "type": kind,
        "message": message,
        "docs_url": f"https://docs.fal.ai/errors#{kind}",
        "request_id": str(uuid.uuid4()),
    }
    return json_answer(status, {"error": error})

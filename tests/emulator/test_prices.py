"""api.fal.ai: the price list, and nothing else."""

from __future__ import annotations

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import SCHNELL, ask

PRICES = "https://api.fal.ai/v1/models/pricing"
ULTRA, UNLISTED = "fal-ai/flux-pro/v1.1-ultra", "fal-ai/flux-unheard-of"


def test_prices_are_the_catalogs_and_of_one_model_more(emulator: Emulator) -> None:
    ids = [SCHNELL, ULTRA, UNLISTED]
    reply = ask(emulator, "GET", f"{PRICES}?" + "&".join(f"endpoint_id={one}" for one in ids))
    assert reply.status == 200
    assert reply.json == {
        "prices": [
            {"endpoint_id": name, "unit_price": usd, "unit": unit, "currency": "USD"}
            for name, usd, unit in zip(
                ids, (0.003, 0.06, 0.02), ("megapixels", "images", "megapixels"), strict=True
            )
        ],
        "next_cursor": None,
        "has_more": False,
    }
    assert emulator.calls == {"prices": 1}


@pytest.mark.parametrize(
    ("query", "key", "status"),
    [
        (f"?endpoint_id={SCHNELL}", None, 401),
        (f"?endpoint_id={SCHNELL}", "revoked:x", 401),
        (f"?endpoint_id={SCHNELL}", "locked:x", 403),
        ("?endpoint_id=fal-ai/nothing", "id:secret", 404),
        (f"?endpoint_id={SCHNELL}&endpoint_id=fal-ai/nothing", "id:secret", 404),
        ("", "id:secret", 400),
        ("?" + "&".join(f"endpoint_id=fal-ai/flux/{n}" for n in range(51)), "id:secret", 400),
    ],
)
def test_what_is_refused_is_refused_in_the_platforms_form(
    emulator: Emulator, query: str, key: str | None, status: int
) -> None:
    reply = ask(emulator, "GET", f"{PRICES}{query}", key=key)
    assert reply.status == status
    assert set(reply.json["error"]) == {"type", "message", "docs_url", "request_id"}


def test_nothing_else_of_the_platform_is_imitated(emulator: Emulator) -> None:
    assert ask(emulator, "GET", "https://api.fal.ai/v1/models").status == 404
    assert ask(emulator, "POST", PRICES, {}).status == 404

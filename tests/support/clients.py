"""The unmodified fal-client with another address for fal."""

from __future__ import annotations

import fal_client.client
import pytest


def point_fal_client(patch: pytest.MonkeyPatch, url: str) -> None:
    """Send its calls to `url`/<host of fal>/…; these are the only names that hold fal's hosts."""
    hosts = {"RUN_URL_FORMAT": "fal.run/", "QUEUE_URL_FORMAT": "queue.fal.run/"}
    hosts |= {"REST_URL": "rest.fal.ai", "CDN_URL": "v3.fal.media"}
    for name, host in hosts.items():
        patch.setattr(fal_client.client, name, f"{url}/{host}")
    socket_url = url.replace("http", "ws", 1)
    patch.setattr(fal_client.client, "REALTIME_URL_FORMAT", f"{socket_url}/fal.run/")

"""Our proxy as other people's clients meet it: behind TLS, with a fal behind it.

Both sides are overheard, so that every story also shows which keys went where.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator

from . import node
from .emulator import SCHNELL, ask
from .entrypoints import FAL_KEY, KEY
from .front import Front
from .instances import CAT, Server, serving

TESTS = Path(__file__).parents[1]
PATH = "/api/fal/proxy"


@dataclass(frozen=True)
class House:
    """`front` is what callers see of the server, `to_fal` all that the server sees of fal."""

    fal: Emulator
    server: Server
    front: Front
    to_fal: Front

    @property
    def base_url(self) -> str:
        """What a client takes for https://fal.run."""
        return f"{self.front.url}{PATH}/fal.run"

    def picture(self, url: str) -> bytes:
        """What is at an address in an answer, ours or fal's, without any key."""
        if url.startswith(self.front.url):
            return self.server.http("GET", url.removeprefix(self.front.url), key="").body
        return ask(self.fal, "GET", url, key=None).body

    def tell(self, story: str, **options: Any) -> Any:
        """What a story of support.fal_client_user comes to, which stays at our address."""
        given = {"model": SCHNELL, "arguments": dict(CAT), **options}
        hosts = {
            "FAL_RUN_HOST": f"{self.front.netloc}{PATH}/fal.run",
            "FAL_QUEUE_RUN_HOST": f"{self.front.netloc}{PATH}/queue.fal.run",
        }
        done = subprocess.run(
            [sys.executable, "-m", "support.fal_client_user", story, json.dumps(given)],
            cwd=TESTS,
            env={**os.environ, **hosts, "FAL_KEY": KEY, "SSL_CERT_FILE": str(self.front.ca)},
            capture_output=True,
            encoding="utf-8",
            timeout=18,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert set(report["reached"]) <= {self.front.netloc}
        self.assert_keys_stayed()
        return report["told"]

    def call(self, module: str, function: str, **options: Any) -> Any:
        """What a function of a module in tests/node returns; it reaches us and fal's pictures."""
        given = {"baseURL": self.base_url, "apiKey": KEY, **options}
        said = node.run(
            ["--import", "./as_fal.mjs", "call.mjs", f"./{module}", function, json.dumps([given])],
            {
                "EMULATOR": self.to_fal.url,
                "ENDPOINT": self.front.url,
                "NODE_EXTRA_CA_CERTS": str(self.front.ca),
            },
        )
        self.assert_keys_stayed()
        return json.loads(said.splitlines()[-1])["returned"]

    def assert_keys_stayed(self) -> None:
        """No caller's key went to fal, and fal's own only came from us."""
        assert KEY.encode() not in self.to_fal.received
        assert FAL_KEY.encode() not in self.front.received


@contextmanager
def proxy_house(
    directory: Path,
    patch: pytest.MonkeyPatch,
    *,
    queue_s: float = 0.0,
    run_s: float = 0.0,
    **bent: str,
) -> Iterator[House]:
    """A server with the settings of `instances.environment`, and a fal of this pace."""
    with (
        Emulator(queue_s=queue_s, run_s=run_s) as fal,
        Front() as to_fal,
        Front(directory) as front,
    ):
        patch.setenv("SSL_CERT_FILE", str(front.ca))  # fal's webhooks come through TLS as well
        to_fal.to(fal.url)
        settings = {"FAL_IMAGE_PUBLIC_URL": front.url, "FAL_IMAGE_EMULATOR_URL": to_fal.url}
        with serving(fal, directory, seams=None, **settings | bent) as server:
            front.to(server.url)
            yield House(fal, server, front, to_fal)

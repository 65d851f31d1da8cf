"""A fal that says exactly what a test wrote, on the emulator's port and by the emulator's server.

For answers that the emulator would not give: other headers, other bytes, a redirect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fal_image.dev.emulator import Emulator
from fal_image.dev.emulator.exchange import Call, Reply, json_answer


@dataclass(frozen=True)
class Heard:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class CannedFal(Emulator):
    """`said` maps a method and an address of fal's, its query left out, to what is answered."""

    def __init__(self, said: Mapping[tuple[str, str], Reply]) -> None:
        super().__init__()
        self._said = dict(said)
        self.heard: list[Heard] = []

    def __enter__(self) -> CannedFal:
        self.start()
        return self

    def _respond(self, call: Call) -> Reply:
        url = f"https:/{call.target}"
        headers = {name.lower(): value for name, value in call.headers.items()}
        self.heard.append(Heard(call.method, url, headers, call.body.read(10**7)))
        unknown = json_answer(404, {"detail": f"nothing is said to {call.method} {url}"})
        return self._said.get((call.method, url.partition("?")[0]), unknown)

"""Our endpoint as the tests of the seeds ask it, and what it must have in common with fal."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fal_image.dev.emulator import Emulator
from support.emulator import ask

# The way to this machine never leads through a proxy.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Endpoint:
    """`site` is the only origin whose pages may ask; `fal` is what the endpoint calls."""

    url: str
    site: str
    fal: Emulator

    def post(self, body: Mapping[str, object]) -> tuple[int, Any]:
        """Status and JSON of a POST."""
        request = urllib.request.Request(
            self.url,
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        try:
            with _opener.open(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def picture(self, link: str) -> bytes:
        with _opener.open(link, timeout=10) as response:
            content: bytes = response.read()
        return content


def ordered(fal: Emulator) -> tuple[str, dict[str, Any]]:
    """The model and the input of the newest thing that fal took."""
    newest = fal.ledger[-1]
    assert isinstance(newest.input, dict)
    return newest.model, newest.input


def assert_ours_is_the_same(endpoint: Endpoint, output: Mapping[str, Any]) -> dict[str, Any]:
    """Send the newest input that fal took to our endpoint: its Job has fal's pictures, to the byte.

    `output` is what the client got for that input.
    """
    model, arguments = ordered(endpoint.fal)
    status, job = endpoint.post({"model": model, **arguments, "seed": output["seed"]})
    assert status == 200, job
    assert {name: job[name] for name in ("model", "prompt", "seed")} == {
        "model": model,
        "prompt": arguments["prompt"],
        "seed": output["seed"],
    }
    assert [size_px(image) for image in job["images"]] == [
        size_px(image) for image in output["images"]
    ]
    ours = [endpoint.picture(image["tempFileURL"]) for image in job["images"]]
    theirs = [ask(endpoint.fal, "GET", image["url"], key=None).body for image in output["images"]]
    assert ours == theirs
    return dict(job)


def size_px(image: Mapping[str, Any]) -> tuple[int, int]:
    return image["width"], image["height"]

"""The mini program of `docs/miniprogram.zh-CN.md`: its files, and a CloudBase for it to call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fal_image.dev import platforms
from fal_image.events.cloudbase import handle
from fal_image.web import App, Request, Response, json_response

from .entrypoints import ROOT
from .fake_cloudbase import FakeCloudbase
from .frontend import lay_out
from .node import run

PAGE = (ROOT / "docs" / "miniprogram.zh-CN.md").read_text(encoding="utf-8")
KEYS = ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    """The mini program by paths; app.json is the JSON that names pages."""
    named = {block.partition("\n")[0].strip("/<!-> "): block for block in blocks("(?:js|xml)")}
    assert len(named) == len(blocks("(?:js|xml)"))
    return named | {"miniprogram/app.json": next(b for b in blocks("json") if '"pages"' in b)}


def added_settings() -> dict[str, str]:
    """What the page puts into `envVariables`."""
    (found,) = [json.loads(block) for block in blocks("json") if "FAL_IMAGE_TRUST" in block]
    return dict(found)


def invoke(app: App, data: object, openid: str, fake: FakeCloudbase | None = None) -> Any:
    """What `wx.cloud.callFunction` gets from the function, with what WeChat adds on the way."""
    variables = {"WX_OPENID": openid} if openid else {}
    if fake is not None:
        variables |= dict(zip(KEYS, fake.keys, strict=True))
    event = {**data, "userInfo": {"openId": openid}} if isinstance(data, Mapping) else data
    context = platforms.cloudbase_context("scf-1", variables=variables)
    return json.loads(json.dumps(handle(json.loads(json.dumps(event)), context, app)))


def cloud(app: App, fake: FakeCloudbase) -> App:
    """A server that calls the function as CloudBase does, for whom the mini program says it is."""

    def answer(request: Request) -> Response:
        asked = json.loads(request.body)
        assert asked["name"] == "fal-image-gen"
        return json_response(200, invoke(app, asked["data"], asked["openid"], fake))

    return answer


@dataclass(frozen=True)
class MiniProgram:
    """A reader's folder, and whose phone it runs on."""

    folder: Path
    clouds: str
    storage: str
    openid: str = "o-ada"

    def call(self, function: str, *arguments: object) -> Any:
        """What a function of tests/node/frontend/mini_program.mjs returns."""
        given = {
            "folder": str(self.folder),
            "clouds": self.clouds,
            "storage": self.storage,
            "openid": self.openid,
        }
        module = "./frontend/mini_program.mjs"
        said = run(["call.mjs", module, function, json.dumps([given, *arguments])])
        return json.loads(said.splitlines()[-1])["returned"]


def laid_out(folder: Path) -> Path:
    return lay_out(folder, files())

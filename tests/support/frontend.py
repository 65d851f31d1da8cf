"""Folders of somebody's front end, made of what `docs/frontend.md` shows, and calls in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .entrypoints import KEY, ROOT
from .node import FOLDER, run

PAGE = ROOT / "docs" / "frontend.md"
ROUTERS = ("app", "page")
ROUTES = {"app": "app/api/fal/proxy/route.js", "page": "pages/api/fal/proxy.js"}

# What the reader adds: lib/session.js knows one visitor, by a cookie or a token.
SESSION = """\
export async function userOf({ headers }) {
  const shown = [headers.get("cookie"), headers.get("authorization")];
  return shown.some((text) => /ada-1815/.test(text)) ? "ada" : null;
}
"""
COOKIE = "theme=dark; session=ada-1815"

_ADDED = {
    "lib/session.js": SESSION,
    "package.json": '{"type": "module"}',
    "miniprogram/package.json": '{"type": "commonjs"}',
    "cloudfunctions/package.json": '{"type": "commonjs"}',
}


@dataclass(frozen=True)
class Called:
    """`outcome` has one of `returned` and `threw`."""

    outcome: Any
    printed: tuple[str, ...]


def shown() -> dict[str, str]:
    """The code of the page by what its first line names."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    titled = [(block.partition("\n")[0].strip("/#<!-> "), block) for block in found]
    assert len(dict(titled)) == len(titled)
    return dict(titled)


def lay_out(folder: Path, files: Mapping[str, str]) -> Path:
    """The folder with these files, what the reader adds, and the packages that are installed."""
    for name, content in (_ADDED | dict(files)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    packages = folder / "node_modules" / "@fal-ai"
    packages.mkdir(parents=True, exist_ok=True)
    packages.joinpath("client").symlink_to(FOLDER / "node_modules" / "@fal-ai" / "client")
    return folder


def call_in(folder: Path, function: str, *arguments: object, url: str, of: str = "site") -> Called:
    """Call a function of tests/node/frontend on a folder whose server asks an endpoint."""
    variables = {"FAL_IMAGE_URL": url, "FAL_IMAGE_TOKEN": KEY}
    given = json.dumps([str(folder), *arguments])
    said = run(["call.mjs", f"./frontend/{of}.mjs", function, given], variables)
    *printed, last = said.splitlines()
    return Called(json.loads(last), tuple(printed))


def client_module() -> str:
    """fal's client as the one file that a bundler makes of it."""
    names = "fal, createFalClient"
    return run(["bundle.mjs"]) + f"\nexport const {{ {names} }} = globalThis.falClient;\n"

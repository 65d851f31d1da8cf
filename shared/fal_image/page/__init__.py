"""The web page: one file of HTML with its own styles and script, and what it may do in a browser.

Refuses to know routes, settings and callers: the page asks the routes that everybody asks.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from msgspec import Struct

FILE = Path(__file__).with_name("index.html")

_BLOCK = r"<{0}\b[^>]*>(.*?)</{0}>"


class Page(Struct, frozen=True):
    """The file, and the Content-Security-Policy that lets nothing run but what stands in it."""

    html: bytes
    policy: str


@functools.lru_cache(maxsize=1)
def page() -> Page:
    """The page as it is served; the file is read once."""
    text = FILE.read_text(encoding="utf-8")
    return Page(text.encode(), _policy(text))


def _policy(text: str) -> str:
    """Scripts and styles by their hashes. Pictures and calls may go to any host: buckets have hosts
    of their own, and the endpoint may be another's. `blob:` shows a picture that was chosen."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes('script', text)}",
            f"style-src {_hashes('style', text)}",
            "connect-src https: http:",
            "img-src https: http: blob: data:",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _hashes(tag: str, text: str) -> str:
    """The SHA-256 of each inline block, as policies name them (Content Security Policy Level 3)."""
    blocks = re.findall(_BLOCK.format(tag), text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in blocks)
    return " ".join(f"'sha256-{digest}'" for digest in digests)

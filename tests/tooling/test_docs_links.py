"""Every link of the documentation leads to a file, and to a heading of it, that is there."""

import re
from pathlib import Path

import pytest

from support.snippets import ROOT, pages

LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")


def text_of(page: Path) -> str:
    """A page without its blocks, where brackets mean other things."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_somewhere(page: str):
    here = ROOT / page
    lost = []
    for link in LINK.findall(text_of(here)):
        name, _, fragment = link.partition("#")
        target = (here.parent / name).resolve() if name else here
        is_there = target.exists() and (not fragment or fragment in anchors(target))
        lost += [] if is_there else [link]
    assert lost == []
